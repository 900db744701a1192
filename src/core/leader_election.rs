//! When to read, acquire and renew the Lease of this instance
//! (<https://kubernetes.io/docs/concepts/architecture/leases/>), and until when this process may write.
//!
//! Clocks of different machines are never compared. A candidate considers the leader gone once the Lease has not changed
//! for `leaseDurationSeconds`, measured on the candidate's own clock. A leader counts its term from just before it sent
//! the renewal.

use std::time::Duration;

use super::Now;

/// The periods of the election, named as in client-go
/// (<https://pkg.go.dev/k8s.io/client-go/tools/leaderelection#LeaderElectionConfig>), whose defaults they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElectionTiming {
    /// How long a leader owns the Lease without renewing it. Whole seconds.
    pub lease_duration: Duration,
    /// How long a leader writes after its last successful renewal. The rest of `lease_duration` is the time that its last
    /// request has to arrive before another process can become the leader.
    pub renew_deadline: Duration,
    /// How often a leader renews the Lease. A candidate reads it twice as often, so that it acquires a released one soon.
    pub retry_period: Duration,
}

impl Default for ElectionTiming {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { lease_duration: seconds(15), renew_deadline: seconds(10), retry_period: seconds(2) }
    }
}

impl ElectionTiming {
    /// How often a candidate reads the Lease, and how soon a failed request is repeated.
    pub fn read_period(self) -> Duration {
        self.retry_period / 2
    }

    /// After this long a request is abandoned, so that a renewal has a second attempt.
    pub fn request_timeout(self) -> Duration {
        self.renew_deadline / 2
    }
}

/// The longest lease duration of another process that a candidate respects.
pub const MAX_LEASE_DURATION: Duration = Duration::from_mins(1);

/// A Lease, as it was read or written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseRecord {
    /// `None` if the Lease does not exist.
    pub resource_version: Option<String>,
    /// The identity of the leader; `None` if the Lease was released.
    pub holder: Option<String>,
    pub lease_duration: Duration,
    pub transitions: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ElectionStep {
    Read,
    /// Write the Lease with this process as the holder, if it still has this resource version.
    Write {
        /// `None` creates the Lease.
        resource_version: Option<String>,
        transitions: i32,
        /// Whether this is an acquisition, and not a renewal.
        acquires: bool,
    },
    Wait(Duration),
}

/// One candidate of the election. It measures time by the monotonic clock.
#[derive(Clone, Debug, Default)]
pub struct LeaderElector {
    identity: String,
    timing: ElectionTiming,
    observed: Option<LeaseRecord>,
    /// When `observed` got its resource version.
    observed_at: Duration,
    /// When the last request was sent.
    requested_at: Option<Duration>,
    /// The last request succeeded. After a failed one, the Lease may have changed since `observed`.
    fresh: bool,
    /// An overloaded API server refused the last request.
    is_refused: bool,
    /// When the last successful write was sent.
    renewed_at: Option<Duration>,
    /// The last version of the Lease; 0 without one.
    last_version: u64,
    rewinds: u32,
    /// When the version went back while another process held the Lease.
    rewound_at: Option<Duration>,
}

impl LeaderElector {
    /// `identity` must be unique among all candidates.
    pub fn new(identity: String, timing: ElectionTiming) -> Self {
        Self { identity, timing, ..Self::default() }
    }

    #[cfg(any(test, feature = "simulation"))]
    pub fn timing(&self) -> ElectionTiming {
        self.timing
    }

    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The identity of the leader, if it is another process.
    pub fn other_leader(&self) -> Option<&str> {
        self.observed.as_ref()?.holder.as_deref().filter(|holder| *holder != self.identity)
    }

    /// Whether another process held the Lease when it was last read, and its term has not ended since.
    pub fn is_standby(&self, now: Now) -> bool {
        let held = self.observed.as_ref().filter(|_| self.fresh && self.other_leader().is_some());
        held.is_some_and(|record| !self.term_left(record, now).is_zero())
    }

