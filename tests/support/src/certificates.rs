//! Certificate authorities that live as long as a test.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// A certificate authority, made on the spot, that nothing but the test trusts.
#[derive(Debug)]
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A serving certificate and its key, both PEM.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    /// Makes an authority whose common name is `name`.
    pub fn new(name: &str) -> Self {
        let key = key_pair();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let pem = params.self_signed(&key).expect("a CA certificate can be signed").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// The authority's certificate as PEM: what a client has to trust.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Issues a serving certificate for `names`: host names (`*.` allowed) and IP addresses.
    pub(crate) fn issue(&self, names: &[&str]) -> Certificate {
        let key = key_pair();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("names that a certificate can hold");
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate can be signed").pem();
        Certificate { certificate, key: key.serialize_pem() }
    }
}

/// A new ECDSA key, which Kubernetes also takes for signing service account tokens.
pub(crate) fn key_pair() -> KeyPair {
    KeyPair::generate().expect("ring makes keys")
}
