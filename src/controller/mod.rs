//! The loop: gather the facts, plan, act. It owns all state, so that nothing is locked; only calls to AWS and to
//! the API server run elsewhere, and come back as values.

pub mod act;
mod outcome;
pub mod queue;
pub mod report;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{error, info};

use self::act::{Act, Deletion};
use self::queue::{Lane, Queue};
use self::report::Reporter;
use crate::clock::Clock;
use crate::cluster::index::{Entry, Index};
use crate::cluster::observe::NamespaceRecord;
use crate::cluster::watch::Change;
use crate::cluster::write::Cluster;
use crate::core::annotations::Settings;
use crate::core::facts::{Facts, Owner};
use crate::core::plan::{DeleteCause, Intent, Plan, Step, WriteCause, plan};
use crate::core::settle::settle;
use crate::core::token::Token;
use crate::ecr::cache::{Lookup, PATIENCE, State, Tokens};
use crate::telemetry::http::Health;
use crate::telemetry::metrics::Metrics;

pub use self::report::Summary;

/// Writes under way at the same time.
const CONCURRENT_WRITES: usize = 64;
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

/// What there is of the tokens that a write takes.
#[derive(Default)]
struct Gathered {
    tokens: Vec<Option<Arc<Token>>>,
    /// Every one is as good as AWS gives them.
    whole: bool,
    /// Some are on their way, and worth waiting for until then.
    patience: Option<Timestamp>,
    /// When it is worth looking again.
    wake: Option<Timestamp>,
}

/// The controller.
pub struct Controller {
    parts: Parts,
    queue: Queue,
    acts: JoinSet<Act>,
    synced: bool,
    /// The configuration would take away more than it may without a confirmation.
    held: bool,
}

impl Controller {
    /// A controller that has not begun.
    pub fn new(parts: Parts) -> Self {
        let queue = Queue::new(parts.writes_per_second);
        Self { parts, queue, acts: JoinSet::new(), synced: false, held: false }
    }

