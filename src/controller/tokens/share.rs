//! The share of one namespace in the token cache: its keys, and how fast it may name new ones.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use super::KeyId;
use crate::core::allowance::Allowance;
use crate::core::grants::TokenKey;

/// The new keys that a namespace may name: at once, as many as a Secret has registries.
const NEW_KEYS: Allowance = Allowance::new(64, Duration::from_secs(10));
/// A namespace that changes its request again within this time waits for as long before it gets new keys.
const QUIET: Duration = Duration::from_secs(5);

/// The share of one namespace. Times are monotonic.
#[derive(Default)]
pub struct Share {
    /// The keys that its request names.
    pub keys: Vec<KeyId>,
    /// When it has been long enough since its last new keys.
    spent_until: Duration,
    /// When it last named other new keys than before.
    changed_at: Option<Duration>,
    /// A fingerprint of the new keys that it names, and until when it must be quiet.
    named: Option<(u64, Duration)>,
}

impl Share {
    /// Until when the namespace waits for these new keys; `None` if it may have them now.
    pub fn wait(&mut self, new: &[&TokenKey], now: Duration) -> Option<Duration> {
        let mut hasher = DefaultHasher::new();
        new.hash(&mut hasher);
        let fingerprint = hasher.finish();
        let quiet_at = match self.named {
            Some((same, quiet_at)) if same == fingerprint => quiet_at,
            _ => {
                let is_restless = self.changed_at.is_some_and(|at| now < at + QUIET);
                self.changed_at = Some(now);
                self.named.insert((fingerprint, if is_restless { now + QUIET } else { now })).1
            }
        };
        let until = quiet_at.max(NEW_KEYS.allowed_at(self.spent_until, new.len(), now));
        (until > now).then_some(until)
    }

    /// The namespace got its new keys.
    pub fn spend(&mut self, new: &[&TokenKey], now: Duration) {
        self.named = None;
        self.spent_until = NEW_KEYS.spend(self.spent_until, new.len(), now);
    }

    /// Whether nothing of it matters any more.
    pub fn is_over(&self, now: Duration) -> bool {
        self.keys.is_empty() && self.spent_until <= now && self.changed_at.is_none_or(|at| at + QUIET <= now)
    }
}
