//! What the controller tells people and monitoring. The runtime turns each value into log lines, Events, metrics and the
//! summary of `sync`.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::core::grants::TokenKey;
use crate::core::plan::{DeleteReason, WriteReason};
use crate::core::secret::TokenError;

/// The reason of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr)]
#[strum(const_into_str)]
pub enum EventReason {
    SecretCreated,
    SecretRepaired,
    SecretDeleted,
    /// Every entry has a current token again.
    SecretRecovered,
    InvalidAnnotation,
    /// Somebody else manages a Secret of that name.
    SecretNotOwned,
    SecretImmutable,
    NotGranted,
    /// The configuration would remove too many Secrets at once.
    RemovalHeld,
    TokenFailed,
    WriteFailed,
}

impl EventReason {
    pub fn is_warning(self) -> bool {
        !matches!(
            self,
            Self::SecretCreated | Self::SecretRepaired | Self::SecretDeleted | Self::SecretRecovered
        )
    }
}

/// A namespace, as Events refer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceRef {
    pub name: Arc<str>,
    /// Empty if unknown.
    pub uid: Box<str>,
}

/// The number of namespaces in each state, and the earliest expiry of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamespaceCounts {
    /// They have a valid Secret.
    pub ready: i64,
    /// They have no Secret yet; the controller retries.
    pub pending: i64,
    /// They have no Secret; a person must act.
    pub blocked: i64,
    /// Their Secret has expired.
    pub expired: i64,
    pub earliest_expiry: Option<Timestamp>,
}

/// An API operation on a Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Operation {
    Create,
    Update,
    Delete,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Tell {
    /// Every required watch has listed.
    Synced {
        namespaces: usize,
    },
    LeadershipChanged {
        leader: bool,
    },
    /// A pass over this many namespaces begins.
    PassStarted {
        namespaces: usize,
    },
    /// The namespace needs nothing.
    InSync {
        namespace: Arc<str>,
    },
    /// The configuration would remove more than it may without a confirmation.
    RemovalsHeld {
        removals: usize,
        managed: usize,
    },
    /// With `--prune`, `object` would be deleted.
    WouldDelete {
        namespace: Arc<str>,
        object: String,
    },
    /// Something that the owner of the namespace has to know. `first` is false while the same condition lasts.
    Condition {
        namespace: NamespaceRef,
        reason: EventReason,
        subject: String,
        message: String,
        first: bool,
    },
    SecretWritten {
        namespace: NamespaceRef,
        secret: Arc<str>,
        reason: WriteReason,
        expires_at: Option<Timestamp>,
        /// An earlier failure is over.
        recovered: bool,
    },
    SecretDeleted {
        namespace: NamespaceRef,
        secret: Arc<str>,
        reason: DeleteReason,
    },
    ServiceAccountChanged {
        namespace: Arc<str>,
        service_account: Arc<str>,
        secret: Option<Arc<str>>,
    },
    /// Another client was faster; the controller retries.
    Overtaken {
        namespace: Arc<str>,
        object: String,
        message: String,
    },
    /// A request that writes or deletes a Secret ended.
    RequestFinished {
        operation: Operation,
        reason: &'static str,
        result: &'static str,
        duration: Duration,
    },
    /// A request for a token ended, with the token's expiry. `skew` is the difference of the clocks, if AWS would reject
    /// signatures because of it.
    TokenFetched {
        key: TokenKey,
        result: Result<Timestamp, TokenError>,
        skew: Option<Duration>,
        duration: Duration,
        leader: bool,
    },
    /// The periodic count. `in_sync_at` is set when every namespace needs nothing.
    Counted {
        counts: NamespaceCounts,
        in_sync_at: Option<Timestamp>,
    },
}
