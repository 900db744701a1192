//! The decision: annotations, Secrets and the time → the next step in a namespace, with its reason.
//!
//! [`plan`] decides on the next step. If it is a write, [`compose`](compose::compose) composes the content of the
//! Secret from the available tokens, and decides whether the write would improve on the current Secret.

mod backoff;
mod checks;
mod compose;
mod facts;
mod history;
mod observed;
mod reasons;
mod retry;
pub mod service_accounts;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use self::checks::Situation;
use super::grants::Granted;
use super::request::annotations::{ALL_SERVICE_ACCOUNTS, OptIn};
use super::request::{Problem, Request, Times};
use super::secret::static_registries::{self, StaticEntry};
use super::settings::Settings;
use super::{EventReason, LABEL_INSTANCE, LABEL_MANAGED_BY, MANAGER, Now};

pub use self::backoff::Backoff;
pub use self::compose::{SecretDraft, compose};
pub use self::facts::Facts;
pub use self::history::History;
pub use self::observed::{NamespaceRecord, Observed, Owner};
pub use self::reasons::{DeleteReason, WriteReason};
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

    /// This step now, or, if there is a `time`, not before then.
    fn at(self, time: Option<Timestamp>) -> Self {
        if time.is_some() { Self::Idle(time) } else { self }
    }

    /// This step, or `next` if there is nothing to do now; if both are idle, the earlier time counts.
    fn or_else(self, next: impl FnOnce() -> Self) -> Self {
        let Self::Idle(wake) = self else { return self };
        match next() {
            Self::Idle(other) => Self::Idle(wake.into_iter().chain(other).min()),
            step => step,
        }
    }
}

/// The next step, and the problems that the owner of the namespace should know about.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub step: Step,
    pub problems: Vec<Problem>,
}

/// Decides on the next step. Equal arguments give equal plans.
pub fn plan(facts: &Facts<'_>, settings: &Settings, now: Now) -> Plan {
    let mut planner = Planner { facts, settings, now, problems: vec![] };
    let step = planner.next_step();
    Plan { step, problems: planner.problems }
}

/// The arguments of one decision, and the problems found so far.
struct Planner<'a> {
    facts: &'a Facts<'a>,
    settings: &'a Settings,
    now: Now,
    problems: Vec<Problem>,
}

