//! Planning: the facts of a namespace → its next step, in the queue.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Controller;
use super::index::NamespaceState;
use super::queue::Priority;
use super::tell::Tell;
use crate::core::Now;
use crate::core::plan::{Facts, Plan, Revocation, Step, plan};

/// How often a lasting problem is reported, less up to a quarter. The API server deletes an Event that is not updated for an hour
/// (`--event-ttl`).
pub(super) const REPORT_PERIOD: Duration = Duration::from_mins(10);

impl Controller {
    /// Plans the next step of every namespace, once the lists are complete and this process is the leader.
    pub(super) fn reconcile_all(&mut self, now: Now) {
        if !(self.index.is_synced() && self.is_leader) {
            return;
        }
        let all: Vec<_> = self.index.names().cloned().collect();
        self.tell(Tell::PassStarted { namespaces: all.len() });
        self.tokens.release_others(|namespace| self.index.get(namespace).is_some());
        self.hold_removals(&all, now);
        for namespace in all {
            self.reconcile(&namespace, now);
        }
    }

    /// Decides on the removals that follow from the configuration, before any of them begins.
    fn hold_removals(&mut self, all: &[Arc<str>], now: Now) {
        self.removals.clear();
        for namespace in all {
            let revocations = self.plan(namespace, now).map(|plan| plan.revocations);
            self.note_revocations(namespace, revocations.unwrap_or_default());
        }
        self.removals.decide(&self.index, now);
        self.report_held_removals(now);
    }

    /// Notes what the configuration removes in a namespace. Returns whether that needs a decision. A single pass that deletes
    /// nothing holds nothing.
    fn note_revocations(&mut self, namespace: &Arc<str>, revocations: Vec<Revocation>) -> bool {
        self.policy.delete && self.removals.set(namespace, revocations)
    }

    /// Approves the held removals if they were confirmed, and reports them if they changed.
    pub(super) fn report_held_removals(&mut self, now: Now) {
        let approved = self.removals.approve();
        if !approved.is_empty() {
            self.tell(Tell::RemovalsConfirmed { namespaces: approved.len() });
        }
        for namespace in approved {
            self.reconcile(&namespace, now);
        }
        if let Some(held) = self.removals.changed() {
            self.tell(Tell::RemovalsHeld(held));
        }
    }

    /// Plans the next step of a namespace, and queues it.
    pub(super) fn reconcile(&mut self, namespace: &Arc<str>, now: Now) {
        if !self.is_leader || self.queue.is_running(namespace) {
            return;
        }
        let Some(mut plan) = self.plan(namespace, now) else {
            self.forget(namespace);
            return self.queue.schedule(namespace, None, now);
        };
        let was_held = self.removals.is_held(namespace);
        if self.note_revocations(namespace, mem::take(&mut plan.revocations)) {
            for other in self.removals.decide(&self.index, now).iter().filter(|other| *other != namespace) {
                self.reconcile(other, now);
            }
        }
        if self.removals.is_held(namespace) != was_held
            && let Some(changed) = self.plan(namespace, now)
        {
            (plan.step, plan.problems) = (changed.step, changed.problems);
        }
        self.tokens.retain(namespace, [plan.granted.as_deref(), plan.former.as_deref()]);
        if let Some(state) = self.index.get_mut(namespace) {
            state.blocked = plan.is_blocked();
        }
        let has_problems = !plan.problems.is_empty();
        self.report_problems(namespace, plan.problems);
        self.file(namespace, plan.step, now);
        if has_problems && self.policy.repeat {
            let spread = 1.0 - 0.25 * self.settings.jitter.fraction(namespace);
            self.queue.wake_at(namespace, now.after(REPORT_PERIOD.mul_f64(spread)), now);
        }
    }

    /// The plan for a namespace that is in the index.
    fn plan(&self, namespace: &str, now: Now) -> Option<Plan> {
        Some(plan(&self.facts(namespace)?, &self.settings, now))
    }

    /// The facts about a namespace that is in the index.
    pub(super) fn facts<'a>(&'a self, namespace: &'a str) -> Option<Facts<'a>> {
        let (held, is_single_pass) = (self.removals.is_held(namespace), !self.policy.repeat);
        Some(Facts { held, is_single_pass, ..self.index.facts(namespace)? })
    }

    /// Queues a step. Instead of a removal, a run that must not remove anything queues what it would do without that.
    pub(super) fn file(&mut self, namespace: &Arc<str>, mut step: Step, now: Now) {
        let is_skipped = step.is_removal() && !self.policy.delete;
        if is_skipped {
            self.tell_would_delete(namespace, &step);
            let facts = self.facts(namespace).map(|facts| Facts { keeps_all: true, ..facts });
            step = facts.map_or(Step::Idle(None), |facts| plan(&facts, &self.settings, now).step);
        }
        match (Priority::of(&step, now), step) {
            (Some(priority), Step::Write(mut plan)) => {
                // Equal grants are stored once, however many writes are queued.
                plan.granted = self.granted.intern(plan.granted);
                self.queue.push(namespace, self.lane(namespace, priority), Step::Write(plan), now);
            }
            (Some(priority), step) => {
                self.queue.push(namespace, self.lane(namespace, priority), step, now);
                self.wake_when_urgent(namespace, now);
            }
            (None, Step::Idle(wake)) => {
                let is_intact = |state: &NamespaceState| state.managed().any(|o| o.intact);
                if !is_skipped && self.index.get(namespace).is_some_and(is_intact) {
                    self.tell(Tell::InSync { namespace: namespace.clone() });
                }
                self.requeue(namespace, wake, now);
            }
            (None, _) => {}
        }
    }

    /// A step that waits in the queue must not delay the renewal of a Secret that is urgent, or becomes urgent meanwhile.
    fn wake_when_urgent(&mut self, namespace: &Arc<str>, now: Now) {
        let Some(state) = self.index.get(namespace) else { return };
        let urgent_at = state.managed().filter_map(|observed| observed.urgent_at(now));
        let mut wake = urgent_at.filter(|at| *at > now.wall).min();
        if state.managed().any(|observed| observed.is_urgent(now)) {
            let retries = [&state.history.retry, &state.history.removals].map(|retry| retry.retry_after(now));
            wake = retries.into_iter().flatten().chain(wake).min();
        }
        if let Some(wake) = wake.filter(|_| self.policy.repeat) {
            self.queue.wake_at(namespace, wake, now);
        }
    }

    /// The lane for a step: a namespace whose requests are not answered must not take the slots of others. No more lists run
    /// at once because of it.
    fn lane(&self, namespace: &str, priority: Priority) -> Priority {
        if priority != Priority::List && self.slow.contains(namespace) { Priority::Slow } else { priority }
    }

    /// Reconciles a namespace again at `wake`, unless this is a single pass.
    pub(super) fn requeue(&mut self, namespace: &Arc<str>, wake: Option<Timestamp>, now: Now) {
        let wake = if self.policy.repeat { wake } else { None };
        self.queue.schedule(namespace, wake, now);
    }
}
