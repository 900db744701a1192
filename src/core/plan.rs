//! The decision: what a namespace wishes, what stands in it, and the time → one step, with its reason.
//!
//! [`plan`] says whether something is to be done; when that is a write, [`settle`](super::settle::settle) says,
//! once the tokens are there (or not), whether the write is worth it and which entries it has.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::accounts::ALL;
use super::annotations::Wish;
use super::facts::{Facts, Observed, Owner, WriteCause};
use super::grants::Granted;
use super::identity::Assignment;
use super::problem::Problem;
use super::request::Accepted;
use super::settings::Settings;
use super::statics::{self, StaticEntry};
use super::{LABEL_INSTANCE, LABEL_MANAGED_BY, MANAGER};

/// Why a Secret is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeleteCause {
    /// The annotation is gone or says `none`.
    OptedOut,
    /// The Secret has another name now.
    Renamed,
    /// The configuration no longer grants what was applied.
    NotGranted,
    /// It was made immutable and is about to expire: the one case in which a UID changes.
    Immutable,
}

/// A write that is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Intent {
    /// Why.
    pub cause: WriteCause,
    /// What, with which tokens.
    pub granted: Granted,
    /// The entries of other registries.
    pub statics: BTreeMap<String, StaticEntry>,
    /// What stands there now.
    pub observed: Option<Observed>,
}

/// The one thing to do next in a namespace.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing until then; `None`: until something changes.
    Idle(Option<Timestamp>),
    /// Write the Secret.
    Write(Box<Intent>),
    /// Delete a Secret of ours.
    Delete {
        /// Its name.
        name: Arc<str>,
        /// Its UID, as a precondition.
        uid: Box<str>,
        /// Its resource version, as a precondition.
        resource_version: u64,
        /// Why.
        cause: DeleteCause,
    },
    /// Add our reference to a service account, or take it out.
    Account {
        /// Its name.
        account: Arc<str>,
        /// The Secret that it is to refer to; `None`: to none of ours.
        wanted: Option<Arc<str>>,
        /// Why all references go, if they do.
        cause: Option<DeleteCause>,
    },
}

/// Something to tell whoever looks after the namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Report {
    /// A value is wrong or not granted.
    Problem(Problem),
    /// The name is taken by something that is not ours.
    NotOwned(String),
    /// The Secret cannot be changed.
    Immutable(String),
}

/// A step and what to report.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What to do.
    pub step: Step,
    /// What to say.
    pub reports: Vec<Report>,
}

enum Effective {
    Nothing,
    Remove(DeleteCause),
    Keep(Granted),
}

/// Decides on the next step. Pure: equal arguments give equal plans.
pub fn plan(facts: &Facts<'_>, settings: &Settings, now: Timestamp) -> Plan {
    let mut reports = vec![];
    let step = match effective(facts, settings, &mut reports) {
        Effective::Nothing => Step::Idle(None),
        Effective::Remove(cause) => match accounts(facts, |_| None, Some(cause), now) {
            Ok(step) => step,
            Err(wake) => sooner(remove(facts, |_| true, cause, now), wake),
        },
        Effective::Keep(granted) => tend(facts, settings, granted, &mut reports, now),
    };
    Plan { step, reports }
}

/// Which request is in force: the one asked for, or, when that cannot be used, the one applied before.
fn effective(facts: &Facts<'_>, settings: &Settings, reports: &mut Vec<Report>) -> Effective {
    let Some(reading) = facts.reading else {
        // What nobody but the configuration asked for, nobody but the configuration takes away.
        let by_default = |o: &Observed| o.applied.as_ref().is_some_and(|applied| applied.request.by_default);
        let configured = ours(facts).any(|(_, observed)| by_default(observed));
        let cause = if configured { DeleteCause::NotGranted } else { DeleteCause::OptedOut };
        return Effective::Remove(cause);
    };
    reports.extend(reading.problems.iter().cloned().map(Report::Problem));
    match &reading.wish {
        Wish::OptedOut => return Effective::Remove(DeleteCause::OptedOut),
        Wish::Wants(request) => match settings.grants.assign(facts.namespace, request) {
            Ok((granted, problems)) => {
                reports.extend(problems.into_iter().map(Report::Problem));
                match taken(facts, &request.secret_name) {
                    // A name that cannot be had is no reason to let the Secret of the old name expire.
                    Some(report) if ours(facts).next().is_some() => reports.push(report),
                    _ => return Effective::Keep(granted),
                }
            }
            Err(problems) => reports.extend(problems.into_iter().map(Report::Problem)),
        },
        Wish::Unusable => {}
    }
    let applied = ours(facts).filter_map(|(name, observed)| {
        Some((settings.retired_names.contains(name), name, observed.applied.as_ref()?))
    });
    // What stands under a name that is still written comes first.
    let Some((retired, name, applied)) = applied.min_by_key(|(retired, ..)| *retired) else {
        return Effective::Nothing;
    };
    let mut request = applied.request.clone();
    request.secret_name = if retired { &settings.secret_names[0] } else { name }.to_string();
    if !settings.grants.service_accounts {
        // An option that was turned off takes nothing away: there is no right to do so any more.
        request.service_accounts.clear();
    }
    match settings.grants.assign(facts.namespace, &request) {
        Ok((granted, _)) => Effective::Keep(granted),
        Err(_) => Effective::Remove(DeleteCause::NotGranted),
    }
}

