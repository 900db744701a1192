//! Inspection of the controller by the simulation. Compiled only with the feature `simulation`.

use std::time::Duration;

use super::Controller;
use super::index::Index;
use crate::core::Now;
use crate::core::grants::TokenKey;
use crate::core::secret::Token;

/// The sizes of everything that the controller remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub namespaces: usize,
    /// Keys of the token cache.
    pub keys: usize,
    /// Namespaces with a condition that was logged.
    pub conditions: usize,
    /// Namespaces with a planned step or a delay.
    pub queued: usize,
}

impl Controller {
    pub fn index(&self) -> &Index {
        &self.index
    }

    pub fn memory(&self) -> Memory {
        Memory {
            namespaces: self.index.names().count(),
            keys: self.tokens.key_count(),
            conditions: self.conditions.len(),
            queued: self.queue.len(),
        }
    }

    /// The token of a key. The cache drops the keys that no namespace names any more.
    pub fn token(&self, key: &TokenKey) -> Option<&Token> {
        self.tokens.token(key)
    }

    /// Counts namespaces, and detects a change of the wall clock, only this often: a month takes fewer ticks.
    pub fn tick_every(&mut self, tick: Duration) {
        self.tick = tick;
    }

    /// How long until the controller has something to do, other than counting.
    pub fn next_work(&self, now: Now) -> Option<Duration> {
        self.time_to_work(now)
    }
}
