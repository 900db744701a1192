//! The programs that `tests/tools/build` builds.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;

/// The folder with the programs of `name`, built now if they are not there yet.
///
/// The first build of the control plane takes minutes; its progress goes to the real stderr. Panics with
/// the script's own sentence where it cannot build.
pub async fn folder(name: &'static str) -> PathBuf {
    tokio::task::spawn_blocking(move || build_once(name)).await.unwrap_or_else(|error| {
        match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => panic!("building {name} was cancelled: {error}"),
        }
    })
}

/// Runs a program of the tool of its name to its end, with a home of its own and these variables: what it printed, or what it
/// wrote to stderr if it failed.
///
/// Nothing of the environment reaches it.
pub async fn run(name: &'static str, args: &[&str], env: &[(&str, &str)]) -> Result<String, String> {
    let mut command = Command::new(folder(name).await.join(name));
    let home = tempfile::TempDir::new().expect("a temporary folder");
    command.args(args).env_clear().env("HOME", home.path()).envs(env.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    result(&output.unwrap_or_else(|error| panic!("{name} does not start: {error}")))
}

/// What a program printed, or what it wrote to stderr if it failed.
pub fn result(output: &Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// What is missing to build `name` here, in the script's own sentence: a compiler, a library, rights to install one.
///
/// Builds it otherwise, and panics if that fails.
pub fn missing(name: &'static str) -> Option<String> {
    if let Err(Failure { code: Some(MISSING), sentence }) = built(name) {
        return Some(sentence);
    }
    build_once(name);
    None
}

fn build_once(name: &'static str) -> PathBuf {
    built(name).unwrap_or_else(|Failure { sentence, .. }| panic!("{sentence}"))
}

/// Why there is no folder: how the script ended, and its last line.
#[derive(Clone)]
struct Failure {
    code: Option<i32>,
    sentence: String,
}

/// The script's exit code where a tool is missing.
const MISSING: i32 = 3;

fn built(name: &'static str) -> Result<PathBuf, Failure> {
    static BUILT: Mutex<Option<HashMap<&'static str, Result<PathBuf, Failure>>>> = Mutex::new(None);
    let mut built = BUILT.lock().expect("no thread panics while it builds");
    built.get_or_insert_default().entry(name).or_insert_with(|| build(name)).clone()
}

fn build(name: &str) -> Result<PathBuf, Failure> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/build");
    let mut child = Command::new(&script)
        .arg(name)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{} does not start: {error}", script.display()));
    let mut last = String::new();
    for line in BufReader::new(child.stderr.take().expect("stderr is piped")).lines() {
        let line = line.unwrap_or_else(|error| panic!("{} printed no text: {error}", script.display()));
        // Straight to stderr: captured progress of a build of minutes would look like a hang.
        writeln!(std::io::stderr(), "{line}").expect("stderr takes a line");
        last = line;
    }
    let output = child.wait_with_output().expect("a child has an end");
    if output.status.success() {
        Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
    } else {
        Err(Failure { code: output.status.code(), sentence: last })
    }
}