/// What stands in the way under a name, if it is not ours.
fn taken(facts: &Facts<'_>, name: &str) -> Option<Report> {
    let (name, observed) = facts.secrets.iter().find(|(known, _)| **known == *name)?;
    (observed.owner != Owner::Ours).then(|| Report::NotOwned(not_owned(name, observed)))
}

fn ours<'a>(facts: &Facts<'a>) -> impl Iterator<Item = (&'a Arc<str>, &'a Observed)> {
    facts.secrets.iter().filter(|(_, observed)| observed.owner == Owner::Ours).map(|(name, o)| (name, o))
}

fn waiting(facts: &Facts<'_>, now: Timestamp) -> Option<Timestamp> {
    facts.history.tries.retry_after(now)
}

fn remove(facts: &Facts<'_>, which: impl Fn(&str) -> bool, cause: DeleteCause, now: Timestamp) -> Step {
    let Some((name, observed)) = ours(facts).find(|(name, _)| which(name)) else { return Step::Idle(None) };
    if let Some(later) = waiting(facts, now) {
        return Step::Idle(Some(later));
    }
    delete(name, observed, cause)
}

fn delete(name: &Arc<str>, observed: &Observed, cause: DeleteCause) -> Step {
    let Observed { uid, resource_version, .. } = observed.clone();
    Step::Delete { name: name.clone(), uid, resource_version, cause }
}

/// Keeps the Secret of `request` up, then removes those of other names.
fn tend(
    facts: &Facts<'_>,
    settings: &Settings,
    granted: Granted,
    reports: &mut Vec<Report>,
    now: Timestamp,
) -> Step {
    let request = granted.request.clone();
    let standing = facts.secrets.iter().find(|(name, _)| **name == *request.secret_name);
    let applied = standing.and_then(|(_, observed)| Some(&observed.applied.as_ref()?.statics));
    let statics = statics::entries(&settings.statics, facts.namespace, facts.sources, applied);
    let stale = applied.is_some_and(|applied| *applied != statics::tags(&statics));
    let write = |cause, observed: Option<&Observed>, granted| match waiting(facts, now) {
        Some(later) => Step::Idle(Some(later)),
        None => Step::Write(Box::new(Intent { cause, granted, statics, observed: observed.cloned() })),
    };
    let Some((name, observed)) = standing else {
        return match facts.history.repair_after(facts.namespace, now) {
            Some(later) => Step::Idle(Some(later)),
            None => write(WriteCause::Create, None, granted),
        };
    };
    if let Some(report) = taken(facts, name) {
        reports.push(report);
        return Step::Idle(None);
    }
    if observed.immutable {
        let step = immutable(name, observed, reports, now);
        return waiting(facts, now).map_or(step, |later| Step::Idle(Some(later)));
    }
    if let Some(cause) = fault(facts, observed, &granted, now) {
        let wait = facts.history.repair_after(facts.namespace, now).filter(|_| cause == WriteCause::Repair);
        return match wait {
            Some(later) => Step::Idle(Some(later)),
            None => write(cause, Some(observed), granted),
        };
    }
    let wanted = |account: &str| {
        let asked = request.service_accounts.iter().any(|asked| asked == ALL || asked == account);
        asked.then(|| name.clone())
    };
    let wake = match accounts(facts, wanted, None, now) {
        Ok(step) => return step,
        Err(wake) => wake,
    };
    // Pods of a service account that still refers to the old Secret need it.
    let referred = |name: &str| facts.accounts.iter().any(|(_, a)| a.attached.iter().any(|n| **n == *name));
    match remove(facts, |name| *name != *request.secret_name && !referred(name), DeleteCause::Renamed, now) {
        Step::Idle(None) => {}
        step => return sooner(step, wake),
    }
    let due = observed.times.map_or(now, |times| times.refresh_after);
    if stale {
        write(WriteCause::Static, Some(observed), granted)
    } else if due > now {
        sooner(Step::Idle(Some(due)), wake)
    } else {
        write(WriteCause::Refresh, Some(observed), granted)
    }
}

