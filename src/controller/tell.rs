//! The messages of the controller. The runtime turns each value into log lines, Events, metrics and the summary of
//! `sync`.

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
    /// Another client manages a Secret of that name.
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
    /// Namespaces with a valid Secret.
    pub ready: i64,
    /// Namespaces without a Secret, for which the controller retries.
    pub pending: i64,
    /// Namespaces without a Secret, for which a person must act.
    pub blocked: i64,
    /// Namespaces with an expired Secret.
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
    /// The namespace is up to date.
    InSync {
        namespace: Arc<str>,
    },
    /// The configuration would remove more Secrets than it may without a confirmation.
    RemovalsHeld {
        removals: usize,
        managed: usize,
    },
    /// With `--prune`, `object` would be deleted, such as `secret NAMESPACE/NAME`.
    WouldDelete {
        object: String,
    },
    /// A condition that the owner of the namespace should know about. `first` is false while the same condition lasts.
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
        /// Whether this write ended an earlier failure.
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
    /// Another client changed the object first; the controller retries.
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
    /// A request for a token ended, with the token's expiry. `skew` is the difference between the clocks, if AWS would
    /// reject signatures because of it.
    TokenFetched {
        key: TokenKey,
        result: Result<Timestamp, TokenError>,
        skew: Option<Duration>,
        duration: Duration,
        leader: bool,
    },
    /// The periodic count. `in_sync_at` is set if every namespace is in sync.
    Counted {
        counts: NamespaceCounts,
        in_sync_at: Option<Timestamp>,
    },
}
