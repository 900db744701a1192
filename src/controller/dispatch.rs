//! Starts queued steps: collects the tokens of a write, composes the Secret, and emits the effect.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::error::RequestError;
use super::queue::Priority;
use super::slots::Slot;
use super::tell::Operation;
use super::tokens::{CachedToken, KeyState, MAX_WAIT, RENEW_INTERVAL, RenewalRequest, Want};
use super::{ActionId, Controller, Effect, Request};
use crate::core::Now;
use crate::core::grants::{Assignment, Granted};
use crate::core::plan::{
    Deletion, Observed, PullSecretChange, Replacement, SecretDraft, Step, WritePlan, WriteReason, compose,
};
use crate::core::planted::{Bug, planted};
use crate::core::secret::{RefreshPolicy, Token};

/// After a write without the token of a slow endpoint: how long until the token is looked up again.
const SLOW_ENDPOINT_RETRY: SignedDuration = SignedDuration::from_secs(15);
/// The minimum delay before a write without new content is planned again.
const MIN_DELAY: SignedDuration = SignedDuration::from_secs(1);

/// An action that is running.
pub(super) struct RunningAction {
    pub namespace: Arc<str>,
    pub action: Action,
    pub slot: Slot,
    /// When it began, by the monotonic clock.
    pub began: Duration,
}

pub(super) enum Action {
    Write(RunningWrite),
    /// The Namespace is read before this step removes something.
    Confirm(Step),
    /// With the version of the Secret in the index when the read begins; 0 without the Secret.
    ReadSecret(RefusedRequest, u64),
    Delete(Deletion),
    /// With the version of the service account that is known when it begins.
    SetPullSecret(PullSecretChange, u64),
    ListServiceAccounts,
}

pub(super) struct RunningWrite {
    pub secret: Arc<str>,
    pub reason: WriteReason,
    /// The version that it changes; `None` if it creates.
    pub base: Option<u64>,
    /// Whether every entry has a fresh token.
    pub complete: bool,
    pub fingerprint: u64,
}

/// A request that was refused because of the state of a Secret, which is read before the next attempt.
pub(super) struct RefusedRequest {
    pub secret: Arc<str>,
    pub operation: Operation,
    /// The version that the request was meant to change; 0 if it was meant to create the Secret.
    pub base: u64,
    pub error: RequestError,
}

/// The token of one entry.
struct CollectedToken {
    token: Option<Arc<Token>>,
    /// Whether it needs no renewal yet.
    is_fresh: bool,
}

/// The available tokens that a write needs.
#[derive(Default)]
struct CollectedTokens {
    tokens: Vec<CollectedToken>,
    /// Until when the write waits for a pending token.
    wait_until: Option<Timestamp>,
    /// When a failing or slow token may be available.
    retry_at: Option<Timestamp>,
}

impl CollectedTokens {
    /// The token of each entry.
    fn all(&self) -> Vec<Option<Arc<Token>>> {
        self.tokens.iter().map(|collected| collected.token.clone()).collect()
    }

    /// The token of each entry, if it needs no renewal yet.
    fn fresh(&self) -> Vec<Option<Arc<Token>>> {
        self.tokens.iter().map(|collected| collected.token.clone().filter(|_| collected.is_fresh)).collect()
    }

    /// The token of each entry, if it lives long enough for a replacement.
    fn lasting(&self, now: Now) -> Vec<Option<Arc<Token>>> {
        let is_lasting = |c: &CollectedToken, token: &Token| Replacement::is_lasting(token, c.is_fresh, now);
        self.tokens.iter().map(|c| c.token.clone().filter(|token| is_lasting(c, token))).collect()
    }

    /// When there may be other tokens. One that fails must not delay the renewal of another one.
    fn wake(&self, refresh: RefreshPolicy) -> Option<Timestamp> {
        let fresh = self.fresh();
        let renewals = fresh.iter().flatten().map(|token| token.successor_due_at(refresh));
        renewals.chain(self.retry_at).min()
    }
}

/// The tokens of a write.
struct Needed<'a> {
    granted: &'a Granted,
    observed: Option<&'a Observed>,
    /// The time before which no token may have been issued.
    issued_after: Option<Timestamp>,
    /// Another write that may need its tokens soon.
    kept: Option<&'a Granted>,
}

impl Controller {
    /// Starts queued steps, as far as there is room for them.
    pub(super) fn dispatch(&mut self, now: Now) {
        while self.may_dispatch() {
            let next = self.queue.pop(|lane| self.slots.has_room(lane, now.mono), now);
            let Some((namespace, lane, step)) = next else { return };
            let slot = Slot::of(lane);
            match step {
                Step::Write(plan) => self.start_write(&namespace, *plan, slot, now),
                Step::Idle(wake) => self.requeue(&namespace, wake, now),
                Step::Replace(replacement) => self.start_replacement(&namespace, replacement, slot, now),
                removal if removal.is_removal() => {
                    self.start(&namespace, Action::Confirm(removal), Request::ReadNamespace, slot, now);
                }
                Step::Delete(deletion) => self.delete(&namespace, deletion, now),
                Step::SetPullSecret(change) => self.set_pull_secret(&namespace, change, now),
                Step::ListServiceAccounts => {
                    let (action, request) = (Action::ListServiceAccounts, Request::ListServiceAccounts);
                    self.start(&namespace, action, request, slot, now);
                }
            }
        }
    }

