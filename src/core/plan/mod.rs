//! The decision: annotations, Secrets and the time → the next step in a namespace, with its reason.
//!
//! [`plan`] decides on the next step. If it is a write, [`compose`](compose::compose) composes the content of the
//! Secret from the available tokens, and decides whether the write would improve on the current Secret.

mod backoff;
mod checks;
mod compose;
mod facts;
mod history;
mod retry;
pub mod service_accounts;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use self::checks::{Situation, reason_to_write};
use super::grants::Granted;
use super::request::Problem;
use super::request::annotations::{ALL_SERVICE_ACCOUNTS, OptIn};
use super::secret::static_registries::{self, StaticEntry};
use super::settings::Settings;
use super::{LABEL_INSTANCE, LABEL_MANAGED_BY, MANAGER, Now};

pub use self::backoff::Backoff;
pub use self::checks::{DeleteReason, WriteReason};
pub use self::compose::{SecretDraft, compose};
pub use self::facts::{Facts, NamespaceRecord, Observed, Owner};
pub use self::history::History;
#[cfg(test)]
pub use self::retry::RetryState;
pub use self::service_accounts::PullSecretRefs;

/// A Secret to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct WritePlan {
    pub reason: WriteReason,
    pub granted: Arc<Granted>,
    /// The entries of other registries, by host.
    pub static_entries: BTreeMap<String, StaticEntry>,
    /// The current Secret of that name.
    pub observed: Option<Observed>,
}

/// A Secret to be deleted: exactly this object, at exactly this version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    pub name: Arc<str>,
    pub uid: Box<str>,
    pub resource_version: u64,
    pub reason: DeleteReason,
}

/// A service account whose `imagePullSecrets` are to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullSecretChange {
    pub service_account: Arc<str>,
    /// The Secret to refer to; `None` to remove our reference.
    pub secret: Option<Arc<str>>,
    /// Why the references of all service accounts are removed, if they are.
    pub removal: Option<DeleteReason>,
}

/// The one thing to do next in a namespace.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing until then, or, if `None`, until something changes.
    Idle(Option<Timestamp>),
    Write(Box<WritePlan>),
    Delete(Deletion),
    SetPullSecret(PullSecretChange),
}

impl Step {
    /// Whether the step removes something because the configuration no longer grants it.
    pub fn is_revocation(&self) -> bool {
        let reason = match self {
            Self::Delete(deletion) => Some(deletion.reason),
            Self::SetPullSecret(change) => change.removal,
            Self::Idle(_) | Self::Write(_) => None,
        };
        reason == Some(DeleteReason::NotGranted)
    }
}

/// A condition that the owner of the namespace should know about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Report {
    /// A value is invalid or not granted.
    Problem(Problem),
    /// Another client manages a Secret of that name.
    NotOwned(String),
    /// The Secret cannot be changed.
    Immutable(String),
}

/// The next step, and what to report.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub step: Step,
    pub reports: Vec<Report>,
}

/// The desired state of a namespace.
enum Desired {
    /// There is nothing to keep or to remove.
    Unknown,
    Absent(DeleteReason),
    Present(Granted),
}

/// Decides on the next step. Equal arguments give equal plans.
pub fn plan(facts: &Facts<'_>, settings: &Settings, now: Now) -> Plan {
    let mut reports = vec![];
    let step = match desired_state(facts, settings, &mut reports) {
        Desired::Unknown => Step::Idle(None),
        Desired::Absent(reason) => remove_all(facts, reason, settings, now),
        Desired::Present(granted) => reconcile_secret(facts, settings, granted, &mut reports, now),
    };
    Plan { step, reports }
}

/// The requested state, or, if the request cannot be used, the applied one.
fn desired_state(facts: &Facts<'_>, settings: &Settings, reports: &mut Vec<Report>) -> Desired {
    let Some(parsed) = facts.parsed else { return Desired::Absent(reason_without_opt_in(facts)) };
    reports.extend(parsed.problems.iter().cloned().map(Report::Problem));
    match &parsed.opt_in {
        OptIn::Out => return Desired::Absent(DeleteReason::OptedOut),
        OptIn::In(request) => match settings.grants.assign(facts.namespace, request) {
            Ok((granted, problems)) => {
                reports.extend(problems.into_iter().map(Report::Problem));
                match name_conflict(facts, &request.secret_name) {
                    // The Secret under the old name is renewed until the new name is free.
                    Some(report) if facts.managed().next().is_some() => reports.push(report),
                    _ => return Desired::Present(granted),
                }
            }
            Err(problems) => reports.extend(problems.into_iter().map(Report::Problem)),
        },
        OptIn::Invalid => {}
    }
    applied_state(facts, settings)
}

