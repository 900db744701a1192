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

    /// How far the wall clock is ahead of the monotonic clock. It changes when the wall clock is set.
    pub fn wall_offset(self) -> SignedDuration {
        let mono = SignedDuration::try_from(self.mono).unwrap_or(SignedDuration::MAX);
        self.wall.duration_since(Timestamp::UNIX_EPOCH).saturating_sub(mono)
    }

    /// Whether `time` is in the future, but not further than `cap`: a wait that may not last longer than that is over if the
    /// wall clock was set back.
    pub fn is_within(self, time: Timestamp, cap: SignedDuration) -> bool {
        let left = self.until(time);
        left.is_positive() && left <= cap
    }

    /// How long until `time` by the wall clock; negative when it has passed.
    pub fn until(self, time: Timestamp) -> SignedDuration {
        time.duration_since(self.wall)
    }
}
