//! The task that acquires, renews and releases the Lease. It has a separate client, so that no other request delays a
//! renewal.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::lease::{LeaseClient, LeaseError};
use super::permit::{ElectionState, WritePermit};
use crate::clock::Clock;
use crate::core::leader_election::{ElectionStep, LeaderElector, Leadership, LeaseRecord};
use crate::core::{Now, quote};

/// How long a shutdown tries to release or delete the Lease.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(3);
const RELEASE_RETRY_PERIOD: Duration = Duration::from_millis(100);
/// The minimum time between two log lines about an unavailable Lease.
const WARN_PERIOD: Duration = Duration::from_mins(1);

/// Why a command could not become the leader.
#[derive(Debug, thiserror::Error)]
pub enum AcquireError {
    #[error(
        "{} holds the Lease {lease}: stop that process, wait longer with --timeout, or run without the Lease with \
         --force",
        quote(holder)
    )]
    Held { lease: String, holder: String },
    #[error(
        "cannot acquire the Lease {lease}: {source}; select the namespace of the controller with --namespace, wait longer \
         with --timeout, or run without the Lease with --force"
    )]
    Unavailable { lease: String, source: LeaseError },
}

/// The last action of the task, if this process holds the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Release,
    Delete,
}

/// A running election. If it is dropped, the Lease expires.
#[must_use]
#[derive(Debug)]
pub struct Election {
    stop: oneshot::Sender<Ending>,
    task: JoinHandle<Result<(), LeaseError>>,
}

impl Election {
    /// Tries to hold the Lease until it is stopped. No other process may have the same `identity`. `on_contact` is
    /// called after each request that shows that the election works: a write, or a read while another process is the leader.
    pub fn start(
        lease: LeaseClient,
        identity: String,
        clock: Clock,
        on_contact: impl Fn() + Send + 'static,
    ) -> (Self, WritePermit) {
        let (candidate, permit) = Candidate::new(lease, identity, clock);
        (candidate.spawn(on_contact), permit)
    }

    /// Tries until this process is the leader or `timeout` has passed. An error leaves the Lease as it was.
    pub async fn acquire(
        lease: LeaseClient,
        identity: String,
        clock: Clock,
        timeout: Duration,
    ) -> Result<(Self, WritePermit), AcquireError> {
        let (mut candidate, permit) = Candidate::new(lease, identity, clock);
        let deadline = Instant::now() + timeout;
        let mut follows_request = false;
        while permit.left().is_none() {
            let step = candidate.elector.next(clock.now());
            let is_wait = matches!(step, ElectionStep::Wait(_));
            // A write that may succeed is tried, and so is a read after a wait. Reads that take long follow each other directly.
            let may_end = is_wait || (follows_request && step == ElectionStep::Read);
            if may_end && Instant::now() >= deadline {
                return Err(candidate.give_up().await);
            }
            follows_request = !is_wait;
            candidate.execute(step).await;
        }
        Ok((candidate.spawn(|| ()), permit))
    }

    /// Releases the Lease. The caller must not write any more.
    pub async fn stop(self) {
        let _ = self.stop.send(Ending::Release);
        let _ = self.task.await;
    }

    /// Deletes the Lease if this process still holds it. The caller must not write any more.
    pub async fn delete_lease(self) -> Result<(), LeaseError> {
        let _ = self.stop.send(Ending::Delete);
        self.task.await.unwrap_or_else(|error| Err(LeaseError::Unavailable(error.to_string())))
    }

    /// Returns when the task ends, which is unexpected.
    pub async fn ended(&mut self) -> String {
        format!("{:?}", (&mut self.task).await)
    }
}

struct Candidate {
    lease: LeaseClient,
    elector: LeaderElector,
    state: watch::Sender<ElectionState>,
    clock: Clock,
    /// When this process last tried to acquire the Lease.
    acquired_at: Option<Timestamp>,
    last_error: Option<LeaseError>,
    warned_at: Option<Instant>,
}

impl Candidate {
    fn new(lease: LeaseClient, identity: String, clock: Clock) -> (Self, WritePermit) {
        let none = ElectionState { leadership: Leadership::NotLeader, rewinds: 0 };
        let (state, permit) = watch::channel(none);
        let candidate = Self {
            elector: LeaderElector::new(identity, lease.timing),
            lease,
            state,
            clock,
            acquired_at: None,
            last_error: None,
            warned_at: None,
        };
        (candidate, WritePermit::new(permit, clock))
    }

