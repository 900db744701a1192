//! The kubelet's credential provider: a real kubelet pulls images without a secret in the cluster.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};
use tempfile::TempDir;
use testing::aws::{Outcome, Stub};
use testing::control_plane::ControlPlane;
use testing::isolation::{ADDRESS, isolated};
use testing::node::{Node, Plugin, SANDBOX};
use testing::registry::Registry;
use testing::tenants::{HOST, Tenants};
use testing::{leaks, tools};

use crate::harness::pause;

const APP: &str = "team/app:1";
const NAMESPACE: &str = "team-a";
const AUDIENCE: &str = "sts.amazonaws.com";
const ROLE: &str = "arn:aws:iam::123456789012:role/app";
/// The user of the kubelet.
const KUBELET: &str = "system:node:node";
const OF_NODE: &str = "the token of the node";
const OF_ROLE: &str = "the token of the role of the service account";
const CONFIG: &str = include_str!("../../deploy/kubelet/credential-provider.yaml");
const RBAC: &str = include_str!("../../deploy/kubelet/rbac.yaml");

/// A cluster whose kubelet has this program as its credential provider.
struct World {
    tenants: Tenants,
    node: Node,
    registry: Registry,
    aws: Stub,
    cluster: ControlPlane,
    _folder: TempDir,
    start: Instant,
}

impl World {
    async fn start() -> Self {
        let start = Instant::now();
        let folder = TempDir::new().expect("a temporary folder");
        let aws = Stub::start().await;
        aws.set_password_for(Stub::PRINCIPAL, OF_NODE);
        aws.set_password_for(ROLE, OF_ROLE);
        aws.trust(ROLE, AUDIENCE, &format!("system:serviceaccount:{NAMESPACE}:app"));
        let cluster = ControlPlane::builder().controller_manager(true).address(ADDRESS).start().await;
        let registry = Registry::start_on_443(&[HOST], OF_NODE).await;
        let images = [pause(folder.path(), &tools::folder("node").await)];
        let plugin = plugin(folder.path(), &aws);
        let node = Node::start_with(&cluster, &registry, &[HOST], &images, Some(&plugin)).await;
        node.push(SANDBOX, &format!("{HOST}/{APP}"), OF_NODE);
        let tenants = Tenants::new(cluster.admin()).timeout(Duration::from_mins(2));
        let world = Self { tenants, node, registry, aws, cluster, _folder: folder, start };
        world
            .cluster
            .apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}}}}}"))
            .await;
        for name in ["app", "other"] {
            let annotations = json!({"ecr-pull-secrets.dev/role-arn": ROLE});
            let metadata = json!({"name": name, "annotations": annotations});
            world.tenants.create::<ServiceAccount>(NAMESPACE, json!({"metadata": metadata})).await;
        }
        world.log("a cluster with a node, whose image is in the registry only");
        world
    }

    fn log(&self, what: &str) {
        println!("[{:5.1} s] {what}", self.start.elapsed().as_secs_f64());
    }

    /// Creates a pod of a service account. Each has a name of its own.
    async fn run(&self, name: &str, account: &str) {
        let exists = async || {
            let api: Api<ServiceAccount> = self.tenants.api(NAMESPACE);
            api.get_opt(account).await.expect("the admin reads service accounts").map(drop)
        };
        self.tenants.wait_for(&format!("service account {account}"), exists).await;
        let container = json!({"name": "app", "image": format!("{HOST}/{APP}"), "imagePullPolicy": "Always"});
        let spec = json!({
            "serviceAccountName": account, "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0, "containers": [container],
        });
        self.tenants.create::<Pod>(NAMESPACE, json!({"metadata": {"name": name}, "spec": spec})).await;
    }

    async fn delete(&self, name: &str) {
        let api: Api<Pod> = self.tenants.api(NAMESPACE);
        api.delete(name, &DeleteParams::default()).await.expect("the admin deletes pods");
    }

    async fn status(&self, name: &str) -> Option<Value> {
        let api: Api<Pod> = self.tenants.api(NAMESPACE);
        let pod = api.get(name).await.expect("the admin reads pods");
        let container = pod.status?.container_statuses?.pop()?;
        Some(json!({"ready": container.ready, "state": container.state}))
    }

    async fn wait_until_running(&self, name: &str) {
        let ready = async || self.status(name).await.filter(|status| status["ready"] == true).map(drop);
        self.tenants.wait_for(&format!("{name} to run\n{}", self.node.log_tails()), ready).await;
    }

    async fn wait_until_pull_fails(&self, name: &str) {
        let refused = async || {
            let status = self.status(name).await?;
            assert_ne!(status["ready"], true, "{name} runs");
            let reason = status["state"]["waiting"]["reason"].as_str()?.to_owned();
            matches!(&*reason, "ErrImagePull" | "ImagePullBackOff").then_some(())
        };
        self.tenants.wait_for(&format!("{name} to be refused"), refused).await;
    }

    async fn assert_no_secret(&self) {
        let api: Api<Secret> = Api::all(self.cluster.admin());
        let secrets = api.list(&ListParams::default()).await.expect("the admin lists secrets").items;
        assert!(
            secrets.is_empty(),
            "{:?}",
            secrets.iter().map(|secret| &secret.metadata.name).collect::<Vec<_>>()
        );
    }

    /// The statuses with which the API server replied to the kubelet's requests for tokens of service accounts. No
    /// pod here has a token of its own.
    fn token_requests(&self) -> Vec<u16> {
        let all = self.cluster.requests(KUBELET, "create", "serviceaccounts");
        all.iter()
            .filter(|entry| entry.subresource.as_deref() == Some("token"))
            .map(|entry| entry.code)
            .collect()
    }

    /// Applies the rule that allows nodes to request tokens for the audience, and waits until it is effective.
    async fn allow_token_requests(&self) {
        self.cluster.apply(RBAC).await;
        let verb = "request-serviceaccounts-token-audience";
        let attributes = json!({"namespace": NAMESPACE, "verb": verb, "resource": AUDIENCE, "name": "app", "version": "v1"});
        let spec = json!({"user": KUBELET, "groups": ["system:nodes"], "resourceAttributes": attributes});
        self.tenants.wait_until_allowed(spec).await;
    }
}

