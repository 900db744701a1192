//! Planning: the facts of a namespace → its next step, in the queue.

use std::sync::Arc;

use jiff::Timestamp;

use super::Controller;
use super::queue::Priority;
use super::tell::Tell;
use crate::core::Now;
use crate::core::plan::{Plan, Step, plan};

/// Without a confirmation, the configuration may remove this many Secrets, or one in `MAX_REMOVALS_PART`.
const MAX_REMOVALS: usize = 10;
const MAX_REMOVALS_PART: usize = 10;

impl Controller {
    /// Plans the next step of every namespace, once the lists are complete and this process is the leader.
    pub(super) fn reconcile_all(&mut self, now: Now) {
        if !(self.index.is_synced() && self.is_leader) {
            return;
        }
        let all: Vec<_> = self.index.names().cloned().collect();
        self.tell(Tell::PassStarted { namespaces: all.len() });
        self.hold_removals(&all, now);
        for namespace in all {
            self.reconcile(&namespace, now);
        }
    }

    /// A mistake in the configuration must not delete the Secrets of a whole cluster. The removals that follow from the
    /// configuration are counted when the leadership begins, because the configuration does not change after that.
    fn hold_removals(&mut self, all: &[Arc<str>], now: Now) {
        let revoked =
            |namespace: &&Arc<str>| self.plan(namespace, now).is_some_and(|plan| plan.step.is_revocation());
        let removals = all.iter().filter(revoked).count();
        let managed = self.index.states().filter(|state| state.managed().next().is_some()).count();
        let allowed = (managed / MAX_REMOVALS_PART).max(MAX_REMOVALS);
        self.removals_held = !self.policy.confirm_removals && removals > allowed;
        if self.removals_held {
            self.tell(Tell::RemovalsHeld { removals, managed });
        }
    }

    /// Plans the next step of a namespace, and queues it.
    pub(super) fn reconcile(&mut self, namespace: &Arc<str>, now: Now) {
        if !self.is_leader || self.queue.is_running(namespace) {
            return;
        }
        let Some(Plan { step, problems }) = self.plan(namespace, now) else {
            return self.queue.schedule(namespace, None, now);
        };
        if let Some(state) = self.index.get_mut(namespace) {
            state.blocked = !problems.is_empty() && state.managed().next().is_none();
        }
        for problem in problems {
            let subject = problem.message.clone();
            self.tell_notice(namespace, problem.reason, &subject, problem.message);
        }
        self.file(namespace, step, now);
    }

    /// The plan for a namespace that is in the index.
    fn plan(&self, namespace: &str, now: Now) -> Option<Plan> {
        Some(plan(&self.index.facts(namespace)?, &self.settings, now))
    }

    /// Queues a step, unless this run must not make it.
    fn file(&mut self, namespace: &Arc<str>, step: Step, now: Now) {
        let priority = Priority::of(&step, now);
        if priority == Some(Priority::Delete) && !self.policy.delete {
            self.tell_would_delete(namespace, &step);
            return self.queue.schedule(namespace, None, now);
        }
        if self.removals_held && step.is_revocation() {
            if let Step::Delete(deletion) = &step {
                self.report_held_removal(namespace, &deletion.name);
            }
            return self.queue.schedule(namespace, None, now);
        }
        match (priority, step) {
            (Some(priority), Step::Write(mut plan)) => {
                // Equal grants are stored once, however many writes are queued.
                plan.granted = self.granted.intern(plan.granted);
                self.queue.push(namespace, priority, Step::Write(plan));
            }
            (Some(priority), step) => self.queue.push(namespace, priority, step),
            (None, Step::Idle(wake)) => {
                if self.index.get(namespace).is_some_and(|state| state.managed().any(|o| o.intact)) {
                    self.tell(Tell::InSync { namespace: namespace.clone() });
                }
                self.requeue(namespace, wake, now);
            }
            (None, _) => {}
        }
    }

    /// Reconciles a namespace again at `wake`, unless this is a single pass.
    pub(super) fn requeue(&mut self, namespace: &Arc<str>, wake: Option<Timestamp>, now: Now) {
        let wake = if self.policy.repeat { wake } else { None };
        self.queue.schedule(namespace, wake, now);
    }
}