    /// Whether actions may start.
    pub(super) fn may_dispatch(&self) -> bool {
        self.index.is_synced() && self.is_leader && !self.is_stopping
    }

    /// How long until a queued step may start, if nothing else happens. Otherwise the end of an action is awaited.
    pub(super) fn time_to_dispatch(&self, now: Now) -> Option<Duration> {
        if !self.may_dispatch() || !self.queue.has_steps() {
            return None;
        }
        let has_room = self.slots.has_room(Priority::Renewal, now.mono);
        let renewal = self.queue.time_to_next_renewal(now).filter(|_| has_room);
        [renewal, self.slots.time_to_room(now.mono)].into_iter().flatten().min()
    }

    fn start_write(&mut self, namespace: &Arc<str>, mut plan: WritePlan, slot: Slot, now: Now) {
        let (otherwise, again_at, granted) = (plan.otherwise.take(), plan.again_at, plan.granted.clone());
        let kept = match otherwise.as_deref() {
            Some(Step::Write(other)) => Some(other.granted.clone()),
            _ => None,
        };
        let Err(wake) = self.try_write(namespace, plan, kept.as_deref(), slot, now) else { return };
        let later = match otherwise.map(|step| *step) {
            Some(Step::Write(other)) => self.try_write(namespace, *other, Some(&granted), slot, now),
            Some(step) => {
                return self.file_otherwise(namespace, step, wake.into_iter().chain(again_at).min(), now);
            }
            None => Err(None),
        };
        if let Err(later) = later {
            self.await_tokens(namespace, [wake, later, again_at].into_iter().flatten().min(), now);
        }
    }

    /// Queues the step to start without tokens, and plans again when there may be some.
    fn file_otherwise(&mut self, namespace: &Arc<str>, step: Step, wake: Option<Timestamp>, now: Now) {
        self.file(namespace, step, now);
        if let Some(wake) = wake.filter(|_| self.policy.repeat) {
            self.queue.wake_at(namespace, wake.max(now.after(MIN_DELAY)), now);
        }
    }

    /// Starts a write, or waits for tokens that are on their way. Keeps the tokens of another write. If the present tokens are of
    /// no use, it returns when there may be others.
    fn try_write(
        &mut self,
        namespace: &Arc<str>,
        plan: WritePlan,
        kept: Option<&Granted>,
        slot: Slot,
        now: Now,
    ) -> Result<(), Option<Timestamp>> {
        let needed = Needed {
            granted: &plan.granted,
            observed: plan.observed.as_deref(),
            issued_after: plan.issued_after,
            kept,
        };
        let collected = self.collect_tokens(namespace, &needed, now);
        if let Some(until) = collected.wait_until {
            // The namespace is reconciled when the call ends, but at the latest at this time.
            self.queue.schedule(namespace, Some(until), now);
            return Ok(());
        }
        let Some(facts) = self.index.facts(namespace) else { return Ok(()) };
        let draft = compose(&plan, &collected.all(), &facts, &self.settings, now);
        let draft = draft.ok_or_else(|| collected.wake(self.settings.refresh))?;
        self.write(namespace, plan, draft, &collected, slot, now);
        Ok(())
    }

    fn write(
        &mut self,
        namespace: &Arc<str>,
        plan: WritePlan,
        draft: SecretDraft,
        collected: &CollectedTokens,
        slot: Slot,
        now: Now,
    ) {
        let mut base = plan.observed.map(|observed| observed.version());
        if let Some(base) = base.as_mut().filter(|_| planted(Bug::WrongUid)) {
            base.uid = "another".into();
        }
        let write = RunningWrite {
            secret: self.allowed_name(&plan.granted.request.secret_name),
            reason: plan.reason,
            base: base.as_ref().map(|base| base.resource_version),
            complete: collected.tokens.iter().all(|collected| collected.is_fresh),
            fingerprint: draft.fingerprint,
        };
        let draft = Box::new(draft);
        self.start(namespace, Action::Write(write), Request::Write { base, draft }, slot, now);
    }

    /// Deletes a Secret for its replacement, once the tokens of the new one are at hand.
    fn start_replacement(
        &mut self,
        namespace: &Arc<str>,
        mut replacement: Box<Replacement>,
        slot: Slot,
        now: Now,
    ) {
        let otherwise = replacement.otherwise.take();
        let (granted, observed) = (&*replacement.granted, Some(&replacement.observed));
        let needed = Needed { granted, observed, issued_after: None, kept: None };
        let collected = self.collect_tokens(namespace, &needed, now);
        if let Some(until) = collected.wait_until {
            return self.queue.schedule(namespace, Some(until), now);
        }
        if !replacement.is_ready(&collected.lasting(now), now) {
            // With the last entry that no token replaces, nothing is left to lose.
            let expiries = replacement.observed.entries().filter_map(|entry| entry.expires_at);
            let passes = expiries.chain(replacement.due_at).map(|at| now.certainly_passes_at(at));
            let times = passes.chain(replacement.again_at).filter(|at| *at > now.wall);
            let wake = collected.wake(self.settings.refresh).into_iter().chain(times).min();
            return match otherwise {
                Some(step) => self.file_otherwise(namespace, *step, wake, now),
                None => self.await_tokens(namespace, wake, now),
            };
        }
        let replace = Action::Confirm(Step::Replace(replacement));
        self.start(namespace, replace, Request::ReadNamespace, slot, now);
    }

