//! The ways to install the program, one after the other on one node. Each ends in a pod that pulls with its secret.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testing::aws::Stub;
use testing::isolation::ADDRESS;
use testing::tenants::{HOST, INSTANCE, NAME};
use testing::{release, tools};

use crate::harness::{CHART, E2e, HOSTS, RELEASE, controller_image};
use crate::install::credentials;

/// One for the pod of each way.
pub const NAMESPACES: [&str; 4] = ["by-manifest", "by-kustomize", "by-subchart", "by-chart"];
/// The parent chart, its release and its namespace.
const PARENT: &str = "parent";
/// Of every token of the controller, so that a token of `check` does not replace those in the secrets.
const PASSWORD: &str = "the password of each token";
const SOURCES: &str = env!("CARGO_MANIFEST_DIR");
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The namespace that kustomize sets.
const OTHER: &str = "pull";

impl E2e {
    pub async fn test_installations(&self) {
        self.aws.set_password_for(Stub::PRINCIPAL, PASSWORD);
        self.by_manifest().await;
        self.by_kustomize().await;
        self.by_subchart().await;
    }

    /// `deploy/install.yaml`, with the commands in the README of the chart.
    async fn by_manifest(&self) {
        let file = format!("{SOURCES}/deploy/install.yaml");
        self.kubectl(&["apply", "--filename", &file]).await;
        let literals = literals().map(|literal| format!("--from-literal={literal}"));
        let create = ["create", "secret", "generic", "aws", "--namespace", RELEASE];
        self.kubectl(&create.into_iter().chain(literals.iter().map(String::as_str)).collect::<Vec<_>>())
            .await;
        let deployment = format!("deployment/{RELEASE}");
        let region = format!("AWS_REGION={}", Stub::REGION);
        let endpoint = format!("AWS_ENDPOINT_URL={}", self.aws.url());
        let set =
            ["set", "env", &deployment, "--namespace", RELEASE, "--from=secret/aws", &region, &endpoint];
        self.kubectl(&set).await;
        self.rolled_out(RELEASE).await;
        self.log("kubectl apply of deploy/install.yaml: the Deployment is available");
        self.test_pull_of("by-manifest", INSTANCE).await;
        self.clear_of_secrets("by-manifest").await;
        self.kubectl(&["delete", "--filename", &file, "--ignore-not-found"]).await;
    }

