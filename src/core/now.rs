//! Time as an argument of decisions.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// The time by two clocks. They differ when a machine was suspended or its clock was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, by which tokens expire.
    pub wall: Timestamp,
    /// A clock that only runs forward, from an arbitrary origin; it may stop while the machine is suspended.
    pub mono: Duration,
}

impl Now {
    /// The wall-clock time after `duration`, at most [`Timestamp::MAX`].
    pub fn after(self, duration: impl Into<jiff::TimestampArithmetic>) -> Timestamp {
        self.wall.checked_add(duration).unwrap_or(Timestamp::MAX)
    }

    /// How long until `time` by the wall clock; negative when it has passed.
    pub fn until(self, time: Timestamp) -> SignedDuration {
        time.duration_since(self.wall)
    }
}
