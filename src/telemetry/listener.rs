//! The TCP side of the HTTP server. Any pod of the cluster can connect to it, so no client can occupy it: a connection
//! serves one request and ends after ten seconds, and the oldest one is closed when there are too many.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

const MAX_CONNECTIONS: usize = 128;
/// The longest life of a connection.
const MAX_LIFE: Duration = Duration::from_secs(10);
/// A connection is not closed in favor of a newer one before this age. It is enough to serve a probe, and bounds the
/// rate at which clients that reconnect are accepted.
const MIN_LIFE: Duration = Duration::from_millis(100);
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_HEADER_LEN: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}; choose a free address with --listen")]
pub struct BindError {
    address: SocketAddr,
    error: io::Error,
}

/// Binds the address of `--listen`. On a host without IPv6, `[::]` means every address of IPv4.
pub fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    bind_with(address, open)
}

fn bind_with<T>(address: SocketAddr, open: impl Fn(SocketAddr) -> io::Result<T>) -> Result<T, BindError> {
    let result = match open(address) {
        Err(error) if is_any_ipv6(address) && lacks_ipv6(&error) => {
            open((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        result => result,
    };
    result.map_err(|error| BindError { address, error })
}

fn is_any_ipv6(address: SocketAddr) -> bool {
    address.is_ipv6() && address.ip().is_unspecified()
}

/// Whether the kernel has no IPv6, or none of the interfaces has it.
fn lacks_ipv6(error: &io::Error) -> bool {
    /// `EAFNOSUPPORT` of Linux, which has no stable [`io::ErrorKind`].
    const NO_ADDRESS_FAMILY: i32 = 97;
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(NO_ADDRESS_FAMILY)
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if is_any_ipv6(address) {
        // Some hosts set net.ipv6.bindv6only.
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Serves until the task is dropped.
pub async fn serve(
    listener: TcpListener,
    respond: impl Fn(&Request<Incoming>) -> Response<Full<Bytes>> + Clone + Send + 'static,
) -> Infallible {
    let mut connections = Connections::default();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Most likely, the process has run out of file descriptors.
            sleep(ACCEPT_RETRY_DELAY).await;
            continue;
        };
        connections.make_room().await;
        connections.add(|close| converse(stream, respond.clone(), close));
    }
}

/// The open connections.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    /// Oldest first.
    open: VecDeque<Open>,
}

struct Open {
    since: Instant,
    /// Closes the connection when it is dropped.
    close: oneshot::Sender<Infallible>,
}

impl Connections {
    fn add<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        connection: impl FnOnce(oneshot::Receiver<Infallible>) -> F,
    ) {
        let (close, closed) = oneshot::channel();
        self.open.push_back(Open { since: Instant::now(), close });
        self.tasks.spawn(connection(closed));
    }

    /// Waits until a connection is gone if there are too many, and closes the oldest one as soon as it may.
    async fn make_room(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        self.open.retain(|open| !open.close.is_closed());
        while self.tasks.len() >= MAX_CONNECTIONS {
            let Some(oldest) = self.open.front().map(|open| open.since) else { return };
            tokio::select! {
                _ = self.tasks.join_next() => {}
                () = sleep_until(oldest + MIN_LIFE) => {
                    self.open.pop_front();
                    self.tasks.join_next().await;
                }
            }
            self.open.retain(|open| !open.close.is_closed());
        }
    }
}

/// Serves one request, unless the connection ends before.
async fn converse(
    stream: TcpStream,
    respond: impl Fn(&Request<Incoming>) -> Response<Full<Bytes>>,
    close: oneshot::Receiver<Infallible>,
) {
    let service = service_fn(move |request| {
        let response = respond(&request);
        async { Ok::<_, Infallible>(response) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).keep_alive(false);
    server.max_buf_size(MAX_HEADER_LEN).max_headers(MAX_HEADERS);
    let mut connection = server.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // Clients may disconnect at any time.
        _ = &mut connection => return,
        _ = close => {}
        () = sleep(MAX_LIFE) => {}
    }
    // Otherwise the kernel keeps the response until a client that does not read it acknowledges it.
    let _ = connection.into_parts().io.into_inner().set_zero_linger();
}

#[cfg(test)]
mod tests;
