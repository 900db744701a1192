//! Helm, with a home of its own: it keeps a cache there of what each API server has.

use std::process::Command;

use crate::tools;

/// Runs it to its end: what it printed, or what it said on stderr if it failed.
///
/// Nothing of the environment reaches it: a cluster is named by `--kubeconfig`.
pub async fn run(args: &[&str]) -> Result<String, String> {
    let mut command = Command::new(tools::folder("helm").await.join("helm"));
    let home = tempfile::TempDir::new().expect("a temporary folder");
    command.args(args).env_clear().env("HOME", home.path());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    let output = output.expect("helm starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}
