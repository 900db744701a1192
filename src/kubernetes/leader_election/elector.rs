//! The task that acquires, renews and releases the Lease. It has a separate client, so that no other request delays a
//! renewal.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::lease::{LeaseClient, LeaseError};
use super::permit::WritePermit;
use crate::clock::Clock;
use crate::core::leader_election::{ElectionStep, LEASE_DURATION, LeaderElector, Leadership, LeaseRecord};
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
        "cannot acquire the Lease {lease}: {source}; wait longer with --timeout, or run without the Lease with \
         --force"
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
    /// called after the first successful request.
    pub fn start(
        lease: LeaseClient,
        identity: String,
        clock: Clock,
        on_contact: impl FnOnce() + Send + 'static,
    ) -> (Self, WritePermit) {
        let (candidate, permit) = Candidate::new(lease, identity, clock);
        (candidate.spawn(on_contact), permit)
    }

    /// Waits until this process is the leader, at most `timeout`. An error leaves the Lease as it was.
    pub async fn acquire(
        lease: LeaseClient,
        identity: String,
        clock: Clock,
        timeout: Duration,
    ) -> Result<(Self, WritePermit), AcquireError> {
        let (mut candidate, permit) = Candidate::new(lease, identity, clock);
        let deadline = Instant::now() + timeout;
        while permit.left().is_none() {
            let mut step = candidate.elector.next(clock.now());
            if let ElectionStep::Wait(pause) = &mut step {
                let remaining = deadline.saturating_duration_since(Instant::now());
                if remaining.is_zero() {
                    return Err(candidate.give_up().await);
                }
                *pause = remaining.min(*pause);
            }
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
    leadership: watch::Sender<Leadership>,
    clock: Clock,
    /// When this process last tried to acquire the Lease.
    acquired_at: Option<Timestamp>,
    last_error: Option<LeaseError>,
    warned_at: Option<Instant>,
}

impl Candidate {
    fn new(lease: LeaseClient, identity: String, clock: Clock) -> (Self, WritePermit) {
        let (leadership, permit) = watch::channel(Leadership::NotLeader);
        let candidate = Self {
            lease,
            elector: LeaderElector::new(identity),
            leadership,
            clock,
            acquired_at: None,
            last_error: None,
            warned_at: None,
        };
        (candidate, WritePermit::new(permit, clock))
    }

    fn spawn(self, on_contact: impl FnOnce() + Send + 'static) -> Election {
        let (stop, stopped) = oneshot::channel();
        Election { stop, task: tokio::spawn(self.run(stopped, on_contact)) }
    }

    async fn run(
        mut self,
        mut stopped: oneshot::Receiver<Ending>,
        on_contact: impl FnOnce() + Send + 'static,
    ) -> Result<(), LeaseError> {
        let mut on_contact = Some(on_contact);
        let ending = loop {
            let step = self.elector.next(self.clock.now());
            let responded = tokio::select! {
                biased;
                ending = &mut stopped => break ending,
                responded = self.execute(step) => responded,
            };
            if responded && let Some(on_contact) = on_contact.take() {
                on_contact();
            }
        };
        match ending {
            Ok(ending) => self.end(ending).await,
            Err(_) => Ok(()),
        }
    }

    /// Returns whether a request succeeded.
    async fn execute(&mut self, step: ElectionStep) -> bool {
        let asked = self.clock.now();
        let result = match step {
            ElectionStep::Wait(pause) => {
                sleep(pause).await;
                return false;
            }
            ElectionStep::Read => self.lease.get().await.map(|record| self.observed(record, asked)),
            ElectionStep::Write { resource_version, transitions, acquires } => {
                self.write(resource_version, transitions, acquires, asked).await
            }
        };
        match result {
            Ok(()) => {
                self.last_error = None;
                if self.warned_at.take().is_some() {
                    info!("the Lease is available again");
                }
                true
            }
            Err(error) => {
                self.elector.request_failed(asked);
                self.warn(&error);
                self.last_error = Some(error);
                false
            }
        }
    }

    async fn write(
        &mut self,
        resource_version: Option<String>,
        transitions: i32,
        acquires: bool,
        asked: Now,
    ) -> Result<(), LeaseError> {
        if acquires {
            self.acquired_at = Some(asked.wall);
        }
        let spec = self.spec(self.elector.identity(), transitions);
        let record = self.lease.write(resource_version, spec).await?;
        self.elector.wrote(record, asked, self.clock.now());
        if acquires {
            info!(identity = self.elector.identity(), lease = %self.lease, "this process is the leader");
        }
        self.leadership.send_replace(Leadership::granted(asked));
        Ok(())
    }

    fn observed(&mut self, record: LeaseRecord, asked: Now) {
        let before = self.elector.other_leader().map(str::to_owned);
        self.elector.observed(record, asked, self.clock.now());
        if let Some(leader) = self.elector.other_leader() {
            if before.as_deref() != Some(leader) {
                info!(leader, lease = %self.lease, "another process is the leader, this process is a standby");
            }
            // Another process acquired the Lease: the rest of the term does not count.
            self.leadership.send_replace(Leadership::NotLeader);
        }
    }

    fn warn(&mut self, error: &LeaseError) {
        let recent = self.warned_at.is_some_and(|at| at.elapsed() < WARN_PERIOD);
        if !recent && !matches!(error, LeaseError::Conflict) {
            warn!(reason = %error, lease = %self.lease, "cannot read or write the Lease, retrying");
            self.warned_at = Some(Instant::now());
        }
    }

    fn spec(&self, holder: &str, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            acquire_time: self.acquired_at.map(MicroTime),
            renew_time: Some(MicroTime(Timestamp::now())),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    async fn give_up(mut self) -> AcquireError {
        let lease = self.lease.to_string();
        let error = self.last_error.take().unwrap_or(LeaseError::Conflict);
        let error = match self.elector.other_leader() {
            Some(holder) if matches!(error, LeaseError::Conflict) => {
                AcquireError::Held { lease, holder: holder.to_owned() }
            }
            _ => AcquireError::Unavailable { lease, source: error },
        };
        // Only a write without a response can have succeeded. If it did not, there is nothing to release.
        let _ = self.end(Ending::Release).await;
        error
    }

    async fn end(&self, ending: Ending) -> Result<(), LeaseError> {
        self.leadership.send_replace(Leadership::NotLeader);
        if self.acquired_at.is_none() {
            return Ok(());
        }
        let result = self.end_with_retries(ending).await;
        if result.is_err() && ending == Ending::Delete {
            let _ = self.end_with_retries(Ending::Release).await;
        }
        result
    }

    async fn end_with_retries(&self, ending: Ending) -> Result<(), LeaseError> {
        let attempts = async {
            loop {
                match self.try_to_end(ending).await {
                    Err(LeaseError::Conflict | LeaseError::Unavailable(_)) => {
                        sleep(RELEASE_RETRY_PERIOD).await;
                    }
                    result => return result,
                }
            }
        };
        timeout(RELEASE_TIMEOUT, attempts).await.unwrap_or_else(|_| {
            Err(LeaseError::Unavailable(format!("no success within {} seconds", RELEASE_TIMEOUT.as_secs())))
        })
    }

    /// Reads the Lease first: the resource version is unknown if the last write was interrupted.
    async fn try_to_end(&self, ending: Ending) -> Result<(), LeaseError> {
        let record = self.lease.get().await?;
        if record.holder.as_deref() != Some(self.elector.identity()) {
            return Ok(());
        }
        if let (Ending::Delete, Some(version)) = (ending, &record.resource_version) {
            self.lease.delete(version).await?;
        } else {
            let spec = self.spec("", record.transitions);
            self.lease.write(record.resource_version, spec).await?;
        }
        info!(lease = %self.lease, deleted = ending == Ending::Delete, "the Lease is released");
        Ok(())
    }
}
