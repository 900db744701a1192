//! Starts everything that a test needs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use testing::aws::{Behaviour, Stub};
use testing::control_plane::ControlPlane;
use testing::isolation::{ADDRESS, LINK_LOCAL};
use testing::node::{Node, SANDBOX};
use testing::registry::Registry;
use testing::tenants::Tenants;

use super::apps::app_image;
use super::{E2e, HOSTS, RELEASE};

/// Half of it passes before a refresh.
const LIFETIME: Duration = Duration::from_mins(2);
/// Of the registry, until there is a token.
const NOBODYS: &str = "of nobody but the test";

impl E2e {
    /// A registry under host names of ECR that lets in nothing but the last token, and whose image is on no node; and
    /// namespaces that did not opt in.
    pub async fn start(namespaces: &[String]) -> Self {
        let start = Instant::now();
        let folder = TempDir::new().expect("a temporary folder");
        let images = [pause(folder.path(), &testing::tools::folder("node").await), controller_image()];
        let cluster = ControlPlane::builder().controller_manager(true).address(ADDRESS).start().await;
        let registry = Registry::start_on_443(&HOSTS, NOBODYS).await;
        let node = Node::start(&cluster, &registry, &HOSTS, &images).await;
        for host in HOSTS {
            node.push(SANDBOX, &app_image(host), NOBODYS);
        }
        let aws = Arc::new(Stub::listen((LINK_LOCAL, 0).into()));
        aws.set(Behaviour::living(LIFETIME));
        let registry = Arc::new(registry);
        let follow = tokio::spawn(follow(Arc::clone(&aws), Arc::clone(&registry)));
        let tenants = Tenants::new(cluster.admin()).timeout(Duration::from_mins(2));
        let before = super::Inventory::default();
        let mut e2e = Self { follow, node, registry, aws, tenants, cluster, folder, start, before };
        for name in namespaces {
            e2e.create_namespace(name, json!({})).await;
        }
        e2e.before = e2e.stable_objects().await;
        e2e.log("a cluster with a node, whose image is in the registry only");
        e2e
    }
}

/// As ECR does: what counts is the token, and of those the last one here.
async fn follow(aws: Arc<Stub>, registry: Arc<Registry>) {
    let mut last = None;
    loop {
        let now = aws.minted().last().map(|token| token.password.clone());
        if now != last
            && let Some(password) = &now
        {
            registry.set_password(password);
        }
        last = now;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The archive of `make image`.
pub fn controller_image() -> PathBuf {
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("image");
    let path = folder.join(format!("{RELEASE}-{}.oci.tar", env!("CARGO_PKG_VERSION")));
    assert!(path.exists(), "there is no {}: run make image first", path.display());
    path
}

/// The image of sandboxes and of the test's pods, as an archive of `docker save`: the program `pause` of `binaries`.
pub fn pause(folder: &Path, binaries: &Path) -> PathBuf {
    tar(&folder.join("layer.tar"), binaries, &["pause"]);
    let layer = std::fs::read(folder.join("layer.tar")).expect("the layer");
    let sum = Sha256::digest(layer).iter().fold(String::new(), |sum, byte| format!("{sum}{byte:02x}"));
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({
        "os": "linux", "architecture": architecture,
        "config": {"Entrypoint": ["/pause"], "User": "65532:65532"},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{sum}")]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [SANDBOX], "Layers": ["layer.tar"]}]);
    for (name, document) in [("config.json", config), ("manifest.json", manifest)] {
        std::fs::write(folder.join(name), document.to_string()).expect("a temporary folder takes files");
    }
    let path = folder.join("pause.tar");
    tar(&path, folder, &["manifest.json", "config.json", "layer.tar"]);
    path
}

fn tar(archive: &Path, folder: &Path, files: &[&str]) {
    let mut tar = Command::new("tar");
    tar.args(["--owner=0", "--group=0", "--create", "--file"]).arg(archive).arg("--directory").arg(folder);
    assert!(tar.args(files).status().expect("tar starts").success());
}
