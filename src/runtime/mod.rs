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
use tracing::warn;

use self::reporter::Reporter;
use crate::clock::Clock;
use crate::controller::change::Change;
use crate::controller::index::Index;
use crate::controller::{Controller, Effect, Input, RunPolicy};
use crate::core::secret::TokenSource;
use crate::kubernetes::cluster::Cluster;
use crate::kubernetes::leader_election::WritePermit;
use crate::kubernetes::watch::{Relists, targets};
use crate::telemetry::http::Health;

pub use self::reporter::Summary;

/// How long a shutdown waits for running actions.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(8);
/// The resolution of timers. A timer must not fire before the deadline.
const TIMER_RESOLUTION: Duration = Duration::from_millis(1);

/// The components of a runtime.
pub struct Parts {
    pub policy: RunPolicy,
    pub cluster: Cluster,
    pub permit: WritePermit,
    pub source: Arc<dyn TokenSource>,
    pub reporter: Reporter,
    pub health: Health,
    pub relists: Relists,
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
    parts: Parts,
    /// Actions and calls to AWS.
    tasks: JoinSet<Input>,
}

impl Runtime {
    pub fn new(parts: Parts) -> Self {
        let settings = parts.cluster.settings.clone();
        let index = Index::new(targets(&settings));
        Self {
            controller: Controller::new(settings, parts.policy.clone(), index),
            parts,
            tasks: JoinSet::new(),
        }
    }

    /// Runs until `stop` becomes true or a single pass is complete, then waits for running actions.
    pub async fn run(
        mut self,
        mut changes: mpsc::Receiver<Change>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<Summary, RunError> {
        self.handle(Input::LeadershipChanged(self.parts.permit.leadership()));
        let mut rewinds = self.parts.permit.rewinds();
        while !self.controller.is_finished() {
            let pause = self.controller.time_to_next(self.parts.clock.now()) + TIMER_RESOLUTION;
            let input = tokio::select! {
                // A dropped sender also ends the loop.
                _ = stop.wait_for(|stop| *stop) => break,
                change = changes.recv() => Input::Changed(change.ok_or(RunError::WatchEnded)?),
                Some(done) = self.tasks.join_next() => done.expect("an action or call does not panic"),
                () = self.parts.permit.changed() => Input::LeadershipChanged(self.parts.permit.leadership()),
                () = tokio::time::sleep(pause) => Input::Tick,
            };
            self.handle(input);
            if self.parts.permit.rewinds() != rewinds {
                rewinds = self.parts.permit.rewinds();
                warn!(
                    "the API server has older data than before, as after a restored backup: listing everything again"
                );
                self.handle(Input::VersionsWentBack);
            }
            if !self.parts.policy.repeat && self.parts.permit.left().is_none() {
                return Err(RunError::LeaseLost);
            }
        }
        self.drain().await;
        Ok(self.parts.reporter.summary())
    }

    fn handle(&mut self, input: Input) {
        self.parts.health.beat();
        for effect in self.controller.handle(input, self.parts.clock.now()) {
            match effect {
                Effect::Tell(tell) => self.parts.reporter.tell(tell, &self.parts.health),
                Effect::Relist(target) => self.parts.relists.request(&target),
                Effect::FetchToken(request) => {
                    self.tasks.spawn(execute::fetch_token(self.parts.source.clone(), *request));
                }
                Effect::Act { id, namespace, request } => {
                    self.tasks.spawn(execute::act(self.parts.cluster.clone(), id, namespace, request));
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
            self.handle(done.expect("an action or call does not panic"));
        }
    }
}
