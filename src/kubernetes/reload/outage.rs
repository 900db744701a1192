//! Writes that no request of a connection completes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// After how many writes, and for how long, nothing but failures is a reason to connect again.
const WRITES: u32 = 5;
const PERIOD: Duration = Duration::from_mins(2);

/// The writes that failed since the last one that the API server completed.
#[derive(Clone, Default)]
pub(super) struct Outage(Arc<Mutex<Option<Failures>>>);

struct Failures {
    count: u32,
    since: Instant,
}

impl Outage {
    /// A write begins. It counts as failed if it is dropped before it is complete.
    pub fn begin(&self, now: Instant) -> Write {
        Write { outage: self.clone(), began: now, is_complete: false }
    }

    /// Whether the outage has lasted long enough to try another connection.
    pub fn is_long(&self, now: Instant) -> bool {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_long =
            |all: &Failures| all.count >= WRITES && now.saturating_duration_since(all.since) >= PERIOD;
        failures.as_ref().is_some_and(is_long)
    }

    /// Forgets the failures.
    pub fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// A write that has not ended.
pub(super) struct Write {
    outage: Outage,
    began: Instant,
    is_complete: bool,
}

impl Write {
    /// Records the status code of the response. A refusal shows that the API server works.
    pub fn record(mut self, code: u16) {
        self.is_complete = code < 500;
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        if self.is_complete {
            return self.outage.end();
        }
        let mut failures = self.outage.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.get_or_insert(Failures { count: 0, since: self.began }).count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_writes_that_fail_for_long_are_an_outage() {
        let (outage, start) = (Outage::default(), Instant::now());
        let later = start + PERIOD;
        for n in 1..=WRITES {
            assert!(!outage.is_long(later), "{n}");
            // The API server does not respond to every second one.
            let write = outage.begin(start);
            if n.is_multiple_of(2) {
                write.record(500);
            }
        }
        assert!(outage.is_long(later) && !outage.is_long(start + PERIOD / 2));
        outage.begin(later).record(409);
        assert!(!outage.is_long(later + PERIOD));
        outage.begin(later).record(503);
        assert!(!outage.is_long(later + PERIOD), "it is the first one since");
    }
}
