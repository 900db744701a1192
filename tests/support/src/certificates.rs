//! Certificate authorities that live as long as a test.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// A certificate authority, made on the spot, that nothing but the test trusts.
#[derive(Debug)]
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, both PEM.
#[derive(Debug)]
pub struct Certificate {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
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
        self.sign(&params, &key)
    }

    /// Issues a client certificate of this user, in this group if there is one, that is valid for `lifetime`.
    pub(crate) fn issue_for(&self, user: &str, group: Option<&str>, lifetime: Duration) -> Certificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = (SystemTime::now() + lifetime).into();
        self.sign(&params, &key_pair())
    }

    fn sign(&self, params: &CertificateParams, key: &KeyPair) -> Certificate {
        let certificate = params.signed_by(key, &self.issuer).expect("a certificate can be signed").pem();
        Certificate { certificate, key: key.serialize_pem() }
    }
}

/// A new ECDSA key, which Kubernetes also takes for signing service account tokens.
pub(crate) fn key_pair() -> KeyPair {
    KeyPair::generate().expect("ring makes keys")
}
