//! The changes that the watches report, as small records.

use std::sync::Arc;

use crate::core::Uid;
use crate::core::plan::{NamespaceRecord, Observed, PullSecretRefs};
use crate::core::request::Problem;
use crate::core::secret::StaticSource;

/// The objects of one watch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WatchTarget {
    /// All Namespaces.
    Namespaces,
    /// The Secrets of this name, in all namespaces.
    Secrets(Arc<str>),
    /// All service accounts, if the configuration enables them.
    ServiceAccounts,
    /// One Secret with static entries, in the controller's own namespace: the only one whose data is watched.
    StaticSource(Arc<str>),
}

impl WatchTarget {
    /// Whether Secrets are written only after its first list.
    pub fn is_required(&self) -> bool {
        matches!(self, Self::Namespaces | Self::Secrets(_))
    }
}

/// An object as a watch reports it.
#[derive(Debug)]
pub enum Seen<T> {
    Present(T),
    /// Deleted, at this resource version.
    Deleted(u64),
}

impl<T> Seen<T> {
    /// The version of the object, or of its deletion.
    pub fn version(&self, of: impl FnOnce(&T) -> u64) -> u64 {
        match self {
            Self::Present(object) => of(object),
            Self::Deleted(version) => *version,
        }
    }
}

/// A Namespace that did not opt in, although its author meant to. The index keeps nothing of it.
#[derive(Clone, Debug)]
pub struct MissedOptIn {
    /// The UID of the Namespace.
    pub uid: Uid,
    pub problem: Problem,
}

/// A change that a watch reports.
#[derive(Debug)]
pub enum Change {
    /// A list begins. Until [`Change::ListDone`], every existing object is reported again.
    ListStarted(WatchTarget),
    /// The list is complete: an object that it did not report does not exist.
    ListDone(WatchTarget),
    /// The list failed. The controller does not wait for it.
    ListUnavailable(WatchTarget),
    /// `record` is `None` if the Namespace did not opt in, is being deleted or does not exist.
    Namespace { namespace: Arc<str>, record: Option<NamespaceRecord>, terminating: bool },
    /// As [`Change::Namespace`] without a record.
    MissedOptIn { namespace: Arc<str>, missed: Box<MissedOptIn> },
    /// A Secret was created, changed or deleted.
    Secret { namespace: Arc<str>, name: Arc<str>, seen: Seen<Observed> },
    /// A service account was created, changed or deleted.
    ServiceAccount { namespace: Arc<str>, name: Arc<str>, seen: Seen<PullSecretRefs> },
    /// `source` is `None` if the Secret does not exist.
    StaticSource { name: Arc<str>, source: Option<StaticSource> },
}
