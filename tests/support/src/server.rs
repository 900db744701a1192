//! The servers of this crate, each on a thread of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::thread::JoinHandle;

use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// A running server; dropping it closes every connection and ends the thread.
///
/// It has a runtime of its own, so that it also answers while the test blocks its thread, and so that a
/// paused clock in the test does not reach it.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts one that does `serve` with every connection, all of them at the same time.
    pub(crate) fn start<F, C>(name: &str, listen: SocketAddr, serve: F) -> Self
    where
        F: Fn(TcpStream) -> C + Send + 'static,
        C: Future<Output = ()> + Send + 'static,
    {
        let listener = std::net::TcpListener::bind(listen);
        let listener = listener.unwrap_or_else(|error| panic!("{name} cannot listen on {listen}: {error}"));
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let address = listener.local_addr().expect("a listener has an address");
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listening socket");
                tokio::select! {
                    () = accept(listener, serve) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, stop: Some(stop), thread: Some(thread.expect("a thread for a server")) }
    }

    /// Its URL, which ends without a slash.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
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

async fn accept<F, C>(listener: TcpListener, serve: F)
where
    F: Fn(TcpStream) -> C,
    C: Future<Output = ()> + Send + 'static,
{
    loop {
        // A failed accept is about that connection, or about too many of them: the next one may work.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        tokio::spawn(serve(stream));
    }
}

/// Answers the HTTP requests of one connection from their heads alone.
pub(crate) async fn answer_heads(stream: TcpStream, answer: impl Fn(&Parts) -> Response<String>) {
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        std::future::ready(Ok::<_, Infallible>(answer(&request.into_parts().0)))
    });
    // A connection may end however it wants.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// An answer of HTTP with one more header than those that all have.
pub(crate) fn response(status: u16, header: (&str, &str), body: impl Into<String>) -> Response<String> {
    let response = Response::builder().status(status).header(header.0, header.1).body(body.into());
    response.expect("a status and a header that HTTP knows")
}