/// If the configuration opted the namespace in, only the configuration can have opted it out.
fn reason_without_opt_in(facts: &Facts<'_>) -> DeleteReason {
    let by_default = |o: &Observed| o.applied.as_ref().is_some_and(|applied| applied.request.by_default);
    if facts.managed().any(|(_, observed)| by_default(observed)) {
        DeleteReason::NotGranted
    } else {
        DeleteReason::OptedOut
    }
}

/// The applied request, as far as it is still granted.
fn applied_state(facts: &Facts<'_>, settings: &Settings) -> Desired {
    let applied = facts.managed().filter_map(|(name, observed)| {
        Some((settings.names.retired_names.contains(name), name, observed.applied.as_ref()?))
    });
    // A Secret under an allowed name comes before one under a retired name.
    let Some((retired, name, applied)) = applied.min_by_key(|(retired, ..)| *retired) else {
        return Desired::Unknown;
    };
    let mut request = applied.request.clone();
    request.secret_name = if retired { &settings.names.secret_names[0] } else { name }.to_string();
    if !settings.names.service_accounts {
        // Without the option, the controller has no permissions on service accounts.
        request.service_accounts.clear();
    }
    match settings.grants.assign(facts.namespace, &request) {
        Ok((granted, _)) => Desired::Present(granted),
        Err(_) => Desired::Absent(DeleteReason::NotGranted),
    }
}

/// Removes the references of service accounts, then the Secrets.
fn remove_all(facts: &Facts<'_>, reason: DeleteReason, settings: &Settings, now: Now) -> Step {
    match pull_secret_change(facts, |_| None, Some(reason), settings, now) {
        Step::Idle(wake) => earlier(delete_first(facts, |_| true, reason, now), wake),
        change => change,
    }
}

/// Keeps the requested Secret valid, then updates service accounts, then deletes Secrets under other names.
fn reconcile_secret(
    facts: &Facts<'_>,
    settings: &Settings,
    granted: Granted,
    reports: &mut Vec<Report>,
    now: Now,
) -> Step {
    let name = granted.request.secret_name.clone();
    if let Some(report) = name_conflict(facts, &name) {
        reports.push(report);
        return Step::Idle(None);
    }
    let observed = facts.secret(&name).map(|(_, observed)| observed);
    if let Some(observed) = observed.filter(|observed| observed.immutable) {
        return replace_immutable(facts, &name, observed, reports, now);
    }
    let applied = observed.and_then(|observed| Some(&observed.applied.as_ref()?.static_entries));
    let static_entries =
        static_registries::entries(&settings.static_grants, facts.namespace, facts.static_sources, applied);
    let reason = reason_to_write(&Situation {
        observed,
        granted: &granted,
        static_tags: &static_registries::tags(&static_entries),
        written_version: written_version(facts, &name),
        now,
    });
    let due = observed.and_then(|observed| observed.times).map(|times| times.refresh_after);
    let request = granted.request.clone();
    let write = |reason| {
        let observed = observed.cloned();
        let plan = WritePlan { reason, granted: Arc::new(granted), static_entries, observed };
        write_step(facts, plan, settings, now)
    };
    match reason {
        Some(reason) if !reason.can_wait() => return write(reason),
        _ => {}
    }
    let wanted = |account: &str| {
        let list = &request.service_accounts;
        let requested = list.iter().any(|item| item == ALL_SERVICE_ACCOUNTS || item == account);
        requested.then(|| Arc::from(&*name))
    };
    let wake = match pull_secret_change(facts, wanted, None, settings, now) {
        Step::Idle(wake) => wake,
        change => return change,
    };
    // Pods of a service account that still refers to the old Secret need it.
    let referred = |other: &str| {
        facts.service_accounts.iter().any(|(_, refs)| refs.attached.iter().any(|known| **known == *other))
    };
    match delete_first(facts, |other| other != name && !referred(other), DeleteReason::Renamed, now) {
        Step::Idle(None) => {}
        step => return earlier(step, wake),
    }
    match reason {
        Some(reason) => write(reason),
        None => earlier(Step::Idle(due), wake),
    }
}

