//! The contract of the token cache.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};

use crate::controller::tokens::{CachedToken, FetchOutcome, KeyState, TokenCache, Want};
use crate::core::Now;
use crate::core::grants::{Restriction, TokenKey, TokenRequest};
use crate::core::secret::{FetchedToken, RefreshPolicy, TokenError, TokenErrorKind};
use crate::core::testing::{HOST, HOUR, JITTER, request, settings};

/// How AWS replies.
#[derive(Clone, Copy)]
enum Reply {
    /// With a token that lives for this many seconds.
    Lives(i64),
    WithoutExpiry,
    /// With a clock that is this many seconds ahead.
    Ahead(i64),
    /// An error, with such a clock.
    RejectedAhead(i64),
    Fails,
}

/// A cache in front of a scripted AWS, and the time.
struct Harness {
    cache: TokenCache,
    calls: usize,
    now: Now,
}

impl Harness {
    fn new() -> Self {
        let wall = Timestamp::new(1_700_000_000, 300_000_000).expect("a time");
        let cache = TokenCache::new(settings().refresh, JITTER, settings().endpoints());
        Self { cache, calls: 0, now: Now { wall, mono: Duration::from_secs(5), skew: None } }
    }

    fn pass(&mut self, time: SignedDuration) {
        self.now.wall += time;
        self.now.mono += time.unsigned_abs();
    }

    fn lookup(&mut self) -> CachedToken {
        self.lookup_for("team-a", &requests(&[HOST])).remove(0)
    }

    fn lookup_for(&mut self, namespace: &str, requests: &[TokenRequest]) -> Vec<CachedToken> {
        let want = |request| Want { request, expires_at: None, renewal: None };
        let wants: Vec<_> = requests.iter().map(want).collect();
        self.cache.lookup(&namespace.into(), &wants, None, self.now)
    }

    /// Ends the next call with `reply`.
    fn finish(&mut self, reply: Reply) -> FetchOutcome {
        let request = self.cache.start_call(self.now).expect("a call is due");
        self.calls += 1;
        let result = respond(reply, self.now.wall);
        self.cache.finish_call(&request.key, result, self.now)
    }

    /// Looks up a token, ends the queued call, if any, with `reply`, and looks up the token again.
    fn fetch(&mut self, reply: Reply) -> CachedToken {
        self.lookup();
        if self.cache.is_busy() {
            self.finish(reply);
        }
        self.lookup()
    }
}

fn respond(reply: Reply, now: Timestamp) -> Result<FetchedToken, TokenError> {
    let (life, ahead) = match reply {
        Reply::Lives(life) => (Some(life), 0),
        Reply::WithoutExpiry => (None, 0),
        Reply::Ahead(ahead) => (Some(12 * HOUR), ahead),
        Reply::RejectedAhead(ahead) => {
            let error = TokenError::new(TokenErrorKind::Credentials, "the signature expired");
            return Err(error.at(Some(now + SignedDuration::from_secs(ahead))));
        }
        Reply::Fails => return Err(TokenError::new(TokenErrorKind::ServerError, "out of order")),
    };
    let clock = now + SignedDuration::from_secs(ahead);
    Ok(FetchedToken {
        authorization: STANDARD.encode("AWS:x").into(),
        expires_at: life.map(|life| clock + SignedDuration::from_secs(life)),
        server_time: Some(clock),
        proxy_endpoint: None,
    })
}

/// A reply of AWS with a token that lives for this many seconds.
pub fn respond_with_life(life: i64, now: Timestamp) -> Result<FetchedToken, TokenError> {
    respond(Reply::Lives(life), now)
}

fn requests(hosts: &[&str]) -> Vec<TokenRequest> {
    let request = crate::core::request::Request {
        registries: hosts.iter().map(|host| crate::core::testing::target(host)).collect(),
        ..request(&[HOST])
    };
    let (granted, _) = settings().grants.assign("team-a", &request).expect("granted");
    granted.assignments.into_iter().map(|assignment| assignment.request).collect()
}

fn wait(found: &CachedToken, now: Now) -> Option<SignedDuration> {
    let KeyState::Failing { retry_at, .. } = &found.state else { return None };
    Some(now.until(*retry_at))
}

fn kind(found: &CachedToken) -> Option<TokenErrorKind> {
    let KeyState::Failing { error, .. } = &found.state else { return None };
    Some(error.kind)
}

