//! A proxy behind which the stub goes by the names of the real AWS.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::aws::{self, Stub};
use crate::certificates::Authority;
use crate::folder::Folder;
use crate::server::{Server, response};

/// An HTTP proxy that ends the TLS of what comes through it, and passes it on to the stub; gone, with every
/// connection, when this is dropped.
///
/// It lets nothing out: whatever host port 443 is asked for, it presents a certificate for that host, signed
/// by an authority of its own, and the stub answers. Requests arrive there as they were sent, with the host
/// name that their signature covers.
#[derive(Debug)]
pub struct Proxy {
    server: Server,
    relay: Arc<Relay>,
    folder: Folder,
}

#[derive(Debug)]
struct Relay {
    /// Connections end when it changes.
    authority: watch::Sender<Authority>,
    stub: SocketAddr,
    targets: Mutex<Vec<String>>,
    routes: Mutex<BTreeMap<String, SocketAddr>>,
}

impl Proxy {
    /// Starts one on a free loopback port, in front of this stub.
    #[expect(clippy::unused_async, reason = "starts as everything else in this crate does")]
    pub async fn start(stub: &Stub) -> Self {
        let authority = Authority::new("proxy of a test");
        let folder = Folder::new();
        std::fs::write(folder.path().join("ca.crt"), authority.pem())
            .expect("a temporary folder takes files");
        let relay = Arc::new(Relay {
            authority: watch::Sender::new(authority),
            stub: stub.address(),
            targets: Mutex::default(),
            routes: Mutex::default(),
        });
        let shared = Arc::clone(&relay);
        let server = Server::start("proxy", (Ipv4Addr::LOCALHOST, 0).into(), move |stream| {
            serve(stream, Arc::clone(&shared))
        });
        Self { server, relay, folder }
    }

    /// Passes what is sent to port 443 of this host on to a server on loopback, without ending the TLS of it.
    pub fn route(&self, host: &str, server: SocketAddr) {
        self.relay.routes().insert(host.to_owned(), server);
    }

    /// Signs its certificates with another authority, whose certificate replaces the one in the file, and ends every
    /// connection.
    pub fn change_authority(&self) {
        let authority = Authority::new("second one of a test");
        std::fs::write(self.ca_file(), authority.pem()).expect("a temporary folder takes files");
        self.relay.authority.send_replace(authority);
    }

    /// Its URL, for `HTTPS_PROXY`.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// A PEM file with the certificate of the authority that a client has to trust.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// The host of every `CONNECT` so far, in the order of arrival.
    ///
    /// A client may send many requests through one of them.
    pub fn targets(&self) -> Vec<String> {
        self.relay.targets().clone()
    }

    /// How many times it was asked to connect to this host.
    pub fn count(&self, host: &str) -> usize {
        self.relay.targets().iter().filter(|target| *target == host).count()
    }

    /// The environment that makes an AWS SDK call AWS by its real names through here, with the fixed key
    /// pair, and nobody's own settings.
    ///
    /// What listens on loopback is reached without the proxy.
    pub fn env(&self) -> Vec<(String, String)> {
        let ca_file = self.ca_file();
        aws::environment(&[
            ("HTTPS_PROXY", &self.url()),
            ("NO_PROXY", "127.0.0.1,localhost"),
            ("SSL_CERT_FILE", ca_file.to_str().expect("a temporary folder whose name is text")),
            ("AWS_ACCESS_KEY_ID", Stub::ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", Stub::SECRET_KEY),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ])
    }
}

async fn serve(stream: TcpStream, relay: Arc<Relay>) {
    let service = hyper::service::service_fn(|request| {
        std::future::ready(Ok::<_, Infallible>(connect(request, &relay)))
    });
    // A connection may end however it wants.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

/// Answers a request of the proxy's own, and has what follows a good one passed on.
fn connect(request: Request<Incoming>, relay: &Arc<Relay>) -> Response<String> {
    let refusal = |status, reason| response(status, ("content-type", "text/plain"), reason);
    if request.method() != Method::CONNECT {
        return refusal(405, "this proxy knows nothing but CONNECT");
    }
    let target = request.uri().authority().filter(|target| target.port_u16() == Some(443));
    let Some(host) = target.map(|target| target.host().to_owned()) else {
        return refusal(403, "this proxy leads to port 443 only");
    };
    relay.targets().push(host.clone());
    let relay = Arc::clone(relay);
    let route = relay.routes().get(&host).copied();
    tokio::spawn(async move {
        let Ok(client) = hyper::upgrade::on(request).await else { return };
        if let Some(server) = route {
            let Ok(mut server) = TcpStream::connect(server).await else { return };
            let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut server).await;
            return;
        }
        // Who does not trust the certificate goes away here; what either side does later is its own matter.
        let mut authority = relay.authority.subscribe();
        let Ok(mut client) = relay.acceptor(&host).accept(TokioIo::new(client)).await else { return };
        let Ok(mut stub) = TcpStream::connect(relay.stub).await else { return };
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut client, &mut stub) => {}
            _ = authority.changed() => {}
        }
    });
    Response::new(String::new())
}

impl Relay {
    fn targets(&self) -> MutexGuard<'_, Vec<String>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn routes(&self) -> MutexGuard<'_, BTreeMap<String, SocketAddr>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What speaks TLS as this host.
    fn acceptor(&self, host: &str) -> TlsAcceptor {
        let issued = self.authority.borrow().issue(&[host]);
        let certificate =
            CertificateDer::from_pem_slice(issued.certificate.as_bytes()).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key);
        let mut config = config.expect("a certificate and its key");
        // The stub speaks no HTTP/2, which clients would prefer.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

#[cfg(test)]
mod tests;
