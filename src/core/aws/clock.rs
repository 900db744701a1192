//! The clock of AWS.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::core::Now;

/// The clock skew that AWS tolerates in a signature
/// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html>).
const MAX_SKEW: Duration = Duration::from_mins(5);

/// The clock of AWS as its last reply showed it. The monotonic clock counts on from there, so a wall clock that is set does not
/// change it.
#[derive(Debug, Default)]
pub struct AwsClock {
    /// How far it is ahead of the monotonic clock.
    offset: Option<SignedDuration>,
}

impl AwsClock {
    /// Records the `Date` of a reply.
    pub fn follow(&mut self, date: Option<Timestamp>, now: Now) {
        let offset = date.map(|wall| Now { wall, ..now }.wall_offset());
        self.offset = offset.or(self.offset);
    }

    /// The time, with the difference from the clock of AWS. It is zero if AWS tolerates it.
    pub fn compare(&self, now: Now) -> Now {
        let ahead = |offset: SignedDuration| {
            let ahead = offset.saturating_sub(now.wall_offset());
            if ahead.unsigned_abs() > MAX_SKEW { ahead } else { SignedDuration::ZERO }
        };
        Now { skew: self.offset.map(ahead), ..now }
    }
}

/// The difference between the two clocks, if AWS would reject a signature because of it.
pub fn skew(server_now: Timestamp, now: Timestamp) -> Option<Duration> {
    let apart = server_now.duration_since(now).unsigned_abs();
    (apart > MAX_SKEW).then_some(apart)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::{HOUR, at, skewed, wall};

    #[test]
    fn it_runs_on_while_the_wall_clock_is_set() {
        let mut clock = AwsClock::default();
        assert_eq!(clock.compare(at(0)).skew, None);
        clock.follow(Some(wall(-1)), at(0));
        clock.follow(None, at(HOUR));
        assert_eq!(clock.compare(at(2 * HOUR)).skew, Some(SignedDuration::ZERO), "it is tolerated");
        let ahead = Now { wall: wall(12 * HOUR), ..at(2 * HOUR) };
        assert_eq!(clock.compare(ahead).skew, Some(SignedDuration::from_secs(-10 * HOUR - 1)));
    }

    #[test]
    fn a_signature_may_differ_by_five_minutes() {
        assert_eq!(skew(wall(0), wall(299)), None);
        assert_eq!(skew(wall(1_000), wall(0)), Some(Duration::from_secs(1_000)));
    }

    #[test]
    fn a_time_has_certainly_passed_by_both_clocks() {
        let with = |hours| skewed(at(2 * HOUR), hours);
        assert!(!with(None).has_certainly_passed(wall(HOUR)), "AWS has not replied");
        assert!(with(Some(0)).has_certainly_passed(wall(HOUR)));
        assert!(!with(Some(-10)).has_certainly_passed(wall(HOUR)));
        assert!(!with(Some(10)).has_certainly_passed(wall(3 * HOUR)));
        assert_eq!(with(None).certainly_passes_at(wall(HOUR)), wall(2 * HOUR + 60));
        assert_eq!(with(Some(0)).certainly_passes_at(wall(3 * HOUR)), wall(3 * HOUR));
        assert_eq!(with(Some(-10)).certainly_passes_at(wall(HOUR)), wall(11 * HOUR));
        assert_eq!(with(Some(10)).certainly_passes_at(wall(3 * HOUR)), wall(3 * HOUR));
        assert_eq!(with(Some(10)).latest(), at(12 * HOUR).wall);
        assert_eq!(with(Some(-10)).latest(), at(2 * HOUR).wall);
    }
}
