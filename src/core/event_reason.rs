//! The reasons of Events. Decisions return them, so that the log, the Event and the summary of `sync` share one name.

/// The reason of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr)]
#[strum(const_into_str)]
pub enum EventReason {
    SecretCreated,
    /// The Secret of another tool belongs to this instance now.
    SecretAdopted,
    SecretRepaired,
    SecretDeleted,
    /// The annotation `renew` asked for a new token, which the Secret has now.
    SecretRenewed,
    /// Every entry has a current token again.
    SecretRecovered,
    InvalidAnnotation,
    /// Another client manages a Secret of that name.
    SecretNotOwned,
    SecretImmutable,
    NotGranted,
    /// The controller's region is unknown, and the request needs it.
    RegionUnknown,
    /// The configuration would remove too many Secrets at once.
    RemovalHeld,
    /// A finalizer holds a Secret that was deleted.
    DeletionBlocked,
    TokenFailed,
    WriteFailed,
}

impl EventReason {
    pub fn is_warning(self) -> bool {
        !matches!(
            self,
            Self::SecretCreated
                | Self::SecretAdopted
                | Self::SecretRepaired
                | Self::SecretDeleted
                | Self::SecretRenewed
                | Self::SecretRecovered
        )
    }
}