/// The configuration of `deploy/kubelet`, with the variables that lead to the stub, and the program under its name.
fn plugin(folder: &Path, aws: &Stub) -> Plugin {
    let mut config: Value = serde_saphyr::from_str(CONFIG).expect("YAML");
    let env: Vec<_> =
        aws.env().into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    config["providers"][0]["env"] = env.into();
    let path = folder.join("credential-provider.yaml");
    // JSON is YAML.
    std::fs::write(&path, config.to_string()).expect("a temporary folder takes files");
    Plugin { config: path, programs: programs(folder) }
}

fn programs(folder: &Path) -> PathBuf {
    let programs = folder.join("bin");
    std::fs::create_dir(&programs).expect("a temporary folder takes folders");
    let program = env!("CARGO_BIN_EXE_ecr-pull-secrets");
    std::os::unix::fs::symlink(program, programs.join("ecr-pull-secrets")).expect("a link");
    programs
}

#[test]
fn a_kubelet_pulls_with_the_identity_of_the_node_or_of_the_service_account_and_no_secret() {
    let test = "credential_provider::a_kubelet_pulls_with_the_identity_of_the_node_or_of_the_service_account_and_no_secret";
    isolated(test, &[HOST], || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let world = World::start().await;
            world.run("too-early", "app").await;
            world.wait_until_pull_fails("too-early").await;
            world.delete("too-early").await;
            let replies = world.token_requests();
            assert!(!replies.is_empty() && replies.iter().all(|code| *code == 403), "{replies:?}");
            world.log("without the rule of deploy/kubelet/rbac.yaml, the kubelet gets no token of a service account");
            world.allow_token_requests().await;
            world.run("by-node", "default").await;
            world.wait_until_running("by-node").await;
            assert!(world.aws.minted().iter().all(|token| token.principal == Stub::PRINCIPAL));
            world.log("a pod without a role runs, by the identity of the node");

            world.registry.set_password(OF_ROLE);
            world.run("by-role", "app").await;
            world.wait_until_running("by-role").await;
            let token = world.aws.minted().pop().expect("a token");
            assert_eq!(token.role.as_deref(), Some(ROLE));
            world.log("a pod runs by the token of its service account");
            for (name, account) in [("other", "other"), ("node", "default")] {
                world.run(&format!("by-{name}-too"), account).await;
            }
            for name in ["by-other-too", "by-node-too"] {
                world.wait_until_pull_fails(name).await;
            }
            let roles: Vec<_> = world.aws.minted().into_iter().filter(|token| token.role.is_some()).collect();
            assert_eq!(roles.len(), 1, "no token for the other service account");
            let calls = world.aws.calls().into_iter();
            let denied = calls.filter(|call| call.role.is_some() && call.outcome == Outcome::Status(403));
            assert!(denied.count() > 0, "STS denied the role to the other service account");
            world.log("the pods of other service accounts are refused");
            world.assert_no_secret().await;
            leaks::assert_none(&world.node.log_tails(), &world.aws.secrets());
        });
    });
}
