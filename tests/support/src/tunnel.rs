//! A proxy behind which registries go by the names of ECR, for clients that cannot be given another address.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::registry::Registry;
use crate::server::{Server, response};

/// An HTTP proxy that passes connections on as they are, to one registry for each host; gone, with every connection, when
/// this is dropped. It lets nothing out.
#[derive(Debug)]
pub struct Tunnel {
    server: Server,
}

impl Tunnel {
    /// Starts one on a free loopback port, in front of these registries.
    pub fn start(registries: &[(&str, &Registry)]) -> Self {
        let ports: HashMap<_, _> =
            registries.iter().map(|(host, registry)| ((*host).to_owned(), registry.port())).collect();
        let ports = Arc::new(ports);
        let server = Server::start("tunnel", (Ipv4Addr::LOCALHOST, 0).into(), move |stream| {
            serve(stream, Arc::clone(&ports))
        });
        Self { server }
    }

    /// Its URL, for `HTTPS_PROXY`.
    pub fn url(&self) -> String {
        self.server.url()
    }
}

async fn serve(stream: TcpStream, ports: Arc<HashMap<String, u16>>) {
    let service = hyper::service::service_fn(|request| {
        std::future::ready(Ok::<_, Infallible>(connect(request, &ports)))
    });
    // A connection may end however it wants.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

fn connect(request: Request<Incoming>, ports: &HashMap<String, u16>) -> Response<String> {
    let target = request.uri().authority().filter(|target| target.port_u16() == Some(443));
    let port = target.and_then(|target| ports.get(target.host())).copied();
    let Some(port) = port.filter(|_| request.method() == Method::CONNECT) else {
        return response(
            403,
            ("content-type", "text/plain"),
            "this proxy leads to the registries of a test only",
        );
    };
    tokio::spawn(async move {
        let Ok(client) = hyper::upgrade::on(request).await else { return };
        let Ok(mut registry) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
        let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut registry).await;
    });
    Response::new(String::new())
}
