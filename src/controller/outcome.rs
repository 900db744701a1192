//! Records the outcome of an action or of a call to AWS.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use super::dispatch::{Action, RefusedRequest, RunningAction, RunningWrite};
use super::error::RequestError;
use super::index::{NamespaceState, Reply};
use super::slots::UNANSWERED;
use super::tell::{Counted, NamespaceCounts, Operation, SUCCESS, Tell, TokenFetch};
use super::tokens::{FetchOutcome, FetchResult};
use super::{ActionId, Controller, Outcome};
use crate::core::Now;
use crate::core::grants::TokenKey;
use crate::core::plan::{
    Deletion, Facts, NamespaceRecord, Observed, Obstacle, PullSecretChange, PullSecretRefs, Readiness,
    RetryState, Step, WriteReason, plan,
};
use crate::core::planted::{Bug, planted};
use crate::core::rare::Rare;

/// The delay before a namespace is reconciled again because its state changed during an action.
const RECHECK: SignedDuration = SignedDuration::from_secs(1);

impl Controller {
    pub(super) fn action_done(&mut self, id: ActionId, outcome: Outcome, duration: Duration, now: Now) {
        let Some(RunningAction { namespace, action, slot, began }) = self.actions.remove(&id) else { return };
        let is_unavailable = matches!(outcome.error(), Some(RequestError::Unavailable { .. }));
        let is_unanswered = is_unavailable && now.mono >= began + UNANSWERED;
        self.slots.end(began, slot, is_unavailable && !is_unanswered, now.mono);
        if is_unanswered {
            self.slow.insert(namespace.clone());
        } else {
            self.slow.remove(&namespace);
        }
        self.queue.mark_done(&namespace);
        self.record_outcome(&namespace, action, outcome, duration, now);
        if !self.queue.is_running(&namespace) {
            self.index.reply_arrived(&namespace);
            if self.index.get(&namespace).is_none() {
                self.forget(&namespace);
            }
        }
    }

    fn record_outcome(
        &mut self,
        namespace: &Arc<str>,
        action: Action,
        outcome: Outcome,
        duration: Duration,
        now: Now,
    ) {
        match (action, outcome) {
            (Action::Write(write), Outcome::Written(result)) => {
                let operation = if write.base.is_none() { Operation::Create } else { Operation::Update };
                self.tell_request(operation, write.reason.into_str(), &result, duration);
                match result {
                    Ok(observed) => self.record_write(namespace, &write, &observed, now),
                    Err(error) if self.refuse_adoption(namespace, &write, &error, now) => {
                        self.reconcile(namespace, now);
                    }
                    Err(error) => {
                        let (secret, base) = (write.secret, write.base.unwrap_or(0));
                        let refused = RefusedRequest { secret, operation, base, error };
                        self.record_failure(namespace, refused, now);
                    }
                }
            }
            (Action::Confirm(removal), Outcome::NamespaceRead(result)) => {
                self.confirm(namespace, removal, result, duration, now);
            }
            (Action::ReadSecret(refused, known), Outcome::SecretRead(result)) => {
                self.record_read(namespace, refused, known, result, now);
            }
            (Action::Delete(deletion), Outcome::Deleted(result)) => {
                self.record_deletion(namespace, &deletion, result, duration, now);
            }
            (Action::SetPullSecret(change, version), Outcome::PullSecretSet(result)) => {
                if matches!(result, Ok(None)) {
                    self.index.remove_service_account(namespace, &change.service_account, version);
                }
                self.record_pull_secret(namespace, &change, result, now);
            }
            (Action::ListServiceAccounts, Outcome::ServiceAccountsListed(result)) => {
                self.record_list(namespace, result, now);
            }
            // The outcome does not belong to the action: reconcile with the state that the watches report.
            _ => self.reconcile(namespace, now),
        }
    }

    fn tell_request<T>(
        &mut self,
        operation: Operation,
        reason: &'static str,
        result: &Result<T, RequestError>,
        duration: Duration,
    ) {
        let result = result.as_ref().map_or_else(RequestError::into_str, |_| SUCCESS);
        self.tell(Tell::RequestFinished { operation, reason, result, duration });
    }

