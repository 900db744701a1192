//! A cluster with a node, an AWS and a registry, and the chart's image on the node.

mod apps;
mod controller;
mod inventory;
mod start;

use std::ops::Deref;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use testing::aws::Stub;
use testing::control_plane::ControlPlane;
use testing::isolation::isolated;
use testing::node::Node;
use testing::registry::Registry;
use testing::tenants::{HOST, Tenants};
use testing::tools;

pub use apps::{app_image, basic};
use inventory::Inventory;
pub use start::{controller_image, pause};
pub use testing::tenants::INSTANCE as RELEASE;

pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/ecr-pull-secrets");
/// The registry of another account, which the tests' registry is too.
pub const OTHER_HOST: &str = "222222222222.dkr.ecr.eu-central-1.amazonaws.com";
pub const HOSTS: [&str; 2] = [HOST, OTHER_HOST];

/// Runs `body` on a cluster of its own, in Linux namespaces of its own. Then searches the logs of the controller's pods
/// for tokens and keys, uninstalls the release, and compares the cluster with the one before the installation.
///
/// `test` is the full name of the calling test, and `namespaces` are those of its tenants.
pub fn e2e_test(test: &str, namespaces: &[String], body: impl AsyncFnOnce(&E2e)) {
    isolated(test, &HOSTS, || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let e2e = E2e::start(namespaces).await;
            let test = async {
                body(&e2e).await;
                e2e.uninstall(namespaces).await;
            };
            if let Err(panic) = AssertUnwindSafe(test).catch_unwind().await {
                println!("{}", e2e.state().await);
                resume_unwind(panic);
            }
        });
    });
}

/// What a test acts on, ended in this order; the methods of [`Tenants`] are its own.
pub struct E2e {
    follow: tokio::task::JoinHandle<()>,
    pub node: Node,
    pub registry: Arc<Registry>,
    pub aws: Arc<Stub>,
    tenants: Tenants,
    pub cluster: ControlPlane,
    folder: TempDir,
    start: Instant,
    before: Inventory,
}

impl Deref for E2e {
    type Target = Tenants;

    fn deref(&self) -> &Tenants {
        &self.tenants
    }
}

impl E2e {
    /// Prints a line of progress.
    pub fn log(&self, what: &str) {
        println!("[{:5.1} s] {what}", self.start.elapsed().as_secs_f64());
    }

    /// Runs Helm as the admin, in the release's namespace; `values` are for an installation or an upgrade, in addition
    /// to what this cluster needs.
    pub async fn helm(&self, args: &[&str], values: &Value) {
        self.helm_in(RELEASE, args, &[&self.values(), values], &[]).await;
    }

    /// As [`Self::helm`], with these values only, and with these variables.
    pub async fn helm_in(&self, namespace: &str, args: &[&str], values: &[&Value], env: &[(&str, &str)]) {
        let kubeconfig = self.cluster.admin_kubeconfig().display().to_string();
        let mut all = [args, &["--namespace", namespace, "--kubeconfig", &kubeconfig]].concat();
        let file =
            |(n, values): (usize, &&Value)| self.write(&format!("values-{n}.yaml"), &values.to_string());
        let files: Vec<_> = values.iter().enumerate().map(file).collect();
        if matches!(args[0], "install" | "upgrade") {
            all.extend(files.iter().flat_map(|file| ["--values", file]));
        }
        if let Err(said) = tools::run("helm", &all, env).await {
            panic!("helm {args:?}: {said}");
        }
    }

    /// Runs kubectl as the admin: what it printed.
    pub async fn kubectl(&self, args: &[&str]) -> String {
        self.try_kubectl(args).await.unwrap_or_else(|said| panic!("kubectl {args:?}: {said}"))
    }

    /// As [`Self::kubectl`], or what it wrote to stderr if it failed.
    pub async fn try_kubectl(&self, args: &[&str]) -> Result<String, String> {
        let kubeconfig = self.cluster.admin_kubeconfig().display().to_string();
        // `exec` takes what follows `--` for the command.
        let all = [&["--kubeconfig", &kubeconfig][..], args].concat();
        tools::run("kubectl", &all, &[]).await
    }

    /// Writes a file of the test: its path.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("a temporary folder takes files");
        path.display().to_string()
    }

    /// Where AWS is; and nothing is to be left behind.
    pub fn values(&self) -> Value {
        json!({"cleanupOnUninstall": true, "extraEnv": [self.aws_endpoint()]})
    }

    /// The variable with which a pod finds AWS.
    pub fn aws_endpoint(&self) -> Value {
        json!({"name": "AWS_ENDPOINT_URL", "value": self.aws.url()})
    }

    /// Creates a namespace.
    pub async fn create_namespace(&self, name: &str, labels: Value) {
        let metadata = json!({"name": name, "labels": labels});
        let document = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
        self.cluster.apply(&document.to_string()).await;
    }

    /// Pods and logs, for a message.
    async fn state(&self) -> String {
        format!("{}\n{}", self.pods().await, self.node.log_tails())
    }
}

impl Drop for E2e {
    fn drop(&mut self) {
        self.follow.abort();
    }
}
