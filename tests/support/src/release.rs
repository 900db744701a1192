//! The scripts of `deploy/release`.

use std::path::Path;
use std::process::Command;

use crate::tools;

/// Runs a script of these sources, with these variables and with folders of its own for Helm: its only line, or its errors.
pub fn run(sources: &Path, script: &str, arguments: &[&str], env: &[(&str, &str)]) -> Result<String, String> {
    let mut command = Command::new(format!("deploy/release/{script}"));
    let home = tempfile::tempdir().expect("a temporary folder");
    command.args(arguments).current_dir(sources).envs(env.iter().copied());
    for folder in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(folder, home.path());
    }
    let output = command.output().expect("the script starts");
    let trimmed = |text: String| text.trim().to_owned();
    tools::result(&output).map(trimmed).map_err(trimmed)
}