    fn record_write(&mut self, namespace: &Arc<str>, write: &RunningWrite, observed: &Observed, now: Now) {
        let reply = self.index.set_replied_secret(namespace, &write.secret, observed.clone());
        if let Some(history) = self.index.history(namespace) {
            history.record_write(write.reason, &write.secret, observed, write.fingerprint, now);
            if reply != Reply::Recorded {
                history.forget_content();
            }
        }
        self.report_write(namespace, write, observed);
        if reply == Reply::Uncertain && self.may_act() {
            let refused = RefusedRequest {
                secret: write.secret.clone(),
                operation: Operation::Update,
                base: self.index.secret_version(namespace, &write.secret).unwrap_or(0),
                error: RequestError::Conflict("a list did not report it".to_owned()),
            };
            return self.read_secret(namespace, refused, now);
        }
        self.reconcile(namespace, now);
    }

    /// Records why a Secret cannot be adopted, if the refusal shows that: only the API server compares its type and
    /// `immutable`. A later version is tried again, but not at once.
    fn refuse_adoption(
        &mut self,
        namespace: &Arc<str>,
        write: &RunningWrite,
        error: &RequestError,
        now: Now,
    ) -> bool {
        let obstacle = match error {
            RequestError::OtherType(_) => Obstacle::Type,
            RequestError::Immutable(_) => Obstacle::Immutable,
            _ => return false,
        };
        let Some(version) = write.base.filter(|_| write.reason == WriteReason::Adopted) else { return false };
        let jitter = self.settings.jitter;
        if let Some(history) = self.index.history(namespace) {
            history.retry.change(|retry| retry.record_failure(namespace, jitter, now));
            history.refused.change(|names| names.insert(write.secret.clone()));
        }
        self.index.refuse_adoption(namespace, &write.secret, version, obstacle);
        true
    }

    /// Plans again with the Secret as it is, at once, or, if it is the version that the request was meant for or changed
    /// too often, after a delay.
    fn record_read(
        &mut self,
        namespace: &Arc<str>,
        refused: RefusedRequest,
        known: u64,
        result: Result<Option<Observed>, RequestError>,
        now: Now,
    ) {
        let read = match result {
            Ok(read) => read,
            Err(error) => return self.record_failure(namespace, RefusedRequest { error, ..refused }, now),
        };
        let version = read.as_ref().map_or(0, |read| read.resource_version);
        let is_missed = read.is_some() && self.index.is_missed(namespace, &refused.secret);
        if (self.index.is_rewound(namespace) || is_missed) && self.may_act() {
            return self.read_secret(namespace, refused, now);
        }
        self.index.set_read_secret(namespace, &refused.secret, read, known);
        let retry = self.retry_of(namespace, refused.operation);
        if version != refused.base && retry.is_none_or(|retry| retry.change(RetryState::record_conflict)) {
            self.tell_overtaken(namespace, &refused.secret, &refused.error);
            return self.reconcile(namespace, now);
        }
        self.delay_retry(namespace, &refused, now);
    }

    /// Whether an action may begin.
    fn may_act(&self) -> bool {
        self.is_leader && !self.is_stopping
    }

    /// Removes something only if the Namespace, as it was just read, leads to the same step.
    fn confirm(
        &mut self,
        namespace: &Arc<str>,
        removal: Step,
        result: Result<Option<NamespaceRecord>, RequestError>,
        duration: Duration,
        now: Now,
    ) {
        let read = if self.may_act() { result } else { Err(RequestError::NotLeader) };
        let planned = read.map(|record| {
            let parsed = record.as_ref().map(|record| &*record.parsed);
            let facts = Facts { parsed, terminating: false, ..self.facts(namespace)? };
            let step = plan(&facts, &self.settings, now).step;
            step.alternatives().find(|again| is_same_removal(again, &removal)).cloned()
        });
        match (planned, removal) {
            (_, Step::Delete(deletion)) if planted(Bug::TrustStaleNamespace) => {
                self.delete(namespace, deletion, now);
            }
            (Ok(Some(Step::Delete(again))), _) => self.delete(namespace, again, now),
            (Ok(Some(Step::Replace(again))), _) => self.delete(namespace, again.deletion, now),
            (Ok(Some(Step::SetPullSecret(again))), _) => self.set_pull_secret(namespace, again, now),
            (Err(error), Step::Delete(deletion)) => {
                self.record_deletion(namespace, &deletion, Err(error), duration, now);
            }
            (Err(error), Step::Replace(replacement)) => {
                self.record_deletion(namespace, &replacement.deletion, Err(error), duration, now);
            }
            (Err(error), Step::SetPullSecret(change)) => {
                self.record_pull_secret(namespace, &change, Err(error), now);
            }
            _ => self.queue.schedule(namespace, Some(now.after(RECHECK)), now),
        }
    }

