//! The time, as a port: deadlines are wall-clock times, so that a suspended machine or a set clock is noticed.

use jiff::Timestamp;
use tokio::time::Instant;

/// Tells the time.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The machine's wall clock.
    Wall,
    /// Tokio's clock from a given time on, so that a paused runtime runs months in seconds.
    Runtime {
        /// The time at `started`.
        origin: Timestamp,
        /// When it started.
        started: Instant,
    },
}

impl Clock {
    /// The time now.
    pub fn now(self) -> Timestamp {
        match self {
            Self::Wall => Timestamp::now(),
            Self::Runtime { origin, started } => {
                origin.checked_add(started.elapsed()).unwrap_or(Timestamp::MAX)
            }
        }
    }
}
