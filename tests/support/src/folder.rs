//! Temporary folders that go also when the test process is killed.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// Removes the folder when our pipe closes without a word, after the time that children need to end then.
const JANITOR: &str = r#"read -r word || { sleep 2; rm -rf "$1"; }"#;

/// Replaces a file at once, so that nobody reads a part of it.
pub fn replace(file: &Path, text: impl AsRef<[u8]>) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).expect("a temporary folder takes files");
    std::fs::rename(new, file).expect("a file can be replaced");
}

/// A temporary folder; removed when this is dropped, or soon after this process has died.
#[derive(Debug)]
pub(crate) struct Folder {
    folder: TempDir,
    janitor: Child,
}

impl Folder {
    pub(crate) fn new() -> Self {
        let folder =
            tempfile::Builder::new().prefix("ecr-pull-secrets-").tempdir().expect("a temporary folder");
        let janitor = Command::new("sh")
            .args(["-c", JANITOR, "sh"])
            .arg(folder.path())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh runs");
        Self { folder, janitor }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.janitor.stdin.take() {
            // Without a reader there is no janitor left to be told.
            let _ = pipe.write_all(b"removed\n");
        }
        let _ = self.janitor.wait();
    }
}
