//! What was tried on one object, and when the next try may be: after failures, and against somebody who undoes what
//! was done.

use jiff::{SignedDuration, Timestamp};

use super::backoff::Backoff;

/// A writer that lets go for this long is met with an immediate repair again.
const REPAIRS_FORGOTTEN: SignedDuration = SignedDuration::from_mins(20);

/// What this process tried on an object. Empty after a start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tries {
    /// Failed tries in a row.
    pub failures: u32,
    /// Not before then.
    pub retry_at: Option<Timestamp>,
    /// Repairs in a row.
    pub repairs: u32,
    /// The last of them.
    pub repaired_at: Option<Timestamp>,
}

impl Tries {
    /// Takes note of a failure, and says when the next try is due. `seed` names the object.
    pub fn failed(&mut self, seed: &str, now: Timestamp) -> Timestamp {
        self.failures = self.failures.saturating_add(1);
        let at = now.checked_add(Backoff::CALLS.delay(self.failures, &seed)).unwrap_or(now);
        self.retry_at = Some(at);
        at
    }

    /// Takes note of a refusal by somebody whose view may lag, and says when it is worth trying again, without a word to
    /// anybody; `None`: that explains it no longer.
    pub fn lagged(&mut self, now: Timestamp) -> Option<Timestamp> {
        let pause = SignedDuration::from_millis(100 << self.failures.min(3));
        let at = now.checked_add(pause).ok().filter(|_| self.failures < 3)?;
        self.failures += 1;
        self.retry_at = Some(at);
        Some(at)
    }

    /// Forgets the failures: a try succeeded, or somebody may have mended what the last ones failed at.
    pub fn forgive(&mut self) {
        self.failures = 0;
        self.retry_at = None;
    }

    /// Takes note of a write that may have been a repair.
    pub fn repaired(&mut self, now: Timestamp) {
        let quiet = self.repaired_at.is_none_or(|last| now.duration_since(last) > REPAIRS_FORGOTTEN);
        self.repairs = if quiet { 1 } else { self.repairs.saturating_add(1) };
        self.repaired_at = Some(now);
    }

    /// Until when a failure has the next try wait.
    pub fn retry_after(&self, now: Timestamp) -> Option<Timestamp> {
        self.retry_at.filter(|at| *at > now)
    }

    /// The last repair that counts, and until when it has the next one wait, so that a second writer cannot make us
    /// spin. That may be over by now.
    pub fn repair_after(&self, seed: &str, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let last = self.repaired_at.filter(|_| self.repairs > 0)?;
        let later = last.checked_add(Backoff::REPAIRS.delay(self.repairs, &seed)).ok()?;
        (now.duration_since(last) <= REPAIRS_FORGOTTEN).then_some((last, later))
    }

    /// Until when the next write of any kind waits.
    pub fn waiting(&self, seed: &str, now: Timestamp) -> Option<Timestamp> {
        let repair = self.repair_after(seed, now).map(|(_, later)| later);
        self.retry_at.max(repair).filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_that_lags_explains_less_than_a_second() {
        let mut tries = Tries::default();
        let (start, mut now) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
        while let Some(at) = tries.lagged(now) {
            now = at;
        }
        assert_eq!(now.duration_since(start), SignedDuration::from_millis(700));
        assert!(
            tries.failed("a", now) > now + SignedDuration::from_secs(1),
            "what comes then is a failure like any"
        );
    }

    #[test]
    fn what_is_undone_again_and_again_is_done_ever_more_slowly() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let (mut tries, mut now, mut writes) = (Tries::default(), at(0), 0);
        while now < at(3_600) {
            if let Some(later) = tries.waiting("a", now) {
                now = later;
            } else {
                tries.repaired(now);
                writes += 1;
            }
        }
        assert!((10..25).contains(&writes), "{writes} writes in an hour");
        assert!(tries.failed("a", now) > now && tries.waiting("a", now).is_some());
    }
}