    /// Runs until `stop` turns true (or, once, until all is done), then waits for the writes in flight.
    pub async fn run(
        mut self,
        mut changes: mpsc::Receiver<Change>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<Summary, WatchEnded> {
        self.parts.metrics.leader(true);
        let mut next_turn = Instant::now();
        loop {
            let pause = self.queue.pause(self.now(), Instant::now(), TURN);
            tokio::select! {
                // A sender that is gone wants no stop either; the flag decides.
                _ = stop.wait_for(|stop| *stop) => break,
                change = changes.recv() => self.change(change.ok_or(WatchEnded)?),
                Some(act) = self.acts.join_next() => self.acted(act.expect("an action does not panic")),
                finished = self.parts.tokens.next() => {
                    let outcome = self.parts.tokens.finish(finished, self.parts.clock.now());
                    self.minted(outcome);
                }
                () = tokio::time::sleep(pause) => {}
            }
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
            let all: Vec<_> = self.parts.index.names().cloned().collect();
            info!(namespaces = all.len(), "first lists are there");
            self.parts.reporter.total(all.len());
            self.hold_removals(&all);
            for namespace in all {
                self.look(&namespace);
            }
        }
    }

    /// A mistake in the configuration must not empty a cluster: what it alone would take away is counted at the
    /// start, since it does not change after that.
    fn hold_removals(&mut self, all: &[Arc<str>]) {
        let taken = |namespace: &&Arc<str>| {
            matches!(
                self.plan(namespace),
                Some(Plan { step: Step::Delete { cause: DeleteCause::NotGranted, .. }, .. })
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
        if self.queue.is_running(namespace) {
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
        let facts = self.parts.index.get(namespace)?.facts(namespace);
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

    /// Starts what may be started.
    fn start(&mut self) {
        while self.synced && self.acts.len() < CONCURRENT_WRITES {
            let Some(namespace) = self.queue.pop(Instant::now()) else { return };
            // The facts may be others by now.
            match self.plan(&namespace).map(|plan| plan.step) {
                Some(Step::Write(intent)) => self.write(&namespace, intent),
                Some(Step::Delete { name, uid, resource_version, cause }) => {
                    self.delete(&namespace, Deletion { name, uid, resource_version, cause });
                }
                Some(Step::Idle(_)) | None => self.look(&namespace),
            }
        }
    }

    fn write(&mut self, namespace: &Arc<str>, intent: Box<Intent>) {
        let now = self.now();
        let Gathered { tokens, whole, patience, wake } = self.gather(namespace, &intent, now);
        if let Some(patience) = patience {
            // The answer names us; one slow endpoint holds up nobody for longer than this.
            return self.queue.schedule(namespace, Some(patience));
        }
        let Some(entry) = self.parts.index.get(namespace) else { return };
        if let Some(made) = settle(&intent, &tokens, namespace, &entry.history, &self.parts.settings, now) {
            self.queue.begin(namespace);
            let (cluster, settings) = (self.parts.cluster.clone(), self.parts.settings.clone());
            self.acts.spawn(act::write(cluster, settings, namespace.clone(), intent, made, whole));
        } else {
            let renewal =
                tokens.iter().flatten().map(|token| token.renew_after(self.parts.settings.refresh)).min();
            let soonest = now + SignedDuration::from_secs(1);
            let wake = wake.or(renewal).map_or(soonest, |wake| wake.max(soonest));
            self.queue.schedule(namespace, Some(wake).filter(|_| self.parts.mode == Mode::Forever));
        }
    }

    /// The token of every entry, as far as there is one. All that are wanted are asked for at the same time.
    fn gather(&mut self, namespace: &Arc<str>, intent: &Intent, now: Timestamp) -> Gathered {
        let mut gathered = Gathered { whole: true, ..Gathered::default() };
        let sooner = |old: Option<Timestamp>, new: Timestamp| Some(old.map_or(new, |old| old.min(new)));
        for assignment in &intent.assignments {
            let Lookup { token, state } = self.parts.tokens.lookup(&assignment.key, namespace, now);
            gathered.tokens.push(token);
            gathered.whole &= state == State::Fresh;
            match state {
                State::Fresh => {}
                State::Failing { error, retry_at } => {
                    gathered.wake = sooner(gathered.wake, retry_at);
                    let uid = self.uid(namespace);
                    self.parts.reporter.token_failed(namespace, &uid, assignment, &error, retry_at);
                }
                State::Pending { since } => {
                    let end = since.checked_add(PATIENCE).unwrap_or(now);
                    if end > now {
                        gathered.patience = sooner(gathered.patience, end);
                    } else {
                        gathered.wake = sooner(gathered.wake, now + SignedDuration::from_secs(15));
                    }
                }
            }
        }
        gathered
    }

    fn delete(&mut self, namespace: &Arc<str>, deletion: Deletion) {
        let Some(entry) = self.parts.index.get(namespace) else { return };
        let agrees = agreement(namespace.clone(), entry, self.parts.settings.clone(), &deletion, self.now());
        self.queue.begin(namespace);
        let (cluster, settings) = (self.parts.cluster.clone(), self.parts.settings.clone());
        self.acts.spawn(act::delete(cluster, settings, namespace.clone(), deletion, agrees));
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
        WriteCause::Refresh => Lane::Refresh,
    }
}

/// Plans once more, with the Namespace as it is now: only the same deletion counts as agreement.
fn agreement(
    namespace: Arc<str>,
    entry: &Entry,
    settings: Arc<Settings>,
    deletion: &Deletion,
    now: Timestamp,
) -> impl FnOnce(Option<&NamespaceRecord>) -> bool + use<> {
    let (secrets, history, uid) = (entry.secrets.clone(), entry.history.clone(), deletion.uid.clone());
    move |record| {
        let reading = record.map(|record| &*record.reading);
        let facts = Facts { namespace: &namespace, reading, secrets: &secrets, history: &history };
        matches!(plan(&facts, &settings, now).step, Step::Delete { uid: again, .. } if again == uid)
    }
}
