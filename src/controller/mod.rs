//! The loop: gather the facts, plan, act. It owns all state, so that nothing is locked; only calls to AWS and to
//! the API server run elsewhere, and come back as values.

pub mod act;
mod outcome;
pub mod queue;
pub mod report;
mod start;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{error, info, warn};

use self::act::Act;
use self::queue::{Lane, Queue};
use self::report::Reporter;
use crate::clock::Clock;
use crate::cluster::index::Index;
use crate::cluster::lead::Lead;
use crate::cluster::watch::Change;
use crate::cluster::write::Cluster;
use crate::core::facts::Owner;
use crate::core::facts::WriteCause;
use crate::core::plan::{DeleteCause, Plan, Step, plan};
use crate::core::settings::Settings;
use crate::ecr::cache::Tokens;
use crate::telemetry::http::Health;
use crate::telemetry::metrics::Metrics;

pub use self::report::Summary;

/// The loop turns at least this often: to beat, to count, and to notice a clock that was set.
const TURN: Duration = Duration::from_secs(5);
/// How long a shutdown waits for writes in flight.
const GRACE: Duration = Duration::from_secs(8);

/// How long it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Until it is told to stop.
    Forever,
    /// Until every namespace was looked after once.
    Once {
        /// Whether to delete what nobody asks for any more.
        prune: bool,
    },
}

/// What a controller is made of.
pub struct Parts {
    /// What the configuration says.
    pub settings: Arc<Settings>,
    /// Refreshes in a second.
    pub writes_per_second: u32,
    /// The cluster.
    pub cluster: Cluster,
    /// The right to write.
    pub lead: Lead,
    /// The tokens.
    pub tokens: Tokens,
    /// The index, empty.
    pub index: Index,
    /// Where reports go.
    pub reporter: Reporter,
    /// The metrics.
    pub metrics: Metrics,
    /// The probes.
    pub health: Health,
    /// The time.
    pub clock: Clock,
    /// How long it runs.
    pub mode: Mode,
    /// Whether the configuration may take many Secrets away.
    pub confirm_removals: bool,
}

/// Why the loop ended by itself.
#[derive(Debug, thiserror::Error)]
#[error("a watch ended, which it never does by itself")]
pub struct WatchEnded;

/// The controller.
pub struct Controller {
    parts: Parts,
    queue: Queue,
    acts: JoinSet<Act>,
    synced: bool,
    /// Whether this process may write. One that may not watches all the same, and says nothing.
    leads: bool,
    /// The configuration would take away more than it may without a confirmation.
    held: bool,
}

impl Controller {
    /// A controller that has not begun.
    pub fn new(parts: Parts) -> Self {
        let queue = Queue::new(parts.writes_per_second);
        Self { parts, queue, acts: JoinSet::new(), synced: false, leads: false, held: false }
    }

