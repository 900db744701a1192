//! The content of a Secret, composed from the available tokens and its current entries.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::facts::Facts;
use super::observed::Observed;
use super::reasons::WriteReason;
use super::{DATE_RESOLUTION, WritePlan};
use crate::core::aws::{Endpoint, Registry};
use crate::core::grants::Assignment;
use crate::core::request::Target;
use crate::core::request::applied::{AppliedEntry, AppliedState, Times, is_plausible};
use crate::core::secret::{DockerConfig, DraftEntry, Manifest, Token, default_host};
use crate::core::secret::{after_fraction, static_registries};
use crate::core::settings::Settings;
use crate::core::{Now, ObjectVersion, whole_seconds};

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
        settings: &Settings,
        current: DockerConfig,
        base: Option<&ObjectVersion>,
    ) -> Option<Manifest> {
        let config = DockerConfig::from_draft(self.entries, current);
        (!config.is_empty()).then(|| {
            let (instance, template) = (&settings.names.instance, &settings.secret_template);
            Manifest::new(instance, template, &self.applied, self.times, &config, base)
        })
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
/// not improve on the current Secret, or if a static source has changed since the plan.
pub fn compose(
    plan: &WritePlan,
    tokens: &[Option<Arc<Token>>],
    facts: &Facts<'_>,
    settings: &Settings,
    now: Now,
) -> Option<SecretDraft> {
    let observed = plan.observed.as_deref();
    let assignments = plan.granted.assignments.iter().zip(tokens);
    let choices = assignments.map(|(assignment, token)| choose(plan, assignment, token.as_deref(), now));
    let choices: Vec<_> = choices.chain(kept(plan)).collect();
    let fingerprint = fingerprint(plan, &choices);
    let has_token = choices.iter().any(|choice| choice.token.is_some());
    let is_worth_writing = match plan.reason {
        _ if observed.is_some_and(|o| o.hides_entries(now)) && choices.iter().any(|c| c.token.is_none()) => {
            false
        }
        WriteReason::Missing => has_token,
        // Otherwise, the record would only lose the expiries, which may be right: the wall clock may be wrong.
        WriteReason::ImplausibleTimes => {
            let is_known =
                |choice: &Choice<'_>| choice.entry.as_ref().is_some_and(|e| e.expires_at.is_some());
            choices.iter().any(is_known) || observed.is_some_and(|observed| changes(observed, plan, &choices))
        }
        // The tool that created it may have a live token for each registry.
        WriteReason::Adopted => choices.iter().all(|choice| choice.token.is_some()),
        WriteReason::RenewalDue | WriteReason::RenewRequested => {
            has_token && facts.history.fingerprint != Some(fingerprint)
        }
        _ => has_token || choices.iter().any(|choice| choice.entry.is_some()),
    };
    if !is_worth_writing {
        return None;
    }
    let static_entries = plan.static_entries.iter().map(|(host, entry)| {
        if !entry.available {
            return Some(DraftEntry::Keep { host: host.clone() });
        }
        // Without it, the record would name an entry that the Secret does not have.
        let credential = facts.static_sources.get(&entry.secret)?.entries.get(host)?;
        Some(DraftEntry::Set { host: host.clone(), credential: credential.clone() })
    });
    let static_entries: Vec<_> = static_entries.collect::<Option<_>>()?;
    let entries = choices.iter().filter_map(registry_entry).chain(static_entries).collect();
    Some(SecretDraft {
        entries,
        applied: AppliedState {
            request: (*plan.granted.request).clone(),
            static_entries: static_registries::tags(&plan.static_entries),
            entries: choices.iter().map(|choice| choice.entry.clone()).collect(),
            template: settings.secret_template.fingerprint(),
        },
        times: times(&choices, facts.namespace, settings, now),
        fingerprint,
    })
}

/// Whether the write changes more than times: the request, static entries, or which registries have an entry.
fn changes(observed: &Observed, plan: &WritePlan, choices: &[Choice<'_>]) -> bool {
    observed.applied.as_ref().is_none_or(|applied| {
        applied.request != *plan.granted.request
            || applied.static_entries != static_registries::tags(&plan.static_entries)
            || choices.iter().any(|choice| choice.entry.is_none() && applied.entry(choice.target).is_some())
    })
}

/// The entries of a Secret whose removal is held.
fn kept(plan: &WritePlan) -> impl Iterator<Item = Choice<'_>> {
    let observed = plan.observed.as_deref().filter(|_| plan.granted.assignments.is_empty());
    let applied = observed.and_then(|observed| observed.applied.as_deref()).into_iter();
    let entries = applied.flat_map(|applied| applied.request.registries.iter().zip(&applied.entries));
    entries.map(|(target, entry)| Choice { target, entry: entry.clone(), token: None })
}

fn choose<'a>(
    plan: &WritePlan,
    assignment: &'a Assignment,
    token: Option<&'a Token>,
    now: Now,
) -> Choice<'a> {
    let Assignment { target, request, scope, .. } = assignment;
    let host = entry_host(assignment, token);
    let mut existing = existing_entry(plan.observed.as_deref(), assignment, host.as_ref(), now);
    let is_requested = |entry: &AppliedEntry, token: &Token| {
        let is_newer = |time| entry.is_older(time, now) && token.is_issued_after(time);
        plan.issued_after.is_some_and(is_newer) && is_trusted(token, now) && !is_newer_than(entry, token)
    };
    if let (Some(entry), Some(token)) = (&mut existing, token)
        && entry.expires_at.is_none()
        && is_newer_than(entry, token)
    {
        // Its expiry is unknown, and not earlier than that of the token.
        let expires_at = Some(whole_seconds(token.expires_at())).filter(|_| token.is_live(now));
        entry.expires_at = expires_at.filter(|at| is_plausible(*at, now));
        return Choice { target, entry: existing, token: None };
    }
    let token = token.filter(|token| match &existing {
        Some(entry) if is_requested(entry, token) => true,
        Some(entry) => !keep_existing(entry, token, now),
        // An expired token would only hide that there is none.
        None => token.is_usable(now),
    });
    let new = host.zip(token).map(|(host, token)| AppliedEntry {
        host,
        identity: request.key.identity.as_str().into(),
        scope: *scope,
        issued_at: Some(whole_seconds(token.issued_at())),
        expires_at: Some(whole_seconds(token.expires_at())),
    });
    // Without a host, the token must not replace the credential of the entry that is kept.
    let token = token.filter(|_| new.is_some() || existing.is_none());
    Choice { target, entry: new.or(existing), token }
}