/// The metric of a token that no namespace needs would report an expired token until the next start.
#[test]
fn the_expiry_of_a_token_is_reported_as_long_as_a_namespace_needs_it() {
    let mut harness = Harness::new();
    harness.lookup();
    assert!(harness.cache.expiries().is_empty(), "the call has not ended");
    let token = harness.finish(Reply::Lives(12 * 3_600)).result.expect("a token");
    let reported: Vec<_> = harness.cache.expiries().into_values().collect();
    assert_eq!(reported, [token.expires_at()]);
    harness.cache.release("team-a");
    assert!(harness.cache.expiries().is_empty());
}

#[test]
fn many_waiters_share_one_call_and_all_are_returned() {
    let mut harness = Harness::new();
    for n in 0..100 {
        let found = harness.lookup_for(&format!("ns-{n}"), &requests(&[HOST])).remove(0);
        assert!(matches!(found.state, KeyState::Pending { since } if since == harness.now.wall));
    }
    let outcome = harness.finish(Reply::Lives(12 * HOUR));
    assert_eq!((harness.calls, outcome.waiters.len()), (1, 100));
    assert!(outcome.result.is_ok() && outcome.skew.is_none());
    assert_eq!(harness.lookup().state, KeyState::Fresh);
    harness.pass(SignedDuration::from_hours(5));
    assert_eq!((harness.lookup().state, harness.calls), (KeyState::Fresh, 1));
    harness.pass(SignedDuration::from_hours(1));
    let renewing = harness.lookup();
    assert!(matches!(renewing.state, KeyState::Pending { .. }) && renewing.token.is_some());
}

#[test]
fn a_failing_key_backs_off_to_a_minute_and_a_success_resets_it() {
    let mut harness = Harness::new();
    let mut longest = SignedDuration::ZERO;
    for failures in 1..=12 {
        let found = harness.fetch(Reply::Fails);
        let later = wait(&found, harness.now).expect("it fails");
        assert!(later <= SignedDuration::from_mins(1) && harness.calls == failures);
        longest = longest.max(later);
        harness.pass(later - SignedDuration::from_millis(1));
        assert!(wait(&harness.lookup(), harness.now).is_some() && !harness.cache.is_busy(), "too early");
        harness.pass(SignedDuration::from_millis(1));
    }
    assert!(longest >= SignedDuration::from_secs(45));
    assert_eq!(harness.fetch(Reply::Lives(12 * HOUR)).state, KeyState::Fresh);
    harness.pass(SignedDuration::from_hours(6));
    let found = harness.fetch(Reply::Fails);
    assert!(wait(&found, harness.now).expect("it fails") <= SignedDuration::from_secs(1));
    assert!(found.token.is_some_and(|token| token.is_live(harness.now)), "the old token is still used");
}

/// N32: a token of a former leader, whose wall clock was then set back.
#[test]
fn a_token_whose_lifetime_has_passed_is_fetched_again_whatever_the_wall_clock_shows() {
    let mut harness = Harness::new();
    assert_eq!(harness.fetch(Reply::Lives(12 * HOUR)).state, KeyState::Fresh);
    harness.pass(SignedDuration::from_hours(3));
    harness.now.skew = Some(SignedDuration::from_hours(10));
    let found = harness.lookup();
    assert!(matches!(found.state, KeyState::Pending { .. }), "{:?}", found.state);
    assert!(found.token.is_none_or(|token| !token.is_usable(harness.now)));
    assert_eq!(harness.fetch(Reply::Lives(12 * HOUR)).state, KeyState::Fresh);
}

#[test]
fn a_shorter_lived_token_does_not_replace_a_live_one() {
    let mut harness = Harness::new();
    let first = harness.fetch(Reply::Lives(12 * HOUR)).token.expect("a token");
    harness.pass(SignedDuration::from_hours(6));
    let found = harness.fetch(Reply::Lives(HOUR));
    assert_eq!(kind(&found), Some(TokenErrorKind::ShorterLivedToken));
    assert_eq!(found.token.map(|token| token.expires_at()), Some(first.expires_at()));
    harness.pass(SignedDuration::from_hours(6));
    let found = harness.fetch(Reply::Lives(HOUR));
    assert_eq!(found.state, KeyState::Fresh, "it is used once the better one has expired");
}

#[test]
fn a_token_that_is_expired_or_has_no_expiry_is_kept_and_causes_no_hot_loop() {
    for reply in [Reply::Lives(-60), Reply::Lives(0), Reply::WithoutExpiry] {
        let mut harness = Harness::new();
        let found = harness.fetch(reply);
        assert_eq!((kind(&found), found.token.is_some()), (Some(TokenErrorKind::ExpiredToken), true));
        assert!(wait(&found, harness.now).expect("it fails") >= SignedDuration::from_secs(11));
        for _ in 0..600 {
            harness.pass(SignedDuration::from_millis(500));
            harness.fetch(reply);
        }
        assert!((4..=10).contains(&harness.calls), "{} calls in 5 minutes", harness.calls);
        harness.pass(SignedDuration::from_mins(1));
        assert_eq!(harness.fetch(Reply::Lives(12 * HOUR)).state, KeyState::Fresh);
    }
}

