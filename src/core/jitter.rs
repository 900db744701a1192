//! Randomness as an argument of decisions.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Deterministic randomness: equal seeds and arguments give equal numbers. The seed is random in production, so that
/// replicas differ, and fixed in tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jitter {
    seed: u64,
}

impl Jitter {
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// A number in `0.0..1.0` for `thing`.
    pub fn fraction(self, thing: &impl Hash) -> f64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, thing).hash(&mut hasher);
        let bits = u32::try_from(hasher.finish() >> 32).expect("32 bits are left");
        f64::from(bits) / (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::JITTER;

    #[test]
    fn things_and_seeds_spread() {
        for spread in [
            (0..1_000).map(|thing| JITTER.fraction(&thing)).collect::<Vec<_>>(),
            (0..1_000).map(|seed| Jitter::new(seed).fraction(&"a")).collect(),
        ] {
            assert!(spread.iter().all(|f| (0.0..1.0).contains(f)));
            let mean = spread.iter().sum::<f64>() / 1_000.0;
            assert!((0.45..0.55).contains(&mean), "{mean}");
        }
    }
}