/// The host of an entry, if it is granted. [`Target::Default`] is the registry of the role's account; the account of the
/// controller's own credentials is only known from a token.
pub fn entry_host(assignment: &Assignment, token: Option<&Token>) -> Option<Registry> {
    let Assignment { target, request, .. } = assignment;
    match (target, &request.session, &request.key.endpoint) {
        (Target::Host(registry), ..) => Some(registry.clone()),
        (Target::Default, Some(session), Endpoint::Private(region)) => {
            Some(Registry::of_account(session.role.arn.account(), region.clone()))
        }
        (Target::Default, ..) => token.and_then(default_host).filter(|host| assignment.may_be(host)),
    }
}

/// The entry that is kept for a registry, with its expiry if that is known.
fn existing_entry(
    observed: Option<&Observed>,
    assignment: &Assignment,
    host: Option<&Registry>,
    now: Now,
) -> Option<AppliedEntry> {
    let observed = observed?;
    let mut entry = recorded_entry(observed, assignment, host)?.clone();
    let is_known = |at: &Timestamp| observed.times.is_some() && is_plausible(*at, now);
    entry.expires_at = entry.expires_at.filter(is_known);
    Some(entry)
}

/// The entry that we wrote for a registry, if no other client changed the data and its scope is the granted one. An entry of
/// another scope is never kept.
pub(super) fn recorded_entry<'a>(
    observed: &'a Observed,
    assignment: &Assignment,
    host: Option<&Registry>,
) -> Option<&'a AppliedEntry> {
    let applied = observed.applied.as_ref().filter(|_| observed.data_intact)?;
    // The request may have named the same host in another way.
    let found = match host {
        Some(host) => applied.entry_of(host),
        None => applied.entry(&assignment.target).filter(|entry| assignment.may_be(&entry.host)),
    };
    found.filter(|entry| entry.scope == assignment.scope)
}

/// Whether to keep the existing entry. A live entry is only replaced by a live token that does not expire sooner, an expired
/// one never by an expired token that is not newer, and one with unknown expiry only by a live token.
fn keep_existing(existing: &AppliedEntry, token: &Token, now: Now) -> bool {
    let Some(expires_at) = existing.expires_at else { return !is_trusted(token, now) };
    if expires_at > now.wall {
        let later_by = expires_at.duration_since(token.expires_at());
        return !token.is_live(now)
            || later_by > DATE_RESOLUTION
            || (later_by >= -DATE_RESOLUTION && is_newer_than(existing, token));
    }
    !token.is_live(now) && token.expires_at().duration_since(expires_at) <= DATE_RESOLUTION
}

/// Whether the token of an entry was issued after another one, as far as is known. AWS rejects requests of a wrong clock, so
/// the issue times can be compared even if the wall clock is wrong now.
pub(super) fn is_newer_than(entry: &AppliedEntry, token: &Token) -> bool {
    let by = entry.issued_at.map(|at| at.duration_since(token.issued_at()));
    by.is_some_and(|by| by > DATE_RESOLUTION)
}

/// Whether a token is live. After the wall clock was set back, it may be older than an entry of another process.
fn is_trusted(token: &Token, now: Now) -> bool {
    token.is_live(now) && token.is_plausible(now)
}

fn registry_entry(choice: &Choice<'_>) -> Option<DraftEntry> {
    let host = choice.entry.as_ref()?.host.to_string();
    Some(match choice.token.map(|token| token.credential().clone()) {
        Some(credential) => DraftEntry::Set { host, credential },
        None => DraftEntry::Keep { host },
    })
}

/// The earliest expiry of the live entries, and the earliest renewal of all. Expired entries do not count for the
/// expiry. A missing entry makes the Secret due whatever these times are.
fn times(choices: &[Choice<'_>], namespace: &str, settings: &Settings, now: Now) -> Times {
    let expiries = || choices.iter().filter_map(|choice| choice.entry.as_ref()?.expires_at);
    let expires_at = expiries().filter(|at| *at > now.wall).min().or_else(|| expiries().min());
    let fraction = settings.refresh.secret_fraction(settings.jitter, &namespace);
    let due = |choice: &Choice<'_>| match (choice.token, &choice.entry) {
        (Some(token), _) => Some(round_up(token.after_fraction(fraction))),
        (None, Some(entry)) => {
            let due = |(issued_at, expires_at)| round_up(after_fraction(issued_at, expires_at, fraction));
            Some(entry.issued_at.zip(entry.expires_at).map_or(now.wall, due))
        }
        (None, None) => None,
    };
    Times {
        expires_at: expires_at.unwrap_or(now.wall),
        refresh_after: choices.iter().filter_map(due).min().unwrap_or(now.wall),
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
        (choice.target, &choice.entry).hash(&mut hasher);
    }
    hasher.finish()
}