    /// Runs until `stop` turns true (or, once, until all is done), then waits for the writes in flight.
    pub async fn run(
        mut self,
        mut changes: mpsc::Receiver<Change>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<Summary, WatchEnded> {
        let mut next_turn = Instant::now();
        self.follow_lead();
        loop {
            let lead = self.parts.lead.left().map_or(TURN, |left| left.min(TURN) + Duration::from_millis(1));
            let pause = self.queue.pause(self.now(), Instant::now(), lead);
            tokio::select! {
                // A sender that is gone wants no stop either; the flag decides.
                _ = stop.wait_for(|stop| *stop) => break,
                change = changes.recv() => self.change(change.ok_or(WatchEnded)?),
                Some(act) = self.acts.join_next() => self.acted(act.expect("an action does not panic")),
                finished = self.parts.tokens.next() => {
                    let outcome = self.parts.tokens.finish(finished, self.parts.clock.now());
                    self.minted(outcome);
                }
                () = self.parts.lead.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
            self.follow_lead();
            for namespace in self.queue.due(self.now()) {
                self.look(&namespace);
            }
            self.start();
            if Instant::now() >= next_turn {
                self.turn();
                next_turn = Instant::now() + TURN;
            }
            if self.is_finished() {
                break;
            }
        }
        self.drain().await;
        self.turn();
        Ok(self.parts.reporter.summary())
    }

    fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    fn is_finished(&self) -> bool {
        let idle = self.queue.waiting() == 0 && self.acts.is_empty() && !self.parts.tokens.is_busy();
        self.parts.mode != Mode::Forever && self.synced && idle
    }

    fn change(&mut self, change: Change) {
        let changed = self.parts.index.take(change);
        if self.synced {
            for namespace in changed {
                self.look(&namespace);
            }
        } else if self.parts.index.is_synced() {
            self.synced = true;
            self.parts.health.ready();
            info!(namespaces = self.parts.index.names().count(), "first lists are there");
            self.begin();
        }
    }

    /// Notices that the right to write came or went.
    fn follow_lead(&mut self) {
        let leads = self.parts.lead.left().is_some();
        if leads == self.leads {
            return;
        }
        self.leads = leads;
        self.parts.metrics.leader(leads);
        if leads {
            self.begin();
        } else {
            warn!("this process does not hold the Lease any more: it writes nothing, and stands by");
            self.queue.clear();
            self.parts.index.forget_histories();
        }
    }

    /// Looks after everything, once the facts and the right are there.
    fn begin(&mut self) {
        if !(self.synced && self.leads) {
            return;
        }
        let all: Vec<_> = self.parts.index.names().cloned().collect();
        self.parts.reporter.total(all.len());
        self.hold_removals(&all);
        for namespace in all {
            self.look(&namespace);
        }
    }

    /// A mistake in the configuration must not empty a cluster: what it alone would take away is counted when
    /// the writing begins, since it does not change after that.
    fn hold_removals(&mut self, all: &[Arc<str>]) {
        let taken = |namespace: &&Arc<str>| {
            matches!(
                self.plan(namespace).map(|plan| plan.step),
                Some(
                    Step::Delete { cause: DeleteCause::NotGranted, .. }
                        | Step::Account { cause: Some(DeleteCause::NotGranted), .. }
                )
            )
        };
        let removals = all.iter().filter(taken).count();
        let ours = self.parts.index.entries().filter(|(_, entry)| entry.is_ours()).count();
        self.held = !self.parts.confirm_removals && removals > (ours / 10).max(10);
        if self.held {
            error!(
                removals,
                of = ours,
                "the configuration no longer grants these secrets; none of them is deleted or refreshed until \
                 --confirm-removals confirms it"
            );
        }
    }

    /// Plans, and puts the namespace where the plan says.
    fn look(&mut self, namespace: &Arc<str>) {
        if !self.leads || self.queue.is_running(namespace) {
            return;
        }
        let Some(plan) = self.plan(namespace) else { return self.queue.schedule(namespace, None) };
        self.report(namespace, &plan);
        match plan.step {
            Step::Idle(wake) => {
                if self.is_settled(namespace) {
                    self.parts.reporter.settled(namespace);
                }
                self.queue.schedule(namespace, wake.filter(|_| self.parts.mode == Mode::Forever));
            }
            Step::Write(intent) => self.queue.push(namespace, lane(intent.cause)),
            Step::Account { account, wanted: None, .. }
                if self.parts.mode == (Mode::Once { prune: false }) =>
            {
                let reference = format!("the reference in service account {account}");
                self.parts.reporter.would_delete(namespace, &reference);
                self.queue.schedule(namespace, None);
            }
            Step::Account { cause: Some(DeleteCause::NotGranted), .. } if self.held => {
                self.queue.schedule(namespace, None);
            }
            Step::Account { wanted, .. } => {
                self.queue.push(namespace, if wanted.is_some() { Lane::Repair } else { Lane::Delete });
            }
            Step::Delete { name, .. } if self.parts.mode == (Mode::Once { prune: false }) => {
                self.parts.reporter.would_delete(namespace, &name);
                self.queue.schedule(namespace, None);
            }
            Step::Delete { name, cause: DeleteCause::NotGranted, .. } if self.held => {
                self.parts.reporter.held(namespace, &self.uid(namespace), &name);
                self.queue.schedule(namespace, None);
            }
            Step::Delete { .. } => self.queue.push(namespace, Lane::Delete),
        }
    }

    fn plan(&self, namespace: &Arc<str>) -> Option<Plan> {
        let facts = self.parts.index.get(namespace)?.facts(namespace, self.parts.index.sources());
        Some(plan(&facts, &self.parts.settings, self.now()))
    }

    fn report(&mut self, namespace: &Arc<str>, plan: &Plan) {
        let uid = self.uid(namespace);
        for report in &plan.reports {
            self.parts.reporter.condition(namespace, &uid, report);
        }
    }

    fn uid(&self, namespace: &str) -> Box<str> {
        let record = self.parts.index.get(namespace).and_then(|entry| entry.namespace.as_ref());
        record.map(|record| record.uid.clone()).unwrap_or_default()
    }

    fn is_settled(&self, namespace: &str) -> bool {
        self.parts
            .index
            .get(namespace)
            .is_some_and(|entry| entry.secrets.iter().any(|(_, o)| o.owner == Owner::Ours && o.intact))
    }

    /// What is done every few seconds.
    fn turn(&mut self) {
        self.parts.health.beat();
        if !self.synced {
            return;
        }
        let now = self.now();
        let census = outcome::census(self.parts.index.entries().map(|(_, entry)| entry), now);
        let settled = census.pending == 0 && census.expired == 0 && self.acts.is_empty();
        self.parts.metrics.census(&census, settled.then(|| now.as_second()));
    }

    async fn drain(&mut self) {
        let deadline = Instant::now() + GRACE;
        while let Ok(Some(act)) = tokio::time::timeout_at(deadline, self.acts.join_next()).await {
            self.acted(act.expect("an action does not panic"));
        }
    }
}

fn lane(cause: WriteCause) -> Lane {
    match cause {
        WriteCause::Create | WriteCause::Change => Lane::New,
        WriteCause::Repair => Lane::Repair,
        WriteCause::Static | WriteCause::Refresh => Lane::Refresh,
    }
}
