//! The stub's HTTP side, on a thread of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::operations::{self, Answer};
use super::replies::Reply;
use super::signature;
use super::state::State;

/// The running server; dropping it closes every connection and ends the thread.
///
/// It has a runtime of its own, so that it also answers while the test blocks its thread, and so that a
/// paused clock in the test does not reach it.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(listen: SocketAddr, state: Arc<Mutex<State>>) -> Self {
        let listener = std::net::TcpListener::bind(listen);
        let listener = listener.unwrap_or_else(|error| panic!("the stub cannot listen on {listen}: {error}"));
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let address = listener.local_addr().expect("a listener has an address");
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("aws-stub".to_owned()).spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listening socket");
                tokio::select! {
                    () = accept(listener, state) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, stop: Some(stop), thread: Some(thread.expect("a thread for the stub")) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its panic, if it had one, has been printed; a second one here would abort.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    loop {
        // A failed accept is about that connection, or about too many of them: the next one may work.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(|request| handle(request, Arc::clone(&state)));
            // A connection may end however it wants, and `Fault::Reset` ends it with an error.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
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