    /// `deploy/kustomize` in another namespace, as its comment shows.
    async fn by_kustomize(&self) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        copy(&format!("{SOURCES}/deploy/kustomize"), &folder.path().join("base"));
        let env = [json!({"name": "AWS_REGION", "value": Stub::REGION}), self.aws_endpoint()];
        let add = |value: &Value| json!({"op": "add", "path": "/spec/template/spec/containers/0/env/-", "value": value});
        let from = json!({
            "op": "add", "path": "/spec/template/spec/containers/0/envFrom",
            "value": [{"secretRef": {"name": "aws"}}],
        });
        let patch: Value = env.iter().map(add).chain([from]).collect();
        let overlay = json!({
            "namespace": OTHER,
            "resources": ["base"],
            "transformers": ["base/policy"],
            "secretGenerator": [{"name": "aws", "literals": literals()}],
            "patches": [{"target": {"kind": "Deployment"}, "patch": patch.to_string()}],
        });
        // JSON is YAML.
        std::fs::write(folder.path().join("kustomization.yaml"), overlay.to_string()).expect("an overlay");
        let objects = tools::run("kustomize", &["build", &folder.path().display().to_string()], &[]).await;
        let file = self.write("kustomized.yaml", &objects.unwrap_or_else(|said| panic!("{said}")));
        self.kubectl(&["apply", "--filename", &file]).await;
        self.rolled_out(OTHER).await;
        self.log("deploy/kustomize in another namespace: the Deployment is available");
        self.test_pull_of("by-kustomize", INSTANCE).await;
        self.clear_of_secrets("by-kustomize").await;
        self.kubectl(&["delete", "--filename", &file, "--ignore-not-found", "--wait=false"]).await;
    }

    /// As a dependency of a chart, which its values enable.
    async fn by_subchart(&self) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let dependency =
            json!({"name": RELEASE, "version": VERSION, "condition": format!("{RELEASE}.enabled")});
        let chart =
            json!({"apiVersion": "v2", "name": PARENT, "version": "1.0.0", "dependencies": [dependency]});
        std::fs::write(folder.path().join("Chart.yaml"), chart.to_string()).expect("a chart");
        std::fs::create_dir(folder.path().join("charts")).expect("a folder");
        copy(CHART, &folder.path().join("charts"));
        let chart = folder.path().display().to_string();
        let disabled = json!({RELEASE: {"enabled": false}});
        self.helm_in(PARENT, &["install", PARENT, &chart, "--create-namespace"], &[&disabled], &[]).await;
        let deployments =
            self.kubectl(&["get", "deployments", "--namespace", PARENT, "--output", "name"]).await;
        assert_eq!(deployments, "", "the subchart is disabled");
        let enabled = json!({RELEASE: {
            "enabled": true,
            "aws": {"region": Stub::REGION, "credentialsSecret": "aws"},
            "extraEnv": [self.aws_endpoint()],
            "extraObjects": [credentials()],
        }});
        let upgrade = ["upgrade", PARENT, &chart, "--wait", "--timeout", "2m"];
        self.helm_in(PARENT, &upgrade, &[&enabled], &[]).await;
        self.log("the subchart of a parent chart, once it is enabled: the Deployment is available");
        self.test_pull_of("by-subchart", PARENT).await;
        self.clear_of_secrets("by-subchart").await;
        self.helm_in(PARENT, &["uninstall", PARENT], &[], &[]).await;
        self.kubectl(&["delete", "namespace", PARENT, "--wait=false"]).await;
    }

    /// The chart from an OCI registry, which installs its image from there by digest. Both are pushed as for a release.
    pub async fn install_from_registry(&self) {
        let docker = tempfile::tempdir().expect("a temporary folder");
        let auth = STANDARD.encode(format!("AWS:{PASSWORD}"));
        let config = json!({"auths": {HOST: {"auth": auth}}});
        std::fs::write(docker.path().join("config.json"), config.to_string()).expect("a configuration");
        let docker = docker.path().display().to_string();
        let ca = self.registry.ca_file().display().to_string();
        let env = [("DOCKER_CONFIG", &*docker), ("SSL_CERT_FILE", &*ca)];
        let run = |script: &str, arguments: &[&str]| {
            let result = release::run(Path::new(SOURCES), script, arguments, &env);
            result.unwrap_or_else(|said| panic!("{script}: {said}"))
        };
        let archive = controller_image().display().to_string();
        let image = run("push-image", &[&archive, &format!("{HOST}/{RELEASE}:{VERSION}")]);
        let charts = format!("{HOST}/charts");
        run("push-chart", &[VERSION, &charts, &image]);
        self.log("deploy/release/push-image and push-chart to the registry");

        self.kubectl(&["create", "namespace", RELEASE]).await;
        let (server, password) = (format!("--docker-server={HOST}"), format!("--docker-password={PASSWORD}"));
        let login = [&*server, "--docker-username=AWS", &*password, "--namespace", RELEASE];
        self.kubectl(&[&["create", "secret", "docker-registry", "registry"][..], &login].concat()).await;
        let chart = format!("oci://{charts}/{RELEASE}");
        let args = ["install", RELEASE, &chart, "--version", VERSION, "--wait", "--timeout", "2m"];
        self.helm_in(RELEASE, &args, &[&self.values(), &self.values_of_release()], &env).await;
        self.log("helm install oci://…: the Deployment is available, with the image of that digest");
        self.test_pull_of("by-chart", RELEASE).await;
    }

    /// Pods reach the registry under its name and trust its certificate, for `check`; service accounts get references.
    fn values_of_release(&self) -> Value {
        let ca = std::fs::read_to_string(self.registry.ca_file()).expect("the certificate of the authority");
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "registry"}, "data": {"ca.crt": ca}});
        json!({
            "imagePullSecrets": [{"name": "registry"}],
            "aws": {"region": Stub::REGION, "credentialsSecret": "aws"},
            "config": {"serviceAccounts": {"enabled": true}},
            "mutatingAdmissionPolicy": {"enabled": true},
            "hostAliases": [{"ip": ADDRESS.to_string(), "hostnames": HOSTS}],
            "extraEnv": [self.aws_endpoint(), {"name": "SSL_CERT_FILE", "value": "/registry/ca.crt"}],
            "extraVolumes": [{"name": "registry", "configMap": {"name": "registry"}}],
            "extraVolumeMounts": [{"name": "registry", "mountPath": "/registry", "readOnly": true}],
            "extraObjects": [credentials(), map],
        })
    }

    async fn rolled_out(&self, namespace: &str) {
        let deployment = format!("deployment/{RELEASE}");
        self.kubectl(&["rollout", "status", &deployment, "--namespace", namespace, "--timeout", "2m"]).await;
    }

    /// Opts a namespace in, and waits for a pod that pulls with the secret of this instance.
    async fn test_pull_of(&self, namespace: &str, instance: &str) {
        self.opt_in(namespace).await;
        let secret = self.wait_for_secret(namespace).await;
        assert_eq!(secret.metadata.labels.unwrap_or_default()["ecr-pull-secrets.dev/instance"], instance);
        self.deploy(namespace, "app", HOST, &[NAME]).await;
        self.wait_until_running(namespace, "app").await;
        self.log(&format!("{namespace}/app runs, with the secret of instance {instance}"));
    }

    async fn clear_of_secrets(&self, namespace: &str) {
        self.clear(namespace).await;
        self.wait_for_no_secret(namespace).await;
    }
}

/// The keys of the stub, as `NAME=VALUE`.
fn literals() -> [String; 2] {
    [("AWS_ACCESS_KEY_ID", Stub::ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", Stub::SECRET_KEY)]
        .map(|(name, value)| format!("{name}={value}"))
}

fn copy(from: &str, to: &Path) {
    assert!(Command::new("cp").arg("-r").arg(from).arg(to).status().expect("cp runs").success());
}
