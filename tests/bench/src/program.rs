//! A running controller, as the kernel and its HTTP server show it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use testing::process::Process;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::figures::Memory;

/// `USER_HZ`, which is 100 on every architecture that the image is built for (proc(5), sysconf(3)).
const TICKS_PER_SECOND: f64 = 100.0;

pub struct Program {
    process: Process,
    port: u16,
    /// When the process was started, by the clock of the audit log.
    pub started: Timestamp,
    begun: Instant,
}

impl Program {
    /// Starts a controller. `name` is the start of its leader election identity.
    pub fn start(
        program: &Path,
        name: &str,
        folder: &Path,
        environment: &[(String, String)],
        flags: &[&str],
    ) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("a free port").port();
        let mut command = Command::new(program);
        command
            .args(["controller", "--listen", &format!("127.0.0.1:{port}")])
            .args(flags)
            .envs(environment.iter().cloned())
            .env("POD_NAME", name);
        let (started, begun) = (Timestamp::now(), Instant::now());
        let process = Process::spawn(&format!("{name}-{port}"), &command, folder);
        Self { process, port, started, begun }
    }

    /// Waits for a successful probe, and returns the milliseconds since the start.
    pub async fn ready(&self) -> f64 {
        while self.page("/readyz").await.is_none_or(|page| !page.starts_with("HTTP/1.1 200")) {
            assert!(self.begun.elapsed() < Duration::from_mins(5), "not ready: {}", self.process.log_tail());
            sleep(Duration::from_millis(2)).await;
        }
        self.begun.elapsed().as_secs_f64() * 1_000.0
    }

    /// Whether it is the leader.
    pub async fn leads(&self) -> bool {
        let metrics = self.page("/metrics").await.unwrap_or_default();
        metrics.lines().any(|line| line == "ecr_pull_secrets_leader 1")
    }

    async fn page(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.ok()?;
        Some(reply)
    }

    /// The time that it ran on a processor so far, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = self.proc_file("stat");
        // The name in parentheses is the only field that may contain spaces.
        let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
        let ticks = fields.split_whitespace().skip(11).take(2);
        ticks.map(|ticks| ticks.parse::<f64>().expect("a number")).sum::<f64>() / TICKS_PER_SECOND
    }

    pub fn memory(&self) -> Memory {
        let rollup = self.proc_file("smaps_rollup");
        Memory {
            rss_kib: field(&rollup, "Rss:"),
            pss_kib: field(&rollup, "Pss:"),
            private_kib: field(&rollup, "Anonymous:"),
            peak_kib: field(&self.proc_file("status"), "VmHWM:"),
        }
    }

    fn proc_file(&self, name: &str) -> String {
        let path = format!("/proc/{}/{name}", self.process.pid());
        fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{path}: {error}; {}", self.process.log_tail()))
    }

    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// Ends it with SIGTERM.
    pub async fn stop(mut self) {
        self.process.terminate();
        let code = self.process.wait(Duration::from_secs(15)).await;
        assert_eq!(code, Some(0), "exit code after SIGTERM; {}", self.process.log_tail());
    }
}

/// The value in KiB of a line of a file in `/proc`.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(name)).expect("a line of this name");
    line.split_whitespace().nth(1).and_then(|value| value.parse().ok()).expect("a number of KiB")
}