/// Writes now, or when the backoff of failures or repairs ends.
fn write_step(facts: &Facts<'_>, plan: WritePlan, settings: &Settings, now: Now) -> Step {
    let repairs = plan.reason.is_repair() || plan.reason == WriteReason::Missing;
    let repair_after =
        if repairs { facts.history.repair_after(facts.namespace, settings.jitter, now) } else { None };
    match repair_after.or_else(|| facts.history.retry.retry_after(now)) {
        Some(later) => Step::Idle(Some(later)),
        None => Step::Write(Box::new(plan)),
    }
}

/// The version that our last write to this Secret returned.
fn written_version(facts: &Facts<'_>, name: &str) -> Option<u64> {
    let (written, version) = facts.history.written.as_ref()?;
    (**written == *name).then_some(*version)
}

/// The report about a Secret of this name that this instance does not manage.
fn name_conflict(facts: &Facts<'_>, name: &str) -> Option<Report> {
    let (name, observed) = facts.secret(name)?;
    let owner = match &observed.owner {
        Owner::This => return None,
        Owner::OtherInstance(other) => format!("belongs to the instance {other:?}"),
        Owner::Unmanaged => format!(
            "was not created by this controller (it lacks the labels {LABEL_MANAGED_BY}={MANAGER} and {LABEL_INSTANCE})"
        ),
    };
    Some(Report::NotOwned(format!(
        "secret {name:?} {owner} and is not changed: delete it, or choose another name with \
         ecr-pull-secrets.dev/secret-name"
    )))
}

/// Deletes the first managed Secret that matches.
fn delete_first(facts: &Facts<'_>, matches: impl Fn(&str) -> bool, reason: DeleteReason, now: Now) -> Step {
    let Some((name, observed)) = facts.managed().find(|(name, _)| matches(name)) else {
        return Step::Idle(None);
    };
    match facts.history.retry.retry_after(now) {
        Some(later) => Step::Idle(Some(later)),
        None => delete(name, observed, reason),
    }
}

fn delete(name: &str, observed: &Observed, reason: DeleteReason) -> Step {
    let Observed { uid, resource_version, .. } = observed.clone();
    Step::Delete(Deletion { name: name.into(), uid, resource_version, reason })
}

/// The first service account that can be changed now, or when the next one can.
fn pull_secret_change(
    facts: &Facts<'_>,
    wanted: impl Fn(&str) -> Option<Arc<str>>,
    removal: Option<DeleteReason>,
    settings: &Settings,
    now: Now,
) -> Step {
    let mut wake = None;
    for (name, refs) in facts.service_accounts {
        let secret = wanted(name);
        if !refs.differs(secret.as_deref()) {
            continue;
        }
        let retry = facts.history.service_accounts.get(name);
        match retry.and_then(|retry| retry.blocked_until(facts.namespace, settings.jitter, now)) {
            Some(later) => wake = Some(wake.map_or(later, |wake: Timestamp| wake.min(later))),
            None => {
                return Step::SetPullSecret(PullSecretChange {
                    service_account: name.clone(),
                    secret,
                    removal,
                });
            }
        }
    }
    Step::Idle(wake)
}

fn earlier(step: Step, wake: Option<Timestamp>) -> Step {
    match (step, wake) {
        (Step::Idle(None), wake) => Step::Idle(wake),
        (Step::Idle(Some(until)), Some(wake)) => Step::Idle(Some(until.min(wake))),
        (step, _) => step,
    }
}

/// An immutable Secret is kept until the last quarter of its lifetime, because its replacement has another UID.
fn replace_immutable(
    facts: &Facts<'_>,
    name: &str,
    observed: &Observed,
    reports: &mut Vec<Report>,
    now: Now,
) -> Step {
    reports.push(Report::Immutable(format!(
        "secret {name:?} is immutable and cannot be renewed: delete it, or the controller replaces it shortly before its \
         token expires"
    )));
    if let Some(later) = facts.history.retry.retry_after(now) {
        return Step::Idle(Some(later));
    }
    let Some(times) = observed.times.filter(|times| times.is_plausible(now)) else {
        return delete(name, observed, DeleteReason::Immutable);
    };
    // Renewal is due near half of the lifetime, so half of the rest is the last quarter.
    let quarter = times.expires_at.duration_since(times.refresh_after) / 2;
    match times.expires_at.checked_sub(quarter) {
        Ok(at) if at > now.wall => Step::Idle(Some(at)),
        _ => delete(name, observed, DeleteReason::Immutable),
    }
}