impl Planner<'_> {
    /// The step towards the requested state, or, if the request cannot be used, towards the applied one.
    fn next_step(&mut self) -> Step {
        let Some(parsed) = self.facts.parsed else { return self.remove_all(self.reason_without_opt_in()) };
        self.problems.extend_from_slice(&parsed.problems);
        match &parsed.opt_in {
            OptIn::Out => return self.remove_all(DeleteReason::OptedOut),
            OptIn::In(request) => match self.settings.grants.assign(self.facts.namespace, request) {
                Ok((granted, found)) => {
                    self.problems.extend(found);
                    match self.name_conflict(&request.secret_name) {
                        // The Secret under the old name is renewed until the new name is free.
                        Some(conflict) if self.facts.managed().next().is_some() => {
                            self.problems.push(conflict);
                        }
                        _ => return self.reconcile_secret(granted),
                    }
                }
                Err(found) => self.problems.extend(found),
            },
            OptIn::Invalid => {}
        }
        self.keep_applied()
    }

    /// If the configuration opted the namespace in, only the configuration can have opted it out.
    fn reason_without_opt_in(&self) -> DeleteReason {
        let by_default = |o: &Observed| o.applied.as_ref().is_some_and(|applied| applied.request.by_default);
        let included = self.facts.managed().any(|(_, observed)| by_default(observed));
        if included { DeleteReason::NotGranted } else { DeleteReason::OptedOut }
    }

    /// The step towards the applied request, as far as it is still granted.
    fn keep_applied(&mut self) -> Step {
        let names = &self.settings.names;
        let applied = self.facts.managed().filter_map(|(name, observed)| {
            Some((names.retired_names.contains(name), name, observed.applied.as_ref()?))
        });
        // A Secret under an allowed name comes before one under a retired name.
        let Some((retired, name, applied)) = applied.min_by_key(|(retired, ..)| *retired) else {
            return Step::Idle(None);
        };
        let mut request = applied.request.clone();
        request.secret_name = if retired { &names.secret_names[0] } else { name }.to_string();
        if !names.service_accounts {
            // Without the option, the controller has no permissions on service accounts.
            request.service_accounts.clear();
        }
        match self.settings.grants.assign(self.facts.namespace, &request) {
            Ok((granted, _)) => self.reconcile_secret(granted),
            Err(_) => self.remove_all(DeleteReason::NotGranted),
        }
    }

    /// Removes the references of service accounts, then the Secrets.
    fn remove_all(&self, reason: DeleteReason) -> Step {
        self.set_pull_secret(|_| None, Some(reason)).or_else(|| self.delete_first(|_| true, reason))
    }

    /// Keeps the requested Secret valid, then updates service accounts, then deletes Secrets under other names.
    fn reconcile_secret(&mut self, granted: Granted) -> Step {
        let Self { facts, settings, now, .. } = *self;
        let request = granted.request.clone();
        if let Some(conflict) = self.name_conflict(&request.secret_name) {
            self.problems.push(conflict);
            return Step::Idle(None);
        }
        let current = facts.secret(&request.secret_name);
        if let Some((name, observed)) = current.filter(|(_, observed)| observed.immutable) {
            return self.replace_immutable(name, observed);
        }
        let observed = current.map(|(_, observed)| observed);
        let applied = observed.and_then(|observed| Some(&observed.applied.as_ref()?.static_entries));
        let (grants, sources) = (&settings.static_grants, facts.static_sources);
        let static_entries = static_registries::entries(grants, facts.namespace, sources, applied);
        let static_tags = static_registries::tags(&static_entries);
        let situation = Situation { granted: &granted, static_tags, history: facts.history, now };
        let Some(reason) = situation.reason_to_write(observed) else {
            let due = observed.and_then(|observed| observed.times).map(|times| times.refresh_after);
            return self.finish(&request).or_else(|| Step::Idle(due));
        };
        let observed = observed.cloned();
        let write = self.write(WritePlan { reason, granted: Arc::new(granted), static_entries, observed });
        if reason.can_wait() { self.finish(&request).or_else(|| write) } else { write }
    }

    /// Writes now, or when the backoff of failures or repairs ends.
    fn write(&self, plan: WritePlan) -> Step {
        let Facts { namespace, history, .. } = self.facts;
        let repairs = plan.reason.is_repair() || plan.reason == WriteReason::Missing;
        let repair_after =
            history.repair_after(namespace, self.settings.jitter, self.now).filter(|_| repairs);
        Step::Write(Box::new(plan)).at(repair_after.or_else(|| history.retry.retry_after(self.now)))
    }

    /// Updates service accounts, then deletes Secrets under other names than the requested one.
    fn finish(&self, request: &Request) -> Step {
        let requested = &request.service_accounts;
        let secret: Arc<str> = request.secret_name.as_str().into();
        let wanted = |account: &str| {
            let requested = requested.iter().any(|item| item == ALL_SERVICE_ACCOUNTS || item == account);
            requested.then(|| secret.clone())
        };
        // Pods of a service account that still refers to the old Secret need it.
        let accounts = self.facts.service_accounts;
        let referred = |name: &Arc<str>| accounts.iter().any(|(_, refs)| refs.attached.contains(name));
        let obsolete = |name: &Arc<str>| *name != secret && !referred(name);
        self.set_pull_secret(wanted, None).or_else(|| self.delete_first(obsolete, DeleteReason::Renamed))
    }

    /// The report about a Secret of this name that this instance does not manage.
    fn name_conflict(&self, name: &str) -> Option<Problem> {
        let (_, observed) = self.facts.secret(name)?;
        let owner = match &observed.owner {
            Owner::This => return None,
            Owner::OtherInstance(other) => format!("belongs to the instance {other:?}"),
            Owner::Unmanaged => format!(
                "was not created by this controller (it lacks the labels {LABEL_MANAGED_BY}={MANAGER} and {LABEL_INSTANCE})"
            ),
        };
        let message = format!(
            "secret {name:?} {owner} and is not changed: delete it, or choose another name with \
             ecr-pull-secrets.dev/secret-name"
        );
        Some(Problem { reason: EventReason::SecretNotOwned, message })
    }

    /// Deletes the first managed Secret that matches.
    fn delete_first(&self, matches: impl Fn(&Arc<str>) -> bool, reason: DeleteReason) -> Step {
        let found = self.facts.managed().find(|(name, _)| matches(name));
        found.map_or(Step::Idle(None), |(name, observed)| self.delete(name, observed, reason))
    }

    /// Deletes a Secret now, or when the backoff of failures ends.
    fn delete(&self, name: &Arc<str>, observed: &Observed, reason: DeleteReason) -> Step {
        let Observed { uid, resource_version, .. } = observed.clone();
        let deletion = Deletion { name: name.clone(), uid, resource_version, reason };
        Step::Delete(deletion).at(self.facts.history.retry.retry_after(self.now))
    }

    /// Changes the first service account that does not refer to the wanted Secret and whose backoff has ended.
    fn set_pull_secret(
        &self,
        wanted: impl Fn(&str) -> Option<Arc<str>>,
        removal: Option<DeleteReason>,
    ) -> Step {
        let Facts { namespace, history, .. } = self.facts;
        let set = |(service_account, refs): &(Arc<str>, PullSecretRefs)| {
            let secret = wanted(service_account);
            if !refs.differs(secret.as_deref()) {
                return Step::Idle(None);
            }
            let retry = history.service_accounts.get(service_account);
            let blocked =
                retry.and_then(|retry| retry.blocked_until(namespace, self.settings.jitter, self.now));
            let service_account = service_account.clone();
            Step::SetPullSecret(PullSecretChange { service_account, secret, removal }).at(blocked)
        };
        let accounts = self.facts.service_accounts.iter();
        accounts.fold(Step::Idle(None), |step, account| step.or_else(|| set(account)))
    }

    /// An immutable Secret is kept until the last quarter of its lifetime, because its replacement has another UID.
    fn replace_immutable(&mut self, name: &Arc<str>, observed: &Observed) -> Step {
        let message = format!(
            "secret {name:?} is immutable and cannot be renewed: delete it, or the controller replaces it shortly before \
             its token expires"
        );
        self.problems.push(Problem { reason: EventReason::SecretImmutable, message });
        let times = observed.times.filter(|times| times.is_plausible(self.now));
        // Renewal is due near half of the lifetime, so half of the rest is the last quarter.
        let last_quarter = times.and_then(|Times { expires_at, refresh_after }| {
            expires_at.checked_sub(expires_at.duration_since(refresh_after) / 2).ok()
        });
        let wake = last_quarter.filter(|at| *at > self.now.wall);
        self.delete(name, observed, DeleteReason::Immutable).at(wake)
    }
}
