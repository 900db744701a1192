//! Who may write: one of several controllers, by a Lease that it renews
//! (<https://kubernetes.io/docs/concepts/architecture/leases/>).
//!
//! No clock is compared with another machine's: a holder is gone when its Lease did not change for as long as it
//! said it would, on the clock of whoever looks; and a leader counts from the moment before it asked.

use std::time::Duration;

/// How long a Lease is held without being renewed.
pub const DURATION: Duration = Duration::from_secs(4);
/// How long a leader acts after it last asked for the Lease with success; what it sent by then has another second to
/// arrive before anyone can take the Lease.
pub const TENURE: Duration = Duration::from_secs(3);
/// How often a leader renews.
pub const RENEW: Duration = Duration::from_secs(1);
/// How often a standby looks.
pub const LOOK: Duration = Duration::from_millis(500);
/// The longest time that another holder's word is taken for.
const LONGEST: Duration = Duration::from_mins(1);

/// What stands in the Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its resource version; none: there is no such Lease.
    pub version: Option<String>,
    /// Who holds it; none: nobody.
    pub holder: Option<String>,
    /// How long that one may go without renewing it.
    pub duration: Duration,
    /// How often it changed hands.
    pub transitions: i32,
}

impl Seen {
    /// How long to wait for its holder to renew it.
    pub fn patience(&self) -> Duration {
        self.duration.min(LONGEST)
    }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Look at the Lease.
    Look,
    /// Write it as ours, over just this version.
    Write {
        /// The version that is written over; none: there is no such Lease.
        version: Option<String>,
        /// How often it has changed hands then.
        transitions: i32,
        /// Whether somebody else, or nobody, holds it so far.
        takes: bool,
    },
    /// Nothing for so long.
    Wait(Duration),
}

/// One who wants to hold the Lease. Times are those of a clock that only runs forward.
#[derive(Clone, Debug)]
pub struct Candidate {
    identity: String,
    seen: Option<Seen>,
    /// When it was first seen like that.
    since: Duration,
    /// When it was last asked for.
    asked: Option<Duration>,
    /// The last question was not answered, or answered with another version.
    blind: bool,
    /// When it was asked for with success.
    written: Option<Duration>,
}

impl Candidate {
    /// A candidate under a name that no other has.
    pub fn new(identity: String) -> Self {
        Self { identity, seen: None, since: Duration::ZERO, asked: None, blind: true, written: None }
    }

    /// Under which name.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Who holds it, as far as is known, if it is somebody else.
    pub fn other(&self) -> Option<&str> {
        self.seen.as_ref()?.holder.as_deref().filter(|holder| *holder != self.identity)
    }

    /// It was looked at: this is how it stands.
    pub fn saw(&mut self, seen: Seen, asked: Duration, now: Duration) {
        if self.seen.as_ref().is_none_or(|before| before.version != seen.version) {
            self.since = now;
        }
        (self.seen, self.asked, self.blind) = (Some(seen), Some(asked), false);
    }

    /// It was written, and stands like this now.
    pub fn wrote(&mut self, seen: Seen, asked: Duration, now: Duration) {
        self.saw(seen, asked, now);
        self.written = Some(asked);
    }

    /// A write met another version, or nobody knows what became of a call: it must be looked at.
    pub fn lost_sight(&mut self, asked: Duration) {
        (self.asked, self.blind, self.written) = (Some(asked), true, None);
    }

