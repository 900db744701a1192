//! A cluster, an AWS, and the controller between them.

mod controllers;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Namespace, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tempfile::TempDir;
use testing::aws::Stub;
use testing::control_plane::{AuditEntry, ControlPlane};
use testing::leaks;
use testing::process::Process;

pub use self::controllers::Controller;

pub const RBAC: &str = include_str!("../../../deploy/rbac.yaml");
pub const HOST: &str = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";
pub const REGISTRIES: &str = "ecr-pull-secrets.dev/registries";
pub const NAME: &str = "ecr-pull";
const ACCOUNT: &str = "ecr-pull-secrets";
const USER: &str = "system:serviceaccount:ecr-pull-secrets:ecr-pull-secrets";

/// All that one test needs.
pub struct World {
    pub cluster: ControlPlane,
    pub admin: Client,
    pub aws: Stub,
    env: Vec<(String, String)>,
    kubeconfig: PathBuf,
    folder: TempDir,
    controller: Option<Controller>,
    starts: usize,
}

impl World {
    /// A control plane with the controller's rights, and the stub for AWS.
    pub async fn start() -> Self {
        let aws = Stub::start().await;
        let env = aws.env();
        Self::with_aws(aws, env).await
    }

    /// The same, with the variables of another AWS.
    pub async fn with_aws(aws: Stub, env: Vec<(String, String)>) -> Self {
        let cluster = ControlPlane::start().await;
        cluster.apply(RBAC).await;
        let kubeconfig = cluster.kubeconfig_for(ACCOUNT, ACCOUNT).await;
        let admin = cluster.admin();
        let folder = TempDir::new().expect("a temporary folder");
        Self { cluster, admin, aws, env, kubeconfig, folder, controller: None, starts: 0 }
    }

