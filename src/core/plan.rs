//! The decision: what a namespace wishes, what stands in it, and the time → one step, with its reason.
//!
//! [`plan`] says whether something is to be done; when that is a write, [`settle`](super::settle::settle) says,
//! once the tokens are there (or not), whether the write is worth it and which entries it has.

use std::sync::Arc;

use jiff::Timestamp;

use super::annotations::Wish;
use super::facts::{Facts, Observed, Owner, WriteCause};
use super::identity::Assignment;
use super::problem::Problem;
use super::request::Request;
use super::settings::Settings;
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
    /// What.
    pub request: Arc<Request>,
    /// With which tokens.
    pub assignments: Vec<Assignment>,
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
    Keep(Arc<Request>, Vec<Assignment>),
}

/// Decides on the next step. Pure: equal arguments give equal plans.
pub fn plan(facts: &Facts<'_>, settings: &Settings, now: Timestamp) -> Plan {
    let mut reports = vec![];
    let step = match effective(facts, settings, &mut reports) {
        Effective::Nothing => Step::Idle(None),
        Effective::Remove(cause) => remove(facts, |_| true, cause, now),
        Effective::Keep(request, assignments) => tend(facts, request, assignments, &mut reports, now),
    };
    Plan { step, reports }
}

/// Which request is in force: the one asked for, or, when that cannot be used, the one applied before.
fn effective(facts: &Facts<'_>, settings: &Settings, reports: &mut Vec<Report>) -> Effective {
    let Some(reading) = facts.reading else { return Effective::Remove(DeleteCause::OptedOut) };
    reports.extend(reading.problems.iter().cloned().map(Report::Problem));
    match &reading.wish {
        Wish::OptedOut => return Effective::Remove(DeleteCause::OptedOut),
        Wish::Wants(request) => match settings.grants.assign(request) {
            Ok(assignments) => match taken(facts, &request.secret_name) {
                // A name that cannot be had is no reason to let the Secret of the old name expire.
                Some(report) if ours(facts).next().is_some() => reports.push(report),
                _ => return Effective::Keep(Arc::new(request.clone()), assignments),
            },
            Err(problem) => reports.push(Report::Problem(problem)),
        },
        Wish::Unusable => {}
    }
    let applied = ours(facts).find_map(|(name, observed)| Some((name, observed.applied.as_ref()?)));
    let Some((name, applied)) = applied else { return Effective::Nothing };
    let mut request = Request::clone(applied);
    request.secret_name = name.to_string();
    match settings.grants.assign(&request) {
        Ok(assignments) => Effective::Keep(Arc::new(request), assignments),
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
    facts.history.retry_at.filter(|at| *at > now)
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
    request: Arc<Request>,
    assignments: Vec<Assignment>,
    reports: &mut Vec<Report>,
    now: Timestamp,
) -> Step {
    let standing = facts.secrets.iter().find(|(name, _)| **name == *request.secret_name);
    let write = |cause, observed: Option<&Observed>, request, assignments| match waiting(facts, now) {
        Some(later) => Step::Idle(Some(later)),
        None => Step::Write(Box::new(Intent { cause, request, assignments, observed: observed.cloned() })),
    };
    let Some((name, observed)) = standing else {
        return match facts.history.repair_after(facts.namespace, now) {
            Some(later) => Step::Idle(Some(later)),
            None => write(WriteCause::Create, None, request, assignments),
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
    if let Some(cause) = fault(facts, observed, &request, now) {
        let wait = facts.history.repair_after(facts.namespace, now).filter(|_| cause == WriteCause::Repair);
        return match wait {
            Some(later) => Step::Idle(Some(later)),
            None => write(cause, Some(observed), request, assignments),
        };
    }
    match remove(facts, |name| *name != *request.secret_name, DeleteCause::Renamed, now) {
        Step::Idle(None) => {}
        step => return step,
    }
    let due = observed.times.map_or(now, |times| times.refresh_after);
    if due > now {
        Step::Idle(Some(due))
    } else {
        write(WriteCause::Refresh, Some(observed), request, assignments)
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
fn fault(facts: &Facts<'_>, observed: &Observed, request: &Request, now: Timestamp) -> Option<WriteCause> {
    let written = facts.history.written.as_ref().filter(|(name, _)| **name == *request.secret_name);
    let foreign_write = written.is_some_and(|(_, version)| *version != observed.resource_version);
    let believable = observed.times.is_some_and(|times| times.is_believable(now));
    if !observed.intact || foreign_write || !believable {
        return Some(WriteCause::Repair);
    }
    (observed.applied.as_deref() != Some(request)).then_some(WriteCause::Change)
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
