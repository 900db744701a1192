//! Starts queued steps: collects the tokens of a write, composes the Secret, and emits the effect.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::error::RequestError;
use super::queue::Priority;
use super::tell::Operation;
use super::tokens::{CachedToken, KeyState, MAX_WAIT, RENEW_INTERVAL, RenewalRequest};
use super::{ActionId, Controller, Effect, Request};
use crate::core::Now;
use crate::core::grants::Granted;
use crate::core::plan::{Deletion, PullSecretChange, Replacement, Step, WritePlan, WriteReason, compose};
use crate::core::planted::{Bug, planted};
use crate::core::secret::Token;

/// The maximum number of concurrent actions.
const MAX_ACTIONS: usize = 64;
/// After a write without the token of a slow endpoint: how long until the token is looked up again.
const SLOW_ENDPOINT_RETRY: SignedDuration = SignedDuration::from_secs(15);
/// The minimum delay before a write without new content is planned again.
const MIN_DELAY: SignedDuration = SignedDuration::from_secs(1);

/// An action that is running.
pub(super) enum Action {
    Write(RunningWrite),
    /// The Namespace is read before this step removes something.
    Confirm(Step),
    ReadSecret(RefusedRequest),
    Delete(Deletion),
    /// With the version of the service account that is known when it begins.
    SetPullSecret(PullSecretChange, u64),
}

pub(super) struct RunningWrite {
    pub secret: Arc<str>,
    pub reason: WriteReason,
    pub creates: bool,
    /// Whether every entry has a fresh token.
    pub complete: bool,
    pub fingerprint: u64,
}

/// A request that was refused because of the state of a Secret, which is read before the next attempt.
pub(super) struct RefusedRequest {
    pub secret: Arc<str>,
    pub operation: Operation,
    pub error: RequestError,
    /// The version in the index when the read begins; 0 without the Secret.
    pub known: u64,
}

/// The available tokens that a write needs.
#[derive(Default)]
struct CollectedTokens {
    tokens: Vec<Option<Arc<Token>>>,
    /// Whether each token needs no renewal yet.
    fresh: Vec<bool>,
    /// Until when the write waits for a pending token.
    wait_until: Option<Timestamp>,
    /// When a failing or slow token may be available.
    retry_at: Option<Timestamp>,
}

impl Controller {
    /// Starts queued steps, up to the maximum.
    pub(super) fn dispatch(&mut self, now: Now) {
        while self.may_dispatch() {
            let Some((namespace, step)) = self.queue.pop(now) else { return };
            match step {
                Step::Write(plan) => self.start_write(&namespace, *plan, now),
                Step::Idle(wake) => self.requeue(&namespace, wake, now),
                Step::Replace(replacement) => self.start_replacement(&namespace, replacement, now),
                removal if Priority::of(&removal, now) == Some(Priority::Delete) => {
                    self.start_action(&namespace, Action::Confirm(removal), Request::ReadNamespace);
                }
                Step::Delete(deletion) => self.delete(&namespace, deletion),
                Step::SetPullSecret(change) => self.set_pull_secret(&namespace, change),
            }
        }
    }

    /// Whether an action may start. Otherwise the end of an action, the end of a list or the leadership is awaited.
    pub(super) fn may_dispatch(&self) -> bool {
        let may_write = self.index.is_synced() && self.is_leader && !self.is_stopping;
        may_write && self.actions.len() < MAX_ACTIONS
    }

    fn start_write(&mut self, namespace: &Arc<str>, plan: WritePlan, now: Now) {
        let collected = self.collect_tokens(namespace, &plan.granted, plan.issued_after, now);
        if let Some(until) = collected.wait_until {
            // The namespace is reconciled when the call ends, but at the latest at this time.
            return self.queue.schedule(namespace, Some(until), now);
        }
        let Some(facts) = self.index.facts(namespace) else { return };
        let Some(draft) = compose(&plan, &collected.tokens, &facts, &self.settings, now) else {
            return self.await_tokens(namespace, &collected, now);
        };
        let mut base = plan.observed.map(|observed| observed.version());
        if let Some(base) = base.as_mut().filter(|_| planted(Bug::WrongUid)) {
            base.uid = "another".into();
        }
        let write = RunningWrite {
            secret: self.allowed_name(&plan.granted.request.secret_name),
            reason: plan.reason,
            creates: base.is_none(),
            complete: collected.fresh.iter().all(|fresh| *fresh),
            fingerprint: draft.fingerprint,
        };
        let draft = Box::new(draft);
        self.start_action(namespace, Action::Write(write), Request::Write { base, draft });
    }

