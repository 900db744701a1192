//! `make demo`: the whole job on a real API server, step by step on the terminal.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::Parser;
use k8s_openapi::api::core::v1::{Event, Namespace, Secret};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use testing::aws::{Behaviour, Stub};
use testing::control_plane::ControlPlane;
use testing::process::Process;

const RBAC: &str = include_str!("../../../../deploy/rbac.yaml");
const NAMESPACES: [&str; 3] = ["team-a", "team-b", "team-c"];
const LIFETIME: Duration = Duration::from_mins(1);

/// Shows the controller at work: a real etcd and kube-apiserver, and an AWS whose tokens live for a minute.
#[derive(Parser)]
struct Args {
    /// The controller's program.
    #[arg(long)]
    controller: PathBuf,
    /// Stay until Ctrl-C when all is shown.
    #[arg(long)]
    keep: bool,
}

struct Demo {
    start: Instant,
    admin: Client,
    aws: Stub,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    println!("Starting etcd and kube-apiserver …");
    let cluster = ControlPlane::start().await;
    cluster.apply(RBAC).await;
    let aws = Stub::start().await;
    aws.set(Behaviour::living(LIFETIME));
    let demo = Demo { start: Instant::now(), admin: cluster.admin(), aws };
    demo.say("the cluster runs; to join in:");
    println!("        export KUBECONFIG={}", cluster.admin_kubeconfig().display());
    demo.say("AWS is a stub whose tokens live for 60 seconds, instead of 12 hours");

    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let mut controller = start_controller(&args, &cluster, &demo.aws, &folder).await;
    demo.say("the controller runs, with rights on secrets of the name ecr-pull and on no others");
    demo.create().await;
    demo.refresh().await;
    demo.repair().await;
    demo.opt_out().await;
    demo.events().await;
    let calls = demo.aws.count("GetAuthorizationToken");
    demo.say(&format!("done: {calls} calls to AWS for {} namespaces", NAMESPACES.len()));
    if args.keep {
        demo.say("staying until Ctrl-C");
        tokio::signal::ctrl_c().await.expect("Ctrl-C can be waited for");
    }
    controller.terminate();
    let code = controller.wait(Duration::from_secs(10)).await;
    demo.say(&format!(
        "the controller stopped with exit code {}",
        code.map_or("none".into(), |c| c.to_string())
    ));
    if code == Some(0) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn start_controller(
    args: &Args,
    cluster: &ControlPlane,
    aws: &Stub,
    folder: &tempfile::TempDir,
) -> Process {
    let kubeconfig = cluster.kubeconfig_for("ecr-pull-secrets", "ecr-pull-secrets").await;
    let free =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let mut command = Command::new(std::path::absolute(&args.controller).expect("a path"));
    command
        .args(["controller", "--listen", &free.to_string(), "--kubeconfig"])
        .arg(kubeconfig)
        .envs(aws.env());
    let mut controller = Process::spawn("controller", &command, folder.path());
    let deadline = Instant::now() + Duration::from_secs(30);
    while !controller.log().contains("first lists are there") {
        assert!(Instant::now() < deadline && controller.exit_code().is_none(), "{}", controller.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    controller
}

impl Demo {
    fn say(&self, text: &str) {
        println!("[{:5.1} s] {text}", self.start.elapsed().as_secs_f64());
    }

    fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.admin.clone(), namespace)
    }

    async fn wait(
        &self,
        namespace: &str,
        what: &str,
        wanted: impl Fn(Option<&Secret>) -> bool,
    ) -> Option<Secret> {
        let deadline = Instant::now() + LIFETIME * 2;
        loop {
            let secret = self.secrets(namespace).get_opt("ecr-pull").await.expect("the admin reads secrets");
            if wanted(secret.as_ref()) {
                return secret;
            }
            assert!(Instant::now() < deadline, "waited in vain for {what} in {namespace}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn there(&self, namespace: &str, what: &str, wanted: impl Fn(&Secret) -> bool) -> Secret {
        let found = self.wait(namespace, what, |secret| secret.is_some_and(&wanted)).await;
        found.expect("what was waited for")
    }

    async fn create(&self) {
        let api: Api<Namespace> = Api::all(self.admin.clone());
        for name in NAMESPACES {
            self.say(&format!("kubectl annotate namespace {name} ecr-pull-secrets.dev/registries=default"));
            let annotations = json!({"ecr-pull-secrets.dev/registries": "default"});
            let body = json!({"metadata": {"name": name, "annotations": annotations}});
            let body = serde_json::from_value(body).expect("a namespace");
            let asked = Instant::now();
            api.create(&PostParams::default(), &body).await.expect("a namespace is created");
            let secret = self.there(name, "a secret", |_| true).await;
            let took = asked.elapsed().as_millis();
            self.say(&format!("  → {} after {took} ms", describe(&secret)));
        }
    }

    async fn refresh(&self) {
        self.say("waiting for the refresh, due after half of the tokens' life …");
        for name in NAMESPACES {
            let old = self.there(name, "a secret", |_| true).await;
            let other = |new: &Secret| annotation(new, "expires-at") != annotation(&old, "expires-at");
            let new = self.there(name, "a refresh", other).await;
            let uid = if new.metadata.uid == old.metadata.uid { "the same UID" } else { "ANOTHER UID" };
            self.say(&format!("  {name}: {}, {uid}", describe(&new)));
        }
    }

    async fn repair(&self) {
        self.say("kubectl patch secret -n team-b ecr-pull: its data is overwritten by hand");
        let before = self.there("team-b", "a secret", |_| true).await;
        let patch = Patch::Merge(json!({"data": {".dockerconfigjson": "e30="}}));
        let edited = self.secrets("team-b").patch("ecr-pull", &PatchParams::default(), &patch).await;
        let edited = edited.expect("the admin edits secrets");
        let asked = Instant::now();
        let version = edited.metadata.resource_version;
        let repaired = self.there("team-b", "a repair", |now| now.metadata.resource_version != version).await;
        assert_ne!(hosts(&repaired), "", "the entries are back");
        let uid = if repaired.metadata.uid == before.metadata.uid { "the same UID" } else { "ANOTHER UID" };
        let took = asked.elapsed().as_millis();
        self.say(&format!("  → repaired after {took} ms: {}, {uid}", describe(&repaired)));
    }

    async fn opt_out(&self) {
        self.say("kubectl annotate namespace team-c ecr-pull-secrets.dev/registries-");
        let api: Api<Namespace> = Api::all(self.admin.clone());
        let patch = json!({"metadata": {"annotations": {"ecr-pull-secrets.dev/registries": null}}});
        api.patch("team-c", &PatchParams::default(), &Patch::Merge(patch))
            .await
            .expect("the annotation goes");
        let asked = Instant::now();
        self.wait("team-c", "the end of the secret", |secret| secret.is_none()).await;
        self.say(&format!("  → its secret is gone after {} ms", asked.elapsed().as_millis()));
    }

    async fn events(&self) {
        // Events follow what they tell of.
        tokio::time::sleep(Duration::from_secs(1)).await;
        for name in NAMESPACES {
            let api: Api<Event> = Api::namespaced(self.admin.clone(), name);
            let mut events = api.list(&ListParams::default()).await.expect("the admin lists events").items;
            events.sort_by_key(|event| event.first_timestamp.as_ref().map(|time| time.0));
            for event in events {
                let (reason, message) = (event.reason.unwrap_or_default(), event.message.unwrap_or_default());
                self.say(&format!("event in {name}: {reason}: {message}"));
            }
        }
    }
}

fn annotation<'a>(secret: &'a Secret, key: &str) -> Option<&'a String> {
    secret.metadata.annotations.as_ref()?.get(&format!("ecr-pull-secrets.dev/{key}"))
}

fn hosts(secret: &Secret) -> String {
    let data = secret.data.as_ref().and_then(|data| data.get(".dockerconfigjson"));
    let config: Value = data.and_then(|data| serde_json::from_slice(&data.0).ok()).unwrap_or_default();
    let auths = config["auths"].as_object();
    auths.map(|auths| auths.keys().cloned().collect::<Vec<_>>().join(", ")).unwrap_or_default()
}

fn describe(secret: &Secret) -> String {
    let until = annotation(secret, "expires-at").map_or("?", String::as_str);
    format!("secret ecr-pull for {}, valid until {until}", hosts(secret))
}
