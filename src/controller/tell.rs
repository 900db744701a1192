//! The messages of the controller. The runtime turns each value into log lines, Events, metrics and the summary of
//! `sync`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::change::WatchTarget;
use super::queue::PRIORITIES;
pub use super::removals::HeldRemovals;
use crate::core::aws::Endpoint;
use crate::core::grants::{IdentityName, TokenKey};
use crate::core::plan::{DeleteReason, PullSecretChange, WriteReason};
use crate::core::secret::TokenError;
use crate::core::{EventReason, Uid};

/// The metric label `result` of a request that succeeded.
pub const SUCCESS: &str = "success";

/// An Event to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRecord {
    pub namespace: Arc<str>,
    /// The UID of the Namespace; empty if unknown.
    pub uid: Uid,
    pub reason: EventReason,
    pub message: String,
    /// Identifies the condition: another one is written soon, and the same one with another message at growing intervals.
    pub condition: u64,
    /// Records of one namespace, reason and subject are one Event.
    pub subject: String,
}

/// The number of namespaces in each state, and the earliest times of all Secrets.
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
    /// When the first of them is due for renewal.
    pub earliest_refresh: Option<Timestamp>,
    pub held: HeldCounts,
}

/// The number of Secrets whose removal is held, by the part of the configuration that it follows from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldCounts {
    pub identities: i64,
    pub namespaces: i64,
    pub secret_names: i64,
}

/// An API operation on a Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Operation {
    Create,
    Update,
    Delete,
}

/// The periodic count.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counted {
    pub namespaces: NamespaceCounts,
    /// The tokens in use.
    pub tokens: TokenExpiries,
    /// The number of namespaces in each lane of the queue.
    pub queued: [(&'static str, usize); PRIORITIES.len()],
    /// The time, if every namespace is in sync.
    pub in_sync_at: Option<Timestamp>,
}

/// The earliest expiry of the tokens of an identity for an endpoint.
pub type TokenExpiries = BTreeMap<(IdentityName, Endpoint), Timestamp>;

/// A request for a token that ended.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenFetch {
    pub key: TokenKey,
    /// The expiry of the token.
    pub result: Result<Timestamp, TokenError>,
    /// The difference between the clocks, if AWS would reject signatures because of it.
    pub skew: Option<Duration>,
    pub duration: Duration,
    pub leader: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Tell {
    /// Every required watch has listed.
    Synced { namespaces: usize },
    /// A watch has listed, or was interrupted although the others go on without it; `is_complete` if it has listed before.
    Listed { target: WatchTarget, is_complete: bool },
    /// This process became the leader, or lost the leadership.
    LeadershipChanged { leader: bool },
    /// A pass over this many namespaces begins.
    PassStarted { namespaces: usize },
    /// The namespace is up to date.
    InSync { namespace: Arc<str> },
    /// The configuration would remove more Secrets than it may without a confirmation.
    RemovalsHeld(HeldRemovals),
    /// The held removals in this many namespaces were confirmed.
    RemovalsConfirmed { namespaces: usize },
    /// With `--prune`, `object` would be deleted, such as `secret NAMESPACE/NAME`.
    WouldDelete { object: String },
    /// A condition or a change that the owner of the namespace should know about. `first` is false while the same
    /// condition lasts.
    Notice { event: EventRecord, first: bool },
    /// A Secret was created or updated; its token expires at `expiry`.
    SecretWritten {
        namespace: Arc<str>,
        secret: Arc<str>,
        reason: WriteReason,
        expiry: Option<Timestamp>,
        may_be_immutable: bool,
    },
    /// A Secret was deleted.
    SecretDeleted { namespace: Arc<str>, secret: Arc<str>, reason: DeleteReason },
    /// The `imagePullSecrets` of a service account were changed.
    ServiceAccountChanged { namespace: Arc<str>, change: PullSecretChange },
    /// Another client changed the object first; the controller retries.
    Overtaken { namespace: Arc<str>, object: String, message: String },
    /// A request that writes or deletes a Secret ended.
    RequestFinished { operation: Operation, reason: &'static str, result: &'static str, duration: Duration },
    /// A request for a token succeeded or failed.
    TokenFetched(TokenFetch),
    /// The periodic count.
    Counted(Box<Counted>),
}
