//! The right to write, as everything that writes asks for it: until when.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::core::lease::TENURE;

/// Until when this process may write.
#[derive(Clone, Copy, Debug)]
pub enum Tenure {
    /// It may not.
    None,
    /// Until then, by both clocks: one stands still while a machine is suspended, the other may be set.
    Until(Instant, Timestamp),
    /// There is nobody else.
    Endless,
}

impl Tenure {
    /// What follows from a Lease that was asked for at `instant` and `time`, and granted.
    pub fn granted(instant: Instant, time: Timestamp) -> Self {
        Self::Until(instant + TENURE, time.checked_add(TENURE).unwrap_or(Timestamp::MAX))
    }

    /// What is left of it at a time; `None`: nothing.
    pub fn left(self, instant: Instant, time: Timestamp) -> Option<Duration> {
        let left = match self {
            Self::None => return None,
            Self::Endless => return Some(Duration::MAX),
            Self::Until(until, wall) => {
                let wall = Duration::try_from(wall.duration_since(time)).unwrap_or_default();
                until.saturating_duration_since(instant).min(wall)
            }
        };
        (!left.is_zero()).then_some(left)
    }
}

/// The right to write.
#[derive(Clone, Debug)]
pub struct Lead(watch::Receiver<Tenure>);

impl Lead {
    /// One that ends when `tenure` says so.
    pub fn new(tenure: watch::Receiver<Tenure>) -> Self {
        Self(tenure)
    }

    /// One that nobody contests.
    pub fn endless() -> Self {
        Self(watch::channel(Tenure::Endless).1)
    }

    /// How long it lasts from now on; `None`: this process must not write.
    pub fn left(&self) -> Option<Duration> {
        self.0.borrow().left(Instant::now(), Timestamp::now())
    }

    /// Returns when it is granted, renewed or given up.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_ends_by_whichever_clock_comes_first() {
        let (instant, time) = (Instant::now(), Timestamp::UNIX_EPOCH);
        let tenure = Tenure::granted(instant, time);
        let second = Duration::from_secs(1);
        assert_eq!(tenure.left(instant + second, time + second), Some(second * 2));
        assert_eq!(tenure.left(instant + TENURE, time), None, "the clock that is never set");
        assert_eq!(tenure.left(instant, time + TENURE), None, "the machine was suspended");
        assert_eq!(Tenure::None.left(instant, time), None);
        assert_eq!(Lead::endless().left(), Some(Duration::MAX));
    }
}