    /// What to do now.
    pub fn next(&self, now: Duration) -> Step {
        let pause = |since: Option<Duration>, pause: Duration| {
            since.map_or(Duration::ZERO, |at: Duration| (at + pause).saturating_sub(now))
        };
        let look = pause(self.asked, LOOK);
        let Some(seen) = self.seen.as_ref().filter(|_| !self.blind) else {
            return if look.is_zero() { Step::Look } else { Step::Wait(look) };
        };
        let write = |takes: bool| Step::Write {
            version: seen.version.clone(),
            transitions: seen.transitions.saturating_add(takes.into()),
            takes,
        };
        match &seen.holder {
            Some(holder) if *holder == self.identity => {
                let renewal = pause(self.written, RENEW);
                if renewal.is_zero() { write(false) } else { Step::Wait(renewal) }
            }
            None => write(true),
            Some(_) => {
                let lapse = pause(Some(self.since), seen.patience());
                match (lapse.is_zero(), look.is_zero()) {
                    (true, _) => write(true),
                    (false, true) => Step::Look,
                    (false, false) => Step::Wait(lapse.min(look)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn held_by(holder: &str, version: u64) -> Seen {
        let holder = (!holder.is_empty()).then(|| holder.to_owned());
        Seen { version: Some(version.to_string()), holder, duration: DURATION, transitions: 7 }
    }

    fn write(version: Option<&str>, transitions: i32, takes: bool) -> Step {
        Step::Write { version: version.map(str::to_owned), transitions, takes }
    }

    #[test]
    fn it_looks_before_it_writes_and_creates_what_is_missing() {
        let mut me = Candidate::new("me".into());
        assert_eq!(me.next(ms(0)), Step::Look);
        me.saw(Seen::default(), ms(0), ms(1));
        assert_eq!(me.next(ms(1)), write(None, 1, true));
    }

    #[test]
    fn one_that_was_released_is_taken_at_once() {
        let mut me = Candidate::new("me".into());
        me.saw(held_by("other", 1), ms(0), ms(1));
        me.saw(held_by("", 2), ms(500), ms(501));
        assert_eq!(me.next(ms(501)), write(Some("2"), 8, true));
    }

    #[test]
    fn a_holder_is_gone_when_nothing_changed_for_as_long_as_it_said() {
        let mut me = Candidate::new("me".into());
        me.saw(held_by("other", 1), ms(0), ms(10));
        assert_eq!(me.next(ms(10)), Step::Wait(ms(490)));
        assert_eq!(me.next(ms(500)), Step::Look);
        me.saw(held_by("other", 2), ms(500), ms(510));
        me.saw(held_by("other", 2), ms(4200), ms(4210));
        assert_eq!(me.next(ms(4210)), Step::Wait(ms(300)), "until it lapses, not until the next look");
        assert_eq!(me.next(ms(4510)), write(Some("2"), 8, true), "over just the version that lapsed");
    }

    #[test]
    fn nobody_keeps_the_others_waiting_for_longer_than_a_minute() {
        let mut me = Candidate::new("me".into());
        me.saw(Seen { duration: Duration::MAX, ..held_by("other", 1) }, ms(0), ms(0));
        assert_eq!(me.next(LONGEST), write(Some("1"), 8, true));
    }

    #[test]
    fn a_leader_renews_each_second_and_looks_again_after_a_conflict() {
        let mut me = Candidate::new("me".into());
        me.wrote(held_by("me", 5), ms(1000), ms(1010));
        assert_eq!(me.next(ms(1010)), Step::Wait(ms(990)));
        assert_eq!(me.next(ms(2000)), write(Some("5"), 7, false));
        me.lost_sight(ms(2000));
        assert_eq!(me.next(ms(2100)), Step::Wait(ms(400)));
        assert_eq!(me.next(ms(2500)), Step::Look);
        me.saw(held_by("me", 6), ms(2500), ms(2510));
        assert_eq!(me.next(ms(2510)), write(Some("6"), 7, false), "what became of the call, nobody knows");
    }

    #[test]
    fn an_api_server_that_is_away_makes_no_holder_older_or_younger() {
        let mut me = Candidate::new("me".into());
        me.saw(held_by("other", 1), ms(0), ms(0));
        me.lost_sight(ms(500));
        me.lost_sight(ms(4000));
        assert_eq!(me.next(ms(4500)), Step::Look, "it may have been renewed meanwhile");
        me.saw(held_by("other", 1), ms(4500), ms(4510));
        assert_eq!(me.next(ms(4510)), write(Some("1"), 8, true));
    }

    #[test]
    fn a_leader_stops_before_anyone_can_take_the_lease() {
        // What a standby sees is written after the leader asked, so its count begins later.
        assert!(TENURE + Duration::from_secs(1) <= DURATION);
    }
}