    fn spawn(mut self, on_contact: impl Fn() + Send + 'static) -> Election {
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let stopped = loop {
                let next = self.elector.next(self.clock.now());
                tokio::select! {
                    biased;
                    stopped = &mut stopped => break stopped,
                    works = self.execute(next) => if works { on_contact() },
                }
            };
            let Ok(ending) = stopped else { return Ok(()) };
            let result = self.end(ending).await;
            if result.is_err() && ending == Ending::Delete {
                let _ = self.end(Ending::Release).await;
            }
            result
        });
        Election { stop, task }
    }

    /// Returns whether the step shows that the election works. A read alone does not: a process that wants the Lease and cannot
    /// write it reads it before each attempt.
    async fn execute(&mut self, step: ElectionStep) -> bool {
        if let ElectionStep::Wait(pause) = step {
            sleep(pause).await;
            return false;
        }
        let asked = self.clock.now();
        let is_write = matches!(step, ElectionStep::Write { .. });
        let result = self.request(step, asked).await;
        if let Err(error) = &result {
            if matches!(error, LeaseError::Overloaded(_)) {
                self.elector.request_refused(asked);
            } else {
                self.elector.request_failed(asked);
            }
            self.warn(error);
        }
        let works = result.is_ok() && (is_write || self.elector.is_standby(self.clock.now()));
        if works && self.warned_at.take().is_some() {
            info!("the Lease is available again");
        }
        self.last_error = result.err();
        works
    }

    async fn request(&mut self, step: ElectionStep, asked: Now) -> Result<(), LeaseError> {
        let ElectionStep::Write { resource_version, transitions, acquires } = step else {
            let record = self.lease.get().await?;
            self.observed(record, asked);
            return Ok(());
        };
        if acquires {
            self.acquired_at = Some(asked.wall);
        }
        let identity = self.elector.identity();
        let record = self.lease.write(resource_version, identity, self.acquired_at, transitions).await?;
        if acquires {
            info!(identity, lease = %self.lease, "this process is the leader");
        }
        self.elector.wrote(record, asked, self.clock.now());
        self.show(Leadership::granted(asked, self.lease.timing));
        Ok(())
    }

    fn show(&self, leadership: Leadership) {
        self.state.send_replace(ElectionState { leadership, rewinds: self.elector.rewinds() });
    }

    fn observed(&mut self, record: LeaseRecord, asked: Now) {
        let before = self.elector.other_leader().map(str::to_owned);
        self.elector.observed(record, asked, self.clock.now());
        if let Some(leader) = self.elector.other_leader() {
            if before.as_deref() != Some(leader) {
                info!(leader, lease = %self.lease, "another process is the leader, this process is a standby");
            }
            // Another process acquired the Lease: the rest of the term does not count.
            self.show(Leadership::NotLeader);
        }
    }

    fn warn(&mut self, error: &LeaseError) {
        let recent = self.warned_at.is_some_and(|at| at.elapsed() < WARN_PERIOD);
        if !recent && !matches!(error, LeaseError::Conflict) {
            warn!(reason = %error, lease = %self.lease, "cannot read or write the Lease, retrying");
            self.warned_at = Some(Instant::now());
        }
    }

    async fn give_up(mut self) -> AcquireError {
        let lease = self.lease.to_string();
        let error = match (self.last_error.take(), self.elector.other_leader()) {
            (None | Some(LeaseError::Conflict), Some(holder)) => {
                AcquireError::Held { lease, holder: holder.to_owned() }
            }
            (error, _) => AcquireError::Unavailable { lease, source: error.unwrap_or(LeaseError::Conflict) },
        };
        // Only a write without a response can have succeeded. If it did not, there is nothing to release.
        let _ = self.end(Ending::Release).await;
        error
    }

    async fn end(&self, ending: Ending) -> Result<(), LeaseError> {
        self.show(Leadership::NotLeader);
        let attempts = async {
            while let Err(error) = self.try_to_end(ending).await {
                if matches!(error, LeaseError::Forbidden(_)) {
                    return Err(error);
                }
                sleep(RELEASE_RETRY_PERIOD).await;
            }
            Ok(())
        };
        timeout(RELEASE_TIMEOUT, attempts).await.unwrap_or_else(|_| {
            Err(LeaseError::Unavailable(format!("no success within {} seconds", RELEASE_TIMEOUT.as_secs())))
        })
    }

    /// Reads the Lease first: the resource version is unknown if the last write was interrupted.
    async fn try_to_end(&self, ending: Ending) -> Result<(), LeaseError> {
        if self.acquired_at.is_none() {
            return Ok(());
        }
        let record = self.lease.get().await?;
        if record.holder.as_deref() != Some(self.elector.identity()) {
            return Ok(());
        }
        match (ending, record.resource_version) {
            (Ending::Delete, Some(version)) => self.lease.delete(version).await?,
            (_, version) => {
                self.lease.write(version, "", self.acquired_at, record.transitions).await?;
            }
        }
        info!(lease = %self.lease, deleted = ending == Ending::Delete, "the Lease is released");
        Ok(())
    }
}
