//! The history of this process in a namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::observed::Observed;
use super::reasons::WriteReason;
use super::retry::RetryState;
use crate::core::allowance::Allowance;
use crate::core::planted::{Bug, planted};
use crate::core::rare::{Constant, Rare};
use crate::core::{Jitter, Now};

/// The changes of a request that are applied.
const CHANGES: Allowance = Allowance::new(10, Duration::from_secs(10));

/// The writes, failures and repairs of this process in a namespace. Empty after a start, and after another process was
/// the leader.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The Secret of our last write, by name, and the resource version that the write returned.
    pub written: Option<(Arc<str>, u64)>,
    /// The fingerprint of its request and entries.
    pub fingerprint: Option<u64>,
    /// Whether the last write had the same content as the one before.
    pub repeated: bool,
    /// When it is due for renewal, even if its annotations were changed.
    pub due: Option<Timestamp>,
    /// How often the namespace requested something else.
    pub pace: Rare<Pace>,
    /// The names of the Secrets whose last write failed.
    pub refused: Rare<BTreeSet<Arc<str>>>,
    /// Failures of writes, and repairs of the Secret.
    pub retry: Rare<RetryState>,
    /// The names of the Secrets that were deleted.
    pub deleted: Rare<BTreeSet<Arc<str>>>,
    /// Our deletions in this namespace, each counted as a repair, and their failures.
    pub removals: Rare<RetryState>,
    /// Our lists of service accounts in this namespace, each counted as a repair, and their failures.
    pub listings: Rare<RetryState>,
    /// Failures and repairs of service accounts, by name.
    pub service_accounts: Rare<BTreeMap<Arc<str>, RetryState>>,
}

/// The limits on the changes and the renewals that one namespace requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pace {
    /// When a token was last fetched because the namespace requested a renewal.
    pub renewed_at: Option<Timestamp>,
    /// When it has been long enough since the last changes of the request, by the monotonic clock.
    pub changes_until: Duration,
}

impl Constant for Pace {
    const DEFAULT: &'static Self = &Self { renewed_at: None, changes_until: Duration::ZERO };
}

impl History {
    /// Records a successful write for `reason` that left `observed`. Recreating a Secret that another client deleted
    /// counts as a repair, and so does adopting one that it replaced.
    pub fn record_write(
        &mut self,
        reason: WriteReason,
        name: &Arc<str>,
        observed: &Observed,
        fingerprint: u64,
        now: Now,
    ) {
        let recreated = matches!(reason, WriteReason::Missing | WriteReason::Adopted) && self.due.is_some();
        if reason == WriteReason::RequestChanged {
            self.pace.change(|pace| pace.changes_until = CHANGES.spend(pace.changes_until, 1, now.mono));
        }
        // The reason may follow from the write itself.
        self.repeated = self.fingerprint == Some(fingerprint);
        if recreated || self.repeated || reason.is_repair() {
            self.retry.change(|retry| retry.record_repair(now));
        }
        let version = observed.resource_version + u64::from(planted(Bug::ForgetOwnWrites));
        self.written = Some((name.clone(), version));
        self.fingerprint = Some(fingerprint);
        self.due = observed.times.map(|times| times.refresh_after);
        self.refused.change(|refused| refused.remove(name));
        if *self.retry != RetryState::default() {
            self.retry.change(RetryState::reset);
        }
    }

    /// Records that this process deleted a Secret: creating it later is not a repair.
    pub fn record_deletion(&mut self, name: &Arc<str>, now: Now) {
        self.deleted.change(|deleted| deleted.insert(name.clone()));
        self.removals.change(|removals| {
            removals.record_repair(now);
            removals.reset();
        });
        if self.is_written(name) {
            self.forget_content();
            self.due = None;
        }
    }

    /// Ends the backoff of writes and deletions, after a change that may have removed the cause of their failures.
    pub fn restart_retries(&mut self) {
        for retry in [&mut self.retry, &mut self.removals] {
            if **retry != RetryState::default() {
                retry.change(RetryState::restart);
            }
        }
    }

    /// Until when failures delay the deletion of this Secret, or earlier deletions if it was deleted before.
    pub fn delete_after(&self, namespace: &str, name: &str, jitter: Jitter, now: Now) -> Option<Timestamp> {
        if self.deleted.contains(name) {
            self.removals.blocked_until(namespace, jitter, now)
        } else {
            self.removals.retry_after(now)
        }
    }

    /// Changes the failures and repairs of a service account.
    pub fn change_service_account<R>(
        &mut self,
        name: &Arc<str>,
        change: impl FnOnce(&mut RetryState) -> R,
    ) -> R {
        self.service_accounts.change(|all| change(all.entry(name.clone()).or_default()))
    }

    /// Whether the last change of a service account failed.
    pub fn account_fails(&self, name: &str) -> bool {
        self.service_accounts.get(name).is_some_and(|retry| retry.failures > 0)
    }

    /// Whether the last write is known, and was to the Secret of this name.
    pub fn is_last(&self, name: &str) -> bool {
        self.written.as_ref().is_some_and(|(written, _)| **written == *name)
    }

    /// Whether the last write was to the Secret of this name, as far as is known.
    pub fn is_written(&self, name: &str) -> bool {
        self.written.as_ref().is_none_or(|(written, _)| **written == *name)
    }

    /// Forgets what was written, because the Secret does not exist any more.
    pub fn forget_content(&mut self) {
        self.written = None;
        self.fingerprint = None;
        self.repeated = false;
    }

    /// Until when a changed request is not applied, because it changed too often.
    pub fn change_after(&self, now: Now) -> Option<Timestamp> {
        let left = CHANGES.allowed_at(self.pace.changes_until, 1, now.mono).saturating_sub(now.mono);
        (!left.is_zero()).then(|| now.after(left))
    }

    /// Whether the Secret of our last write is due for renewal, even if its annotations were changed.
    pub fn is_due(&self, now: Now) -> bool {
        self.due.is_some_and(|due| due <= now.wall)
    }

    /// As [`Self::is_due`], or that is not known.
    pub fn may_be_due(&self, now: Now) -> bool {
        self.due.is_none_or(|due| due <= now.wall)
    }

    /// Until when a repair is delayed, so that two writers do not loop; or until the renewal is due, if that
    /// is earlier.
    pub fn repair_after(&self, namespace: &str, jitter: Jitter, now: Now) -> Option<Timestamp> {
        let later = self.retry.repair_after(namespace, jitter, now)?;
        let due = self.due.filter(|due| *due > now.wall);
        (later > now.wall).then_some(due.map_or(later, |due| later.min(due)))
    }
}
