//! A control plane with many namespaces, an AWS, and the program between them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use tempfile::TempDir;
use testing::aws::{Behaviour, Stub};
use testing::control_plane::{AuditEntry, ControlPlane};
use testing::fault_proxy::FaultProxy;
use testing::tenants::{HOST, INSTANCE, NAME, REGISTRIES, Tenants, USER};
use tokio::time::sleep;

use crate::audit::{Log, is_write};
use crate::figures::Work;
use crate::program::Program;
use crate::requests::{Client, Creation, Prepared};

/// What the controller's user may do, and the policies that restrict it.
const RIGHTS: [&str; 3] = [
    include_str!("../../../deploy/rbac.yaml"),
    include_str!("../../../deploy/rbac-service-accounts.yaml"),
    include_str!("../../../deploy/admission-policy.yaml"),
];

/// How many requests of the benchmark itself are in flight, outside of measurements.
const IN_FLIGHT: usize = 32;
/// Longer than any phase takes.
const LIMIT: Duration = Duration::from_hours(1);
/// How long a renewal may go over into the next one.
const QUIET: Duration = Duration::from_mins(15);
/// How often the audit log is read while a phase runs.
const POLL: Duration = Duration::from_millis(100);
/// How long a process is left alone before its memory is read.
pub const SETTLE: Duration = Duration::from_secs(3);

pub struct World {
    pub control_plane: ControlPlane,
    pub aws: Stub,
    /// How many namespaces `team-N` there are.
    pub namespaces: usize,
    pub admin: Client,
    /// The minimal client with the controller's credential.
    pub minimal: Client,
    program: PathBuf,
    kubeconfig: PathBuf,
    folder: TempDir,
}

pub fn team(number: usize) -> String {
    format!("team-{number}")
}

/// The annotations of a namespace that requests one registry.
pub fn opted_in() -> Value {
    json!({ REGISTRIES: HOST })
}

impl World {
    pub async fn start(program: &Path) -> Self {
        let control_plane = ControlPlane::builder().long_lived(true).start().await;
        for text in RIGHTS {
            control_plane.apply(text).await;
        }
        let kubeconfig = control_plane.kubeconfig_for(INSTANCE, INSTANCE).await;
        // The API server applies new policies after a moment.
        sleep(SETTLE).await;
        Self {
            aws: Stub::start().await,
            namespaces: 0,
            admin: Client::new(&control_plane, &control_plane.admin_kubeconfig()),
            minimal: Client::new(&control_plane, &kubeconfig),
            program: std::path::absolute(program).expect("a path"),
            kubeconfig,
            folder: TempDir::new().expect("a temporary folder"),
            control_plane,
        }
    }

    /// Writes a configuration file and returns its path.
    pub fn configuration(&self, yaml: &str) -> String {
        let path = self.folder.path().join("config.yaml");
        std::fs::write(&path, yaml).expect("a configuration file");
        path.display().to_string()
    }

    /// Starts a controller with leader election.
    pub fn controller(&self, name: &str, configuration: &str) -> Program {
        self.start_with(name, &self.kubeconfig, configuration)
    }

    fn start_with(&self, name: &str, kubeconfig: &Path, configuration: &str) -> Program {
        let file = self.configuration(configuration);
        let kubeconfig = kubeconfig.display().to_string();
        let flags = ["--kubeconfig", &kubeconfig, "--config", &file, "--leader-election"];
        Program::start(&self.program, name, self.folder.path(), &self.aws.env(), &flags)
    }

    /// Starts a controller whose connections lead through this address, with TLS.
    pub fn controller_through(&self, address: SocketAddr, name: &str) -> Program {
        let text = std::fs::read_to_string(&self.kubeconfig).expect("a kubeconfig");
        let path = self.folder.path().join("through.kubeconfig");
        let text = text.replace(&self.control_plane.url(), &format!("https://{address}"));
        std::fs::write(&path, text).expect("a temporary folder accepts files");
        self.start_with(name, &path, "{}")
    }

    /// The creation of a Secret as the program sends it.
    pub async fn creation(&self) -> Creation {
        let namespace = "sample";
        self.admin.send_one(self.admin.create_namespace(namespace, &opted_in())).await;
        let proxy = FaultProxy::start(&self.control_plane);
        let path = format!("/namespaces/{namespace}/secrets/");
        proxy.keep(&path);
        let kubeconfig = proxy.kubeconfig(&self.kubeconfig);
        let controller = self.start_with("sample", &kubeconfig, "{}");
        Tenants::new(self.control_plane.admin()).wait_for_secret(namespace).await;
        controller.stop().await;
        self.admin.send_one(self.admin.delete_secret(namespace)).await;
        self.admin.send_one(self.admin.annotate(namespace, &json!({ REGISTRIES: null }))).await;
        let kept = proxy.kept().into_iter().find(|request| request.method() == "PATCH");
        Creation::new(kept.expect("the controller created the Secret through the proxy"), namespace)
    }

