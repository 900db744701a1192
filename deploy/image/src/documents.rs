//! The documents of the OCI image specification, with the fields that are needed here and no others.
//!
//! Written out as types, with ordered maps, because a digest is that of the bytes: the order of keys must not
//! depend on a hash map, nor on a feature of a JSON library that another crate switches on.

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// The media types that are used.
pub mod media {
    /// Of `index.json`.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// Of the manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// Of the configuration.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// Of the layer.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
}

/// `sha256:` and the sum in hexadecimal digits.
pub fn digest(content: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(content).iter().fold("sha256:".to_owned(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes text");
        text
    })
}

/// A reference to a blob.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// One of [`media`].
    pub media_type: &'static str,
    /// See [`digest`].
    pub digest: String,
    /// Its length in bytes.
    pub size: usize,
    /// For which machines it is: of manifests in an index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Such as the name that it is to get where it is imported.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<&'static str, String>,
}

impl Descriptor {
    /// Of this content, without platform and annotations.
    pub fn of(media_type: &'static str, content: &[u8]) -> Self {
        Self {
            media_type,
            digest: digest(content),
            size: content.len(),
            platform: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// A kind of machine.
#[derive(Clone, Copy, Serialize)]
pub struct Platform {
    /// Such as `amd64`.
    pub architecture: &'static str,
    /// `linux`
    pub os: &'static str,
}

/// `index.json`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// 2
    pub schema_version: u8,
    /// [`media::INDEX`]
    pub media_type: &'static str,
    /// One for each platform.
    pub manifests: Vec<Descriptor>,
}

/// What an image consists of.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// 2
    pub schema_version: u8,
    /// [`media::MANIFEST`]
    pub media_type: &'static str,
    /// The [`Image`].
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// The same as the labels: some tools show these, others those.
    pub annotations: BTreeMap<&'static str, String>,
}

/// The configuration of an image.
#[derive(Serialize)]
pub struct Image {
    /// RFC 3339.
    pub created: String,
    /// For which machines it is.
    #[serde(flatten)]
    pub platform: Platform,
    /// How it is run.
    pub config: Run,
    /// Its layers.
    pub rootfs: RootFs,
}

/// How an image is run.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Run {
    /// `UID:GID`, as numbers: the kubelet sees from them alone that it is not root.
    pub user: &'static str,
    /// `NAME=VALUE`
    pub env: Vec<String>,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Where it starts.
    pub working_dir: &'static str,
    /// `org.opencontainers.image.…`
    pub labels: BTreeMap<&'static str, String>,
}

/// The layers as they are unpacked.
#[derive(Serialize)]
pub struct RootFs {
    /// `layers`
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Digests of the layers before compression.
    pub diff_ids: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_that_of_the_standard() {
        // FIPS 180-2, appendix B.1.
        let expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest(b"abc"), expected);
    }

    #[test]
    fn a_descriptor_has_only_what_is_set() {
        let text = serde_json::to_string(&Descriptor::of(media::CONFIG, b"")).expect("JSON");
        let empty = digest(b"");
        assert_eq!(text, format!(r#"{{"mediaType":"{}","digest":"{empty}","size":0}}"#, media::CONFIG));
    }
}
