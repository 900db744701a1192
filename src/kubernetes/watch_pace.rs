//! Pauses between the starts of a watch whose responses end at once. After a response that ended without an error, kube's watcher
//! sends the next request without a pause and without an event, so a proxy that cuts responses off would get requests without end.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::warn;

use super::watch::BACKOFF;
use crate::core::Jitter;

/// A watch that started again within this time ended at once.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The watches of one client.
#[derive(Clone)]
pub(super) struct WatchPace {
    watches: Arc<Mutex<HashMap<String, Last>>>,
    jitter: Jitter,
}

/// The last response of one watch.
#[derive(Default)]
struct Last {
    /// When the watcher got it, if it was a success.
    got_at: Option<Instant>,
    /// How many in a row ended at once.
    short: u32,
}

impl WatchPace {
    pub fn new() -> Self {
        Self { watches: Arc::default(), jitter: Jitter::new(RandomState::new().hash_one("watch")) }
    }

    /// Records a request. Returns how long its response has to wait.
    pub fn start(&self, watch: &str) -> Duration {
        let mut watches = self.lock();
        let last = watches.entry(watch.to_owned()).or_default();
        let is_short = last.got_at.take().is_some_and(|at| at.elapsed() < AT_ONCE);
        last.short = if is_short { last.short.saturating_add(1) } else { 0 };
        // The first one may be a list that was requested again.
        match last.short {
            0 | 1 => Duration::ZERO,
            short => BACKOFF.delay(short - 1, self.jitter, &watch),
        }
    }

    /// Waits before the watcher gets a response that succeeded.
    pub async fn wait(&self, watch: &str, pause: Duration) {
        if !pause.is_zero() {
            warn!(
                watch,
                ?pause,
                "a watch ends at once again and again, pausing: check proxies before the API server"
            );
            sleep(pause).await;
        }
        self.lock().entry(watch.to_owned()).or_default().got_at = Some(Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Last>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_watch_that_ends_at_once_more_than_twice_has_to_wait() {
        let pace = WatchPace::new();
        for (lasted, waits) in [(0, false), (0, false), (0, true), (35, true), (0, false), (0, false)] {
            let pause = pace.start("a");
            assert_eq!(!pause.is_zero(), waits, "{pause:?}");
            pace.wait("a", pause).await;
            assert!(pace.start("b").is_zero(), "another watch");
            sleep(Duration::from_secs(lasted)).await;
        }
    }
}