    /// How long until the holder of `record`, which is another process, loses the Lease unless it renews it.
    fn term_left(&self, record: &LeaseRecord, now: Now) -> Duration {
        (self.observed_at + record.lease_duration.min(MAX_LEASE_DURATION)).saturating_sub(now.mono)
    }

    /// How often a response had an older version of the Lease than the one before, or none: the API server has older data
    /// than before, as after a restored backup of etcd, unless the Lease was deleted.
    pub fn rewinds(&self) -> u32 {
        self.rewinds
    }

    /// Records the response to a read that was sent at `asked`.
    pub fn observed(&mut self, record: LeaseRecord, asked: Now, now: Now) {
        // A Lease that is gone may have been deleted, or may not exist yet in older data.
        let version = record.resource_version.as_deref().map_or(Some(0), |version| version.parse().ok());
        if let Some(version) = version {
            if version < self.last_version {
                self.rewinds += 1;
                let is_own = |before: &LeaseRecord| before.holder.as_deref() == Some(&*self.identity);
                // The leader may not know yet, and writes until the end of its term.
                self.rewound_at = (!self.observed.as_ref().is_some_and(is_own)).then_some(now.mono);
            }
            self.last_version = version;
        }
        if self.observed.as_ref().is_none_or(|before| before.resource_version != record.resource_version) {
            self.observed_at = now.mono;
        }
        (self.observed, self.requested_at, self.fresh) = (Some(record), Some(asked.mono), true);
        self.is_refused = false;
    }

    /// Records the response to a write that was sent at `asked`.
    pub fn wrote(&mut self, record: LeaseRecord, asked: Now, now: Now) {
        self.observed(record, asked, now);
        self.renewed_at = Some(asked.mono);
    }

    /// Records a conflict, or a request whose outcome is unknown: the Lease must be read again.
    pub fn request_failed(&mut self, asked: Now) {
        (self.requested_at, self.fresh, self.renewed_at) = (Some(asked.mono), false, None);
        self.is_refused = false;
    }

    /// The same for a request that an overloaded API server refused. The next one is not sent before `retryPeriod` has passed,
    /// however long the API server demands to wait: the term would end.
    pub fn request_refused(&mut self, asked: Now) {
        self.request_failed(asked);
        self.is_refused = true;
    }

    pub fn next(&self, now: Now) -> ElectionStep {
        let remaining = |since: Option<Duration>, period: Duration| {
            since.map_or(Duration::ZERO, |since| (since + period).saturating_sub(now.mono))
        };
        let timing = self.timing;
        let period = if self.is_refused { timing.retry_period } else { timing.read_period() };
        let retry = remaining(self.requested_at, period);
        let (Some(record), true) = (&self.observed, self.fresh) else {
            return if retry.is_zero() { ElectionStep::Read } else { ElectionStep::Wait(retry) };
        };
        let write = |acquires: bool| ElectionStep::Write {
            resource_version: record.resource_version.clone(),
            transitions: record.transitions.saturating_add(acquires.into()),
            acquires,
        };
        let expiry = match &record.holder {
            Some(holder) if *holder == self.identity => {
                let renewal = remaining(self.renewed_at, self.timing.retry_period);
                return if renewal.is_zero() { write(false) } else { ElectionStep::Wait(renewal) };
            }
            None => remaining(self.rewound_at, self.timing.lease_duration),
            Some(_) => self.term_left(record, now),
        };
        match (expiry.is_zero(), retry.is_zero()) {
            (true, _) => write(true),
            (false, true) => ElectionStep::Read,
            (false, false) => ElectionStep::Wait(expiry.min(retry)),
        }
    }
}

/// Until when this process may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leadership {
    NotLeader,
    /// Until the earlier of both: the monotonic clock may stop while the machine is suspended, and the wall clock may be
    /// set.
    Until(Now),
    /// There is no election.
    Unopposed,
}

