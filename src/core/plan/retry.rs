//! The time of the next attempt on one object, after failures, or if another client reverts each change.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::backoff::Backoff;
use crate::core::allowance::Allowance;
use crate::core::rare::Constant;
use crate::core::{Jitter, Now};

/// After this long without a repair, the next one is immediate again.
const REPAIR_MEMORY: SignedDuration = SignedDuration::from_mins(20);
/// The first silent retry after a denial that a stale admission cache may explain, and how many follow.
const LAG_DELAY_MILLIS: i64 = 100;
const MAX_LAG_RETRIES: u32 = 3;
/// How many attempts in a row follow a conflict at once: a client that writes in a loop must not let the Secret expire.
const MAX_CONFLICTS: u32 = 5;
/// How many attempts may fail: a client can end the backoff with a change.
const FAILURES: Allowance = Allowance::new(10, Duration::from_secs(10));

/// The failures and repairs of one object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RetryState {
    /// Failures in a row.
    pub failures: u32,
    pub retry_at: Option<Timestamp>,
    /// When it has been long enough since the last failures, by the monotonic clock.
    pub spent_until: Duration,
    /// Refusals in a row that were each followed by another version of the object.
    pub conflicts: u32,
    /// Repairs in a row.
    pub repairs: u32,
    pub repaired_at: Option<Timestamp>,
}

impl Constant for RetryState {
    const DEFAULT: &'static Self = &Self {
        failures: 0,
        retry_at: None,
        spent_until: Duration::ZERO,
        conflicts: 0,
        repairs: 0,
        repaired_at: None,
    };
}

impl RetryState {
    /// Records a failure and returns when to retry. `object` spreads the retries of different objects.
    pub fn record_failure(&mut self, object: &str, jitter: Jitter, now: Now) -> Timestamp {
        self.failures = self.failures.saturating_add(1);
        self.spent_until = FAILURES.spend(self.spent_until, 1, now.mono);
        self.conflicts = 0;
        *self.retry_at.insert(now.after(Backoff::CALLS.delay(self.failures, jitter, &object)))
    }

    /// The same for a refusal. The retry is not earlier than the API server demands with `retry_after`, up to the longest backoff;
    /// those of different objects are spread over a quarter of it.
    pub fn record_refusal(
        &mut self,
        object: &str,
        retry_after: Option<Duration>,
        jitter: Jitter,
        now: Now,
    ) -> Timestamp {
        let retry_at = self.record_failure(object, jitter, now);
        let Some(retry_after) = retry_after else { return retry_at };
        let cap = Backoff::CALLS.cap;
        let demanded = retry_after.min(cap).mul_f64(1.0 + 0.25 * jitter.fraction(&(object, self.failures)));
        *self.retry_at.insert(retry_at.max(now.after(demanded.min(cap))))
    }

    /// Records a denial that a stale admission cache may explain. Returns when to retry silently, or `None` once it has
    /// lasted too long for that.
    pub fn record_lag(&mut self, now: Now) -> Option<Timestamp> {
        if self.failures >= MAX_LAG_RETRIES {
            return None;
        }
        self.retry_at = Some(now.after(SignedDuration::from_millis(LAG_DELAY_MILLIS << self.failures)));
        self.failures += 1;
        self.spent_until = FAILURES.spend(self.spent_until, 1, now.mono);
        self.retry_at
    }

    /// Records that another client changed the object first. Returns whether to try again at once.
    pub fn record_conflict(&mut self) -> bool {
        self.conflicts += 1;
        self.conflicts <= MAX_CONFLICTS
    }

    /// Forgets the failures, after a success.
    pub fn reset(&mut self) {
        self.restart();
        self.spent_until = Duration::ZERO;
    }

    /// Ends the backoff, after a change that may have removed the cause of the failures. Those that follow many changes are
    /// bounded nevertheless.
    pub fn restart(&mut self) {
        self.failures = 0;
        self.conflicts = 0;
        self.retry_at = None;
    }

    /// Records a repair.
    pub fn record_repair(&mut self, now: Now) {
        self.repairs = if self.is_remembered(now.wall) { self.repairs.saturating_add(1) } else { 1 };
        self.repaired_at = Some(now.wall);
    }

    /// Whether a repair counts at `time`.
    pub fn is_remembered(&self, time: Timestamp) -> bool {
        self.repaired_at.is_some_and(|last| time.duration_since(last) <= REPAIR_MEMORY)
    }

    /// Until when failures delay the next attempt.
    pub fn retry_after(&self, now: Now) -> Option<Timestamp> {
        let left = FAILURES.allowed_at(self.spent_until, 1, now.mono).saturating_sub(now.mono);
        let allowed_at = (!left.is_zero()).then(|| now.after(left));
        self.retry_at.filter(|at| now.is_within(*at, Backoff::CALLS.longest())).max(allowed_at)
    }

    /// Until when the last repair delays the next one; that time may have passed. `None` if the last repair no longer counts.
    pub fn repair_after(&self, object: &str, jitter: Jitter, now: Now) -> Option<Timestamp> {
        // A repair in the future was recorded before the wall clock was set back.
        let recent = |last: &Timestamp| self.repairs > 0 && *last <= now.wall && self.is_remembered(now.wall);
        let last = self.repaired_at.filter(recent)?;
        last.checked_add(Backoff::REPAIRS.delay(self.repairs, jitter, &object)).ok()
    }

    /// Until when the next write of any kind is delayed.
    pub fn blocked_until(&self, object: &str, jitter: Jitter, now: Now) -> Option<Timestamp> {
        let repair = self.repair_after(object, jitter, now);
        self.retry_after(now).max(repair.filter(|until| *until > now.wall))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::{JITTER, at};

    #[test]
    fn denials_are_retried_silently_for_less_than_a_second() {
        let mut retry = RetryState::default();
        let mut now = at(0);
        while let Some(later) = retry.record_lag(now) {
            now = Now { wall: later, ..now };
        }
        assert_eq!(now.wall.duration_since(at(0).wall), SignedDuration::from_millis(700));
        let later = retry.record_failure("a", JITTER, now);
        assert!(later > now.after(SignedDuration::from_secs(1)), "then it is an ordinary failure");
    }

    #[test]
    fn a_refusal_delays_the_retry_as_long_as_the_api_server_demands_but_not_beyond_the_longest_backoff() {
        for (demanded, least) in [(None, 0), (Some(30), 30), (Some(60), 60), (Some(3_600), 60)] {
            let mut retry = RetryState::default();
            for failures in 1..20 {
                let later = retry.record_refusal("a", demanded.map(Duration::from_secs), JITTER, at(0));
                let delay = later.duration_since(at(0).wall);
                let longest = SignedDuration::from_mins(1);
                assert!(
                    delay >= SignedDuration::from_secs(least) && delay <= longest,
                    "{failures}: {delay:?}"
                );
                assert_eq!(retry.retry_after(at(0)), Some(later));
            }
        }
    }

    #[test]
    fn a_change_that_is_reverted_each_time_is_repeated_with_growing_delays() {
        let (mut retry, mut now, mut writes) = (RetryState::default(), at(0), 0);
        while now.wall < at(3_600).wall {
            if let Some(later) = retry.blocked_until("a", JITTER, now) {
                now = Now { wall: later, ..now };
            } else {
                retry.record_repair(now);
                writes += 1;
            }
        }
        assert!((10..25).contains(&writes), "{writes} writes in an hour");
        assert!(retry.record_failure("a", JITTER, now) > now.wall);
        assert!(retry.blocked_until("a", JITTER, now).is_some());
    }
}