    /// The present tokens are of no use: plans again when there may be others.
    fn await_tokens(&mut self, namespace: &Arc<str>, wake: Option<Timestamp>, now: Now) {
        let soonest = now.after(MIN_DELAY);
        self.requeue(namespace, Some(wake.map_or(soonest, |wake| wake.max(soonest))), now);
    }

    /// The shared string of an allowed name.
    fn allowed_name(&self, name: &str) -> Arc<str> {
        let allowed = self.settings.names.secret_names.iter().find(|allowed| ***allowed == *name);
        allowed.cloned().unwrap_or_else(|| name.into())
    }

    /// Looks up the token of every entry, and requests those that are due, or that were issued before `issued_after`.
    fn collect_tokens(&mut self, namespace: &Arc<str>, needed: &Needed<'_>, now: Now) -> CollectedTokens {
        let Needed { granted, observed, issued_after, kept } = *needed;
        let mut collected = CollectedTokens::default();
        let renewed_at = self.index.get(namespace).and_then(|state| state.history.pace.renewed_at);
        let held_until = renewed_at.and_then(|at| at.checked_add(RENEW_INTERVAL).ok());
        let earliest = |old: Option<Timestamp>, new: Timestamp| Some(old.map_or(new, |old| old.min(new)));
        // Another client can write the record of a Secret.
        let applied = observed.filter(|observed| observed.intact).and_then(|o| o.applied.as_deref());
        let wants = granted.assignments.iter().map(|Assignment { target, request, .. }| {
            let entry = applied.and_then(|applied| applied.entry(target));
            let renewal = issued_after.map(|issued_after| RenewalRequest {
                issued_after,
                held_until,
                is_pending: entry.is_some_and(|entry| entry.is_older(issued_after, now)),
            });
            Want { request, expires_at: entry.and_then(|entry| entry.expires_at), renewal }
        });
        let wants: Vec<_> = wants.collect();
        let found = self.tokens.lookup(namespace, &wants, kept, now);
        for (assignment, CachedToken { token, state, renews }) in granted.assignments.iter().zip(found) {
            if renews && let Some(history) = self.index.history(namespace) {
                history.pace.change(|pace| pace.renewed_at = Some(now.wall));
            }
            let is_held = matches!(state, KeyState::Held { .. }) && token.is_some();
            let is_fresh = state == KeyState::Fresh || is_held;
            collected.tokens.push(CollectedToken { token, is_fresh });
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

    pub(super) fn delete(&mut self, namespace: &Arc<str>, deletion: Deletion, now: Now) {
        self.go_on(namespace, Action::Delete(deletion.clone()), Request::Delete(deletion), now);
    }

    /// Reads a Secret after a refusal.
    pub(super) fn read_secret(&mut self, namespace: &Arc<str>, refused: RefusedRequest, now: Now) {
        let request = Request::ReadSecret(refused.secret.clone());
        let known = self.index.secret_version(namespace, &refused.secret).unwrap_or(0);
        self.go_on(namespace, Action::ReadSecret(refused, known), request, now);
    }

    pub(super) fn set_pull_secret(&mut self, namespace: &Arc<str>, change: PullSecretChange, now: Now) {
        let accounts = self.index.get(namespace).map_or(&[][..], |state| &state.service_accounts);
        let known = accounts.iter().find(|(name, _)| *name == change.service_account);
        let version = known.map_or(0, |(_, refs)| refs.resource_version);
        let action = Action::SetPullSecret(change.clone(), version);
        self.go_on(namespace, action, Request::SetPullSecret(change), now);
    }

    /// Starts an action that follows another one in the namespace.
    fn go_on(&mut self, namespace: &Arc<str>, action: Action, request: Request, now: Now) {
        let slot = if self.slow.contains(namespace) { Slot::Slow } else { Slot::Ordinary };
        self.start(namespace, action, request, slot, now);
    }

    fn start(&mut self, namespace: &Arc<str>, action: Action, request: Request, slot: Slot, now: Now) {
        let id = ActionId(self.next_id);
        self.next_id += 1;
        self.queue.mark_running(namespace);
        self.slots.begin(slot, now.mono);
        self.index.await_reply(namespace);
        let running = RunningAction { namespace: namespace.clone(), action, slot, began: now.mono };
        self.actions.insert(id, running);
        self.effects.push(Effect::Act { id, namespace: namespace.clone(), request });
    }
}
