//! The programs that `tests/tools/build` builds.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
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

fn build_once(name: &'static str) -> PathBuf {
    static BUILT: Mutex<Option<HashMap<&'static str, Result<PathBuf, String>>>> = Mutex::new(None);
    let result = {
        let mut built = BUILT.lock().expect("no thread panics while it builds");
        built.get_or_insert_default().entry(name).or_insert_with(|| build(name)).clone()
    };
    result.unwrap_or_else(|sentence| panic!("{sentence}"))
}

fn build(name: &str) -> Result<PathBuf, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/build");
    let mut child = Command::new(&script)
        .arg(name)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{} does not start: {error}", script.display()))?;
    let mut last = String::new();
    for line in BufReader::new(child.stderr.take().expect("stderr is piped")).lines() {
        let line = line.map_err(|error| format!("{} printed no text: {error}", script.display()))?;
        // Straight to stderr: captured progress of a build of minutes would look like a hang.
        writeln!(std::io::stderr(), "{line}").expect("stderr takes a line");
        last = line;
    }
    let output = child.wait_with_output().map_err(|error| format!("{}: {error}", script.display()))?;
    if output.status.success() {
        Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
    } else {
        Err(last)
    }
}
