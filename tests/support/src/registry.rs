//! A real container registry that wants a password, as ECR does.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::certificates::Authority;
use crate::folder::Folder;
use crate::ports::Port;
use crate::process::Process;
use crate::tenants::HOST;
use crate::tools;

/// The cheapest that bcrypt allows: the registry compares a hash for each request.
const COST: u32 = 4;

/// A running registry ("distribution") that serves TLS under ECR host names and lets in user `AWS`.
///
/// It checks passwords with bcrypt, which looks at the first 72 bytes only: it proves that the right token
/// arrived, not that all of it did.
#[derive(Debug)]
pub struct Registry {
    process: Process,
    port: Port,
    authority: Authority,
    folder: Folder,
}

impl Registry {
    /// Starts a registry for [`HOST`] in which user `AWS` has this password.
    pub async fn start(password: &str) -> Self {
        Self::start_for(&[], password).await
    }

    /// Starts a registry whose certificate is valid for [`HOST`] and `hosts`.
    pub async fn start_for(hosts: &[&str], password: &str) -> Self {
        let program = tools::folder("registry").await.join("registry");
        loop {
            let mut registry = Self::spawn(&program, Ipv4Addr::LOCALHOST, Port::claim(), hosts, password);
            if registry.comes_up().await {
                return registry;
            }
            assert!(
                registry.process.log().contains("address already in use"),
                "the registry does not start:\n{}",
                registry.process.log_tail()
            );
        }
    }

    /// The same on port 443, as those of ECR, and on all addresses, in a network of the test's own.
    pub async fn start_on_443(hosts: &[&str], password: &str) -> Self {
        let program = tools::folder("registry").await.join("registry");
        let mut registry = Self::spawn(&program, Ipv4Addr::UNSPECIFIED, Port::exactly(443), hosts, password);
        assert!(registry.comes_up().await, "the registry does not start:\n{}", registry.process.log_tail());
        registry
    }

    fn spawn(program: &Path, address: Ipv4Addr, port: Port, hosts: &[&str], password: &str) -> Self {
        let folder = Folder::new();
        let authority = Authority::new("registry of a test");
        let names = [hosts, &[HOST, "localhost", "127.0.0.1"]].concat();
        let certificate = authority.issue(&names);
        let at = |name: &str| folder.path().join(name);
        let write =
            |name: &str, text: &str| std::fs::write(at(name), text).expect("a temporary folder takes files");
        write("ca.crt", authority.pem());
        write("tls.crt", &certificate.certificate);
        write("tls.key", &certificate.key);
        write_password(&at("htpasswd"), password);
        let configuration = serde_json::json!({
            "version": "0.1",
            "storage": {"filesystem": {"rootdirectory": at("storage")}},
            "http": {
                "addr": format!("{address}:{}", port.number()),
                "secret": "of a test",
                "tls": {"certificate": at("tls.crt"), "key": at("tls.key")},
            },
            "auth": {"htpasswd": {"realm": "test", "path": at("htpasswd")}},
        });
        // JSON is YAML.
        write("config.yaml", &configuration.to_string());
        let mut command = Command::new(program);
        // Its default is to send traces to a collector on this host.
        command.arg("serve").arg(at("config.yaml")).env("OTEL_TRACES_EXPORTER", "none");
        let process = Process::spawn("registry", &command, folder.path());
        Self { process, port, authority, folder }
    }

    async fn comes_up(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.process.exit_code().is_none() && Instant::now() < deadline {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port())).await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The authority whose certificate a client has to trust.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A PEM file with the authority's certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// Replaces the password; it counts for every request from now on.
    pub fn set_password(&self, password: &str) {
        write_password(&self.folder.path().join("htpasswd"), password);
    }

    /// The status of `GET /v2/` as a client gets it that takes this registry for `host`.
    ///
    /// `authorization` is the whole header value, for example `Basic …`. Panics if the certificate is not
    /// valid for `host`.
    pub async fn get_v2(&self, host: &str, authorization: Option<&str>) -> u16 {
        let stream =
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port())).await.expect("the registry listens");
        let name = ServerName::try_from(host.to_owned()).expect("a host name");
        let stream = self.connector().connect(name, stream).await;
        let stream = stream.unwrap_or_else(|error| panic!("no TLS with the registry as {host}: {error}"));
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .expect("the registry speaks HTTP");
        tokio::spawn(connection);
        let mut request = Request::get("/v2/").header("host", host);
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let request = request.body(Empty::<Bytes>::new()).expect("a header value");
        sender.send_request(request).await.expect("the registry answers").status().as_u16()
    }

    fn connector(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        let certificate =
            CertificateDer::from_pem_slice(self.authority.pem().as_bytes()).expect("a certificate");
        roots.add(certificate).expect("a certificate of an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }
}

fn write_password(path: &Path, password: &str) {
    // The registry reads the file again when its time is later than before, and clocks of file systems may be
    // coarse: each version gets a time of its own.
    let before = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let hash = bcrypt::hash(password, COST).expect("bcrypt hashes any password");
    let new = path.with_extension("new");
    std::fs::write(&new, format!("AWS:{hash}\n")).expect("a temporary folder takes files");
    if let Some(before) = before {
        let file = File::options().write(true).open(&new).expect("a file just written");
        file.set_modified(before + Duration::from_secs(1)).expect("a file's time can be set");
    }
    std::fs::rename(&new, path).expect("a file can be replaced");
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    #[tokio::test]
    async fn lets_in_the_password_and_no_other() {
        const OTHER: &str = "222222222222.dkr.ecr.us-east-1.amazonaws.com";
        // As long as ECR's, which is longer than what bcrypt looks at.
        let (first, second) = (format!("first{}", "x".repeat(1800)), format!("second{}", "x".repeat(1800)));
        let basic = |password: &str| format!("Basic {}", STANDARD.encode(format!("AWS:{password}")));
        let registry = Registry::start_for(&[OTHER], &first).await;
        assert_eq!(registry.get_v2(HOST, None).await, 401);
        assert_eq!(registry.get_v2(HOST, Some(&basic(&first))).await, 200);
        assert_eq!(registry.get_v2(OTHER, Some(&basic(&first))).await, 200);
        assert_eq!(registry.get_v2(HOST, Some(&basic(&second))).await, 401);
        registry.set_password(&second);
        assert_eq!(registry.get_v2(HOST, Some(&basic(&first))).await, 401);
        assert_eq!(registry.get_v2(HOST, Some(&basic(&second))).await, 200);
    }
}
