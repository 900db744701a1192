//! The versions of kube-apiserver and the storages that a control plane can have, and the folders of its programs.

use std::path::PathBuf;
use std::process::Command;

use crate::tools;

/// The environment variable that selects the [`Kubernetes`] of every test that does not select one itself.
pub const TEST_KUBERNETES: &str = "TEST_KUBERNETES";

/// Which kube-apiserver a control plane runs, and where that stores its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kubernetes {
    /// The one that `make test` runs on, with etcd.
    Usual,
    /// The oldest that the chart installs on (`kubeVersion` in its `Chart.yaml`), with etcd.
    Oldest,
    /// The newest that was released, with etcd.
    Newest,
    /// The version of [`Kubernetes::Usual`] with kine and `SQLite`, as on a server of k3s.
    Kine,
}

impl Kubernetes {
    /// What [`TEST_KUBERNETES`] selects: [`Kubernetes::Usual`] if it is not set.
    pub fn selected() -> Self {
        let Some(value) = std::env::var_os(TEST_KUBERNETES) else { return Self::Usual };
        match value.to_str() {
            Some("usual") => Self::Usual,
            Some("oldest") => Self::Oldest,
            Some("newest") => Self::Newest,
            Some("kine") => Self::Kine,
            _ => panic!("{TEST_KUBERNETES} is {}: set it to usual, oldest, newest or kine", value.display()),
        }
    }

    /// The name that `tests/tools/build` has for its kube-apiserver.
    fn apiserver(self) -> &'static str {
        match self {
            Self::Usual | Self::Kine => "kubernetes",
            Self::Oldest => "kubernetes-oldest",
            Self::Newest => "kubernetes-newest",
        }
    }

    /// The minor version of its kube-apiserver, which is built now if it is not there yet.
    pub async fn minor(self) -> u32 {
        let program = tools::folder(self.apiserver()).await.join("kube-apiserver");
        let output = Command::new(&program).arg("--version").output();
        let output = output.unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()));
        let text = String::from_utf8_lossy(&output.stdout);
        // `Kubernetes v1.36.3`
        let minor = text.trim().strip_prefix("Kubernetes v1.").and_then(|rest| rest.split('.').next());
        let minor = minor.and_then(|minor| minor.parse().ok());
        minor.unwrap_or_else(|| panic!("{} --version printed {text:?}", program.display()))
    }
}

/// Where kube-apiserver stores its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    Etcd,
    Kine,
}

/// Where the programs of a control plane are.
pub(super) struct Binaries {
    /// The folder of kube-apiserver.
    pub(super) apiserver: PathBuf,
    pub(super) storage: Storage,
    /// The folder of the program of the storage.
    pub(super) storage_folder: PathBuf,
    /// The folder of kube-controller-manager.
    pub(super) controller_manager: PathBuf,
}

impl Binaries {
    /// Builds what is not there yet, which takes minutes.
    pub(super) async fn of(kubernetes: Kubernetes) -> Self {
        let usual = tools::folder(Kubernetes::Usual.apiserver()).await;
        let (storage, storage_folder) = match kubernetes {
            Kubernetes::Kine => (Storage::Kine, tools::folder("kine").await),
            _ => (Storage::Etcd, usual.clone()),
        };
        let apiserver = tools::folder(kubernetes.apiserver()).await;
        Self { apiserver, storage, storage_folder, controller_manager: usual }
    }
}
