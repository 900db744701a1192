//! Connections to an API server.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// A connection, for the next request.
pub type Connection = SendRequest<Full<Bytes>>;

/// An API server, and idle connections to it: as many as requests were in flight at once.
pub struct Upstream {
    authority: String,
    tls: TlsConnector,
    idle: Mutex<Vec<Connection>>,
}

impl Upstream {
    /// Connects when a request is sent. `ca_file` has the authority that signed the certificate of the API server.
    pub fn new(url: &str, ca_file: &Path) -> Self {
        let authority = url.strip_prefix("https://").expect("an API server has an https URL").to_owned();
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca_file).expect("a file with certificates") {
            roots.add(certificate.expect("a certificate")).expect("a certificate of an authority");
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { authority, tls: TlsConnector::from(Arc::new(config)), idle: Mutex::default() }
    }

    /// Sends a request and returns the reply, whose body may still arrive, and its connection.
    pub async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Connection), std::io::Error> {
        let host = HeaderValue::from_str(&self.authority).expect("an authority is a header value");
        request.headers_mut().insert(HOST, host);
        let mut connection = self.connection().await?;
        let response = connection.send_request(request).await.map_err(std::io::Error::other)?;
        Ok((response, connection))
    }

    /// Keeps a connection for the next request.
    pub fn keep(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }

    async fn connection(&self) -> Result<Connection, std::io::Error> {
        while let Some(mut connection) = self.take_idle() {
            if connection.ready().await.is_ok() {
                return Ok(connection);
            }
        }
        let stream = TcpStream::connect(&self.authority).await?;
        stream.set_nodelay(true)?;
        let (host, _) = self.authority.rsplit_once(':').expect("an authority with a port");
        let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
        let stream = self.tls.connect(name, stream).await?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        // It ends when its sender is dropped or the API server ends.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn take_idle(&self) -> Option<Connection> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}
