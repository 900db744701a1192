//! Children that never outlive the test process, however that ends.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Turns itself into the program, after leaving a watchdog behind that ends it when our pipe closes without
/// a word: that happens whenever this process dies, also by SIGKILL. The watchdog is forked twice, so that
/// the program has no child that it does not know of.
const WATCHDOG: &str = r#"
exec 3<&0
(
  (
    trap '' TERM INT HUP
    read -r word <&3 && exit 0
    kill -TERM $$
    for _ in 1 2 3 4 5 6 7 8 9 10; do
      sleep 0.1
      kill -0 $$ || exit 0
    done
    kill -KILL $$
  ) </dev/null >/dev/null 2>&1 &
)
exec "$@" </dev/null 3<&-
"#;

/// What a child inherits; the rest of the environment would make tests depend on who runs them.
const INHERITED: [&str; 4] = ["PATH", "TMPDIR", "RUST_BACKTRACE", "LLVM_PROFILE_FILE"];

/// A running program; ended, if it has not ended, when this is dropped.
///
/// It runs in a process group of its own (a Ctrl-C reaches the tests only, which take it along) with stdin
/// from `/dev/null`, and with stdout and stderr in one file.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    // Closing it without a word ends the child.
    watchdog: Option<ChildStdin>,
    ended: Option<ExitStatus>,
    log: PathBuf,
}

impl Process {
    /// Starts what `command` says: its program, arguments, environment and working directory.
    ///
    /// The environment is what `command` sets, `PATH`, `TMPDIR` and little else; `HOME` is `folder`, so that
    /// nobody's own `~/.aws` or `~/.kube` is read. Output is appended to `folder/name.log`. A program that
    /// cannot be run shows as exit code 126 or 127 with the reason in the log.
    pub fn spawn(name: &str, command: &Command, folder: &Path) -> Self {
        let log = folder.join(format!("{name}.log"));
        let file = OpenOptions::new().create(true).append(true).open(&log);
        let file = file.unwrap_or_else(|error| panic!("{} cannot be written: {error}", log.display()));
        let mut child = watched(command, folder, file)
            .spawn()
            .unwrap_or_else(|error| panic!("no sh to start {name} with: {error}"));
        let watchdog = child.stdin.take();
        Self { name: name.to_owned(), child, watchdog, ended: None, log }
    }

