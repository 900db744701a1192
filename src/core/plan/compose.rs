//! The content of a Secret, composed from the available tokens and its current entries.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::WritePlan;
use super::checks::WriteReason;
use super::facts::{Facts, Observed};
use super::history::History;
use crate::core::grants::Assignment;
use crate::core::request::Target;
use crate::core::request::applied::{AppliedEntry, AppliedState, Times, is_plausible};
use crate::core::secret::static_registries;
use crate::core::secret::{DraftEntry, RegistryCredential, Token, default_host};
use crate::core::settings::Settings;
use crate::core::{Now, whole_seconds};

/// Token times derive from an HTTP `Date`, which has whole seconds, so equal expiries can differ by this much.
const DATE_RESOLUTION: SignedDuration = SignedDuration::from_secs(2);

/// A Secret that is worth writing.
#[derive(Clone, Debug)]
pub struct SecretDraft {
    pub entries: Vec<DraftEntry>,
    pub applied: AppliedState,
    pub times: Times,
    /// Identifies the request and the tokens, to detect whether a later write would differ.
    pub fingerprint: u64,
}

impl SecretDraft {
    /// Whether the entries of the current Secret must be read first.
    pub fn keeps_entries(&self) -> bool {
        self.entries.iter().any(|entry| !matches!(entry, DraftEntry::Set { .. }))
    }
}

/// The source of the entry for one registry.
enum Choice<'a> {
    Token(&'a Arc<Token>, AppliedEntry),
    Keep(AppliedEntry),
    Nothing,
}

/// Composes the Secret from the available tokens (`tokens[i]` belongs to `assignments[i]`). Returns `None` if a write would
/// not improve on the current Secret.
pub fn compose(
    plan: &WritePlan,
    tokens: &[Option<Arc<Token>>],
    facts: &Facts<'_>,
    settings: &Settings,
    now: Now,
) -> Option<SecretDraft> {
    let observed = plan.observed.as_ref();
    let choices: Vec<_> = plan
        .granted
        .assignments
        .iter()
        .zip(tokens)
        .map(|(assignment, token)| choose(observed, assignment, token.as_ref(), now))
        .collect();
    let fingerprint = fingerprint(plan, &choices);
    if !is_worth_writing(plan.reason, &choices, fingerprint, facts.history) {
        return None;
    }
    let mut entries = registry_entries(plan, &choices);
    for (host, entry) in &plan.static_entries {
        let source = facts.static_sources.get(&entry.secret);
        if !entry.available {
            entries.push(DraftEntry::Keep { host: host.clone() });
        } else if let Some(credential) = source.and_then(|source| source.entries.get(host)) {
            entries.push(DraftEntry::Set { host: host.clone(), credential: credential.clone() });
        }
    }
    let applied = |choice: &Choice<'_>| match choice {
        Choice::Token(_, entry) | Choice::Keep(entry) => Some(*entry),
        Choice::Nothing => None,
    };
    Some(SecretDraft {
        entries,
        applied: AppliedState {
            request: (*plan.granted.request).clone(),
            entries: choices.iter().map(applied).collect(),
            static_entries: static_registries::tags(&plan.static_entries),
        },
        times: times(&choices, observed, facts.namespace, settings, now),
        fingerprint,
    })
}

fn choose<'a>(
    observed: Option<&Observed>,
    assignment: &Assignment,
    token: Option<&'a Arc<Token>>,
    now: Now,
) -> Choice<'a> {
    match (token, existing_entry(observed, assignment, now)) {
        (Some(token), Some(existing)) if keep_existing(existing, token, now) => Choice::Keep(existing),
        (Some(token), _) => {
            let expires_at = Some(whole_seconds(token.expires_at()));
            Choice::Token(token, AppliedEntry { scope: assignment.scope, expires_at })
        }
        (None, Some(existing)) => Choice::Keep(existing),
        (None, None) => Choice::Nothing,
    }
}

/// The entry that we wrote for a registry, if no other client changed it and its scope is the granted one. An entry of
/// another scope is never kept.
fn existing_entry(observed: Option<&Observed>, assignment: &Assignment, now: Now) -> Option<AppliedEntry> {
    let observed = observed.filter(|observed| observed.data_intact)?;
    let mut entry = observed.applied.as_ref()?.entry(&assignment.target)?;
    if observed.times.is_none() || !entry.expires_at.is_some_and(|at| is_plausible(at, now)) {
        entry.expires_at = None;
    }
    (entry.scope == assignment.scope).then_some(entry)
}

