//! The decision: annotations, Secrets and the time → the next step in a namespace, with its reason.
//!
//! [`plan`] decides on the next step. If it is a write, [`compose`](compose::compose) composes the content of the
//! Secret from the available tokens, and decides whether the write would improve on the current Secret.

mod adoption;
mod backoff;
mod checks;
mod compose;
mod facts;
mod history;
mod observed;
mod readiness;
mod reasons;
mod removals;
mod replacement;
mod retry;
pub mod service_accounts;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::iter;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use self::checks::Situation;
use super::grants::Granted;
use super::request::annotations::{ALL_SERVICE_ACCOUNTS, OptIn, REGISTRIES, RENEW};
use super::request::{AppliedState, Problem, Request, Target};
use super::secret::static_registries::{self, StaticEntry};
use super::settings::Settings;
use super::{EventReason, Now, ObjectVersion};

pub use self::adoption::{Refusal, refusal};
pub use self::backoff::Backoff;
pub use self::compose::{SecretDraft, compose, entry_host};
pub use self::facts::{Facts, KnownAccounts};
pub use self::history::History;
pub use self::observed::{Mutability, NamespaceRecord, Observed, Obstacle, Owner, URGENT};
pub use self::readiness::Readiness;
pub use self::reasons::{DeleteReason, WriteReason};
pub use self::removals::{RemovalCause, Revocation};
pub use self::replacement::Replacement;
pub use self::retry::RetryState;
pub use self::service_accounts::PullSecretRefs;

/// The problem of a request whose record would be too long with the static entries of the configuration.
const TOO_LONG: &str = "with the static registries of the controller's configuration, all values together are too long, so \
                        the static registries are left out: shorten the lists";

/// Token times derive from an HTTP `Date`, which has whole seconds, so equal expiries can differ by this much.
const DATE_RESOLUTION: SignedDuration = SignedDuration::from_secs(2);

/// How far ahead a requested renewal may be: clocks differ.
const MAX_RENEW_AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// A Secret to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct WritePlan {
    pub reason: WriteReason,
    pub granted: Arc<Granted>,
    /// The entries of other registries, by host.
    pub static_entries: BTreeMap<String, StaticEntry>,
    /// The current Secret of that name.
    pub observed: Option<Box<Observed>>,
    /// The time before which no token may have been issued, because an annotation names it.
    pub issued_after: Option<Timestamp>,
    /// The step to make if the tokens of this write are not at hand.
    pub otherwise: Option<Box<Step>>,
    /// When another step may start, if the tokens of this one are not at hand.
    pub again_at: Option<Timestamp>,
}

impl WritePlan {
    /// A write whose tokens may be of any age, without another one to try.
    pub fn new(
        reason: WriteReason,
        granted: Arc<Granted>,
        static_entries: BTreeMap<String, StaticEntry>,
        observed: Option<Observed>,
    ) -> Self {
        let observed = observed.map(Box::new);
        Self {
            reason,
            granted,
            static_entries,
            observed,
            issued_after: None,
            otherwise: None,
            again_at: None,
        }
    }

    /// Whether the current Secret is urgent; see [`Observed::is_urgent`].
    pub fn is_urgent(&self, now: Now) -> bool {
        self.observed.as_ref().is_some_and(|observed| observed.is_urgent(now))
    }
}

/// A Secret to be deleted: exactly this object, at exactly this version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    pub name: Arc<str>,
    pub version: ObjectVersion,
    pub reason: DeleteReason,
}

/// A service account whose `imagePullSecrets` are to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullSecretChange {
    pub service_account: Arc<str>,
    /// The Secret to refer to; `None` to remove our reference.
    pub secret: Option<Arc<str>>,
    /// Former names to which our references stay: these Secrets have live entries that the new one lacks.
    pub kept: Vec<Arc<str>>,
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
    Replace(Box<Replacement>),
    SetPullSecret(PullSecretChange),
    /// The service accounts of the namespace are read.
    ListServiceAccounts,
}

impl Step {
    /// Whether a Secret is deleted, or its reference in a service account.
    pub fn is_removal(&self) -> bool {
        match self {
            Self::Delete(_) | Self::Replace(_) => true,
            Self::SetPullSecret(change) => change.secret.is_none(),
            Self::Idle(_) | Self::Write(_) | Self::ListServiceAccounts => false,
        }
    }

