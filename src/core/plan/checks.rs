//! The reasons to write or delete a Secret. Each reason to write is one named check of one table. The log, the metrics
//! and the Events use its name and message.

use std::collections::BTreeMap;

use super::facts::Observed;
use crate::core::Now;
use crate::core::grants::{Assignment, Granted};

/// Why a Secret is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr)]
#[strum(const_into_str)]
pub enum WriteReason {
    Missing,
    FieldsTakenOver,
    ForeignWrite,
    ImplausibleTimes,
    RequestChanged,
    ScopeChanged,
    StaticEntryChanged,
    RenewalDue,
}

impl WriteReason {
    /// The name in logs and metrics.
    /// The reason as part of a sentence.
    pub fn message(self) -> &'static str {
        match self {
            Self::Missing => "it did not exist",
            Self::FieldsTakenOver => "another field manager changed its fields",
            Self::ForeignWrite => "another client changed it",
            Self::ImplausibleTimes => "its expiry annotations were missing or not plausible",
            Self::RequestChanged => "the request changed",
            Self::ScopeChanged => "the scope of a token changed",
            Self::StaticEntryChanged => "a static entry changed",
            Self::RenewalDue => "its token is due for renewal",
        }
    }

    /// Whether the write reverts a change of another client.
    pub fn is_repair(self) -> bool {
        matches!(self, Self::FieldsTakenOver | Self::ForeignWrite | Self::ImplausibleTimes)
    }

    /// Whether the write can wait for service accounts and for the deletion of former Secrets.
    pub fn can_wait(self) -> bool {
        matches!(self, Self::StaticEntryChanged | Self::RenewalDue)
    }
}

/// Why a Secret is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr)]
#[strum(const_into_str)]
pub enum DeleteReason {
    /// The annotation was removed or is `none`.
    OptedOut,
    /// The namespace requests another name.
    Renamed,
    /// The configuration no longer grants the applied request.
    NotGranted,
    /// It is immutable and about to expire: the one case in which the UID changes.
    Immutable,
}

impl DeleteReason {
    /// The name in logs and metrics.
    /// The reason as part of a sentence.
    pub fn message(self) -> &'static str {
        match self {
            Self::OptedOut => "the namespace no longer requests it",
            Self::Renamed => "the namespace requests another name",
            Self::NotGranted => "the configuration no longer grants it or no longer includes the namespace",
            Self::Immutable => "it is immutable and about to expire; the controller recreates it",
        }
    }
}

/// The current Secret of a namespace, and its desired content.
pub struct Situation<'a> {
    /// The Secret of the requested name; `None` if there is none.
    pub observed: Option<&'a Observed>,
    pub granted: &'a Granted,
    /// The static entries that it should contain, each with the version of its source.
    pub static_tags: &'a BTreeMap<String, String>,
    /// The resource version of our last write to it; `None` if unknown.
    pub written_version: Option<u64>,
    pub now: Now,
}

type Check = fn(&Situation<'_>) -> bool;

/// Every reason to write, most urgent first.
const CHECKS: [(WriteReason, Check); 8] = [
    (WriteReason::Missing, |s| s.observed.is_none()),
    (WriteReason::FieldsTakenOver, |s| s.holds(|observed| !observed.intact)),
    (WriteReason::ForeignWrite, foreign_write),
    (WriteReason::ImplausibleTimes, |s| s.holds(|o| o.times.is_none_or(|times| !times.is_plausible(s.now)))),
    (WriteReason::RequestChanged, request_changed),
    (WriteReason::ScopeChanged, scope_changed),
    (WriteReason::StaticEntryChanged, static_entry_changed),
    (WriteReason::RenewalDue, |s| s.holds(|o| o.times.is_none_or(|times| times.refresh_after <= s.now.wall))),
];

/// The most urgent reason to write the Secret.
pub fn reason_to_write(situation: &Situation<'_>) -> Option<WriteReason> {
    CHECKS.iter().find(|(_, check)| check(situation)).map(|(reason, _)| *reason)
}

impl Situation<'_> {
    fn holds(&self, check: impl FnOnce(&Observed) -> bool) -> bool {
        self.observed.is_some_and(check)
    }
}

fn foreign_write(s: &Situation<'_>) -> bool {
    s.holds(|observed| s.written_version.is_some_and(|version| version != observed.resource_version))
}

fn request_changed(s: &Situation<'_>) -> bool {
    s.holds(|o| o.applied.as_ref().is_none_or(|applied| applied.request != *s.granted.request))
}

/// A missing entry is not a changed scope: its renewal is due.
fn scope_changed(s: &Situation<'_>) -> bool {
    let changed = |applied: &crate::core::request::applied::AppliedState, a: &Assignment| {
        applied.entry(&a.target).is_some_and(|entry| entry.scope != a.scope)
    };
    s.holds(|o| {
        o.applied.as_ref().is_some_and(|applied| s.granted.assignments.iter().any(|a| changed(applied, a)))
    })
}

fn static_entry_changed(s: &Situation<'_>) -> bool {
    s.holds(|o| o.applied.as_ref().is_some_and(|applied| applied.static_entries != *s.static_tags))
}