    /// The program with the test's cluster and AWS.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ecr-pull-secrets"));
        command.args(args).arg("--kubeconfig").arg(&self.kubeconfig).envs(self.env.clone());
        command
    }

    /// Writes a configuration file and returns its path.
    pub fn config(&self, yaml: &str) -> String {
        let path = self.folder.path().join("config.yaml");
        std::fs::write(&path, yaml).expect("a configuration file");
        path.display().to_string()
    }

    /// Runs the program to its end, at trace level: its exit code, and what it said, which has no token and no key.
    pub async fn run(&self, subcommand: &str, args: &[&str]) -> (Option<i32>, String) {
        let folder = TempDir::new().expect("a temporary folder");
        let all: Vec<_> = [subcommand, "--log-level", "trace"].iter().chain(args).copied().collect();
        let mut process = Process::spawn(subcommand, &self.command(&all), folder.path());
        let code = process.wait(Duration::from_mins(1)).await;
        let said = process.log();
        self.assert_tells_nothing(&said);
        (code, said)
    }

    /// Creates or changes a namespace's annotations; `None` removes one.
    pub async fn annotate(&self, namespace: &str, annotations: &[(&str, Option<&str>)]) {
        let api: Api<Namespace> = Api::all(self.admin.clone());
        let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "annotations": annotations}});
        let patched = api.patch(namespace, &PatchParams::default(), &Patch::Merge(&body)).await;
        match patched {
            Err(kube::Error::Api(status)) if status.code == 404 => {
                let body = serde_json::from_value(body).expect("a namespace");
                api.create(&PostParams::default(), &body).await.expect("the namespace is created");
            }
            other => drop(other.expect("the namespace is annotated")),
        }
    }

    /// Changes labels of a namespace that is there; null removes one.
    pub async fn label(&self, namespace: &str, labels: Value) {
        let api: Api<Namespace> = Api::all(self.admin.clone());
        let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
        api.patch(namespace, &PatchParams::default(), &patch).await.expect("the namespace is labelled");
    }

    /// Opts a namespace in for [`HOST`].
    pub async fn opt_in(&self, namespace: &str) {
        self.annotate(namespace, &[(REGISTRIES, Some(HOST))]).await;
    }

    /// The Secrets of a namespace.
    pub fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.admin.clone(), namespace)
    }

    /// The controller's Secret there, if there is one.
    pub async fn secret(&self, namespace: &str) -> Option<Secret> {
        self.secrets(namespace).get_opt(NAME).await.expect("the admin reads secrets")
    }

    /// Waits for it.
    pub async fn wait_for_secret(&self, namespace: &str) -> Secret {
        self.wait_for(&format!("a secret in {namespace}"), async |world: &Self| world.secret(namespace).await)
            .await
    }

    /// Waits until it is gone.
    pub async fn wait_for_no_secret(&self, namespace: &str) {
        let gone = async |world: &Self| world.secret(namespace).await.is_none();
        self.wait_until(&format!("no secret in {namespace}"), gone).await;
    }

    /// Every Secret of the controller's name in the cluster, by namespace.
    pub async fn all_secrets(&self) -> BTreeMap<String, Secret> {
        let all: Api<Secret> = Api::all(self.admin.clone());
        let only = ListParams::default().fields(&format!("metadata.name={NAME}"));
        let list = all.list(&only).await.expect("the admin lists secrets");
        list.items.into_iter().map(|s| (s.metadata.namespace.clone().unwrap_or_default(), s)).collect()
    }

    /// Merges a patch into the Secret as somebody else.
    pub async fn edit(&self, namespace: &str, patch: Value) {
        let params = PatchParams { field_manager: Some("somebody-else".into()), ..PatchParams::default() };
        self.secrets(namespace)
            .patch(NAME, &params, &Patch::Merge(patch))
            .await
            .expect("the secret is edited");
    }

    /// Deletes the Secret as somebody else.
    pub async fn delete(&self, namespace: &str) {
        self.secrets(namespace).delete(NAME, &DeleteParams::default()).await.expect("the secret is deleted");
    }

    /// The Events of a namespace, as `kubectl get events -n NS` lists them.
    pub async fn events(&self, namespace: &str) -> Vec<Event> {
        let api: Api<Event> = Api::namespaced(self.admin.clone(), namespace);
        api.list(&ListParams::default()).await.expect("the admin lists events").items
    }

    /// Waits for the Event of a reason, and asserts that there is only one of it.
    pub async fn wait_for_event(&self, namespace: &str, reason: &str) -> Event {
        let found = async |world: &Self| {
            let mut events = world.events(namespace).await;
            events.retain(|event| event.reason.as_deref() == Some(reason));
            assert!(events.len() <= 1, "one lasting condition is one Event: {events:?}");
            events.pop()
        };
        self.wait_for(&format!("an Event {reason} in {namespace}"), found).await
    }

    /// The controller's requests for Secrets of one verb, as the API server saw them.
    pub fn requests(&self, verb: &str) -> Vec<AuditEntry> {
        let mut all = self.cluster.audit();
        all.retain(|entry| entry.user == USER && entry.resource == "secrets" && entry.verb == verb);
        all
    }

    /// Waits up to a minute for a value.
    pub async fn wait_for<T>(&self, what: &str, mut look: impl AsyncFnMut(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            if let Some(found) = look(self).await {
                return found;
            }
            if Instant::now() > deadline {
                let log = self
                    .controller
                    .as_ref()
                    .map(|controller| controller.process.log_tail())
                    .unwrap_or_default();
                panic!("waited a minute for {what}, in vain\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits up to a minute for a condition.
    pub async fn wait_until(&self, what: &str, mut look: impl AsyncFnMut(&Self) -> bool) {
        self.wait_for(what, async |world: &Self| look(world).await.then_some(())).await;
    }

    /// Searches all that the controller said, at trace level, for every token and key that there was; then stops it.
    pub async fn finish(mut self) {
        let said = self.probe("/metrics").await.1;
        assert!(said.contains("ecr_pull_secrets_build_info"), "the metrics were searched too");
        if self.controller.is_some() {
            self.stop_controller().await;
        }
        self.search(said).await;
    }

    async fn search(&self, mut said: String) {
        let all: Api<Event> = Api::all(self.admin.clone());
        for event in all.list(&ListParams::default()).await.expect("the admin lists events") {
            said.push_str(&serde_json::to_string(&event).expect("an Event serialises"));
        }
        for file in std::fs::read_dir(self.folder.path()).expect("the folder of logs") {
            let file = std::fs::read(file.expect("a file").path()).expect("a log");
            said.push_str(&String::from_utf8_lossy(&file));
        }
        self.assert_tells_nothing(&said);
    }

    /// No token and no key that there was stands in what was said.
    pub fn assert_tells_nothing(&self, said: &str) {
        leaks::assert_none(said, &self.aws.secrets());
    }
}

/// What stands under `auths` of a Secret, by host.
pub fn auths(secret: &Secret) -> BTreeMap<String, Value> {
    let data = &secret.data.as_ref().expect("data")[".dockerconfigjson"].0;
    let config: Value = serde_json::from_slice(data).expect("JSON");
    serde_json::from_value(config["auths"].clone()).expect("entries by host")
}

/// The value of one of the controller's annotations.
pub fn annotation<'a>(secret: &'a Secret, key: &str) -> &'a str {
    let annotations = secret.metadata.annotations.as_ref().expect("annotations");
    &annotations[&format!("ecr-pull-secrets.dev/{key}")]
}

/// A time of one of them.
pub fn time(secret: &Secret, key: &str) -> Timestamp {
    annotation(secret, key).parse().expect("RFC 3339")
}

/// The UID of a Secret.
pub fn uid(secret: &Secret) -> String {
    secret.metadata.uid.clone().expect("a UID")
}

/// The resource version of a Secret.
pub fn version(secret: &Secret) -> String {
    secret.metadata.resource_version.clone().expect("a resource version")
}

/// Nobody wrote to the Secret in between.
pub fn assert_untouched(before: &Secret, after: &Secret) {
    assert_eq!(uid(before), uid(after), "another object");
    assert_eq!(version(before), version(after), "it was written");
}