    /// This step now, or, if there is a `time`, not before then.
    fn at(self, time: Option<Timestamp>) -> Self {
        if time.is_some() { Self::Idle(time) } else { self }
    }

    /// This step, and those to start if its tokens are not at hand.
    pub fn alternatives(&self) -> impl Iterator<Item = &Self> {
        iter::successors(Some(self), |step| match step {
            Self::Write(plan) => plan.otherwise.as_deref(),
            Self::Replace(plan) => plan.otherwise.as_deref(),
            _ => None,
        })
    }

    /// This step, or `next` if there is nothing to do now; if both are idle, the earlier time counts.
    fn or_else(self, next: impl FnOnce() -> Self) -> Self {
        let Self::Idle(wake) = self else { return self };
        let earlier = |other: Option<Timestamp>| wake.into_iter().chain(other).min();
        match next() {
            Self::Idle(other) => Self::Idle(earlier(other)),
            // It may wait for tokens until then.
            Self::Write(plan) => {
                Self::Write(Box::new(WritePlan { again_at: earlier(plan.again_at), ..*plan }))
            }
            Self::Replace(plan) => {
                Self::Replace(Box::new(Replacement { again_at: earlier(plan.again_at), ..*plan }))
            }
            step => step,
        }
    }

    /// This step, or `next` if there is nothing to do now or its tokens are not at hand.
    fn before(self, next: Self) -> Self {
        match self {
            _ if matches!(next, Self::Idle(_)) => next.or_else(|| self),
            Self::Write(plan) => {
                Self::Write(Box::new(WritePlan { otherwise: Some(Box::new(next)), ..*plan }))
            }
            Self::Replace(plan) => {
                Self::Replace(Box::new(Replacement { otherwise: Some(Box::new(next)), ..*plan }))
            }
            step => step.or_else(|| next),
        }
    }
}

/// The next step, and the problems that the owner of the namespace should know about.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub step: Step,
    pub problems: Vec<Problem>,
    /// The part of the present request that is granted, or of the applied one if that is in force.
    pub granted: Option<Arc<Granted>>,
    /// The request of the Secret under a former name, if its renewal is due and the one under the requested name is missing.
    pub former: Option<Arc<Granted>>,
    /// The Secrets that this step or a later one removes because of the configuration.
    pub revocations: Vec<Revocation>,
}

impl Plan {
    /// Whether a person must act before the controller can do anything. The controller looks for an unknown region itself.
    pub fn is_blocked(&self) -> bool {
        let is_own = |problem: &Problem| problem.reason == EventReason::RegionUnknown;
        self.step == Step::Idle(None) && !self.problems.is_empty() && !self.problems.iter().any(is_own)
    }
}

/// Decides on the next step. Equal arguments give equal plans.
pub fn plan(facts: &Facts<'_>, settings: &Settings, now: Now) -> Plan {
    let (problems, revocations) = (vec![], vec![]);
    let (granted, former, keeps_applied, account_fails) = (None, None, false, false);
    let mut planner = Planner {
        facts,
        settings,
        now,
        problems,
        granted,
        former,
        revocations,
        keeps_applied,
        account_fails,
    };
    let step = planner.next_step();
    let Planner { problems, granted, former, revocations, .. } = planner;
    Plan { step, problems, granted, former, revocations }
}

/// The arguments of one decision, and the problems found so far.
struct Planner<'a> {
    facts: &'a Facts<'a>,
    settings: &'a Settings,
    now: Now,
    problems: Vec<Problem>,
    granted: Option<Arc<Granted>>,
    former: Option<Arc<Granted>>,
    revocations: Vec<Revocation>,
    /// Whether the applied request stays in force, because the present one cannot be used. Then which of several Secrets is
    /// the requested one is a guess.
    keeps_applied: bool,
    /// Whether the last change of a service account that must change failed.
    account_fails: bool,
}

