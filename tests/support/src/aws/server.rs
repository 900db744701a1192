//! The stub's HTTP side.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;

use super::operations::{self, Answer};
use super::replies::Reply;
use super::state::State;
use crate::server::Server;

/// Starts the server that answers from, and into, this state.
pub(super) fn start(listen: SocketAddr, state: Arc<Mutex<State>>) -> Server {
    Server::start("aws-stub", listen, move |stream| {
        let state = Arc::clone(&state);
        async move {
            let service = hyper::service::service_fn(|request| handle(request, Arc::clone(&state)));
            // A connection may end however it wants, and `Fault::Reset` ends it with an error.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    })
}

async fn handle(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Content>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let decision = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        operations::decide(&mut state, &Request::from_parts(head, body), Timestamp::now())
    };
    tokio::time::sleep(decision.delay).await;
    let (status, content_type, body) = match decision.answer {
        Answer::Reply(Reply { status, content_type, body }) => {
            (status, content_type, Full::new(Bytes::from(body)).boxed())
        }
        Answer::Huge => (200, "application/x-amz-json-1.1", huge()),
        Answer::Hang => std::future::pending().await,
        Answer::Reset => return Err(std::io::Error::other("closed as asked")),
    };
    let response = Response::builder()
        .status(status)
        .header("content-type", content_type)
        .header("date", decision.date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
        .header("x-amzn-requestid", "00000000-0000-4000-8000-000000000000")
        .body(body);
    Ok(response.expect("a status and headers that HTTP knows"))
}

type Content = BoxBody<Bytes, Infallible>;

/// 64 MiB of white space, sent in chunks: no header has its length.
fn huge() -> Content {
    static CHUNK: [u8; 64 * 1024] = [b' '; 64 * 1024];
    let chunks = (0..1024).map(|_| Ok(Frame::data(Bytes::from_static(&CHUNK))));
    StreamBody::new(stream::iter(chunks)).boxed()
}
