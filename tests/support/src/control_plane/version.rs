//! The versions of kube-apiserver that a control plane can have, and the folders of its programs.

use std::path::PathBuf;

use crate::tools;

/// Which kube-apiserver a control plane runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// The one that all tests run on.
    #[default]
    Usual,
    /// The oldest that the chart installs on (`kubeVersion` in its `Chart.yaml`).
    Oldest,
    /// The newest that was released.
    Newest,
}

impl Version {
    /// The name that `tests/tools/build` knows it by.
    fn tool(self) -> &'static str {
        match self {
            Self::Usual => "kubernetes",
            Self::Oldest => "kubernetes-oldest",
            Self::Newest => "kubernetes-newest",
        }
    }
}

/// Where the programs of a control plane are.
pub(super) struct Binaries {
    /// The folder of kube-apiserver.
    pub(super) apiserver: PathBuf,
    /// The folder of etcd and kube-controller-manager.
    pub(super) others: PathBuf,
}

impl Binaries {
    /// Builds what is not there yet, which takes minutes.
    pub(super) async fn of(version: Version) -> Self {
        let others = tools::folder(Version::Usual.tool()).await;
        Self { apiserver: tools::folder(version.tool()).await, others }
    }
}
