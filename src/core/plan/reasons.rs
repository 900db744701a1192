//! The reasons to write or delete a Secret. The log, the metrics and the Events use the name and the message of a reason.

/// Why a Secret is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::VariantNames)]
#[strum(const_into_str)]
pub enum WriteReason {
    Missing,
    Adopted,
    FieldsTakenOver,
    ForeignWrite,
    ImplausibleTimes,
    RequestChanged,
    ScopeChanged,
    StaticEntryChanged,
    TemplateChanged,
    RenewalDue,
    RenewRequested,
}

impl WriteReason {
    /// The reason as part of a sentence.
    pub fn message(self) -> &'static str {
        match self {
            Self::Missing => "it did not exist",
            Self::Adopted => "the configuration lets the controller adopt it",
            Self::FieldsTakenOver => "another field manager changed its fields",
            Self::ForeignWrite => "another client changed it",
            Self::ImplausibleTimes => "its expiry annotations were missing or not plausible",
            Self::RequestChanged => "the request changed",
            Self::ScopeChanged => "the scope of a token changed",
            Self::StaticEntryChanged => "a static entry changed",
            Self::TemplateChanged => "the template of its labels and annotations changed",
            Self::RenewalDue => "its token is due for renewal",
            Self::RenewRequested => "a new token was requested",
        }
    }

    /// Whether the write reverts a change of another client.
    pub fn is_repair(self) -> bool {
        matches!(self, Self::FieldsTakenOver | Self::ForeignWrite | Self::ImplausibleTimes)
    }

    /// Whether the write can wait for a rate that protects the API server. A requested renewal is rare, and a user waits for
    /// it.
    pub fn is_paced(self) -> bool {
        matches!(self, Self::StaticEntryChanged | Self::TemplateChanged | Self::RenewalDue)
    }

    /// Whether the write can wait for service accounts and for the deletion of former Secrets.
    pub fn can_wait(self) -> bool {
        self.is_paced() || self == Self::RenewRequested
    }
}

/// Why a Secret is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::VariantNames)]
#[strum(const_into_str)]
pub enum DeleteReason {
    /// The annotation was removed or is `none`.
    OptedOut,
    /// The namespace requests another name.
    Renamed,
    /// The configuration no longer grants the applied request.
    NotGranted,
    /// The configuration no longer includes the namespace.
    NotIncluded,
    /// The configuration no longer allows the name.
    Retired,
    /// It is immutable and about to expire: the one case in which the UID changes.
    Immutable,
}

impl DeleteReason {
    /// The reason as part of a sentence.
    pub fn message(self) -> &'static str {
        match self {
            Self::OptedOut => "the namespace no longer requests it",
            Self::Renamed => "the namespace requests another name",
            Self::NotGranted => "the configuration no longer grants it",
            Self::NotIncluded => "the configuration no longer includes the namespace",
            Self::Retired => "the configuration no longer allows its name",
            Self::Immutable => "it is immutable and about to expire; the controller recreates it",
        }
    }
}