    fn record_deletion(
        &mut self,
        namespace: &Arc<str>,
        deletion: &Deletion,
        result: Result<Option<Observed>, RequestError>,
        duration: Duration,
        now: Now,
    ) {
        self.tell_request(Operation::Delete, deletion.reason.into_str(), &result, duration);
        let refused = |error| RefusedRequest {
            secret: deletion.name.clone(),
            operation: Operation::Delete,
            base: deletion.version.resource_version,
            error,
        };
        let left = match result {
            Ok(left) => left,
            Err(error) => return self.record_failure(namespace, refused(error), now),
        };
        if left.is_none() {
            self.report_deletion(namespace, deletion);
        }
        if self.index.is_rewound(namespace) && self.may_act() {
            let error = RequestError::Conflict("the API server has older data than before".to_owned());
            return self.read_secret(namespace, refused(error), now);
        }
        self.index.record_deletion(namespace, &deletion.name, now);
        self.removals.record(namespace, &deletion.version.uid, now);
        match left {
            None => self.index.remove_secret(namespace, &deletion.name, deletion.version.resource_version),
            Some(left) => _ = self.index.set_replied_secret(namespace, &deletion.name, left),
        }
        self.reconcile(namespace, now);
    }

    fn record_pull_secret(
        &mut self,
        namespace: &Arc<str>,
        change: &PullSecretChange,
        result: Result<Option<(PullSecretRefs, bool)>, RequestError>,
        now: Now,
    ) {
        let PullSecretChange { service_account, secret, kept, .. } = change;
        let jitter = self.settings.jitter;
        match result {
            Ok(Some((refs, changed))) => {
                if changed || refs.differs(secret.as_deref(), kept) {
                    self.index.change_service_account(namespace, service_account, |retry| {
                        retry.record_repair(now);
                        retry.reset();
                    });
                }
                if changed {
                    let (namespace, change) = (namespace.clone(), change.clone());
                    self.tell(Tell::ServiceAccountChanged { namespace, change });
                }
                self.index.set_replied_service_account(namespace, service_account, refs);
                self.reconcile(namespace, now);
            }
            // The watches will report the change.
            Ok(None) | Err(RequestError::NotLeader | RequestError::NamespaceGone) => {
                self.queue.schedule(namespace, Some(now.after(RECHECK)), now);
            }
            Err(error) => {
                let after = error.retry_after();
                let record = |retry: &mut RetryState| retry.record_refusal(namespace, after, jitter, now);
                let retry_at = self.index.change_service_account(namespace, service_account, record);
                self.report_service_account_failure(namespace, Some(service_account), &error, retry_at);
                self.reconcile(namespace, now);
            }
        }
    }

    fn record_list(
        &mut self,
        namespace: &Arc<str>,
        result: Result<Vec<(Arc<str>, PullSecretRefs)>, RequestError>,
        now: Now,
    ) {
        let jitter = self.settings.jitter;
        let retry = self.index.history(namespace).map(|history| &mut history.listings);
        match result {
            Ok(listed) => {
                if let Some(retry) = retry {
                    retry.change(|retry| {
                        retry.record_repair(now);
                        retry.reset();
                    });
                }
                self.index.set_listed_accounts(namespace, listed);
            }
            Err(RequestError::NotLeader) => {
                return self.queue.schedule(namespace, Some(now.after(RECHECK)), now);
            }
            Err(error) => {
                let after = error.retry_after();
                let record = |retry: &mut RetryState| retry.record_refusal(namespace, after, jitter, now);
                let retry_at = retry.map(|retry| retry.change(record));
                self.report_service_account_failure(namespace, None, &error, retry_at);
            }
        }
        self.reconcile(namespace, now);
    }

    fn record_failure(&mut self, namespace: &Arc<str>, refused: RefusedRequest, now: Now) {
        let RefusedRequest { secret, error, .. } = &refused;
        if matches!(error, RequestError::Unavailable { .. } | RequestError::NotLeader)
            && let Some(history) = self.index.history(namespace)
        {
            // The write may have succeeded, so an unknown version may be that of the write.
            history.written = None;
        }
        if *error == RequestError::NotLeader {
            return self.queue.schedule(namespace, Some(now.after(RECHECK)), now);
        }
        if matches!(error, RequestError::Immutable(_)) && self.index.set_immutable(namespace, secret) {
            return self.reconcile(namespace, now);
        }
        let denied = matches!(error, RequestError::AdmissionDenied(_)) && self.policy.repeat;
        if denied
            && let Some(retry_at) = self
                .retry_of(namespace, refused.operation)
                .and_then(|retry| retry.change(|retry| retry.record_lag(now)))
        {
            self.tell_overtaken(namespace, secret, error);
            return self.queue.schedule(namespace, Some(retry_at), now);
        }
        if matches!(error, RequestError::Conflict(_) | RequestError::NotOwned(_) | RequestError::OtherType(_))
            && self.may_act()
        {
            return self.read_secret(namespace, refused, now);
        }
        self.delay_retry(namespace, &refused, now);
    }