/// The first service account that can be put right now, or when the next one may be.
fn accounts(
    facts: &Facts<'_>,
    wanted: impl Fn(&str) -> Option<Arc<str>>,
    cause: Option<DeleteCause>,
    now: Timestamp,
) -> Result<Step, Option<Timestamp>> {
    let mut wake: Option<Timestamp> = None;
    for (name, account) in facts.accounts {
        let wanted = wanted(name);
        if !account.differs(wanted.as_deref()) {
            continue;
        }
        match facts.history.accounts.get(name).and_then(|tries| tries.waiting(facts.namespace, now)) {
            Some(later) => wake = Some(wake.map_or(later, |wake| wake.min(later))),
            None => return Ok(Step::Account { account: name.clone(), wanted, cause }),
        }
    }
    Err(wake)
}

fn sooner(step: Step, wake: Option<Timestamp>) -> Step {
    match (step, wake) {
        (Step::Idle(None), wake) => Step::Idle(wake),
        (Step::Idle(Some(until)), Some(wake)) => Step::Idle(Some(until.min(wake))),
        (step, _) => step,
    }
}

fn not_owned(name: &str, observed: &Observed) -> String {
    let whose = match &observed.owner {
        Owner::Instance(other) => format!("belongs to the instance {other:?}"),
        Owner::Ours | Owner::Stranger => {
            format!(
                "was not made by this controller (it lacks the labels {LABEL_MANAGED_BY}={MANAGER} and {LABEL_INSTANCE})"
            )
        }
    };
    format!(
        "secret {name:?} {whose} and is left alone: delete it, or choose another name with ecr-pull-secrets.dev/secret-name"
    )
}

/// What is wrong with a Secret of ours, beside its age.
fn fault(facts: &Facts<'_>, observed: &Observed, granted: &Granted, now: Timestamp) -> Option<WriteCause> {
    let name = &*granted.request.secret_name;
    let written = facts.history.written.as_ref().filter(|(written, _)| **written == *name);
    let foreign_write = written.is_some_and(|(_, version)| *version != observed.resource_version);
    let believable = observed.times.is_some_and(|times| times.is_believable(now));
    if !observed.intact || foreign_write || !believable {
        return Some(WriteCause::Repair);
    }
    let stands = observed.applied.as_deref().is_some_and(|applied| stands(applied, granted));
    (!stands).then_some(WriteCause::Change)
}

/// Whether what was applied is what is granted: the request, and how far each of the tokens reaches. An entry that is
/// missing is no change: it is due.
fn stands(applied: &Accepted, granted: &Granted) -> bool {
    let scoped = |a: &Assignment| applied.entry(&a.target).is_none_or(|entry| entry.scope == a.scope);
    applied.request == *granted.request && granted.assignments.iter().all(scoped)
}

/// An immutable Secret is left alone while it lives long enough, since a new one has another UID.
fn immutable(name: &Arc<str>, observed: &Observed, reports: &mut Vec<Report>, now: Timestamp) -> Step {
    let message = format!(
        "secret {name:?} was made immutable and cannot be refreshed: delete it, or it is recreated shortly before its \
         token expires"
    );
    reports.push(Report::Immutable(message));
    let Some(times) = observed.times.filter(|times| times.is_believable(now)) else {
        return delete(name, observed, DeleteCause::Immutable);
    };
    // Refreshes are due near half of the life, so half of what follows is the last quarter.
    let rest = times.expires_at.duration_since(times.refresh_after) / 2;
    match times.expires_at.checked_sub(rest) {
        Ok(at) if at > now => Step::Idle(Some(at)),
        _ => delete(name, observed, DeleteCause::Immutable),
    }
}
