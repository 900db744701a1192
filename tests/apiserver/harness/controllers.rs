//! The controllers of a test: the one that most tests have, and candidates for the Lease.

use std::time::Duration;

use testing::fault_proxy::{Action, FaultProxy, Rule};
use testing::ports::Port;
use testing::process::Process;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::QUICK_ELECTION;
use super::TestCluster;

/// The name of the one that most tests have.
const CONTROLLER: &str = "controller";

/// A controller that was started.
pub struct Controller {
    pub process: Process,
    pub name: String,
    pub(super) elects: bool,
    port: u16,
    /// Keeps other tests from the port.
    _claim: Port,
}

impl Controller {
    /// The URL of a page of its HTTP server.
    pub fn page(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Status and body of a page of its HTTP server; status 0 if it does not reply.
    pub async fn probe(&self, path: &str) -> (u16, String) {
        // It closes a connection on which no request arrives in time.
        for _ in 0..3 {
            if let Some(reply) = self.reply(path).await {
                return reply;
            }
        }
        (0, String::new())
    }

    async fn reply(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.ok()?;
        let (head, body) = reply.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// Whether its metrics have it as the leader.
    pub async fn leads(&self) -> bool {
        self.probe("/metrics").await.1.lines().any(|line| line == "ecr_pull_secrets_leader 1")
    }
}

impl TestCluster {
    /// Starts one more controller.
    pub fn start_controller(&mut self, name: &str, flags: &[&str]) {
        assert!(self.controllers.iter().all(|other| other.name != name), "{name} is running already");
        let claim = Port::claim();
        let port = claim.number();
        let (listen, kubeconfig) = (format!("127.0.0.1:{port}"), self.kubeconfig.display().to_string());
        let common = ["controller", "--kubeconfig", &kubeconfig];
        let logs = ["--log-level", "trace", "--log-format", "json"];
        let listens = flags.iter().rev().find_map(|flag| flag.strip_prefix("--listen="));
        let own = listens.map(|address| address.rsplit_once(':').expect("an address with a port").1);
        let port = own.map_or(port, |own| own.parse().expect("a port"));
        let listen = if own.is_some() { vec![] } else { vec!["--listen", &listen] };
        let elects = flags.contains(&"--leader-election");
        // Failover takes 4 s, and not the 15 s of the defaults.
        let quick = self.config_named("election.yaml", QUICK_ELECTION);
        let election = ["--config", &*quick];
        let election = if elects && !flags.contains(&"--config") { &election[..] } else { &[] };
        let process = self.spawn(name, &[&common, &listen[..], &logs, election, flags].concat());
        self.controllers.push(Controller { process, name: name.to_owned(), elects, port, _claim: claim });
    }

    /// Starts the controller and waits until it has its first lists.
    pub async fn run_controller(&mut self) {
        self.run_controller_with(&[]).await;
    }

    /// Starts the controller with more flags and waits until it has its first lists.
    pub async fn run_controller_with(&mut self, flags: &[&str]) {
        self.spawn_controller(flags);
        self.wait_until("the controller is ready", async || self.probe("/readyz").await.0 == 200).await;
    }

    /// Starts the controller with a configuration file and waits until it has its first lists.
    pub async fn run_controller_configured(&mut self, yaml: &str) {
        let file = self.config(yaml);
        self.run_controller_with(&["--config", &file]).await;
    }

    /// Starts the controller.
    pub fn spawn_controller(&mut self, flags: &[&str]) {
        self.start_controller(CONTROLLER, flags);
    }

    /// Starts one more controller, with leader election.
    pub fn spawn_candidate(&mut self, name: &str) {
        self.start_controller(name, &["--leader-election"]);
    }

    /// Starts one more controller, with this part of a configuration about leader election.
    pub fn spawn_candidate_with(&mut self, name: &str, election: &str) {
        let file = self.config_named("election.yaml", election);
        self.start_controller(name, &["--leader-election", "--config", &file]);
    }

    /// Starts a process whose connection to the API server leads through the proxy. Others connect directly.
    pub fn behind<T>(&mut self, proxy: &FaultProxy, start: impl FnOnce(&mut Self) -> T) -> T {
        let behind = proxy.kubeconfig(&self.kubeconfig);
        let direct = std::mem::replace(&mut self.kubeconfig, behind);
        let started = start(self);
        self.kubeconfig = direct;
        started
    }

    /// Opts 200 namespaces in, starts the controller, and returns in the middle of the creations. They are slow:
    /// the proxy passes each reply on a second later.
    pub async fn run_into_two_hundred_creations(&mut self) -> FaultProxy {
        self.opt_in_teams(0..200).await;
        let proxy = FaultProxy::start(&self.control_plane);
        proxy.add(Rule::new(Action::DelayReply(Duration::from_secs(1))).method("PATCH").path("/secrets/"));
        self.behind(&proxy, |cluster| cluster.spawn_controller(&[]));
        self.wait_until("the first secrets", async || !self.all_secrets().await.is_empty()).await;
        proxy
    }

    /// The controller of this name.
    pub fn candidate(&self, name: &str) -> &Controller {
        self.controllers.iter().find(|controller| controller.name == name).expect("it was started")
    }

    /// Waits until the controller of this name is the leader.
    pub async fn wait_until_leader(&self, name: &str) {
        self.wait_until(&format!("{name} leads"), async || self.candidate(name).leads().await).await;
    }

    /// The process of the controller of this name.
    pub fn candidate_process(&mut self, name: &str) -> &mut Process {
        let found = self.controllers.iter_mut().find(|controller| controller.name == name);
        &mut found.expect("it was started").process
    }

    /// The controller's process.
    pub fn controller(&mut self) -> &mut Process {
        self.candidate_process(CONTROLLER)
    }

    /// All that the controller logged so far.
    pub fn log(&self) -> String {
        self.candidate(CONTROLLER).process.log()
    }

    /// The ID of the removals that the controller holds, as its log names it last.
    pub fn held_id(&self) -> Option<String> {
        let log = self.log();
        let line = log.lines().rfind(|line| line.contains("--confirm-removals="))?;
        let (_, rest) = line.split_once("\"id\":\"")?;
        rest.split_once('"').map(|(id, _)| id.to_owned())
    }

    /// The URL of a page of the controller's HTTP server.
    pub fn page(&self, path: &str) -> String {
        self.candidate(CONTROLLER).page(path)
    }

    /// Status and body of a page of the controller's HTTP server; status 0 if it does not reply.
    pub async fn probe(&self, path: &str) -> (u16, String) {
        self.candidate(CONTROLLER).probe(path).await
    }

    fn take(&mut self, name: &str) -> Controller {
        let index = self.controllers.iter().position(|controller| controller.name == name);
        self.controllers.remove(index.expect("it was started"))
    }

    /// Ends a controller with SIGTERM: it exits with code 0.
    pub async fn stop(&mut self, name: &str) {
        let mut controller = self.take(name);
        let metrics = controller.probe("/metrics").await.1;
        assert!(metrics.contains("ecr_pull_secrets_build_info"), "the metrics are searched too: {metrics}");
        self.metrics.push_str(&metrics);
        controller.process.terminate();
        let code = controller.process.wait(Duration::from_mins(1)).await;
        assert_eq!(code, Some(0), "exit code after SIGTERM; {}", controller.process.log_tail());
    }

    /// Ends the controller with SIGTERM: it exits with code 0.
    pub async fn stop_controller(&mut self) {
        self.stop(CONTROLLER).await;
    }

    /// Ends a controller with SIGKILL.
    pub fn kill(&mut self, name: &str) {
        self.take(name).process.kill9();
    }

    /// Ends the controller with SIGKILL.
    pub fn kill_controller(&mut self) {
        self.kill(CONTROLLER);
    }
}
