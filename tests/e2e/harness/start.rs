//! Starts everything that a test needs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use image::archive::{Contents, write};
use image::program::{Architecture, architecture};
use serde_json::json;
use tempfile::TempDir;
use testing::aws::{Behaviour, Stub};
use testing::control_plane::ControlPlane;
use testing::isolation::ADDRESS;
use testing::node::{Node, SANDBOX};
use testing::registry::Registry;
use testing::tenants::Tenants;

use super::apps::APP;
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
        let program = testing::tools::folder("node").await.join("pause");
        let program = std::fs::read(program).expect("the program that waits");
        let architecture = architecture(&program).expect("a static program");
        let images = [pause(folder.path(), &program, architecture), controller(architecture)];
        let cluster = ControlPlane::builder().controller_manager(true).address(ADDRESS).start().await;
        let registry = Registry::start_on_443(&HOSTS, NOBODYS).await;
        let node = Node::start(&cluster, &registry, &HOSTS, &images).await;
        for host in HOSTS {
            node.push(SANDBOX, &format!("{host}/{APP}"), NOBODYS);
        }
        let aws = Arc::new(Stub::listen((ADDRESS, 0).into()));
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
fn controller(architecture: Architecture) -> PathBuf {
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("image");
    let path = folder.join(format!("{RELEASE}-{}-{architecture}.oci.tar", env!("CARGO_PKG_VERSION")));
    assert!(path.exists(), "there is no {}: run make image first", path.display());
    path
}

/// The image of sandboxes and of the test's pods, as an archive.
fn pause(folder: &Path, program: &[u8], architecture: Architecture) -> PathBuf {
    let (name, version) = SANDBOX.split_once(':').expect("a tag");
    let written = write(Contents { program, architecture, version, name, epoch: 0 }).expect("an image");
    let path = folder.join("pause.oci.tar");
    std::fs::write(&path, written.archive).expect("a temporary folder takes files");
    path
}
