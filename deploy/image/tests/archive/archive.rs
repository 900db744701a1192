//! The archive of `make image`, taken apart.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;

use flate2::read::GzDecoder;
use oci_spec::image::{Digest, ImageConfiguration, ImageIndex, ImageManifest};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// The files of the archive by their names.
pub struct Archive {
    /// What the program's Cargo.toml says.
    pub version: String,
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Archive {
    /// Of this version and processor; without it a line says how to get it.
    pub fn open() -> Option<Self> {
        let version = of_cargo_toml("version");
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the folder of all targets");
        let path = target.join(format!("image/ecr-pull-secrets-{version}-{architecture}.oci.tar"));
        let Ok(content) = fs::read(&path) else {
            skip(&format!("{} is missing: make image writes it", path.display()));
            return None;
        };
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(content.as_slice()).entries().expect("a tar") {
            let mut entry = entry.expect("an entry");
            let name = entry.path().expect("a path").display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("its content");
            if entry.header().entry_type().is_file() {
                assert!(files.insert(name.clone(), content).is_none(), "{name} stands there twice");
            }
        }
        Some(Self { version, files })
    }

    pub fn blob(&self, digest: &Digest) -> &[u8] {
        &self.files[&format!("blobs/{}", digest.to_string().replace(':', "/"))]
    }

    pub fn index(&self) -> ImageIndex {
        ImageIndex::from_reader(self.files["index.json"].as_slice()).expect("an index")
    }

    pub fn manifest(&self) -> ImageManifest {
        let digest = self.index().manifests()[0].digest().clone();
        ImageManifest::from_reader(self.blob(&digest)).expect("a manifest")
    }

    pub fn image(&self) -> ImageConfiguration {
        let digest = self.manifest().config().digest().clone();
        ImageConfiguration::from_reader(self.blob(&digest)).expect("a configuration")
    }

    /// The layer as a plain tar.
    pub fn layer(&self) -> Vec<u8> {
        let digest = self.manifest().layers()[0].digest().clone();
        let mut layer = Vec::new();
        GzDecoder::new(self.blob(&digest)).read_to_end(&mut layer).expect("gzip");
        layer
    }

    /// The layer as a folder, which goes when the value does.
    pub fn unpack(&self) -> TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        tar::Archive::new(self.layer().as_slice()).unpack(folder.path()).expect("the layer unpacks");
        folder
    }
}

/// A sum of the test's own, not the writer's.
pub fn digest(content: &[u8]) -> String {
    let bytes = Sha256::digest(content);
    bytes.iter().fold("sha256:".to_owned(), |sum, byte| sum + &format!("{byte:02x}"))
}

/// The first value of the key in the program's Cargo.toml.
pub fn of_cargo_toml(key: &str) -> String {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml")).expect("a file");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key} = \"")));
    line.and_then(|rest| rest.strip_suffix('"')).expect("the key has a line of its own").to_owned()
}

/// Past the capture of the test runner: a test that did nothing must not look like one that passed.
pub fn skip(why: &str) {
    let thread = std::thread::current();
    let line = format!("SKIPPED {}: {why}\n", thread.name().unwrap_or("a test"));
    std::io::stderr().write_all(line.as_bytes()).expect("stderr takes a line");
}
