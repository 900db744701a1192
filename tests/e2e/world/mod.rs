//! A cluster with a node, an AWS and a registry, and the chart's image on the node.

mod apps;
mod controller;
mod inventory;
mod start;

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tempfile::TempDir;
use testing::aws::Stub;
use testing::control_plane::ControlPlane;
use testing::helm;
use testing::node::Node;
use testing::registry::Registry;

pub use apps::{basic, password};
use inventory::Inventory;

/// The release, its namespace, and so its instance.
pub const RELEASE: &str = "ecr-pull-secrets";
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/ecr-pull-secrets");
/// The registry of another account, which the tests' registry is too.
pub const OTHER_HOST: &str = "222222222222.dkr.ecr.eu-central-1.amazonaws.com";
pub const HOSTS: [&str; 2] = [Registry::HOST, OTHER_HOST];
/// The Secret that the chart's defaults allow.
pub const NAME: &str = "ecr-pull";
const REGISTRIES: &str = "ecr-pull-secrets.dev/registries";

/// All that the test needs; ended in this order.
pub struct World {
    follow: tokio::task::JoinHandle<()>,
    pub node: Node,
    pub registry: Arc<Registry>,
    pub aws: Arc<Stub>,
    pub admin: Client,
    pub cluster: ControlPlane,
    folder: TempDir,
    start: Instant,
    before: Inventory,
}

impl World {
    /// A line for whoever watches.
    pub fn say(&self, what: &str) {
        println!("[{:5.1} s] {what}", self.start.elapsed().as_secs_f64());
    }

    /// The password of the last token.
    pub fn password(&self) -> String {
        self.aws.minted().last().expect("a token").password.clone()
    }

    /// Runs Helm as the admin, in the release's namespace; `values` are for an installation or an upgrade, in addition
    /// to what this cluster needs.
    pub async fn helm(&self, args: &[&str], values: &Value) {
        let kubeconfig = self.cluster.admin_kubeconfig().display().to_string();
        let mut all = [args, &["--namespace", RELEASE, "--kubeconfig", &kubeconfig]].concat();
        let files = [("cluster", &self.needs()), ("own", values)].map(|(name, values)| {
            let path = self.folder.path().join(format!("{name}.yaml"));
            std::fs::write(&path, values.to_string()).expect("a temporary folder takes files");
            path.display().to_string()
        });
        if matches!(args[0], "install" | "upgrade") {
            all.extend(files.iter().flat_map(|file| ["--values", file]));
        }
        if let Err(said) = helm::run(&all).await {
            panic!("helm {args:?}: {said}\n{}", self.state().await);
        }
    }

    /// Where AWS is; and nothing is to be left behind.
    fn needs(&self) -> Value {
        let aws = json!({"name": "AWS_ENDPOINT_URL", "value": self.aws.url()});
        json!({"cleanupOnUninstall": true, "extraEnv": [aws]})
    }

    /// Creates a namespace.
    pub async fn create_namespace(&self, name: &str, labels: Value) {
        let metadata = json!({"name": name, "labels": labels});
        let document = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
        self.cluster.apply(&document.to_string()).await;
    }

    /// Changes annotations of a namespace that is there; null removes one.
    pub async fn annotate(&self, namespace: &str, annotations: Value) {
        let api: Api<Namespace> = Api::all(self.admin.clone());
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        api.patch(namespace, &PatchParams::default(), &patch).await.expect("the namespace is annotated");
    }

    /// Opts a namespace in for registries.
    pub async fn opt_in(&self, namespace: &str, registries: &str) {
        self.annotate(namespace, json!({REGISTRIES: registries})).await;
    }

    /// Opts a namespace out.
    pub async fn opt_out(&self, namespace: &str) {
        self.annotate(namespace, json!({REGISTRIES: null})).await;
    }

    /// Waits for a value.
    pub async fn wait<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_mins(2);
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(
                Instant::now() < deadline,
                "waited two minutes for {what}, in vain\n{}",
                self.state().await
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How everything stands, for a message.
    async fn state(&self) -> String {
        format!("{}\n{}", self.pods().await, self.node.log_tails())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.follow.abort();
    }
}