#[test]
fn tokens_of_one_second_cause_at_most_one_call_in_five_seconds() {
    let mut harness = Harness::new();
    let mut last: Option<Timestamp> = None;
    for _ in 0..600 {
        let before = harness.calls;
        harness.fetch(Reply::Lives(1));
        if harness.calls > before {
            let wall = harness.now.wall;
            assert!(last.is_none_or(|last| wall.duration_since(last) >= SignedDuration::from_secs(5)));
            last = Some(wall);
        }
        harness.pass(SignedDuration::from_millis(100));
    }
    assert_eq!(harness.calls, 12);
}

#[test]
fn public_and_private_tokens_of_one_region_never_mix_and_dual_stack_hosts_share_them() {
    let east = |form: &str| format!("123456789012.{form}");
    let hosts = [
        east("dkr.ecr.us-east-1.amazonaws.com"),
        "public.ecr.aws".to_owned(),
        east("dkr.ecr-fips.us-east-1.amazonaws.com"),
        east("dkr-ecr.us-east-1.on.aws"),
    ];
    let requests = requests(&hosts.each_ref().map(String::as_str));
    let key = |n: usize| &requests[n].key;
    assert!(key(0) != key(1) && key(0) != key(2) && key(1) != key(2));
    assert_eq!(key(0), key(3));
    let mut harness = Harness::new();
    harness.lookup_for("team-a", &requests);
    for _ in 0..3 {
        harness.pass(SignedDuration::from_millis(1));
        harness.finish(Reply::Lives(HOUR));
    }
    assert!(harness.calls == 3 && !harness.cache.is_busy());
}

#[test]
fn a_clock_that_differs_is_reported_and_does_not_shorten_a_token() {
    for (ahead, reported) in [(0, None), (300, None), (301, Some(301)), (-7_200, Some(7_200))] {
        let mut harness = Harness::new();
        harness.lookup();
        let outcome = harness.finish(Reply::Ahead(ahead));
        assert_eq!(outcome.skew, reported.map(Duration::from_secs));
        let left = harness.now.until(outcome.result.expect("a token").expires_at());
        assert_eq!(left, SignedDuration::from_hours(12));
    }
}

/// AWS rejects the requests of such a clock.
#[test]
fn a_clock_that_differs_is_reported_after_a_rejected_request() {
    let mut harness = Harness::new();
    harness.lookup();
    let outcome = harness.finish(Reply::RejectedAhead(-7_200));
    assert!(outcome.result.is_err());
    assert_eq!(outcome.skew, Some(Duration::from_hours(2)));
}

#[test]
fn calls_for_a_hundred_keys_start_at_the_configured_rate_and_at_most_sixteen_run_at_once() {
    let mut harness = Harness::new();
    harness.cache = TokenCache::new(
        RefreshPolicy { tokens_per_second: 10, ..settings().refresh },
        JITTER,
        settings().endpoints(),
    );
    let first = requests(&[HOST]).remove(0);
    for n in 0..100 {
        let pattern = format!("team-{n}/*").parse().expect("a pattern");
        let key = TokenKey { restriction: Restriction::Pull([pattern].into()), ..first.key.clone() };
        let request = TokenRequest { key, ..first.clone() };
        harness.lookup_for(&format!("team-{n}"), &[request]);
    }
    let start = harness.now.mono;
    let mut running = vec![];
    for calls in 1..=16_u32 {
        let pause = harness.cache.time_to_next_call(harness.now).expect("a call is queued");
        harness.pass(pause.try_into().expect("a short pause"));
        running.push(harness.cache.start_call(harness.now).expect("a call is due"));
        assert!(harness.cache.start_call(harness.now).is_none(), "the pace");
        assert_eq!(harness.now.mono, start + Duration::from_millis(100) * (calls - 1));
    }
    harness.pass(SignedDuration::from_secs(1));
    assert!(harness.cache.start_call(harness.now).is_none(), "sixteen at once");
    let key = running.remove(0).key;
    harness.cache.finish_call(&key, respond(Reply::Lives(HOUR), harness.now.wall), harness.now);
    assert!(harness.cache.start_call(harness.now).is_some());
}
