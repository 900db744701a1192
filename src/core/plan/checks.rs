//! The reasons to write a Secret that exists: each is one named check of one table.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::history::History;
use super::observed::{Observed, Owner};
use super::reasons::WriteReason;
use crate::core::Now;
use crate::core::grants::{Assignment, Granted};
use crate::core::request::{AppliedState, Target, TemplateFingerprint};

/// The desired content of a Secret, and the writes of this process.
pub struct Situation<'a> {
    pub granted: &'a Granted,
    /// The static entries that it should contain, each with the version of its source.
    pub static_tags: BTreeMap<String, String>,
    /// The template of its labels and annotations.
    pub template: Option<TemplateFingerprint>,
    /// The time before which no token may have been issued.
    pub issued_after: Option<Timestamp>,
    pub history: &'a History,
    pub now: Now,
}

type Check = fn(&Situation<'_>, &Observed) -> bool;

/// Every reason to write a Secret that exists, most urgent first.
const CHECKS: [(WriteReason, Check); 10] = [
    (WriteReason::Adopted, |_, observed| observed.owner == Owner::Adoptable),
    (WriteReason::FieldsTakenOver, |_, observed| !observed.intact),
    (WriteReason::ForeignWrite, foreign_write),
    (WriteReason::ImplausibleTimes, |s, o| o.times.is_none_or(|times| !times.is_plausible(s.now))),
    (WriteReason::RequestChanged, |s, o| !applied_is(o, |applied| applied.request == *s.granted.request)),
    (WriteReason::ScopeChanged, |s, o| applied_is(o, |applied| scope_changed(s, applied))),
    (WriteReason::StaticEntryChanged, |s, o| {
        applied_is(o, |applied| applied.static_entries != s.static_tags)
    }),
    (WriteReason::TemplateChanged, |s, o| applied_is(o, |applied| applied.template != s.template)),
    (WriteReason::RenewalDue, |s, o| {
        o.times.is_none_or(|times| times.is_due(s.now)) || applied_is(o, |applied| lacks_entry(s, applied))
    }),
    (WriteReason::RenewRequested, |s, o| applied_is(o, |applied| holds_older(s, applied))),
];

impl Situation<'_> {
    /// The most urgent reason to write the Secret; `observed` is `None` if there is none.
    pub fn reason_to_write(&self, observed: Option<&Observed>) -> Option<WriteReason> {
        let Some(observed) = observed else { return Some(WriteReason::Missing) };
        CHECKS.iter().find(|(_, check)| check(self, observed)).map(|(reason, _)| *reason)
    }
}

fn applied_is(observed: &Observed, check: impl FnOnce(&AppliedState) -> bool) -> bool {
    observed.applied.as_deref().is_some_and(check)
}

/// Whether the version differs from the one that our last write to this Secret returned.
fn foreign_write(s: &Situation<'_>, observed: &Observed) -> bool {
    let written = s.history.written.as_ref().filter(|(name, _)| **name == *s.granted.request.secret_name);
    written.is_some_and(|(_, version)| *version != observed.resource_version)
}

/// Whether a registry has no entry yet, because its token was missing when the Secret was written, or because the region of
/// the controller changed: `default` is then a registry of that region. An entry of unknown expiry was kept when another
/// client had changed the record, or the wall clock was wrong.
fn lacks_entry(s: &Situation<'_>, applied: &AppliedState) -> bool {
    s.granted.assignments.iter().any(|assignment| {
        let entry = applied.entry(&assignment.target).filter(|entry| entry.expires_at.is_some());
        let Some(entry) = entry else { return true };
        let region = entry.host.region().filter(|_| assignment.target == Target::Default);
        region.is_some_and(|region| region.as_str() != assignment.request.key.endpoint.region())
    })
}

/// Whether a token was issued before the time that an annotation names.
fn holds_older(s: &Situation<'_>, applied: &AppliedState) -> bool {
    let mut entries = s.granted.assignments.iter().filter_map(|a| applied.entry(&a.target));
    s.issued_after.is_some_and(|time| entries.any(|entry| entry.is_older(time, s.now)))
}

/// A missing entry is not a changed scope: its renewal is due.
fn scope_changed(s: &Situation<'_>, applied: &AppliedState) -> bool {
    let changed = |a: &Assignment| applied.entry(&a.target).is_some_and(|entry| entry.scope != a.scope);
    s.granted.assignments.iter().any(changed)
}
