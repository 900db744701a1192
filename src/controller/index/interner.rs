//! Stores equal values once.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// The smallest number of values that is worth a sweep.
const MIN_SWEEP: usize = 64;

/// Holds equal values once: most of ten thousand namespaces have the same annotations.
pub struct Interner<T> {
    values: HashSet<Arc<T>>,
    sweep_at: usize,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { values: HashSet::new(), sweep_at: MIN_SWEEP }
    }
}

impl<T: Eq + Hash> Interner<T> {
    /// Returns the stored value that equals `value`. Stores `value` if there is none.
    pub fn intern(&mut self, value: Arc<T>) -> Arc<T> {
        if let Some(known) = self.values.get(&value) {
            return known.clone();
        }
        if self.values.len() >= self.sweep_at {
            self.sweep();
        }
        self.values.insert(value.clone());
        value
    }

    /// Forgets the values that are not used any more.
    pub fn sweep(&mut self) {
        self.values.retain(|value| Arc::strong_count(value) > 1);
        self.sweep_at = (self.values.len() * 2).max(MIN_SWEEP);
        if self.values.capacity() > 4 * self.sweep_at {
            self.values.shrink_to(self.sweep_at);
        }
    }
}
