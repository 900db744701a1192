//! A control plane, an AWS, and the controller between them.

mod controllers;

use std::ops::Deref;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client};
use tempfile::TempDir;
use testing::aws::Stub;
use testing::control_plane::{AuditEntry, Builder, ControlPlane};
use testing::leaks;
use testing::process::Process;
use testing::tenants::{INSTANCE, Tenants, USER};
use tokio::runtime::Runtime;

use controllers::Controller;

pub const RBAC: &str = include_str!("../../../deploy/rbac.yaml");

/// Runs `body` on a control plane of its own, with the rights of `deploy/rbac.yaml` and an AWS stub. Then stops the
/// controllers and searches everything that they and the commands wrote for tokens and keys.
///
/// If [`testing::SKIP_CLUSTER_TESTS`] is `1`, it prints a line instead.
pub fn cluster_test(body: impl AsyncFnOnce(&mut TestCluster)) {
    cluster_test_on(ControlPlane::builder(), body);
}

/// As [`cluster_test`], where the API server has what this minor version of Kubernetes introduced. Otherwise, it prints a
/// line.
pub fn cluster_test_with((what, minor): (&str, u32), body: impl AsyncFnOnce(&mut TestCluster)) {
    if testing::real_cluster() && runtime().block_on(ControlPlane::builder().serves(what, minor)) {
        cluster_test(body);
    }
}

/// As [`cluster_test`], on this control plane.
pub fn cluster_test_on(control_plane: Builder, body: impl AsyncFnOnce(&mut TestCluster)) {
    if !testing::real_cluster() {
        return;
    }
    runtime().block_on(async {
        let mut cluster = TestCluster::start(control_plane).await;
        body(&mut cluster).await;
        cluster.finish().await;
    });
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// What a test acts on; the methods of [`Tenants`] are its own.
pub struct TestCluster {
    pub control_plane: ControlPlane,
    pub aws: Stub,
    /// How controllers and commands find AWS; at first, this is the stub.
    pub aws_env: Vec<(String, String)>,
    tenants: Tenants,
    /// How controllers and commands find the API server; at first, without a proxy.
    pub kubeconfig: PathBuf,
    folder: TempDir,
    controllers: Vec<Controller>,
    metrics: String,
    starts: usize,
}

impl Deref for TestCluster {
    type Target = Tenants;

    fn deref(&self) -> &Tenants {
        &self.tenants
    }
}

/// The part of a configuration with which another candidate takes over after 4 s.
pub const QUICK_ELECTION: &str = "leaderElection: {leaseDuration: 4s, renewDeadline: 3s, retryPeriod: 1s}\n";
/// The part of a configuration with which a leader that is delayed for several seconds keeps the Lease.
pub const SLOW_ELECTION: &str = "leaderElection: {leaseDuration: 30s, renewDeadline: 20s, retryPeriod: 1s}\n";

impl TestCluster {
    async fn start(control_plane: Builder) -> Self {
        let aws = Stub::start().await;
        let control_plane = control_plane.start().await;
        control_plane.apply(RBAC).await;
        Self {
            aws_env: aws.env(),
            aws,
            tenants: Tenants::new(control_plane.admin()),
            kubeconfig: control_plane.kubeconfig_for(INSTANCE, INSTANCE).await,
            control_plane,
            folder: TempDir::new().expect("a temporary folder"),
            controllers: vec![],
            metrics: String::new(),
            starts: 0,
        }
    }

    /// See [`ControlPlane::rotate_authority`].
    pub async fn rotate_authority(&mut self) {
        self.control_plane.rotate_authority().await;
        self.tenants = Tenants::new(self.control_plane.admin());
    }

    /// Writes a configuration file and returns its path.
    pub fn config(&self, yaml: &str) -> String {
        self.config_named("config.yaml", yaml)
    }

    /// As [`TestCluster::config`], under a name.
    pub fn config_named(&self, name: &str, yaml: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, yaml).expect("a configuration file");
        path.display().to_string()
    }

    /// A client with the controller's credential.
    pub async fn own_client(&self) -> Client {
        self.control_plane.client_for(&self.kubeconfig).await
    }

    fn spawn(&mut self, name: &str, args: &[&str]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ecr-pull-secrets"));
        command.args(args).envs(self.aws_env.clone()).env("POD_NAME", name);
        self.starts += 1;
        Process::spawn(&format!("{name}-{}", self.starts), &command, self.folder.path())
    }

    /// Runs the program to its end: its exit code and output.
    pub async fn run_program(&mut self, args: &[&str]) -> (Option<i32>, String) {
        let mut process = self.spawn(args[0], args);
        (process.wait(Duration::from_mins(1)).await, process.log())
    }

    /// Starts a subcommand, at trace level. Its leader election identity begins with its name.
    pub fn start_command(&mut self, subcommand: &str, args: &[&str]) -> Process {
        let kubeconfig = self.kubeconfig.display().to_string();
        let common = [subcommand, "--log-level", "trace", "--kubeconfig", &kubeconfig];
        self.spawn(subcommand, &[&common, args].concat())
    }

    /// Runs a subcommand to its end, at trace level: its exit code and output.
    pub async fn run(&mut self, subcommand: &str, args: &[&str]) -> (Option<i32>, String) {
        let mut process = self.start_command(subcommand, args);
        (process.wait(Duration::from_mins(1)).await, process.log())
    }

    /// The controller's requests for Secrets with this verb, as the API server audited them.
    pub fn requests(&self, verb: &str) -> Vec<AuditEntry> {
        self.control_plane.requests(USER, verb, "secrets")
    }

    /// Stops the controllers and searches all output for every token and key that existed.
    async fn finish(mut self) {
        let (mut elected, mut gave_up) = (false, false);
        while let Some(controller) = self.controllers.last_mut() {
            if controller.process.exit_code().is_some() {
                self.controllers.pop();
                continue;
            }
            elected |= controller.elects;
            let name = controller.name.clone();
            let start = Instant::now();
            self.stop(&name).await;
            // The program tries for three seconds to release the Lease, and does not log that it failed.
            gave_up |= start.elapsed() >= Duration::from_secs(3);
        }
        if elected && !gave_up {
            assert_eq!(self.lease_holder().await.as_deref(), None, "the Lease is released");
        }
        leaks::assert_none(&self.output().await, &self.aws.secrets());
    }

    /// The holder of the Lease, if there is one.
    pub async fn lease_holder(&self) -> Option<String> {
        let lease: Option<Lease> = self.api(INSTANCE).get_opt(INSTANCE).await.expect("the admin reads it");
        lease?.spec?.holder_identity.filter(|holder| !holder.is_empty())
    }

    /// Whether the process of this name holds the Lease: its identity is the name and a random suffix.
    pub async fn holds_the_lease(&self, name: &str) -> bool {
        self.lease_holder().await.is_some_and(|holder| holder.starts_with(&format!("{name}_")))
    }

    /// All that the controllers and the commands wrote: metrics, Events and logs.
    async fn output(&self) -> String {
        let mut output = self.metrics.clone();
        let all: Api<Event> = Api::all(self.admin.clone());
        for event in all.list(&ListParams::default()).await.expect("the admin lists events") {
            output.push_str(&serde_json::to_string(&event).expect("an Event serialises"));
        }
        for file in std::fs::read_dir(self.folder.path()).expect("the folder of logs") {
            let file = std::fs::read(file.expect("a file").path()).expect("a log");
            output.push_str(&String::from_utf8_lossy(&file));
        }
        output
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for controller in &self.controllers {
                println!("the log of {} ends with\n{}", controller.name, controller.process.log_tail());
            }
        }
    }
}
