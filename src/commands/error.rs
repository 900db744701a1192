//! Why a command failed.

use super::probe::ProbeError;
use crate::config::ConfigError;
use crate::kubernetes::client::ConnectError;
use crate::kubernetes::inventory::InventoryError;
use crate::kubernetes::leader_election::{AcquireError, LeaseError};
use crate::runtime::RunError;
use crate::telemetry::http::BindError;
use crate::telemetry::logs::LogError;

#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("{0}: expected http://HOST:PORT/PATH")]
    InvalidUrl(http::Uri),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("cannot start the runtime: {0}")]
    Runtime(#[source] std::io::Error),
    #[error("cannot receive signals: {0}")]
    Signals(#[source] std::io::Error),
    #[error(transparent)]
    Acquire(#[from] AcquireError),
    #[error("this process lost the Lease and stopped; run the command again")]
    LeaseLost,
    #[error("cannot delete the Lease: {0}")]
    DeleteLease(#[from] LeaseError),
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("{0} ended unexpectedly")]
    TaskEnded(&'static str),
    #[error("interrupted; run the command again")]
    Interrupted,
    #[error("{0} namespaces failed; see the list above")]
    NamespacesFailed(usize),
    #[error("{0} objects were not removed; see the list above, and run the command again")]
    NotRemoved(usize),
    #[error("{url}: {source}")]
    Probe { url: http::Uri, source: ProbeError },
}

impl CommandError {
    /// 2 for invalid flags or configuration, 1 for any other failure.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::InvalidUrl(_) | Self::Log(_) | Self::Bind(_) | Self::Config(_) | Self::Connect(_) => 2,
            _ => 1,
        }
    }
}
