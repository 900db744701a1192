//! The clocks of this machine.

use jiff::Timestamp;
use tokio::time::Instant;

use crate::core::Now;

/// The wall clock, and a monotonic clock that starts with the process. Tests can pause the monotonic clock, which is
/// tokio's.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    pub fn now(self) -> Now {
        Now { wall: Timestamp::now(), mono: self.origin.elapsed() }
    }
}