    /// The program's own process ID (not that of a wrapper).
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The name given to [`Process::spawn`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Ends it with SIGKILL, and returns when it is gone.
    pub fn kill9(&mut self) {
        // Fails only for a program that has already ended and been waited for.
        let _ = self.child.kill();
        let status = self.child.wait().unwrap_or_else(|error| panic!("{} has no status: {error}", self.name));
        self.reaped(status);
    }

    /// Sends SIGTERM and returns at once; see [`Process::wait`].
    pub fn terminate(&mut self) {
        self.signal("TERM");
    }

    /// Sends the signal of that name (`TERM`, `INT`, `STOP`, `CONT`, …), unless it has ended. After
    /// `STOP`, it waits until each thread is stopped.
    pub fn signal(&mut self, signal: &str) {
        // A program that was waited for has given up its ID, which may be another's by now.
        if self.exit_code().is_none() {
            let status = Command::new("sh")
                .args(["-c", r#"kill -s "$1" "$2""#, "sh", signal, &self.pid().to_string()])
                .status()
                .expect("sh runs");
            assert!(status.success(), "SIG{signal} could not be sent to {}", self.name);
            if signal == "STOP" {
                self.wait_until_stopped();
            }
        }
    }

    /// One thread receives the signal and stops the others, which run until it does: on a busy machine for some time.
    fn wait_until_stopped(&mut self) {
        let deadline = Instant::now() + Duration::from_mins(1);
        while self.exit_code().is_none() && !is_stopped(self.pid()) {
            assert!(Instant::now() < deadline, "{} does not stop", self.name);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until it has ended, `timeout` at most: its exit code (128 + n for signal n), or `None` if it
    /// still runs.
    pub async fn wait(&mut self, timeout: Duration) -> Option<i32> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(code) = self.exit_code() {
                return Some(code);
            }
            if Instant::now() >= deadline {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Its exit code (128 + n for signal n) if it has ended.
    pub fn exit_code(&mut self) -> Option<i32> {
        if self.ended.is_none()
            && let Some(status) = self.child.try_wait().expect("a child can be asked for its status")
        {
            self.reaped(status);
        }
        self.ended.map(|status| status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
    }

    /// Everything it has written so far to stdout and stderr.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines of [`Process::log`], for a message.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    fn reaped(&mut self, status: ExitStatus) {
        self.ended = Some(status);
        if let Some(mut watchdog) = self.watchdog.take() {
            // The word that lets the watchdog go; it may be gone already.
            let _ = watchdog.write_all(b"ended\n");
        }
    }
}

/// Whether each thread of a process is stopped: `proc_pid_stat(5)`.
fn is_stopped(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    let mut stats =
        threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
    stats.all(|stat| stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('T')))
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exit_code().is_none() {
            self.kill9();
        }
    }
}

fn watched(command: &Command, folder: &Path, log: File) -> Command {
    let mut watched = Command::new("sh");
    watched.args(["-c", WATCHDOG, "sh"]).arg(command.get_program()).args(command.get_args());
    watched.env_clear().env("HOME", folder);
    watched.envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => watched.env(name, value),
            None => watched.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        watched.current_dir(folder);
    }
    let errors = log.try_clone().expect("a file handle can be cloned");
    watched.process_group(0).stdin(Stdio::piped()).stdout(log).stderr(errors);
    watched
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;
    use std::io::{BufRead as _, BufReader};

    const HELPER: &str = "ECR_PULL_SECRETS_PROCESS_TEST_HELPER";
    const LONG: Duration = Duration::from_mins(1);

    fn runs(pid: u32) -> bool {
        // A zombie has ended; it only waits for its parent.
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    async fn ends(pid: u32) -> bool {
        let deadline = Instant::now() + LONG;
        while runs(pid) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        !runs(pid)
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn output_environment_and_exit_code_are_the_programs_own() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = shell("echo $$ $GREETING; echo $HOME >&2; cat; exit 3");
        command.env("GREETING", "hello");
        let mut process = Process::spawn("shell", &command, folder.path());
        assert_eq!(process.wait(LONG).await, Some(3));
        let expected = format!("{} hello\n{}\n", process.pid(), folder.path().display());
        assert_eq!(process.log(), expected);
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_says_so() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut process = Process::spawn("none", &Command::new("/no/such/program"), folder.path());
        assert_eq!(process.wait(LONG).await, Some(127));
        assert!(process.log_tail().contains("/no/such/program"), "{}", process.log());
    }

    #[tokio::test]
    async fn signals_reach_the_program() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut process = Process::spawn("sleep", Command::new("sleep").arg("600"), folder.path());
        assert_eq!(process.wait(Duration::from_millis(100)).await, None);
        process.terminate();
        assert_eq!(process.wait(LONG).await, Some(128 + 15));
        let mut process = Process::spawn("sleep", Command::new("sleep").arg("600"), folder.path());
        process.kill9();
        assert_eq!(process.exit_code(), Some(128 + 9));
    }

    #[tokio::test]
    async fn a_program_that_was_stopped_writes_nothing_more() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let script = "import os, threading\nfor _ in range(8):\n  \
            threading.Thread(target=lambda: [os.write(1, b'x') for _ in iter(int, 1)]).start()";
        let mut process =
            Process::spawn("python", Command::new("python3").args(["-c", script]), folder.path());
        for _ in 0..20 {
            let length = process.log().len();
            while process.log().len() == length {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            process.signal("STOP");
            let length = process.log().len();
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert_eq!(process.log().len(), length);
            process.signal("CONT");
        }
    }

    #[tokio::test]
    async fn dropping_ends_the_program() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let process = Process::spawn("sleep", Command::new("sleep").arg("600"), folder.path());
        let pid = process.pid();
        assert!(runs(pid));
        drop(process);
        assert!(!runs(pid));
    }

    /// The helper of the next test, which runs it in a process of its own.
    #[tokio::test]
    async fn helper_that_is_killed() {
        let Some(folder) = std::env::var_os(HELPER) else { return };
        // The second one ignores SIGTERM, so that only SIGKILL ends it.
        let stubborn = shell("trap '' TERM; while :; do sleep 1; done");
        let plain = Process::spawn("plain", Command::new("sleep").arg("600"), Path::new(&folder));
        let stubborn = Process::spawn("stubborn", &stubborn, Path::new(&folder));
        tokio::time::sleep(Duration::from_millis(200)).await;
        let temporary = Folder::new();
        println!("\nchildren {} {} {}", plain.pid(), stubborn.pid(), temporary.path().display());
        std::future::pending::<()>().await;
    }

    #[tokio::test]
    async fn a_killed_test_process_takes_its_children_along() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut helper = Command::new(std::env::current_exe().expect("a test knows its executable"))
            .args(["--exact", "process::tests::helper_that_is_killed", "--nocapture"])
            .env(HELPER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test executable runs");
        let output = BufReader::new(helper.stdout.take().expect("stdout is piped"));
        let children = output
            .lines()
            .map(|line| line.expect("the helper prints text"))
            .find_map(|line| line.strip_prefix("children ").map(str::to_owned))
            .expect("the helper prints its children");
        let [plain, stubborn, temporary] = children.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{children}");
        };
        let pids = [plain, stubborn].map(|pid| pid.parse().expect("a process ID"));
        assert!(pids.into_iter().all(runs) && Path::new(temporary).exists());
        helper.kill().expect("the helper can be killed");
        helper.wait().expect("the helper has a status");
        for pid in pids {
            assert!(ends(pid).await, "process {pid} outlived the test process");
        }
        let deadline = Instant::now() + LONG;
        while Path::new(temporary).exists() {
            assert!(Instant::now() < deadline, "{temporary} outlived the test process");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
