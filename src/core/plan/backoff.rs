//! How long to wait before the next attempt.

use std::hash::Hash;
use std::time::Duration;

use jiff::SignedDuration;

use crate::core::Jitter;
use crate::core::planted::{Bug, planted};

/// Exponential backoff with a bound: `base · 2ⁿ`, never above `cap`, less up to a quarter of jitter.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    pub base: Duration,
    pub cap: Duration,
}

impl Backoff {
    /// For calls to AWS and to the API server: 1 s to 60 s.
    pub const CALLS: Self = Self { base: Duration::from_secs(1), cap: Duration::from_mins(1) };

    /// For repairs of one object, if another client keeps reverting them: 1 s to 10 min.
    pub const REPAIRS: Self = Self { base: Duration::from_secs(1), cap: Duration::from_mins(10) };

    /// For a token that had expired when it arrived: 15 s to 60 s.
    pub const EXPIRED_TOKENS: Self = Self { base: Duration::from_secs(15), cap: Duration::from_mins(1) };

    /// No delay is longer.
    pub fn longest(self) -> SignedDuration {
        SignedDuration::try_from(self.cap).unwrap_or(SignedDuration::MAX)
    }

    /// The delay after failure number `failures` (from 1) of `thing`. The delays of different things are spread over
    /// the last quarter of the interval.
    pub fn delay(self, failures: u32, jitter: Jitter, thing: &impl Hash) -> Duration {
        if planted(Bug::NoBackoff) {
            return Duration::from_millis(10);
        }
        let doublings = failures.saturating_sub(1).min(31);
        let whole = self.base.saturating_mul(1 << doublings).min(self.cap);
        whole.mul_f64(1.0 - 0.25 * jitter.fraction(&(thing, failures)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::JITTER;

    #[test]
    fn delays_double_up_to_the_cap_and_never_pass_it() {
        let all: Vec<_> = (1..200).map(|n| Backoff::CALLS.delay(n, JITTER, &"seed")).collect();
        assert!(all.iter().all(|d| *d <= Backoff::CALLS.cap && *d >= Duration::from_millis(750)));
        assert!(all[190] >= Duration::from_secs(45));
        assert_eq!(Backoff::CALLS.delay(3, JITTER, &"a"), Backoff::CALLS.delay(3, JITTER, &"a"));
    }
}
