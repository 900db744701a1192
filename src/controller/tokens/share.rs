//! The share of one namespace in the token cache: its keys, and how fast it may name new ones.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use super::KeyId;
use crate::core::allowance::Allowance;
use crate::core::grants::TokenKey;
use crate::core::rare::{Constant, Rare};

/// The new keys that a namespace may name: at once, as many as a Secret has registries.
const NEW_KEYS: Allowance = Allowance::new(64, Duration::from_secs(10));
/// A namespace that changes its request again within this time waits for as long before it gets new keys.
const QUIET: Duration = Duration::from_secs(5);

/// The share of one namespace.
#[derive(Default)]
pub struct Share {
    /// The keys that its request names.
    pub keys: Box<[KeyId]>,
    pace: Rare<Pace>,
}

/// How fast a namespace named new keys. Times are monotonic.
#[derive(Default, PartialEq)]
struct Pace {
    /// When it has been long enough since its last new keys.
    spent_until: Duration,
    /// When it last named other new keys than before.
    changed_at: Option<Duration>,
    /// A fingerprint of the new keys that it names, and until when it must be quiet. Its hash has a fixed key, so an owner can
    /// find two sets that collide. Then the second set does not have to be quiet, and still costs its new keys.
    named: Option<(u64, Duration)>,
}

impl Constant for Pace {
    const DEFAULT: &'static Self = &Self { spent_until: Duration::ZERO, changed_at: None, named: None };
}

impl Share {
    /// Until when the namespace waits for these new keys; `None` if it may have them now.
    pub fn wait(&mut self, new: &[&TokenKey], now: Duration) -> Option<Duration> {
        let mut hasher = DefaultHasher::new();
        new.hash(&mut hasher);
        let fingerprint = hasher.finish();
        let quiet_at = self.pace.change(|pace| match pace.named {
            Some((same, quiet_at)) if same == fingerprint => quiet_at,
            _ => {
                let is_restless = pace.changed_at.is_some_and(|at| now < at + QUIET);
                pace.changed_at = Some(now);
                pace.named.insert((fingerprint, if is_restless { now + QUIET } else { now })).1
            }
        });
        let until = quiet_at.max(NEW_KEYS.allowed_at(self.pace.spent_until, new.len(), now));
        (until > now).then_some(until)
    }

    /// The namespace got its new keys.
    pub fn spend(&mut self, new: &[&TokenKey], now: Duration) {
        self.pace.change(|pace| {
            pace.named = None;
            pace.spent_until = NEW_KEYS.spend(pace.spent_until, new.len(), now);
        });
    }

    /// Forgets the pace once it does not matter any more. Returns whether nothing of the share does.
    pub fn is_over(&mut self, now: Duration) -> bool {
        let is_quiet = self.pace.changed_at.is_none_or(|at| at + QUIET <= now);
        if self.pace.spent_until <= now && is_quiet {
            self.pace = Rare::default();
        }
        self.keys.is_empty() && *self.pace == Pace::default()
    }
}
