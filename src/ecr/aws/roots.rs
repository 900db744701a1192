//! The CA certificates with which the AWS APIs are verified: those of the machine, or of `SSL_CERT_FILE` and `SSL_CERT_DIR`.

use std::env;
use std::path::PathBuf;

use aws_smithy_http_client::tls::{TlsContext, TrustStore};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};

/// The certificates as they are now. The SDK reads them once in a process, which remains if there are none now.
pub(super) fn tls_context() -> TlsContext {
    let found = rustls_native_certs::load_native_certs().certs;
    // The SDK panics at a certificate that cannot be used.
    let usable = found.into_iter().filter(|found| RootCertStore::empty().add(found.clone()).is_ok());
    let pem: String = usable.map(|certificate| pem(&certificate)).collect();
    if pem.is_empty() {
        return TlsContext::default();
    }
    let store = TrustStore::empty().with_pem_certificate(pem);
    TlsContext::builder().with_trust_store(store).build().unwrap_or_default()
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(certificate))
}

/// A hash of the files that the variables name. The files of the machine change with its image only.
pub(super) async fn fingerprint() -> [u8; 32] {
    let mut paths: Vec<PathBuf> = env::var_os("SSL_CERT_FILE").map(PathBuf::from).into_iter().collect();
    for folder in env::split_paths(&env::var_os("SSL_CERT_DIR").unwrap_or_default()) {
        let Ok(mut entries) = tokio::fs::read_dir(folder).await else { continue };
        while let Ok(Some(entry)) = entries.next_entry().await {
            paths.push(entry.path());
        }
    }
    paths.sort();
    let mut hash = Sha256::new();
    for path in paths {
        let contents = tokio::fs::read(path).await.unwrap_or_default();
        hash.update(contents.len().to_be_bytes());
        hash.update(contents);
    }
    hash.finalize().into()
}
