//! Time as an argument of decisions.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// How long until what depends on AWS's clock is planned again, before its first reply.
const UNKNOWN_CLOCK_RETRY: SignedDuration = SignedDuration::from_mins(1);

/// The time by two clocks of the machine, which differ when it was suspended or its clock was set, and by that of AWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, by which tokens expire.
    pub wall: Timestamp,
    /// A clock that only runs forward, from an arbitrary origin; it may stop while the machine is suspended.
    pub mono: Duration,
    /// How far AWS's clock is ahead of the wall clock, zero if AWS tolerates it; `None` before its first reply.
    pub skew: Option<SignedDuration>,
}

impl Now {
    /// The wall-clock time after `duration`, at most [`Timestamp::MAX`].
    pub fn after(self, duration: impl Into<jiff::TimestampArithmetic>) -> Timestamp {
        self.wall.checked_add(duration).unwrap_or(Timestamp::MAX)
    }

    /// The latest time that it may be: by the wall clock or by AWS's.
    pub fn latest(self) -> Timestamp {
        self.wall.max(self.after(self.skew.unwrap_or_default()))
    }

    /// Whether `time` has passed by the wall clock and by AWS's. The controller gives up an expired entry only then: the wall
    /// clock may be hours ahead.
    pub fn has_certainly_passed(self, time: Timestamp) -> bool {
        time <= self.wall && self.skew.is_some_and(|ahead| time <= self.after(ahead))
    }

    /// When `time` will have certainly passed, by the wall clock; or when to plan again, before AWS's first reply.
    pub fn certainly_passes_at(self, time: Timestamp) -> Timestamp {
        let by_aws = |ahead| time.checked_sub(ahead).unwrap_or(Timestamp::MAX);
        time.max(self.skew.map_or(self.after(UNKNOWN_CLOCK_RETRY), by_aws))
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
