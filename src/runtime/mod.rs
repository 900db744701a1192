//! Runs the controller. Only this module turns effects into requests and awaits futures.
//!
//! One loop takes watch events, outcomes, leadership and time, hands each to [`Controller::handle`], and spawns a task for each
//! action and each call to AWS.

mod execute;
pub mod reporter;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::execute::Done;
use self::reporter::Reporter;
use crate::clock::Clock;
use crate::controller::change::Change;
use crate::controller::index::Index;
use crate::controller::{Controller, Effect, Input, QueueLimits, RunPolicy};
use crate::core::settings::Settings;
use crate::ecr::TokenSource;
use crate::kubernetes::cluster::Cluster;
use crate::kubernetes::leader_election::WritePermit;
use crate::kubernetes::watch::targets;
use crate::telemetry::http::Health;

pub use self::reporter::Summary;

/// How long a shutdown waits for running actions.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(8);
/// The resolution of timers. A timer must not fire before the deadline.
const TIMER_RESOLUTION: Duration = Duration::from_millis(1);

/// The components of a runtime.
pub struct Parts {
    pub settings: Arc<Settings>,
    pub writes_per_second: u32,
    pub tokens_per_second: u32,
    pub policy: RunPolicy,
    pub confirm_removals: bool,
    pub cluster: Cluster,
    pub permit: WritePermit,
    pub source: Arc<dyn TokenSource>,
    pub reporter: Reporter,
    pub health: Health,
    pub clock: Clock,
}

/// The reason why the loop ended before it was stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("a watch ended unexpectedly")]
    WatchEnded,
    #[error("the Lease was lost before the pass was complete")]
    LeaseLost,
}

pub struct Runtime {
    controller: Controller,
    policy: RunPolicy,
    settings: Arc<Settings>,
    cluster: Cluster,
    permit: WritePermit,
    source: Arc<dyn TokenSource>,
    reporter: Reporter,
    health: Health,
    clock: Clock,
    /// Actions and calls to AWS.
    tasks: JoinSet<Done>,
}

impl Runtime {
    pub fn new(parts: Parts) -> Self {
        let Parts { settings, policy, cluster, permit, source, reporter, health, clock, .. } = parts;
        let limits = QueueLimits {
            writes_per_second: parts.writes_per_second,
            tokens_per_second: parts.tokens_per_second,
        };
        let index = Index::new(targets(&settings));
        let controller = Controller::new(settings.clone(), policy, parts.confirm_removals, index, limits);
        let tasks = JoinSet::new();
        Self { controller, policy, settings, cluster, permit, source, reporter, health, clock, tasks }
    }

    /// Runs until `stop` becomes true or a single pass is complete, then waits for running actions.
    pub async fn run(
        mut self,
        mut changes: mpsc::Receiver<Change>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<Summary, RunError> {
        self.handle(Input::LeadershipChanged(self.permit.leadership()));
        while !self.controller.is_finished() {
            let pause = self.controller.time_to_next(self.clock.now()) + TIMER_RESOLUTION;
            let input = tokio::select! {
                // A dropped sender also ends the loop.
                _ = stop.wait_for(|stop| *stop) => break,
                change = changes.recv() => Input::Changed(change.ok_or(RunError::WatchEnded)?),
                Some(done) = self.tasks.join_next() => done.expect("an action or call does not panic").into(),
                () = self.permit.changed() => Input::LeadershipChanged(self.permit.leadership()),
                () = tokio::time::sleep(pause) => Input::Tick,
            };
            self.handle(input);
            if !self.policy.repeat && self.permit.left().is_none() {
                return Err(RunError::LeaseLost);
            }
        }
        self.drain().await;
        Ok(self.reporter.summary())
    }

    fn handle(&mut self, input: Input) {
        self.health.beat();
        for effect in self.controller.handle(input, self.clock.now()) {
            match effect {
                Effect::Tell(tell) => self.reporter.tell(tell, &self.health),
                Effect::FetchToken(request) => {
                    self.tasks.spawn(execute::fetch_token(self.source.clone(), *request));
                }
                action => {
                    self.tasks.spawn(execute::act(self.cluster.clone(), self.settings.clone(), action));
                }
            }
        }
    }

    async fn drain(&mut self) {
        self.handle(Input::Stop);
        let deadline = Instant::now() + SHUTDOWN_GRACE;
        while self.controller.is_acting()
            && let Ok(Some(done)) = tokio::time::timeout_at(deadline, self.tasks.join_next()).await
        {
            self.handle(done.expect("an action or call does not panic").into());
        }
    }
}
