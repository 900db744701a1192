//! The clocks of this machine.

use jiff::Timestamp;
use tokio::time::Instant;

use crate::core::Now;

/// The wall clock, and a monotonic clock that starts with the process. Tests can pause the monotonic clock, which is
/// tokio's; with the feature `simulation`, the wall clock follows it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    #[cfg(feature = "simulation")]
    wall: Timestamp,
}

impl Clock {
    pub fn start() -> Self {
        Self {
            origin: Instant::now(),
            #[cfg(feature = "simulation")]
            wall: Timestamp::now(),
        }
    }

    pub fn now(self) -> Now {
        let mono = self.origin.elapsed();
        #[cfg(not(feature = "simulation"))]
        let wall = Timestamp::now();
        #[cfg(feature = "simulation")]
        let wall = self.wall.checked_add(mono).unwrap_or(Timestamp::MAX);
        Now { wall, mono, skew: None }
    }
}