    fn delay_retry(&mut self, namespace: &Arc<str>, refused: &RefusedRequest, now: Now) {
        let jitter = self.settings.jitter;
        let after = refused.error.retry_after();
        let record = |retry: &mut RetryState| retry.record_refusal(namespace, after, jitter, now);
        let retry_at = self.retry_of(namespace, refused.operation).map(|retry| retry.change(record));
        if refused.operation != Operation::Delete
            && let Some(history) = self.index.history(namespace)
        {
            history.refused.change(|names| names.insert(refused.secret.clone()));
        }
        self.report_write_failure(namespace, refused, retry_at);
        if planted(Bug::ForgetRetries) {
            return self.requeue(namespace, None, now);
        }
        // Another step may start before that.
        self.reconcile(namespace, now);
    }

    /// The failures of the requests of this kind. Those of deletions delay no write, and the other way around.
    fn retry_of(&mut self, namespace: &str, operation: Operation) -> Option<&mut Rare<RetryState>> {
        let history = self.index.history(namespace)?;
        Some(if operation == Operation::Delete { &mut history.removals } else { &mut history.retry })
    }

    pub(super) fn token_fetched(&mut self, key: TokenKey, result: FetchResult, duration: Duration, now: Now) {
        let FetchOutcome { result, skew, waiters } = self.tokens.finish_call(&key, result, now);
        let (result, leader) = (result.map(|token| token.expires_at()), self.is_leader);
        self.tell(Tell::TokenFetched(TokenFetch { key, result, skew, duration, leader }));
        for namespace in waiters {
            self.reconcile(&namespace, now);
        }
    }

    pub(super) fn count_namespaces(&mut self, now: Now) {
        if !self.index.is_synced() {
            return;
        }
        self.tokens.sweep(now);
        for namespace in self.index.release_accounts(now.wall) {
            self.reconcile(&namespace, now);
        }
        self.index.sweep();
        self.granted.sweep();
        let mut counts = NamespaceCounts { held: self.removals.counts(), ..NamespaceCounts::default() };
        self.index.states().for_each(|state| count(state, now, &mut counts));
        let mut tokens = self.tokens.expiries();
        if !self.is_leader {
            // Only the leader plans, so a standby cannot tell the two apart. Its tokens are those of a former term.
            (counts.pending, counts.blocked) = (0, 0);
            tokens.clear();
        }
        let in_sync = self.is_leader && counts.pending == 0 && counts.expired == 0 && self.actions.is_empty();
        self.tell(Tell::Counted(Box::new(Counted {
            namespaces: counts,
            tokens,
            queued: self.queue.lengths(),
            in_sync_at: in_sync.then_some(now.wall),
        })));
    }
}

/// Whether a step is the removal that was planned before. The tokens that are at hand for a replacement are those of its request.
fn is_same_removal(step: &Step, before: &Step) -> bool {
    match (step, before) {
        (Step::Delete(again), Step::Delete(before)) => again.version.uid == before.version.uid,
        (Step::Replace(again), Step::Replace(before)) => {
            again.deletion.version.uid == before.deletion.version.uid && again.granted == before.granted
        }
        (Step::SetPullSecret(again), Step::SetPullSecret(before)) => {
            again.service_account == before.service_account && again.secret.is_none()
        }
        _ => false,
    }
}

fn count(state: &NamespaceState, now: Now, counts: &mut NamespaceCounts) {
    let expiry = state.earliest_expiry(now);
    let refresh = state.earliest_refresh();
    counts.earliest_expiry = [counts.earliest_expiry, expiry].into_iter().flatten().min();
    counts.earliest_refresh = [counts.earliest_refresh, refresh].into_iter().flatten().min();
    if !state.is_opted_in() {
        return;
    }
    match Readiness::of(expiry, state.blocked, now) {
        Readiness::Ready => counts.ready += 1,
        Readiness::Expired => counts.expired += 1,
        Readiness::Blocked => counts.blocked += 1,
        Readiness::Pending => counts.pending += 1,
    }
}
