//! The image as one file: a tar archive with an OCI image layout.

use std::collections::BTreeMap;
use std::io;

use jiff::Timestamp;
use serde::Serialize;

use crate::bundle::ca_bundle;
use crate::documents::{Descriptor, Image, Index, Manifest, Platform, RootFs, Run, digest, media};
use crate::layer::{File, gzip, tar};
use crate::program::Architecture;

/// Where the program is in the image.
pub const PROGRAM: &str = "/ecr-pull-secrets";
/// Where the roots are in the image: a place where TLS libraries look without being told.
pub const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// No name, for there is no file of names in the image.
pub const USER: &str = "65532:65532";

/// What an image is made of.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    /// A static program.
    pub program: &'a [u8],
    /// For which processor it is.
    pub architecture: Architecture,
    /// Its version, which is the tag too.
    pub version: &'a str,
    /// The name that importing tools give the image, without a tag: `HOST/PATH`.
    pub name: &'a str,
    /// The time of everything in it, in seconds since 1970.
    pub epoch: u32,
}

/// An image as written by [`write()`].
#[derive(Debug)]
pub struct Written {
    /// The file.
    pub archive: Vec<u8>,
    /// The digest of the manifest: what a reference `NAME@DIGEST` has. The name is not part of it.
    pub digest: String,
    /// The bytes of the layer, as they are pulled.
    pub compressed: usize,
    /// The bytes of the layer, unpacked.
    pub unpacked: usize,
}

/// Puts an image together.
pub fn write(contents: Contents<'_>) -> io::Result<Written> {
    let epoch = u64::from(contents.epoch);
    let bundle = ca_bundle();
    let unpacked = tar(
        &[
            File { path: inner(PROGRAM), mode: 0o755, content: contents.program },
            File { path: inner(BUNDLE), mode: 0o644, content: bundle.as_bytes() },
        ],
        epoch,
    )?;
    let layer = gzip(&unpacked)?;
    let platform = Platform { architecture: contents.architecture.as_str(), os: "linux" };
    let config = json(&image(contents, platform, digest(&unpacked)))?;
    let manifest = json(&Manifest {
        schema_version: 2,
        media_type: media::MANIFEST,
        config: Descriptor::of(media::CONFIG, &config),
        layers: vec![Descriptor::of(media::LAYER, &layer)],
        annotations: labels(contents.version),
    })?;
    let index = json(&index(contents, platform, &manifest))?;

    let blobs: Vec<(String, &[u8])> = [&layer, &config, &manifest]
        .map(|blob| (format!("blobs/{}", digest(blob).replace(':', "/")), blob.as_slice()))
        .into();
    let mut files = vec![
        File { path: "oci-layout", mode: 0o644, content: br#"{"imageLayoutVersion":"1.0.0"}"# },
        File { path: "index.json", mode: 0o644, content: &index },
    ];
    files.extend(blobs.iter().map(|(path, content)| File { path, mode: 0o644, content }));
    Ok(Written {
        archive: tar(&files, epoch)?,
        digest: digest(&manifest),
        compressed: layer.len(),
        unpacked: unpacked.len(),
    })
}

/// The name of the archive's file.
pub fn file_name(version: &str, architecture: Architecture) -> String {
    format!("ecr-pull-secrets-{version}-{architecture}.oci.tar")
}

fn image(contents: Contents<'_>, platform: Platform, diff_id: String) -> Image {
    Image {
        created: Timestamp::new(i64::from(contents.epoch), 0)
            .expect("32 bits of seconds are within the years of a timestamp")
            .to_string(),
        platform,
        config: Run {
            user: USER,
            // The TLS library would find that place by itself; a file of one's own is given by this variable.
            env: vec![format!("SSL_CERT_FILE={BUNDLE}")],
            entrypoint: vec![PROGRAM.to_owned()],
            working_dir: "/",
            labels: labels(contents.version),
        },
        rootfs: RootFs { kind: "layers", diff_ids: vec![diff_id] },
    }
}

fn index(contents: Contents<'_>, platform: Platform, manifest: &[u8]) -> Index {
    let mut descriptor = Descriptor::of(media::MANIFEST, manifest);
    descriptor.platform = Some(platform);
    descriptor.annotations = BTreeMap::from([
        // What containerd calls the image.
        ("io.containerd.image.name", format!("{}:{}", contents.name, contents.version)),
        // By what name other tools choose it within the archive.
        ("org.opencontainers.image.ref.name", contents.version.to_owned()),
    ]);
    Index { schema_version: 2, media_type: media::INDEX, manifests: vec![descriptor] }
}

fn labels(version: &str) -> BTreeMap<&'static str, String> {
    BTreeMap::from(
        [
            ("org.opencontainers.image.title", "ecr-pull-secrets"),
            (
                "org.opencontainers.image.description",
                "Keeps Kubernetes image pull secrets for Amazon ECR valid, with rights on no other secret",
            ),
            ("org.opencontainers.image.version", version),
            ("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE")),
        ]
        .map(|(key, value)| (key, value.to_owned())),
    )
}

/// Layers hold paths without the first slash.
fn inner(path: &str) -> &str {
    path.trim_start_matches('/')
}

fn json(document: &impl Serialize) -> io::Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENTS: Contents<'static> = Contents {
        program: b"not run here",
        architecture: Architecture::Arm64,
        version: "1.2.3",
        name: "registry.example.com/it",
        epoch: 1_700_000_000,
    };

    #[test]
    fn writing_twice_gives_one_digest() {
        let [first, second] = [(), ()].map(|()| write(CONTENTS).expect("an image"));
        assert_eq!(first.digest, second.digest);
        assert!(first.archive == second.archive, "the archives differ");
    }

    #[test]
    fn the_name_is_no_part_of_the_digest_and_all_else_is() {
        let digest = |contents| write(contents).expect("an image").digest;
        let original = digest(CONTENTS);
        assert_eq!(digest(Contents { name: "other.example.com/it", ..CONTENTS }), original);
        assert_ne!(digest(Contents { program: b"another", ..CONTENTS }), original);
        assert_ne!(digest(Contents { version: "1.2.4", ..CONTENTS }), original);
        assert_ne!(digest(Contents { epoch: 0, ..CONTENTS }), original);
        assert_ne!(digest(Contents { architecture: Architecture::Amd64, ..CONTENTS }), original);
    }

    #[test]
    fn the_file_is_named_by_version_and_processor() {
        assert_eq!(file_name("1.2.3", Architecture::Arm64), "ecr-pull-secrets-1.2.3-arm64.oci.tar");
    }
}