impl Planner<'_> {
    /// The step towards the requested state, or, if the request cannot be used, towards the applied one.
    fn next_step(&mut self) -> Step {
        if self.facts.terminating {
            return Step::Idle(None);
        }
        let Some(parsed) = self.facts.parsed else { return self.remove_without_opt_in() };
        self.problems.extend_from_slice(&parsed.problems);
        match &parsed.opt_in {
            OptIn::Out => return self.remove_secrets(DeleteReason::OptedOut),
            OptIn::In(request) => match self.assign(request) {
                Ok((granted, found)) => {
                    let lacks_region =
                        found.iter().any(|problem| problem.reason == EventReason::RegionUnknown);
                    self.problems.extend(found);
                    let (name, has_secret) = (&request.secret_name, self.facts.managed().next().is_some());
                    match self.name_conflict(name) {
                        // The Secret under the old name is renewed until the new name is free.
                        Some(conflict) if has_secret => self.problems.push(conflict),
                        // Without the region, no entry is removed.
                        _ if lacks_region && self.can_keep_applied() => {}
                        _ if lacks_region && self.would_adopt(name) => return Step::Idle(None),
                        _ => return self.reconcile_secret(granted),
                    }
                }
                Err(found) => self.problems.extend(found),
            },
            OptIn::Invalid => {}
        }
        self.keep_applied()
    }

    /// The step towards the applied request, as far as it is still granted.
    fn keep_applied(&mut self) -> Step {
        self.keeps_applied = true;
        let Some(request) = self.applied_request() else { return Step::Idle(None) };
        match self.assign(&request) {
            Ok((granted, _)) => self.reconcile_secret(granted),
            Err(problems) if problems.iter().any(|p| p.reason == EventReason::RegionUnknown) => {
                self.problems.extend(problems);
                Step::Idle(None)
            }
            Err(_) => self.remove_all(DeleteReason::NotGranted),
        }
    }

    fn can_keep_applied(&self) -> bool {
        self.applied_request().is_some_and(|request| self.assign(&request).is_ok())
    }

    fn would_adopt(&self, name: &str) -> bool {
        self.facts.secret(name).is_some_and(|(_, observed)| observed.owner == Owner::Adoptable)
    }

    /// The request that was applied last, according to the records of the Secrets.
    fn applied_request(&self) -> Option<Request> {
        let names = &self.settings.names;
        // A Secret under an allowed name comes before one under a retired name. Of several, the last applied one is requested:
        // other clients can change versions, but not when a token was issued.
        let order = |(name, observed, _): &(&Arc<str>, &Observed, &Arc<AppliedState>)| {
            let latest = (self.facts.history.is_last(name), observed.issued_at(), observed.resource_version);
            (names.is_retired(name), observed.is_deleting, !observed.intact, Reverse(latest))
        };
        let readable = self.facts.managed();
        let readable =
            readable.filter_map(|(name, observed)| Some((name, observed, observed.applied.as_ref()?)));
        let (name, _, applied) = readable.min_by_key(order)?;
        let retired = names.is_retired(name);
        let mut request = applied.request.clone();
        request.secret_name = if retired { &names.secret_names[0] } else { name }.to_string();
        if !names.service_accounts {
            // Without the option, the controller has no permissions on service accounts.
            request.service_accounts.clear();
        }
        Some(request)
    }

    /// Assigns the tokens. If the controller's region is unknown, `default` keeps the region of its current entry.
    fn assign(&self, request: &Request) -> Result<(Granted, Vec<Problem>), Vec<Problem>> {
        let mut applied = self.facts.managed().filter_map(|(_, observed)| observed.applied.as_ref());
        let default_host = applied.find_map(|applied| applied.entry(&Target::Default));
        let default_host = default_host.map(|entry| &entry.host);
        self.settings.grants.assign_again(self.facts.namespace, request, default_host)
    }

    /// Keeps the requested Secret valid, then updates service accounts, then deletes Secrets under other names.
    fn reconcile_secret(&mut self, granted: Granted) -> Step {
        let Self { facts, now, .. } = *self;
        let (request, granted) = (granted.request.clone(), Arc::new(granted));
        self.granted = Some(granted.clone());
        self.revoke_retired(&request.secret_name);
        if let Some(conflict) = self.name_conflict(&request.secret_name) {
            self.problems.push(conflict);
            return Step::Idle(None);
        }
        let current = facts.secret(&request.secret_name);
        let is_stuck = |observed: &Observed| {
            observed.mutability == Mutability::Immutable && observed.owner == Owner::This
        };
        if let Some((name, observed)) = current.filter(|(_, observed)| is_stuck(observed)) {
            let replace = self.replace_immutable(name, observed, granted);
            return self.finish_and(&request, observed, replace);
        }
        let observed = current.map(|(_, observed)| observed);
        let static_entries = self.static_entries(&request, observed);
        let static_tags = static_registries::tags(&static_entries);
        let (issued_after, later) = self.requested_renewal();
        let template = self.settings.secret_template.fingerprint();
        let history = facts.history;
        let situation = Situation { granted: &granted, static_tags, template, issued_after, history, now };
        let Some(reason) = situation.reason_to_write(observed) else {
            let due = observed.and_then(|observed| observed.times).map(|times| times.refresh_after);
            return self.finish(&request).or_else(|| Step::Idle(due.into_iter().chain(later).min()));
        };
        let write = WritePlan::new(reason, granted, static_entries, observed.cloned());
        let write = WritePlan { issued_after, ..write };
        if matches!(reason, WriteReason::Missing | WriteReason::Adopted)
            && let Some(renewal) = self.renew_former(&request)
        {
            // The API server refused the new one, so the old one comes first.
            let failed = history.retry.failures > 0;
            let (first, second) = if failed { (renewal, write) } else { (write, renewal) };
            let (first, second) = (self.write(first), self.write(second));
            return first.before(second);
        }
        let write = self.write(write);
        match observed {
            Some(observed) if reason.can_wait() => self.finish_and(&request, observed, write),
            _ => write,
        }
    }

    /// The service accounts and the deletion of former Secrets, then a write or a replacement, which may wait for tokens for
    /// hours. An urgent one comes first, and so does any one while the other steps fail: they may never succeed.
    fn finish_and(&mut self, request: &Request, observed: &Observed, step: Step) -> Step {
        let rest = self.finish(request);
        let fails = self.account_fails || self.facts.history.removals.failures > 0;
        let is_first = observed.is_urgent(self.now) || fails;
        if is_first { step.before(rest) } else { rest.or_else(|| step) }
    }

    /// Writes now, or when the backoff of failures or repairs ends.
    fn write(&self, mut plan: WritePlan) -> Step {
        let Facts { namespace, history, .. } = self.facts;
        let is_given_up =
            self.facts.is_single_pass && history.refused.contains(&*plan.granted.request.secret_name);
        if is_given_up {
            return Step::Idle(None);
        }
        let creates = matches!(plan.reason, WriteReason::Missing | WriteReason::Adopted);
        let repairs = plan.reason.is_repair() || creates || history.repeated;
        let mut repair_after =
            history.repair_after(namespace, self.settings.jitter, self.now).filter(|_| repairs);
        let renews = plan.reason.is_repair() || plan.reason == WriteReason::RenewalDue;
        if repair_after.is_some() && renews && history.is_due(self.now) {
            // The backoff does not delay a renewal, which is not written again with the same tokens.
            (plan.reason, repair_after) = (WriteReason::RenewalDue, None);
        }
        let is_change = plan.reason == WriteReason::RequestChanged;
        let change_after = history.change_after(self.now).filter(|_| is_change);
        // A single pass does not wait.
        let retry_after = || history.retry.retry_after(self.now).filter(|_| !self.facts.is_single_pass);
        Step::Write(Box::new(plan)).at(repair_after.or(change_after).or_else(retry_after))
    }

    /// Whether a request failed that is not tried again.
    fn is_given_up(&self, retry: &RetryState) -> bool {
        self.facts.is_single_pass && retry.failures > 0
    }

    /// The time before which no token may have been issued, and when that time comes, if it has not.
    fn requested_renewal(&mut self) -> (Option<Timestamp>, Option<Timestamp>) {
        let Some(time) = self.facts.parsed.and_then(|parsed| parsed.renew) else { return (None, None) };
        let ahead = self.now.until(time);
        if ahead > MAX_RENEW_AHEAD {
            let message = format!("{time} is more than 5 minutes in the future: set the current time");
            self.problems.push(Problem::invalid(RENEW, &message));
            return (None, None);
        }
        if ahead.is_positive() { (None, Some(time)) } else { (Some(time), None) }
    }

    /// Updates service accounts, then deletes Secrets under other names than the requested one.
    fn finish(&mut self, request: &Request) -> Step {
        let now = self.now;
        let requested = &request.service_accounts;
        let secret: Arc<str> = request.secret_name.as_str().into();
        let wanted = |account: &str| {
            let requested = requested.iter().any(|item| item == ALL_SERVICE_ACCOUNTS || item == account);
            requested.then(|| secret.clone())
        };
        // Pods of a service account that still refers to the old Secret need it.
        let accounts = self.facts.service_accounts;
        let referred = |name: &Arc<str>| accounts.iter().any(|(_, refs)| refs.attached.contains(name));
        let current = self.facts.secret(&secret).map(|(_, observed)| observed);
        let is_replaced = |old: &Observed| {
            current.filter(|current| current.is_live(now)).is_some_and(|current| {
                let has_all = || current.replaces(old, request, now) && self.has_static(current, old);
                old.is_expired(now) || (current.data_intact && has_all())
            })
        };
        let former = self.facts.managed().filter(|(name, _)| *name != secret);
        let kept: Vec<_> =
            former.filter(|(_, old)| !is_replaced(old)).map(|(name, _)| name.clone()).collect();
        let keeps_applied = self.keeps_applied;
        let is_obsolete = |name: &Arc<str>| {
            let is_guess = keeps_applied && !self.settings.names.is_retired(name);
            *name != secret && !referred(name) && !kept.contains(name) && !is_guess
        };
        let awaiting_list = self.awaiting_list(is_obsolete);
        for name in &awaiting_list {
            self.report_awaiting_list(name);
        }
        let obsolete = |name: &Arc<str>| is_obsolete(name) && !awaiting_list.contains(name);
        let list = self.list_service_accounts(request);
        let accounts = list.or_else(|| self.set_pull_secret(wanted, &kept, None));
        if self.account_fails {
            return self.delete_obsolete(obsolete).or_else(|| accounts);
        }
        accounts.or_else(|| self.delete_obsolete(obsolete))
    }

    /// The obsolete Secrets that service accounts may refer to, because these are not listed. One whose tokens have ended, or
    /// that has a static entry that is not granted any more, does not wait for the list.
    fn awaiting_list(&self, is_obsolete: impl Fn(&Arc<str>) -> bool) -> Vec<Arc<str>> {
        if self.facts.known_accounts != KnownAccounts::Unlisted {
            return vec![];
        }
        let waits = |old: &Observed| !old.is_expired(self.now) && self.kept_static_entries(old).is_none();
        let waiting = self.facts.managed().filter(|(name, old)| is_obsolete(name) && waits(old));
        waiting.map(|(name, _)| name.clone()).collect()
    }

    fn report_awaiting_list(&mut self, name: &str) {
        let message = format!(
            "the API server did not list the service accounts, and they may refer to secret {name:?}, so it is not deleted \
             before it expires; the controller's ClusterRole must allow get, list and watch on serviceaccounts"
        );
        self.problems.push(Problem { reason: EventReason::WriteFailed, subject: "list".to_owned(), message });
    }

    /// Whether a Secret has each static entry of an old one that is still granted.
    fn has_static(&self, current: &Observed, old: &Observed) -> bool {
        let has = |observed: &Observed, host: &String| {
            observed.applied.as_ref().is_some_and(|applied| applied.static_entries.contains_key(host))
        };
        let mut granted = static_registries::granted(&self.settings.static_grants, self.facts.namespace);
        granted.all(|(_, host)| !has(old, host) || has(current, host))
    }

    /// Reads the service accounts that the request needs and that are not known, now, or when the backoff of earlier lists
    /// ends: a namespace that opts in and out again and again must not cause a list each time.
    fn list_service_accounts(&self, request: &Request) -> Step {
        let Facts { namespace, history, known_accounts, .. } = *self.facts;
        if known_accounts != KnownAccounts::Attached
            || request.service_accounts.is_empty()
            || self.is_given_up(&history.listings)
        {
            return Step::Idle(None);
        }
        let blocked = history.listings.blocked_until(namespace, self.settings.jitter, self.now);
        Step::ListServiceAccounts.at(blocked)
    }

    /// The static entries of a Secret; none, and a problem, if the record would be too long with them.
    fn static_entries(
        &mut self,
        request: &Request,
        observed: Option<&Observed>,
    ) -> BTreeMap<String, StaticEntry> {
        let entries = self.granted_static_entries(observed);
        if entries.is_empty() || self.settings.request_rules().fits(request) {
            return entries;
        }
        self.problems.push(Problem::invalid(REGISTRIES, TOO_LONG));
        BTreeMap::new()
    }

    /// The static entries that the namespace is granted; of a source that cannot be read, those that the Secret has.
    fn granted_static_entries(&self, observed: Option<&Observed>) -> BTreeMap<String, StaticEntry> {
        let Self { facts, settings, .. } = *self;
        // An entry that another client changed is not kept.
        let applied = observed.filter(|observed| observed.data_intact);
        let applied = applied.and_then(|observed| Some(&observed.applied.as_ref()?.static_entries));
        let (grants, sources) = (&settings.static_grants, facts.static_sources);
        static_registries::entries(grants, facts.namespace, sources, applied)
    }

    /// The renewal of a Secret under a former name, if it is due. The one under the requested name is missing, or not adopted yet.
    fn renew_former(&mut self, request: &Request) -> Option<WritePlan> {
        let Self { facts, settings, now, .. } = *self;
        let is_due = |o: &Observed| {
            let times = o.times.filter(|times| times.is_plausible(now));
            // Another client may have changed the times.
            let is_due = times.map_or_else(|| facts.history.may_be_due(now), |times| times.is_due(now));
            is_due && o.mutability != Mutability::Immutable
        };
        let allowed = |name: &Arc<str>| settings.names.secret_names.contains(name);
        let former = facts.managed().filter(|(name, _)| **name != *request.secret_name && allowed(name));
        let mut due: Vec<_> = former.filter(|(_, observed)| is_due(observed)).collect();
        // One that a finalizer holds comes last, and one whose tokens could not be renewed after the others.
        due.sort_by_key(|(_, observed)| (observed.is_deleting, Reverse(observed.issued_at())));
        let (observed, request, granted) = due.into_iter().find_map(|(name, observed)| {
            let applied = observed.applied.as_ref()?;
            let request = Request { secret_name: name.to_string(), ..applied.request.clone() };
            let (granted, _) = self.assign(&request).ok()?;
            Some((observed, request, granted))
        })?;
        let static_entries = self.static_entries(&request, Some(observed));
        let (reason, granted) = (WriteReason::RenewalDue, Arc::new(granted));
        self.former = Some(granted.clone());
        Some(WritePlan::new(reason, granted, static_entries, Some(observed.clone())))
    }

    /// The report about a Secret of this name that this instance neither manages nor may adopt.
    fn name_conflict(&self, name: &str) -> Option<Problem> {
        let (_, observed) = self.facts.secret(name)?;
        let message = refusal(self.facts.namespace, name, &observed.owner)?.to_string();
        Some(Problem { reason: EventReason::SecretNotOwned, subject: name.to_owned(), message })
    }

    /// Changes the first service account that does not refer to the wanted Secret and whose backoff has ended.
    fn set_pull_secret(
        &mut self,
        wanted: impl Fn(&str) -> Option<Arc<str>>,
        kept: &[Arc<str>],
        removal: Option<DeleteReason>,
    ) -> Step {
        let Facts { namespace, history, keeps_all, service_accounts, .. } = *self.facts;
        let mut step = Step::Idle(None);
        for (service_account, refs) in service_accounts {
            let secret = wanted(service_account);
            if !refs.differs(secret.as_deref(), kept) || (secret.is_none() && keeps_all) {
                continue;
            }
            self.account_fails |= history.account_fails(service_account);
            let retry = history.service_accounts.get(service_account);
            if retry.is_some_and(|retry| self.is_given_up(retry)) {
                continue;
            }
            let blocked =
                retry.and_then(|retry| retry.blocked_until(namespace, self.settings.jitter, self.now));
            let (service_account, kept) = (service_account.clone(), kept.to_vec());
            let change = PullSecretChange { service_account, secret, kept, removal };
            step = step.or_else(|| Step::SetPullSecret(change).at(blocked));
        }
        step
    }
}
