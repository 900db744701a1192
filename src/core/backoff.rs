//! How long to wait before the next try, and how far to spread what would otherwise happen at once.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// Exponential backoff with a bound: `base · 2ⁿ`, never above `cap`, less up to a quarter of jitter.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The first delay.
    pub base: Duration,
    /// The longest delay.
    pub cap: Duration,
}

impl Backoff {
    /// For calls to AWS and to the API server: 1 s to 60 s (invariant 3 allows no more).
    pub const CALLS: Self = Self { base: Duration::from_secs(1), cap: Duration::from_mins(1) };

    /// For repairs of one object, against a second writer that never gives up: 1 s to 10 min.
    pub const REPAIRS: Self = Self { base: Duration::from_secs(1), cap: Duration::from_mins(10) };

    /// For a token that was expired when it came: 15 s to 60 s.
    pub const EXPIRED_TOKENS: Self = Self { base: Duration::from_secs(15), cap: Duration::from_mins(1) };

    /// The delay after failure number `failures` (from 1), for the thing that `seed` names. Equal
    /// arguments give equal delays; different seeds spread over the last quarter of the interval.
    pub fn delay(self, failures: u32, seed: &impl Hash) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let whole = self.base.saturating_mul(1 << doublings).min(self.cap);
        whole.mul_f64(1.0 - 0.25 * fraction(&(seed, failures)))
    }
}

/// A number in `0.0..1.0` that only depends on `seed`, in this build of the program.
pub fn fraction(seed: &impl Hash) -> f64 {
    let mut hasher = DefaultHasher::new();
    seed.hash(&mut hasher);
    let bits = u32::try_from(hasher.finish() >> 32).expect("32 bits are left");
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_never_pass_it() {
        let all: Vec<_> = (1..200).map(|n| Backoff::CALLS.delay(n, &"seed")).collect();
        assert!(all.iter().all(|d| *d <= Backoff::CALLS.cap && *d >= Duration::from_millis(750)));
        assert!(all[190] >= Duration::from_secs(45));
        assert_eq!(Backoff::CALLS.delay(3, &"a"), Backoff::CALLS.delay(3, &"a"));
    }

    #[test]
    fn seeds_spread() {
        let spread: Vec<_> = (0..1_000).map(|seed| fraction(&seed)).collect();
        assert!(spread.iter().all(|f| (0.0..1.0).contains(f)));
        let mean = spread.iter().sum::<f64>() / 1_000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
    }
}
