//! `make demo`: create, renew, repair and delete secrets on a real API server, step by step on the terminal.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::Parser;
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;
use testing::aws::{Behaviour, Stub};
use testing::control_plane::ControlPlane;
use testing::process::Process;
use testing::tenants::{INSTANCE, NAME, REGISTRIES, Tenants, annotation, hosts, uid, version};

const RBAC: &str = include_str!("../../../../deploy/rbac.yaml");
const NAMESPACES: [&str; 3] = ["team-a", "team-b", "team-c"];
const LIFETIME: Duration = Duration::from_mins(1);

/// Runs the controller on a real etcd and kube-apiserver, with a stub of AWS whose tokens expire after one minute.
#[derive(Parser)]
struct Args {
    /// Path of the controller's executable.
    #[arg(long)]
    controller: PathBuf,
    /// Keep the cluster running until Ctrl-C.
    #[arg(long)]
    keep: bool,
}

struct Demo {
    start: Instant,
    tenants: Tenants,
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
    let tenants = Tenants::new(cluster.admin()).timeout(LIFETIME * 2);
    let demo = Demo { start: Instant::now(), tenants, aws };
    demo.say("the cluster is ready; to use it with kubectl:");
    println!("        export KUBECONFIG={}", cluster.admin_kubeconfig().display());
    demo.say("the AWS stub is ready; its tokens expire after 60 seconds instead of 12 hours");

    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let mut controller = start_controller(&args, &cluster, &demo.aws, &folder).await;
    demo.say("the controller is ready; RBAC allows it to access only secrets named ecr-pull");
    demo.create().await;
    demo.renew().await;
    demo.repair().await;
    demo.opt_out().await;
    demo.events().await;
    let calls = demo.aws.count("GetAuthorizationToken");
    demo.say(&format!("done: {calls} requests to AWS for {} namespaces", NAMESPACES.len()));
    if args.keep {
        demo.say("the cluster keeps running until Ctrl-C");
        tokio::signal::ctrl_c().await.expect("Ctrl-C can be waited for");
    }
    controller.terminate();
    let code = controller.wait(Duration::from_secs(10)).await;
    demo.say(&format!("the controller exited with code {}", code.map_or("none".into(), |c| c.to_string())));
    if code == Some(0) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn start_controller(
    args: &Args,
    cluster: &ControlPlane,
    aws: &Stub,
    folder: &tempfile::TempDir,
) -> Process {
    let kubeconfig = cluster.kubeconfig_for(INSTANCE, INSTANCE).await;
    let free =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let mut command = Command::new(std::path::absolute(&args.controller).expect("a path"));
    command
        .args(["controller", "--listen", &free.to_string(), "--kubeconfig"])
        .arg(kubeconfig)
        .envs(aws.env());
    let mut controller = Process::spawn("controller", &command, folder.path());
    let deadline = Instant::now() + Duration::from_secs(30);
    while !controller.log().contains("first lists") {
        assert!(Instant::now() < deadline && controller.exit_code().is_none(), "{}", controller.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    controller
}

impl Demo {
    fn say(&self, text: &str) {
        println!("[{:5.1} s] {text}", self.start.elapsed().as_secs_f64());
    }

    async fn create(&self) {
        for name in NAMESPACES {
            self.say(&format!("kubectl annotate namespace {name} {REGISTRIES}=default"));
            let asked = Instant::now();
            self.tenants.request(name, "default").await;
            let secret = self.tenants.wait_for_secret(name).await;
            let took = asked.elapsed().as_millis();
            self.say(&format!("  → created after {took} ms: {}", describe(&secret)));
        }
    }

    async fn renew(&self) {
        self.say("waiting for the renewal, which is due after half of the tokens' lifetime …");
        // Read before the first renewal: the controller renews them in any order.
        let mut before = vec![];
        for name in NAMESPACES {
            before.push((name, self.tenants.existing_secret(name).await));
        }
        for (name, old) in before {
            let new = self.tenants.wait_for("a renewal", async || {
                let new = self.tenants.existing_secret(name).await;
                (annotation(&new, "expires-at") != annotation(&old, "expires-at")).then_some(new)
            });
            let new = new.await;
            self.say(&format!("  → renewed in {name}: {}, {}", describe(&new), same(&old, &new)));
        }
    }

    async fn repair(&self) {
        self.say("kubectl patch secret ecr-pull -n team-b, which overwrites its data");
        let edited = self.tenants.edit("team-b", json!({"data": {".dockerconfigjson": "e30="}})).await;
        let asked = Instant::now();
        let repaired = self.tenants.wait_for("a repair", async || {
            let now = self.tenants.existing_secret("team-b").await;
            (version(&now) != version(&edited)).then_some(now)
        });
        let repaired = repaired.await;
        assert!(!hosts(&repaired).is_empty(), "the entries are back");
        let took = asked.elapsed().as_millis();
        self.say(&format!(
            "  → repaired after {took} ms: {}, {}",
            describe(&repaired),
            same(&edited, &repaired)
        ));
    }

    async fn opt_out(&self) {
        self.say(&format!("kubectl annotate namespace team-c {REGISTRIES}-"));
        self.tenants.opt_out("team-c").await;
        let asked = Instant::now();
        self.tenants.wait_for_no_secret("team-c").await;
        self.say(&format!("  → deleted after {} ms", asked.elapsed().as_millis()));
    }

    async fn events(&self) {
        // Events are written after the Secrets.
        tokio::time::sleep(Duration::from_secs(1)).await;
        for name in NAMESPACES {
            let mut events = self.tenants.events(name).await;
            events.sort_by_key(|event| event.first_timestamp.as_ref().map(|time| time.0));
            for event in events {
                let (reason, message) = (event.reason.unwrap_or_default(), event.message.unwrap_or_default());
                self.say(&format!("Event in {name}: {reason}: {message}"));
            }
        }
    }
}

fn same(before: &Secret, after: &Secret) -> &'static str {
    if uid(before) == uid(after) { "same UID" } else { "ANOTHER UID" }
}

fn describe(secret: &Secret) -> String {
    format!("secret {NAME} for {}, expires at {}", hosts(secret).join(", "), annotation(secret, "expires-at"))
}
