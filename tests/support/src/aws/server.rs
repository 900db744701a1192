//! The stub's HTTP side.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;

use super::operations::{self, Answer};
use super::replies::Reply;
use super::signature;
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
) -> Result<Response<Reader>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let decision = {
        let request = signature::Request {
            method: head.method.as_str(),
            path: head.uri.path(),
            headers: &head.headers,
            body: &body,
        };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        operations::decide(&mut state, &request, Timestamp::now())
    };
    tokio::time::sleep(decision.delay).await;
    let (status, content_type, body) = match decision.answer {
        Answer::Reply(Reply { status, content_type, body }) => {
            (status, content_type, Reader::Text(body.into()))
        }
        Answer::Huge => (200, "application/x-amz-json-1.1", Reader::Huge(1024)),
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

/// A reply's body.
enum Reader {
    Text(Bytes),
    /// So many pieces of 64 KiB are still to come.
    Huge(usize),
}

impl Body for Reader {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static PIECE: [u8; 64 * 1024] = [b' '; 64 * 1024];
        let piece = match &mut *self {
            Self::Text(text) => std::mem::take(text),
            Self::Huge(0) => Bytes::new(),
            Self::Huge(left) => {
                *left -= 1;
                Bytes::from_static(&PIECE)
            }
        };
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Text(text) if text.is_empty())
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Text(text) => hyper::body::SizeHint::with_exact(text.len() as u64),
            Self::Huge(_) => hyper::body::SizeHint::default(),
        }
    }
}
