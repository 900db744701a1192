//! Clients that occupy the server.

use std::net::Ipv6Addr;

use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::timeout;

use super::*;

const PROBES: usize = 20;
/// The defects delayed a probe by 30 s or more. A busy machine may delay one by more than a second.
const PROBE_LIMIT: Duration = Duration::from_secs(5);
const LARGE: usize = 8 * 1024 * 1024;

/// A server, with a page that no socket buffer holds.
fn start() -> (SocketAddr, JoinSet<()>) {
    let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
    let address = listener.local_addr().expect("an address");
    let mut tasks = JoinSet::new();
    let large = Bytes::from(vec![b'x'; LARGE]);
    tasks.spawn(async move {
        let respond = move |request: &Request<Incoming>| {
            let is_large = request.uri().path() == "/large";
            Response::new(Full::new(if is_large { large.clone() } else { Bytes::from_static(b"ok") }))
        };
        let never = serve(listener, respond).await;
        match never {}
    });
    (address, tasks)
}

async fn send(address: SocketAddr, request: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

async fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = send(address, &format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    Ok(reply)
}

/// Probes as a kubelet does, each on a new connection.
async fn assert_probes_succeed(address: SocketAddr, pause: Duration) {
    for attempt in 0..PROBES {
        let reply = timeout(PROBE_LIMIT, get(address, "/livez")).await;
        let is_ok = matches!(&reply, Ok(Ok(text)) if text.starts_with("HTTP/1.1 200 OK"));
        assert!(is_ok, "probe {attempt}: {reply:?}");
        sleep(pause).await;
    }
}

#[tokio::test]
async fn idle_clients_delay_no_probe() {
    let (address, _server) = start();
    let mut idle = vec![];
    for _ in 0..=MAX_CONNECTIONS {
        idle.push(send(address, "").await.expect("a connection"));
    }
    assert_probes_succeed(address, Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_reconnect_delay_no_probe() {
    let (address, _server) = start();
    let mut clients = JoinSet::new();
    for _ in 0..200 {
        clients.spawn(async move {
            loop {
                if let Ok(mut stream) = send(address, "GET /livez").await {
                    let _ = stream.read_to_end(&mut vec![]).await;
                }
                // The clients share the processor with the server.
                sleep(Duration::from_millis(50)).await;
            }
        });
    }
    sleep(Duration::from_millis(500)).await;
    assert_probes_succeed(address, Duration::from_millis(50)).await;
}

#[tokio::test]
async fn clients_that_never_read_delay_no_probe() {
    let (address, _server) = start();
    let mut silent = vec![];
    for _ in 0..=MAX_CONNECTIONS {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(2_048).expect("a small buffer");
        let mut stream = socket.connect(address).await.expect("a connection");
        stream.write_all("GET /large HTTP/1.1\r\nhost: a\r\n\r\n".as_bytes()).await.expect("sent");
        silent.push(stream);
    }
    sleep(Duration::from_millis(200)).await;
    assert_probes_succeed(address, Duration::ZERO).await;
}

/// The server closes the connection, whatever the client does.
async fn assert_closed_within(stream: &mut TcpStream, limit: Duration) {
    let start = Instant::now();
    let mut buffer = vec![0; 1_024];
    let closed = async { while matches!(stream.read(&mut buffer).await, Ok(1..)) {} };
    // A busy machine may take longer.
    timeout(limit + PROBE_LIMIT, closed).await.expect("the connection ends");
    assert!(start.elapsed() + Duration::from_millis(500) > limit, "after {:?}", start.elapsed());
}

#[tokio::test]
async fn a_connection_without_a_request_and_one_whose_response_nobody_reads_end() {
    let (address, _server) = start();
    let mut idle = send(address, "GET /livez").await.expect("a connection");
    let silent = send(address, "GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("a connection");
    assert_closed_within(&mut idle, HEADER_TIMEOUT + Duration::from_millis(400)).await;
    sleep(MAX_LIFE.saturating_sub(HEADER_TIMEOUT) + Duration::from_secs(1)).await;
    let mut rest = silent;
    let mut read = vec![];
    let error = rest.read_to_end(&mut read).await.expect_err("the connection is reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "after {} bytes", read.len());
}

#[tokio::test]
async fn a_connection_serves_one_request_with_headers_of_bounded_length() {
    let (address, _server) = start();
    let request = "GET /livez HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut stream = send(address, &request.repeat(3)).await.expect("a connection");
    let mut reply = vec![];
    let _ = stream.read_to_end(&mut reply).await;
    let reply = String::from_utf8_lossy(&reply).into_owned();
    assert_eq!(reply.matches("HTTP/1.1").count(), 1, "{reply}");
    assert!(reply.contains("connection: close"), "{reply}");
    let long = "x".repeat(MAX_HEADER_LEN);
    for headers in [format!("a: {long}\r\n"), "a: b\r\n".repeat(MAX_HEADERS + 1)] {
        let mut stream = send(address, &format!("GET /livez HTTP/1.1\r\n{headers}\r\n")).await.expect("sent");
        let mut reply = vec![];
        let _ = stream.read_to_end(&mut reply).await;
        let expected = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.as_str();
        let reply = String::from_utf8_lossy(&reply).into_owned();
        assert!(reply.split(' ').nth(1) == Some(expected), "{reply}");
    }
}

#[tokio::test]
async fn every_address_of_both_families_is_served() {
    let listener = bind((Ipv6Addr::UNSPECIFIED, 0).into()).expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let mut server = JoinSet::new();
    let respond = |_: &Request<Incoming>| Response::new(Full::new(Bytes::from_static(b"ok")));
    server.spawn(async move { match serve(listener, respond).await {} });
    for address in [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), (Ipv6Addr::LOCALHOST, port).into()] {
        let reply = get(address, "/livez").await.expect("a reply");
        assert!(reply.ends_with("ok"), "{address}: {reply}");
    }
}

#[test]
fn without_ipv6_every_address_of_ipv4_is_bound() {
    let no_family = || io::Error::from_raw_os_error(97);
    let no_address = || io::Error::from(io::ErrorKind::AddrNotAvailable);
    let taken = || io::Error::from(io::ErrorKind::AddrInUse);
    let bind = |text: &str, error: &dyn Fn() -> io::Error| {
        let only_ipv4 = |address: SocketAddr| {
            if address.is_ipv6() { Err(error()) } else { Ok(address.to_string()) }
        };
        bind_with(text.parse().expect("an address"), only_ipv4).map_err(|error| error.to_string())
    };
    for error in [&no_family as &dyn Fn() -> io::Error, &no_address] {
        assert_eq!(bind("[::]:8080", error), Ok("0.0.0.0:8080".to_owned()));
    }
    assert!(bind("[::]:8080", &taken).is_err_and(|error| error.contains("[::]:8080")));
    assert!(bind("[::1]:8080", &no_address).is_err_and(|error| error.contains("--listen")));
}
