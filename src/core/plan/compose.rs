//! The content of a Secret, composed from the available tokens and its current entries.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::WritePlan;
use super::facts::Facts;
use super::observed::Observed;
use super::reasons::WriteReason;
use crate::core::grants::Assignment;
use crate::core::request::Target;
use crate::core::request::applied::{AppliedEntry, AppliedState, Times, is_plausible};
use crate::core::secret::static_registries;
use crate::core::secret::{DockerConfig, DraftEntry, Manifest, Token, default_host};
use crate::core::settings::Settings;
use crate::core::{Now, ObjectVersion, whole_seconds};

/// Token times derive from an HTTP `Date`, which has whole seconds, so equal expiries can differ by this much.
const DATE_RESOLUTION: SignedDuration = SignedDuration::from_secs(2);

/// A Secret that is worth writing.
#[derive(Clone, Debug)]
pub struct SecretDraft {
    pub entries: Vec<DraftEntry>,
    pub applied: AppliedState,
    pub times: Times,
    /// Identifies the request and the entries, to detect whether a later write would differ.
    pub fingerprint: u64,
}

impl SecretDraft {
    /// Whether the entries of the current Secret must be read first.
    pub fn keeps_entries(&self) -> bool {
        self.entries.iter().any(|entry| !matches!(entry, DraftEntry::Set { .. }))
    }

    /// The apply that writes it, where `current` holds the entries of the current Secret and `base` is its version. `None`
    /// if the Secret would have no entry.
    pub fn into_manifest(
        self,
        instance: &str,
        current: DockerConfig,
        base: Option<&ObjectVersion>,
    ) -> Option<Manifest> {
        let config = DockerConfig::from_draft(self.entries, current);
        (!config.is_empty()).then(|| Manifest::new(instance, &self.applied, self.times, &config, base))
    }
}

/// The chosen entry for one registry.
struct Choice<'a> {
    target: &'a Target,
    /// `None` if the Secret will have no entry for it.
    entry: Option<AppliedEntry>,
    /// The token of a new entry; `None` if the current entry is kept.
    token: Option<&'a Token>,
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
    let assignments = plan.granted.assignments.iter().zip(tokens);
    let choices: Vec<_> =
        assignments.map(|(assignment, token)| choose(observed, assignment, token.as_deref(), now)).collect();
    let fingerprint = fingerprint(plan, &choices);
    let has_token = choices.iter().any(|choice| choice.token.is_some());
    let is_worth_writing = match plan.reason {
        WriteReason::Missing => has_token,
        WriteReason::RenewalDue => has_token && facts.history.fingerprint != Some(fingerprint),
        _ => choices.iter().any(|choice| choice.entry.is_some()),
    };
    if !is_worth_writing {
        return None;
    }
    let mut entries: Vec<_> = choices.iter().filter_map(|choice| registry_entry(plan, choice)).collect();
    for (host, entry) in &plan.static_entries {
        let source = facts.static_sources.get(&entry.secret);
        if !entry.available {
            entries.push(DraftEntry::Keep { host: host.clone() });
        } else if let Some(credential) = source.and_then(|source| source.entries.get(host)) {
            entries.push(DraftEntry::Set { host: host.clone(), credential: credential.clone() });
        }
    }
    Some(SecretDraft {
        entries,
        applied: AppliedState {
            request: (*plan.granted.request).clone(),
            entries: choices.iter().map(|choice| choice.entry).collect(),
            static_entries: static_registries::tags(&plan.static_entries),
        },
        times: times(&choices, observed, facts.namespace, settings, now),
        fingerprint,
    })
}

fn choose<'a>(
    observed: Option<&Observed>,
    assignment: &'a Assignment,
    token: Option<&'a Token>,
    now: Now,
) -> Choice<'a> {
    let Assignment { target, scope, .. } = assignment;
    let existing = existing_entry(observed, assignment, now);
    let token = token.filter(|token| !existing.is_some_and(|entry| keep_existing(entry, token, now)));
    let expires_at = token.map(|token| whole_seconds(token.expires_at()));
    let new = token.map(|_| AppliedEntry { scope: *scope, expires_at });
    Choice { target, entry: new.or(existing), token }
}

/// The entry that we wrote for a registry, if no other client changed it and its scope is the granted one. An entry of
/// another scope is never kept.
fn existing_entry(observed: Option<&Observed>, assignment: &Assignment, now: Now) -> Option<AppliedEntry> {
    let observed = observed.filter(|observed| observed.data_intact)?;
    let mut entry = observed.applied.as_ref()?.entry(&assignment.target)?;
    let is_known = |at: &Timestamp| observed.times.is_some() && is_plausible(*at, now);
    entry.expires_at = entry.expires_at.filter(is_known);
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

fn registry_entry(plan: &WritePlan, choice: &Choice<'_>) -> Option<DraftEntry> {
    choice.entry?;
    let registry = match (choice.target, choice.token) {
        (Target::Host(registry), _) => registry.clone(),
        (Target::Default, Some(token)) => default_host(token)?,
        (Target::Default, None) => return Some(DraftEntry::KeepDefault { named: named_hosts(plan) }),
    };
    let host = registry.to_string();
    Some(match choice.token.map(|token| token.credential().clone()) {
        Some(credential) => DraftEntry::Set { host, credential },
        None => DraftEntry::Keep { host },
    })
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
    let expiries = || choices.iter().filter_map(|choice| choice.entry?.expires_at);
    let expires_at = expiries().filter(|at| *at > now.wall).min().or_else(|| expiries().min());
    let due = |choice: &Choice<'_>| match (choice.token, choice.entry) {
        (Some(token), _) => round_up(token.secret_due_at(settings.refresh, settings.jitter, &namespace)),
        (None, Some(_)) => current.map_or(now.wall, |current| current.refresh_after),
        (None, None) => now.wall,
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
    // A token that was written is an entry that is kept, so both must count alike.
    for choice in choices {
        (choice.target, choice.entry).hash(&mut hasher);
    }
    hasher.finish()
}