/// Whether to keep the existing entry. A live entry is never replaced by a token that expires sooner, an expired one never
/// by an expired token that is not newer, and one with unknown expiry only by a live token.
fn keep_existing(existing: AppliedEntry, token: &Token, now: Now) -> bool {
    let Some(expires_at) = existing.expires_at else { return !token.is_live(now) };
    if expires_at > now.wall {
        return expires_at.duration_since(token.expires_at()) > DATE_RESOLUTION;
    }
    !token.is_live(now) && token.expires_at().duration_since(expires_at) <= DATE_RESOLUTION
}

fn is_worth_writing(
    reason: WriteReason,
    choices: &[Choice<'_>],
    fingerprint: u64,
    history: &History,
) -> bool {
    let has_token = choices.iter().any(|choice| matches!(choice, Choice::Token(..)));
    let has_entry = choices.iter().any(|choice| !matches!(choice, Choice::Nothing));
    match reason {
        WriteReason::Missing => has_token,
        WriteReason::RenewalDue => has_token && history.fingerprint != Some(fingerprint),
        _ => has_entry,
    }
}

fn registry_entries(plan: &WritePlan, choices: &[Choice<'_>]) -> Vec<DraftEntry> {
    let mut entries = vec![];
    for (assignment, choice) in plan.granted.assignments.iter().zip(choices) {
        match (choice, &assignment.target) {
            (Choice::Token(token, _), target) => {
                let registry = match target {
                    Target::Host(registry) => Some(registry.clone()),
                    Target::Default => default_host(token),
                };
                entries.extend(registry.map(|registry| DraftEntry::Set {
                    host: registry.to_string(),
                    credential: RegistryCredential::from_token(token),
                }));
            }
            (Choice::Keep(_), Target::Host(registry)) => {
                entries.push(DraftEntry::Keep { host: registry.to_string() });
            }
            (Choice::Keep(_), Target::Default) => {
                entries.push(DraftEntry::KeepDefault { named: named_hosts(plan) });
            }
            (Choice::Nothing, _) => {}
        }
    }
    entries
}

/// The hosts that the current or the applied request names. The identity's default registry is one of the other hosts
/// of the Secret.
fn named_hosts(plan: &WritePlan) -> BTreeSet<String> {
    let applied = plan.observed.as_ref().and_then(|observed| observed.applied.as_ref());
    let before = applied.into_iter().flat_map(|applied| &applied.request.registries);
    let all = plan.granted.request.registries.iter().chain(before);
    all.filter(|target| **target != Target::Default).map(ToString::to_string).collect()
}

/// The earliest expiry of the live entries, and the earliest renewal of all. Expired entries do not count for the
/// expiry. A missing entry makes the Secret due now.
fn times(
    choices: &[Choice<'_>],
    observed: Option<&Observed>,
    namespace: &str,
    settings: &Settings,
    now: Now,
) -> Times {
    let current = observed.and_then(|observed| observed.times).filter(|times| times.is_plausible(now));
    let expiries = || {
        choices.iter().filter_map(|choice| match choice {
            Choice::Token(_, entry) | Choice::Keep(entry) => entry.expires_at,
            Choice::Nothing => None,
        })
    };
    let expires_at = expiries().filter(|at| *at > now.wall).min().or_else(|| expiries().min());
    let due = |choice: &Choice<'_>| match choice {
        Choice::Token(token, _) => {
            round_up(token.rewrite_after(settings.refresh, settings.jitter, &namespace))
        }
        Choice::Keep(_) => current.map_or(now.wall, |current| current.refresh_after),
        Choice::Nothing => now.wall,
    };
    Times {
        expires_at: expires_at.unwrap_or(now.wall),
        refresh_after: choices.iter().map(due).min().unwrap_or(now.wall),
    }
}

/// The annotation has whole seconds. Rounded down, the Secret would be due before its token can be renewed.
fn round_up(time: Timestamp) -> Timestamp {
    let whole = whole_seconds(time);
    if whole == time { time } else { whole.checked_add(SignedDuration::from_secs(1)).unwrap_or(time) }
}

fn fingerprint(plan: &WritePlan, choices: &[Choice<'_>]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&plan.granted.request, &plan.static_entries).hash(&mut hasher);
    for (assignment, choice) in plan.granted.assignments.iter().zip(choices) {
        if let Choice::Token(token, _) = choice {
            (&assignment.target, token.issued_at(), token.expires_at()).hash(&mut hasher);
        }
    }
    hasher.finish()
}
