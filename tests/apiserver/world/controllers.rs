//! The controllers of a test: the one that most have, and candidates for the Lease.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use testing::process::Process;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{ACCOUNT, World};

/// A controller that was started.
pub struct Controller {
    pub process: Process,
    pub name: String,
    port: u16,
}

impl Controller {
    /// The address of one of its own pages.
    pub fn page(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Status and body of one of its own pages; status 0: nobody answers.
    pub async fn probe(&self, path: &str) -> (u16, String) {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)).await else {
            return (0, String::new());
        };
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("a request is sent");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.expect("a reply");
        let status = reply.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        let body = reply.split_once("\r\n\r\n").expect("a body").1;
        (status, body.to_owned())
    }

    /// Whether it says that it writes.
    pub async fn leads(&self) -> bool {
        self.probe("/metrics").await.1.lines().any(|line| line == "ecr_pull_secrets_leader 1")
    }

    /// Ends it with SIGTERM, which it obeys within seconds with exit code 0.
    pub async fn stop(mut self) {
        self.process.terminate();
        let code = self.process.wait(Duration::from_secs(10)).await;
        assert_eq!(code, Some(0), "exit code after SIGTERM; {}", self.process.log_tail());
    }
}

impl World {
    fn spawn(&mut self, name: &str, flags: &[&str]) -> Controller {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("a free port").port();
        let listen = format!("127.0.0.1:{port}");
        let args = ["controller", "--listen", &listen, "--log-level", "trace", "--log-format", "json"];
        let mut command = self.command(&args);
        command.args(flags).env("POD_NAME", name);
        self.starts += 1;
        let process = Process::spawn(&format!("{name}-{}", self.starts), &command, self.folder.path());
        Controller { process, port, name: name.to_owned() }
    }

    /// Starts the controller and waits until it has its first lists.
    pub async fn run_controller(&mut self) {
        self.run_controller_with(&[]).await;
    }

    /// The same with more flags.
    pub async fn run_controller_with(&mut self, flags: &[&str]) {
        self.spawn_controller(flags);
        self.wait_until("the controller is ready", async |world: &Self| {
            world.probe("/readyz").await.0 == 200
        })
        .await;
    }

    /// Starts the controller and waits for nothing.
    pub fn spawn_controller(&mut self, flags: &[&str]) {
        assert!(self.controller.is_none(), "a controller is running already");
        self.controller = Some(self.spawn("controller", flags));
    }

    /// Starts one more controller, that stands for the Lease of the instance.
    pub fn spawn_candidate(&mut self, name: &str) -> Controller {
        self.spawn(name, &["--leader-election"])
    }

    /// Opts 200 namespaces in, starts the controller, and returns in the middle of the creations.
    pub async fn run_into_two_hundred_creations(&mut self) {
        for n in 0..200 {
            self.opt_in(&format!("team-{n}")).await;
        }
        self.spawn_controller(&[]);
        self.wait_until("the first secrets", async |world: &Self| !world.all_secrets().await.is_empty())
            .await;
    }

    /// The running controller.
    pub fn controller(&mut self) -> &mut Process {
        &mut self.controller.as_mut().expect("a controller is running").process
    }

    /// All that it logged so far.
    pub fn log(&self) -> String {
        self.controller.as_ref().map(|controller| controller.process.log()).unwrap_or_default()
    }

    /// Ends it with SIGTERM, which it obeys within seconds with exit code 0.
    pub async fn stop_controller(&mut self) {
        self.controller.take().expect("a controller is running").stop().await;
    }

    /// Ends it with SIGKILL.
    pub fn kill_controller(&mut self) {
        self.controller.take().expect("a controller is running").process.kill9();
    }

    /// The address of one of its own pages.
    pub fn page(&self, path: &str) -> String {
        self.controller.as_ref().expect("a controller is running").page(path)
    }

    /// Status and body of one of its own pages; status 0: nobody answers.
    pub async fn probe(&self, path: &str) -> (u16, String) {
        match &self.controller {
            Some(controller) => controller.probe(path).await,
            None => (0, String::new()),
        }
    }

    /// Ends controllers with SIGTERM, after which nobody holds the Lease, and searches what they said.
    pub async fn finish_candidates(self, candidates: impl IntoIterator<Item = Controller>) {
        let mut metrics = String::new();
        for candidate in candidates {
            metrics.push_str(&candidate.probe("/metrics").await.1);
            candidate.stop().await;
        }
        assert!(metrics.contains("ecr_pull_secrets_build_info"), "the metrics were searched too");
        let leases: Api<Lease> = Api::namespaced(self.admin.clone(), ACCOUNT);
        let lease = leases.get(ACCOUNT).await.expect("the Lease stays");
        let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
        assert_eq!(holder, "", "it is given back");
        self.search(metrics).await;
    }
}