    /// Creates the namespaces `team-N`, which request one registry.
    pub async fn create_teams(&mut self, count: usize) {
        self.namespaces = count;
        self.for_teams(|admin, team| admin.create_namespace(team, &opted_in())).await;
    }

    /// Sets annotations of all namespaces `team-N`; null removes one.
    pub async fn annotate_teams(&self, annotations: &Value) {
        self.for_teams(|admin, team| admin.annotate(team, annotations)).await;
    }

    /// The namespaces that have a Secret.
    pub async fn secrets(&self) -> BTreeSet<String> {
        let secrets: Api<Secret> = Api::all(self.control_plane.admin());
        let named = ListParams::default().fields(&format!("metadata.name={NAME}"));
        let list = secrets.list_metadata(&named).await.expect("the admin lists secrets");
        list.items.into_iter().filter_map(|secret| secret.metadata.namespace).collect()
    }

    /// Deletes every Secret.
    pub async fn delete_secrets(&self) {
        let all = self.secrets().await.iter().map(|namespace| self.admin.delete_secret(namespace)).collect();
        self.admin.send(all, IN_FLIGHT).await;
    }

    pub async fn for_teams(&self, prepare: impl Fn(&Client, &str) -> Prepared) {
        let all = self.teams().map(|number| prepare(&self.admin, &team(number))).collect();
        self.admin.send(all, IN_FLIGHT).await;
    }

    pub fn teams(&self) -> Range<usize> {
        0..self.namespaces
    }

    /// From now on, tokens live for this long.
    pub fn token_life(&self, life: Duration) {
        self.aws.set(Behaviour::living(life));
    }

    pub fn log(&self) -> Log {
        Log::begin(&self.control_plane)
    }

    /// Begins to measure what a process does.
    pub fn begin(&self, program: &Program) -> Measuring {
        Measuring {
            log: self.log(),
            cpu_seconds: program.cpu_seconds(),
            aws_calls: self.aws.calls_for_tokens().len(),
        }
    }

    /// Waits until the log has this many writes of Secrets.
    pub async fn wait_for_writes(&self, log: &mut Log, count: usize) {
        self.wait_for(log, &format!("{count} writes"), |log| log.writes().count() >= count).await;
    }

    /// Waits until the controllers send nothing but requests that an idle controller sends: until their Events are written.
    pub async fn wait_until_quiet(&self) {
        let is_busy =
            |entry: &AuditEntry| entry.user == USER && !matches!(&*entry.resource, "leases" | "namespaces");
        let deadline = Instant::now() + QUIET;
        loop {
            let mut log = self.log();
            sleep(SETTLE).await;
            log.read(&self.control_plane);
            if !log.entries.iter().any(|entry| is_busy(entry) && entry.verb != "watch") {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "the controllers wrote without a pause for {} minutes: one renewal does not end before the next one is due. End \
                 the other programs of this machine, or measure fewer namespaces with N",
                QUIET.as_secs() / 60
            );
        }
    }

    /// Waits until the log has what `is_complete` looks for.
    pub async fn wait_for(&self, log: &mut Log, what: &str, mut is_complete: impl FnMut(&Log) -> bool) {
        let deadline = Instant::now() + LIMIT;
        loop {
            log.read(&self.control_plane);
            if is_complete(log) {
                return;
            }
            let found = log.entries.iter().filter(|entry| is_write(entry)).count();
            assert!(Instant::now() < deadline, "waited for {what}, and found {found} writes");
            sleep(POLL).await;
        }
    }
}

/// The counters before some work.
pub struct Measuring {
    pub log: Log,
    cpu_seconds: f64,
    aws_calls: usize,
}

impl Measuring {
    /// For a process that is started next.
    pub fn of_new_process(world: &World) -> Self {
        Self { log: world.log(), cpu_seconds: 0.0, aws_calls: world.aws.calls_for_tokens().len() }
    }

    /// What the process did since.
    pub fn end(mut self, world: &World, program: &Program, name: &str) -> (Work, Log) {
        let cpu_seconds = program.cpu_seconds() - self.cpu_seconds;
        self.log.read(&world.control_plane);
        let span = self.log.span();
        let work = Work {
            writes: span.count,
            seconds: if span.count == 0 { 0.0 } else { span.seconds() },
            cpu_seconds,
            aws_calls: world.aws.calls_for_tokens().len() - self.aws_calls,
            requests: self.log.requests(&format!("({name}_")),
        };
        (work, self.log)
    }
}