    /// Deletes a Secret for its replacement, once the tokens of the new one are at hand.
    fn start_replacement(&mut self, namespace: &Arc<str>, replacement: Box<Replacement>, now: Now) {
        let collected = self.collect_tokens(namespace, &replacement.granted, None, now);
        if let Some(until) = collected.wait_until {
            return self.queue.schedule(namespace, Some(until), now);
        }
        // A token that could not be renewed may expire before the new Secret exists.
        let is_fresh = |(token, fresh): (&Option<Arc<Token>>, &bool)| token.clone().filter(|_| *fresh);
        let fresh: Vec<_> = collected.tokens.iter().zip(&collected.fresh).map(is_fresh).collect();
        if !replacement.is_ready(&fresh, now) {
            return self.await_tokens(namespace, &collected, now);
        }
        let replace = Action::Confirm(Step::Replace(replacement));
        self.start_action(namespace, replace, Request::ReadNamespace);
    }

    /// The present tokens are of no use: plans again when there may be others.
    fn await_tokens(&mut self, namespace: &Arc<str>, collected: &CollectedTokens, now: Now) {
        let fresh = collected.tokens.iter().zip(&collected.fresh).filter(|(_, fresh)| **fresh);
        let renewals = fresh.filter_map(|(token, _)| token.as_ref());
        let renewals = renewals.map(|token| token.successor_due_at(self.settings.refresh));
        // A token that fails must not delay the renewal of another one.
        let wake = renewals.chain(collected.retry_at).min();
        let soonest = now.after(MIN_DELAY);
        self.requeue(namespace, Some(wake.map_or(soonest, |wake| wake.max(soonest))), now);
    }

    /// The shared string of an allowed name.
    fn allowed_name(&self, name: &str) -> Arc<str> {
        let allowed = self.settings.names.secret_names.iter().find(|allowed| ***allowed == *name);
        allowed.cloned().unwrap_or_else(|| name.into())
    }

    /// Looks up the token of every entry, and requests those that are due, or that were issued before `issued_after`.
    fn collect_tokens(
        &mut self,
        namespace: &Arc<str>,
        granted: &Granted,
        issued_after: Option<Timestamp>,
        now: Now,
    ) -> CollectedTokens {
        let mut collected = CollectedTokens::default();
        let renewed_at = self.index.get(namespace).and_then(|state| state.history.renewed_at);
        let held_until = renewed_at.and_then(|at| at.checked_add(RENEW_INTERVAL).ok());
        let renewal = issued_after.map(|issued_after| RenewalRequest { issued_after, held_until });
        let earliest = |old: Option<Timestamp>, new: Timestamp| Some(old.map_or(new, |old| old.min(new)));
        for assignment in &granted.assignments {
            let CachedToken { token, state, renews } =
                self.tokens.lookup(&assignment.request, renewal, namespace, now);
            if renews && let Some(history) = self.index.history(namespace) {
                history.renewed_at = Some(now.wall);
            }
            collected.tokens.push(token);
            collected.fresh.push(matches!(state, KeyState::Fresh | KeyState::Held { .. }));
            match state {
                KeyState::Fresh => {}
                KeyState::Held { until } => collected.retry_at = earliest(collected.retry_at, until),
                KeyState::Failing { error, retry_at } => {
                    collected.retry_at = earliest(collected.retry_at, retry_at);
                    self.report_token_failure(namespace, assignment, &error, retry_at);
                }
                KeyState::Pending { since } => {
                    let until = since.checked_add(MAX_WAIT).unwrap_or(now.wall);
                    // A wall clock that was set back must not prolong the wait.
                    if now.is_within(until, MAX_WAIT) {
                        collected.wait_until = earliest(collected.wait_until, until);
                    } else {
                        collected.retry_at = earliest(collected.retry_at, now.after(SLOW_ENDPOINT_RETRY));
                    }
                }
            }
        }
        collected
    }

    pub(super) fn delete(&mut self, namespace: &Arc<str>, deletion: Deletion) {
        self.start_action(namespace, Action::Delete(deletion.clone()), Request::Delete(deletion));
    }

    /// Reads a Secret after a refusal.
    pub(super) fn read_secret(
        &mut self,
        namespace: &Arc<str>,
        secret: &Arc<str>,
        operation: Operation,
        error: RequestError,
    ) {
        let known = self.index.secret_version(namespace, secret).unwrap_or(0);
        let refused = RefusedRequest { secret: secret.clone(), operation, error, known };
        self.start_action(namespace, Action::ReadSecret(refused), Request::ReadSecret(secret.clone()));
    }

    pub(super) fn set_pull_secret(&mut self, namespace: &Arc<str>, change: PullSecretChange) {
        let accounts = self.index.get(namespace).map_or(&[][..], |state| &state.service_accounts);
        let known = accounts.iter().find(|(name, _)| *name == change.service_account);
        let version = known.map_or(0, |(_, refs)| refs.resource_version);
        let action = Action::SetPullSecret(change.clone(), version);
        self.start_action(namespace, action, Request::SetPullSecret(change));
    }

    fn start_action(&mut self, namespace: &Arc<str>, action: Action, request: Request) {
        let id = ActionId(self.next_id);
        self.next_id += 1;
        self.queue.mark_running(namespace);
        self.index.await_reply(namespace);
        self.actions.insert(id, (namespace.clone(), action));
        self.effects.push(Effect::Act { id, namespace: namespace.clone(), request });
    }
}
