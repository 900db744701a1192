//! A home folder, an AWS, and the program in between.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use testing::aws::Stub;
use testing::leaks;
pub use testing::tenants::HOST;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_ecr-pull-secrets");
pub const HELPER: &str = "docker-credential-ecr-pull-secrets";
pub const OTHER_HOST: &str = "222222222222.dkr.ecr.us-east-1.amazonaws.com";
pub const THIRD_HOST: &str = "333333333333.dkr.ecr.eu-west-3.amazonaws.com";
/// What remains of the environment: nobody's own settings reach the program.
const INHERITED: [&str; 2] = ["LLVM_PROFILE_FILE", "RUST_BACKTRACE"];
pub const LONG: Duration = Duration::from_hours(6);

/// A user's home, with the program and its helper on the path.
pub struct Home {
    pub aws: Stub,
    folder: TempDir,
    /// The environment of every program.
    pub env: Vec<(String, String)>,
}

/// The end of a program.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The standard output of a program that succeeded.
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    pub fn json(self) -> Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Asserts that it failed with this code and one message, which contains these texts and no secret.
    pub fn assert_fails(&self, code: i32, aws: &Stub, texts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for text in texts {
            assert!(self.stderr.contains(text), "{text:?} is missing: {}", self.stderr);
        }
        assert_eq!(self.stderr.lines().count(), 1, "one message: {}", self.stderr);
        leaks::assert_none(&self.stderr, &aws.secrets());
    }
}

impl Home {
    /// A home whose variables contain the credentials of the stub's user.
    pub async fn start() -> Self {
        let aws = Stub::start().await;
        let env = aws.env();
        Self::with_env(aws, env)
    }

    pub fn with_env(aws: Stub, env: Vec<(String, String)>) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let home = Self { aws, folder, env };
        for folder in ["bin", ".aws", ".docker", ".config/ecr-pull-secrets"] {
            fs::create_dir_all(home.path(folder)).expect("a folder");
        }
        symlink(PROGRAM, home.path("bin").join("ecr-pull-secrets")).expect("a link");
        symlink(PROGRAM, home.path("bin").join(HELPER)).expect("a link");
        home
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("a file");
        path
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The configuration in the user's folder.
    pub fn configure(&self, yaml: &str) {
        self.write(".config/ecr-pull-secrets/config.yaml", yaml);
    }

    /// Removes a variable.
    pub fn unset(&mut self, name: &str) {
        self.env.retain(|(other, _)| other != name);
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.unset(name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// A command in this home.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap_or_default());
        command.env_clear().env("PATH", path).env("HOME", self.folder.path()).current_dir(self.folder.path());
        command.envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the program with this input to its end.
    pub fn run_with(&self, args: &[&str], input: &str) -> Ended {
        let mut command = self.command(PROGRAM);
        command.args(args);
        finish(command, input)
    }

    pub fn run(&self, args: &[&str]) -> Ended {
        self.run_with(args, "")
    }

    /// Calls the helper as clients do.
    pub fn helper(&self, action: &str, input: &str) -> Ended {
        let mut command = self.command(self.path("bin").join(HELPER));
        command.arg(action);
        finish(command, input)
    }

    /// The password of the last token.
    pub fn last_password(&self) -> String {
        self.aws.minted().last().expect("a token").password.clone()
    }
}

/// Runs a command with this input to its end.
pub fn finish(command: Command, input: &str) -> Ended {
    finish_into(command, input, Stdio::piped())
}

/// As [`finish`], with this standard output.
pub fn finish_into(mut command: Command, input: &str, output: Stdio) -> Ended {
    let piped = command.stdin(Stdio::piped()).stdout(output).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // A program that does not read its input may end first.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().expect("an end");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ended { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}
