//! A rate with a burst, by the monotonic clock.

use std::time::Duration;

/// So many at once, and after that one in each interval. `spent_until` is the time at which the whole burst is allowed again.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    burst: u32,
    interval: Duration,
}

impl Allowance {
    pub const fn new(burst: u32, interval: Duration) -> Self {
        Self { burst, interval }
    }

    /// When this many more are allowed, which may be in the past. More than the burst cost as much as the burst.
    pub fn allowed_at(self, spent_until: Duration, count: usize, now: Duration) -> Duration {
        (spent_until.max(now) + self.cost(count)).saturating_sub(self.interval * self.burst)
    }

    /// The new `spent_until` after this many more. Those that were not allowed yet do not delay others for longer than the
    /// burst does.
    pub fn spend(self, spent_until: Duration, count: usize, now: Duration) -> Duration {
        (spent_until.max(now) + self.cost(count)).min(now + self.interval * self.burst)
    }

    fn cost(self, count: usize) -> Duration {
        self.interval * u32::try_from(count).unwrap_or(self.burst).min(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const ALLOWANCE: Allowance = Allowance::new(3, SECOND);

    #[test]
    fn the_burst_is_allowed_at_once_and_then_one_in_each_interval() {
        let now = SECOND * 100;
        let mut spent = Duration::ZERO;
        for _ in 0..3 {
            assert!(ALLOWANCE.allowed_at(spent, 1, now) <= now);
            spent = ALLOWANCE.spend(spent, 1, now);
        }
        for n in 1..5 {
            let at = ALLOWANCE.allowed_at(spent, 1, now);
            assert_eq!(at, now + SECOND * n);
            spent = ALLOWANCE.spend(spent, 1, at);
        }
    }

    #[test]
    fn an_early_use_delays_no_longer_than_the_burst() {
        let now = SECOND * 100;
        let spent = (0..50).fold(Duration::ZERO, |spent, _| ALLOWANCE.spend(spent, 9, now));
        assert_eq!(ALLOWANCE.allowed_at(spent, 1, now), now + SECOND);
        assert_eq!(ALLOWANCE.allowed_at(spent, 9, now), now + SECOND * 3);
    }
}
