//! A storage that has what kube-apiserver stores when it starts for the first time, such as its roles. A start on a copy takes
//! about a quarter less processor time.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::files::Files;
use super::kubernetes::{Binaries, Storage};
use super::programs::Programs;

/// In the folder of kube-apiserver. Another number for other flags of kube-apiserver that change what it stores.
const NAME: &str = "storage-1";

/// Puts a copy of the prepared storage into the folder of a control plane. The first call on a machine prepares it. kine, and a
/// kube-apiserver that `tests/tools/build` did not build, begin with an empty storage.
pub(super) async fn put(files: &Files, binaries: &Binaries) -> Result<(), String> {
    if binaries.storage == Storage::Kine || !binaries.apiserver.join(".stamp").exists() {
        return Ok(());
    }
    let prepared = binaries.apiserver.join(NAME);
    if !prepared.exists() {
        prepare(&prepared, binaries).await?;
    }
    copy(&prepared, &files.storage_folder());
    Ok(())
}

async fn prepare(prepared: &Path, binaries: &Binaries) -> Result<(), String> {
    let files = Files::write(Ipv4Addr::LOCALHOST);
    let mut programs = Programs::default();
    programs.start_storage(&files, binaries).await?;
    programs.start_apiserver(&files, binaries).await?;
    programs.kill_apiserver();
    programs.kill_storage();
    let temporary = TempDir::new_in(&binaries.apiserver).expect("the folder of a tool takes folders");
    let copied = temporary.path().join(NAME);
    copy(&files.storage_folder(), &copied);
    match std::fs::rename(&copied, prepared) {
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        renamed => renamed.map_err(|error| format!("{}: {error}", prepared.display())),
    }
}

/// Copies a folder. What etcd allocates for later takes no space in the copy.
pub(super) fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").args(["--recursive", "--sparse=always"]).arg(from).arg(to).status();
    assert!(status.expect("cp of the GNU coreutils").success(), "{} is not copied", from.display());
}