impl Leadership {
    /// The result of a write of the Lease that was sent at `asked` and succeeded.
    pub fn granted(asked: Now, timing: ElectionTiming) -> Self {
        let term = timing.renew_deadline;
        Self::Until(Now { mono: asked.mono + term, wall: asked.after(term), ..asked })
    }

    /// How long it lasts from `now` on; `None` if this process must not write.
    pub fn left(self, now: Now) -> Option<Duration> {
        let left = match self {
            Self::NotLeader => return None,
            Self::Unopposed => return Some(Duration::MAX),
            Self::Until(end) => {
                let wall = Duration::try_from(now.until(end.wall)).unwrap_or_default();
                end.mono.saturating_sub(now.mono).min(wall)
            }
        };
        (!left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    const TIMING: ElectionTiming = ElectionTiming {
        lease_duration: Duration::from_secs(4),
        renew_deadline: Duration::from_secs(3),
        retry_period: Duration::from_secs(1),
    };

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    const fn at(millis: u64) -> Now {
        Now { wall: Timestamp::UNIX_EPOCH, mono: ms(millis), skew: None }
    }

    fn held_by(holder: &str, version: u64) -> LeaseRecord {
        LeaseRecord {
            resource_version: Some(version.to_string()),
            holder: (!holder.is_empty()).then(|| holder.to_owned()),
            lease_duration: TIMING.lease_duration,
            transitions: 7,
        }
    }

    fn write(version: Option<&str>, transitions: i32, acquires: bool) -> ElectionStep {
        ElectionStep::Write { resource_version: version.map(str::to_owned), transitions, acquires }
    }

    #[test]
    fn a_candidate_reads_before_it_writes_and_creates_a_missing_lease() {
        let mut me = LeaderElector::new("me".into(), TIMING);
        assert_eq!(me.next(at(0)), ElectionStep::Read);
        me.observed(LeaseRecord::default(), at(0), at(1));
        assert_eq!(me.next(at(1)), write(None, 1, true));
    }

    #[test]
    fn a_lease_whose_version_goes_back_is_noticed_once() {
        let mut me = LeaderElector::new("me".into(), TIMING);
        for (version, rewinds) in [(7, 0), (8, 0), (8, 0), (3, 1), (4, 1), (9, 1), (1, 2)] {
            me.observed(held_by("other", version), at(0), at(0));
            assert_eq!(me.rewinds(), rewinds, "version {version}");
        }
    }

    #[test]
    fn a_lease_that_disappeared_is_acquired_after_the_term_of_its_holder() {
        let mut me = LeaderElector::new("me".into(), TIMING);
        me.observed(held_by("other", 7), at(0), at(0));
        me.observed(LeaseRecord::default(), at(500), at(500));
        assert_eq!(me.next(at(500)), ElectionStep::Wait(ms(500)));
        assert_eq!(me.next(at(4500)), write(None, 1, true));
        me.wrote(held_by("me", 9), at(4500), at(4500));
        me.observed(LeaseRecord::default(), at(5500), at(5500));
        assert_eq!(me.next(at(5500)), write(None, 1, true), "its own Lease");
    }

    #[test]
    fn a_released_lease_is_acquired_immediately() {
        let mut me = LeaderElector::new("me".into(), TIMING);
        me.observed(held_by("other", 1), at(0), at(1));
        me.observed(held_by("", 2), at(500), at(501));
        assert_eq!(me.next(at(501)), write(Some("2"), 8, true));
    }

    #[test]
    fn a_lease_that_did_not_change_for_its_duration_is_acquired() {
        let mut me = LeaderElector::new("me".into(), TIMING);
        me.observed(held_by("other", 1), at(0), at(10));
        assert_eq!(me.other_leader(), Some("other"));
        assert_eq!(me.next(at(10)), ElectionStep::Wait(ms(490)));
        assert_eq!(me.next(at(500)), ElectionStep::Read);
        me.observed(held_by("other", 2), at(500), at(510));
        me.observed(held_by("other", 2), at(4200), at(4210));
        assert_eq!(
            me.next(at(4210)),
            ElectionStep::Wait(ms(300)),
            "until it expires, not until the next read"
        );
        assert!(me.is_standby(at(4509)) && !me.is_standby(at(4510)));
        assert_eq!(me.next(at(4510)), write(Some("2"), 8, true), "only over the version that expired");
    }

    #[test]
    fn a_lease_duration_above_the_maximum_is_not_respected() {
        let mut me = LeaderElector::new("me".into(), TIMING);
        me.observed(LeaseRecord { lease_duration: Duration::MAX, ..held_by("other", 1) }, at(0), at(0));
        let now = Now { mono: MAX_LEASE_DURATION, ..at(0) };
        assert_eq!(me.next(now), write(Some("1"), 8, true));
    }

    #[test]
    fn a_leader_renews_each_second_and_reads_after_a_conflict() {
        let mut me = LeaderElector::new("me".into(), TIMING);
        me.wrote(held_by("me", 5), at(1000), at(1010));
        assert_eq!(me.other_leader(), None);
        assert_eq!(me.next(at(1010)), ElectionStep::Wait(ms(990)));
        assert_eq!(me.next(at(2000)), write(Some("5"), 7, false));
        me.request_failed(at(2000));
        assert_eq!(me.next(at(2100)), ElectionStep::Wait(ms(400)));
        assert_eq!(me.next(at(2500)), ElectionStep::Read);
        me.observed(held_by("me", 6), at(2500), at(2510));
        assert_eq!(me.next(at(2510)), write(Some("6"), 7, false), "the failed request may have succeeded");
    }

    #[test]
    fn a_request_that_an_overloaded_server_refused_is_repeated_after_the_retry_period() {
        let mut me = LeaderElector::new("me".into(), TIMING);
        me.wrote(held_by("me", 5), at(1000), at(1010));
        me.request_refused(at(2000));
        assert_eq!(me.next(at(2000)), ElectionStep::Wait(TIMING.retry_period));
        assert_eq!(me.next(at(3000)), ElectionStep::Read);
        me.observed(held_by("me", 5), at(3000), at(3010));
        assert_eq!(me.next(at(3010)), write(Some("5"), 7, false));
        me.request_failed(at(3010));
        assert_eq!(me.next(at(3510)), ElectionStep::Read, "another failure");
    }

    #[test]
    fn an_outage_of_the_api_server_neither_extends_nor_shortens_a_lease() {
        let mut me = LeaderElector::new("me".into(), TIMING);
        me.observed(held_by("other", 1), at(0), at(0));
        me.request_failed(at(500));
        me.request_failed(at(4000));
        assert_eq!(me.next(at(4500)), ElectionStep::Read, "the leader may have renewed it in the meantime");
        me.observed(held_by("other", 1), at(4500), at(4510));
        assert_eq!(me.next(at(4510)), write(Some("1"), 8, true));
    }

    #[test]
    fn the_defaults_are_those_of_client_go() {
        let ElectionTiming { lease_duration, renew_deadline, retry_period } = ElectionTiming::default();
        assert_eq!([lease_duration, renew_deadline, retry_period], [ms(15_000), ms(10_000), ms(2_000)]);
    }

    #[test]
    fn leadership_ends_when_either_clock_reaches_the_end() {
        let start = at(5000);
        let granted = Leadership::granted(start, TIMING);
        let second = ms(1000);
        let later = Now { wall: start.after(second), mono: start.mono + second, ..start };
        assert_eq!(granted.left(later), Some(TIMING.renew_deadline.saturating_sub(second)));
        let suspended = Now { wall: start.after(TIMING.renew_deadline), ..start };
        assert_eq!(granted.left(suspended), None, "the monotonic clock stopped during a suspension");
        let set_back = Now { mono: start.mono + TIMING.renew_deadline, ..start };
        assert_eq!(granted.left(set_back), None, "the wall clock was set back");
        assert_eq!(Leadership::NotLeader.left(start), None);
        assert_eq!(Leadership::Unopposed.left(start), Some(Duration::MAX));
    }
}
