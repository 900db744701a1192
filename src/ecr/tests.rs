//! The contract of the token cache, and a month of one namespace: cache, plan and settle together.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};

use super::cache::{Lookup, Outcome, State, Tokens};
use super::{Ask, Mint, MintError, MintErrorKind, Minted};
use crate::core::annotations::tests::{HOST, settings};
use crate::core::annotations::{Reading, Wish};
use crate::core::facts::WriteCause;
use crate::core::facts::{Facts, History, Observed, Owner};
use crate::core::identity::{Restriction, TokenKey};
use crate::core::plan::{Step, plan};
use crate::core::request::tests::request_for;
use crate::core::request::{Accepted, Request};
use crate::core::settle::settle;
use crate::core::statics::Sources;

const HOUR: i64 = 3_600;

/// How AWS answers.
#[derive(Clone, Copy)]
enum Answer {
    /// A token that lives so many seconds.
    Lives(i64),
    /// A token without `expiresAt`.
    WithoutEnd,
    /// AWS's clock is so many seconds ahead.
    Ahead(i64),
    Fails,
}

struct FakeAws {
    script: Mutex<(Answer, Timestamp)>,
    calls: AtomicUsize,
}

impl Mint for FakeAws {
    fn mint<'a>(&'a self, _ask: &'a Ask) -> BoxFuture<'a, Result<Minted, MintError>> {
        Box::pin(async move {
            self.calls.fetch_add(1, Ordering::SeqCst);
            let (answer, now) = *self.script.lock().expect("not poisoned");
            let (life, ahead) = match answer {
                Answer::Lives(life) => (Some(life), 0),
                Answer::WithoutEnd => (None, 0),
                Answer::Ahead(ahead) => (Some(12 * HOUR), ahead),
                Answer::Fails => return Err(MintError::new(MintErrorKind::ServerError, "out of order")),
            };
            let clock = now + SignedDuration::from_secs(ahead);
            Ok(Minted {
                authorization: STANDARD.encode("AWS:x").into(),
                expires_at: life.map(|life| clock + SignedDuration::from_secs(life)),
                server_time: Some(clock),
                proxy_endpoint: None,
            })
        })
    }
}

fn ask(key: &TokenKey) -> Ask {
    Ask { key: key.clone(), dual_stack: false }
}

/// A cache in front of a scripted AWS, and the time.
struct World {
    aws: Arc<FakeAws>,
    tokens: Tokens,
    now: Timestamp,
}

impl World {
    fn new(answer: Answer) -> Self {
        let now = Timestamp::new(1_700_000_000, 300_000_000).expect("a time");
        let aws = Arc::new(FakeAws { script: Mutex::new((answer, now)), calls: AtomicUsize::new(0) });
        Self { tokens: Tokens::new(aws.clone(), settings().refresh, 1_000), aws, now }
    }

    fn calls(&self) -> usize {
        self.aws.calls.load(Ordering::SeqCst)
    }

    fn pass(&mut self, time: SignedDuration) {
        self.now += time;
    }

    fn look(&mut self) -> Lookup {
        self.tokens.lookup(&ask(&keys(&[HOST])[0]), &"team-a".into(), self.now)
    }

    async fn end_of_call(&mut self, answer: Answer) -> Outcome {
        *self.aws.script.lock().expect("not poisoned") = (answer, self.now);
        let finished = self.tokens.next().await;
        self.tokens.finish(finished, self.now)
    }

    /// Looks, lets a call that this starts end with `answer`, and looks again.
    async fn ask(&mut self, answer: Answer) -> Lookup {
        self.look();
        if self.tokens.is_busy() {
            self.end_of_call(answer).await;
        }
        self.look()
    }
}

fn request(hosts: &[&str]) -> Request {
    let registries = hosts.iter().map(|host| (*host).to_owned().try_into().expect("a target")).collect();
    request_for(registries)
}

fn keys(hosts: &[&str]) -> Vec<TokenKey> {
    let (granted, _) = settings().grants.assign("team-a", &request(hosts)).expect("granted");
    granted.assignments.into_iter().map(|assignment| assignment.key).collect()
}

fn wait(lookup: &Lookup, now: Timestamp) -> Option<SignedDuration> {
    let State::Failing { retry_at, .. } = &lookup.state else { return None };
    Some(retry_at.duration_since(now))
}

fn kind(lookup: &Lookup) -> Option<MintErrorKind> {
    let State::Failing { error, .. } = &lookup.state else { return None };
    Some(error.kind)
}

#[tokio::test]
async fn many_waiters_share_one_call_and_all_are_named() {
    let mut world = World::new(Answer::Lives(12 * HOUR));
    let key = &keys(&[HOST])[0];
    for n in 0..100 {
        let found = world.tokens.lookup(&ask(key), &format!("ns-{n}").into(), world.now);
        assert!(matches!(found.state, State::Pending { since } if since == world.now));
    }
    let outcome = world.end_of_call(Answer::Lives(12 * HOUR)).await;
    assert_eq!((world.calls(), outcome.waiters.len()), (1, 100));
    assert!(outcome.result.is_ok() && outcome.skew.is_none());
    assert_eq!(world.look().state, State::Fresh);
    world.pass(SignedDuration::from_hours(5));
    assert_eq!((world.look().state, world.calls()), (State::Fresh, 1));
    world.pass(SignedDuration::from_hours(1));
    let renewing = world.look();
    assert!(matches!(renewing.state, State::Pending { .. }) && renewing.token.is_some());
}

#[tokio::test]
async fn a_failing_key_backs_off_to_a_minute_and_a_success_forgives() {
    let mut world = World::new(Answer::Fails);
    let mut longest = SignedDuration::ZERO;
    for failures in 1..=12 {
        let found = world.ask(Answer::Fails).await;
        let later = wait(&found, world.now).expect("it fails");
        assert!(later <= SignedDuration::from_mins(1) && world.calls() == failures);
        longest = longest.max(later);
        world.pass(later - SignedDuration::from_millis(1));
        assert!(wait(&world.look(), world.now).is_some() && !world.tokens.is_busy(), "too early");
        world.pass(SignedDuration::from_millis(1));
    }
    assert!(longest >= SignedDuration::from_secs(45));
    assert_eq!(world.ask(Answer::Lives(12 * HOUR)).await.state, State::Fresh);
    world.pass(SignedDuration::from_hours(6));
    let found = world.ask(Answer::Fails).await;
    assert!(wait(&found, world.now).expect("it fails") <= SignedDuration::from_secs(1));
    assert!(found.token.is_some_and(|token| token.is_live(world.now)), "the old token serves on");
}

#[tokio::test]
async fn a_shorter_lived_token_does_not_replace_a_live_one() {
    let mut world = World::new(Answer::Lives(12 * HOUR));
    let first = world.ask(Answer::Lives(12 * HOUR)).await.token.expect("a token");
    world.pass(SignedDuration::from_hours(6));
    let found = world.ask(Answer::Lives(HOUR)).await;
    assert_eq!(kind(&found), Some(MintErrorKind::ShorterLived));
    assert_eq!(found.token.map(|token| token.expires_at()), Some(first.expires_at()));
    world.pass(SignedDuration::from_hours(6));
    let found = world.ask(Answer::Lives(HOUR)).await;
    assert_eq!(found.state, State::Fresh, "once nothing better lives it is taken");
}

#[tokio::test]
async fn a_token_that_is_expired_or_has_no_end_is_kept_and_makes_no_hot_loop() {
    for answer in [Answer::Lives(-60), Answer::Lives(0), Answer::WithoutEnd] {
        let mut world = World::new(answer);
        let found = world.ask(answer).await;
        assert_eq!((kind(&found), found.token.is_some()), (Some(MintErrorKind::Expired), true));
        assert!(wait(&found, world.now).expect("it fails") >= SignedDuration::from_secs(11));
        for _ in 0..600 {
            world.pass(SignedDuration::from_millis(500));
            world.ask(answer).await;
        }
        assert!((4..=10).contains(&world.calls()), "{} calls in 5 minutes", world.calls());
        world.pass(SignedDuration::from_mins(1));
        assert_eq!(world.ask(Answer::Lives(12 * HOUR)).await.state, State::Fresh);
    }
}

#[tokio::test]
async fn tokens_of_a_second_never_make_more_than_a_call_in_five() {
    let mut world = World::new(Answer::Lives(1));
    let mut last: Option<Timestamp> = None;
    for _ in 0..600 {
        let before = world.calls();
        world.ask(Answer::Lives(1)).await;
        if world.calls() > before {
            assert!(last.is_none_or(|last| world.now.duration_since(last) >= SignedDuration::from_secs(5)));
            last = Some(world.now);
        }
        world.pass(SignedDuration::from_millis(100));
    }
    assert_eq!(world.calls(), 12);
}

#[tokio::test]
async fn public_and_private_tokens_of_one_region_never_mix_and_dual_stack_shares() {
    let east = |form: &str| format!("123456789012.{form}");
    let hosts = [
        east("dkr.ecr.us-east-1.amazonaws.com"),
        "public.ecr.aws".to_owned(),
        east("dkr.ecr-fips.us-east-1.amazonaws.com"),
        east("dkr-ecr.us-east-1.on.aws"),
    ];
    let keys = keys(&hosts.each_ref().map(String::as_str));
    assert!(keys[0] != keys[1] && keys[0] != keys[2] && keys[1] != keys[2]);
    assert_eq!(keys[0], keys[3]);
    let mut world = World::new(Answer::Lives(HOUR));
    for key in &keys {
        world.tokens.lookup(&ask(key), &"team-a".into(), world.now);
    }
    for _ in 0..3 {
        world.end_of_call(Answer::Lives(HOUR)).await;
    }
    assert!(world.calls() == 3 && !world.tokens.is_busy());
}

#[tokio::test]
async fn a_clock_that_is_off_is_reported_and_does_not_shorten_a_token() {
    for (ahead, reported) in [(0, None), (300, None), (301, Some(301)), (-7_200, Some(7_200))] {
        let mut world = World::new(Answer::Ahead(ahead));
        world.look();
        let outcome = world.end_of_call(Answer::Ahead(ahead)).await;
        assert_eq!(outcome.skew, reported.map(Duration::from_secs));
        let left = outcome.result.expect("a token").expires_at().duration_since(world.now);
        assert_eq!(left, SignedDuration::from_hours(12));
    }
}

/// One namespace: the Secret in it, what we did, and how often it was written.
#[derive(Default)]
struct Namespace {
    secret: Option<Observed>,
    history: History,
    writes: u64,
}

impl Namespace {
    /// The next step.
    fn step(&self, now: Timestamp) -> Step {
        let reading = Reading { wish: Wish::Wants(request(&[HOST])), problems: vec![] };
        let secrets: Vec<_> = self.secret.iter().map(|secret| ("ecr-pull".into(), secret.clone())).collect();
        let (reading, secrets, history) = (Some(&reading), &secrets[..], &self.history);
        plan(
            &Facts {
                namespace: "team-a",
                reading,
                secrets,
                accounts: &[],
                sources: &Sources::new(),
                history,
            },
            &settings(),
            now,
        )
        .step
    }

    /// Writes as the API server would take it.
    async fn write(&mut self, cause: WriteCause, world: &mut World) {
        let Step::Write(intent) = self.step(world.now) else { panic!("a write was planned") };
        let found = world.ask(Answer::Lives(12 * HOUR)).await;
        assert_eq!((intent.cause, found.state), (cause, State::Fresh));
        let made = settle(&intent, &[found.token], "team-a", &self.history, &settings(), world.now);
        let made = made.expect("a write that is due finds something to do");
        self.writes += 1;
        let observed = Observed {
            uid: "uid-1".into(),
            resource_version: self.writes,
            owner: Owner::Ours,
            intact: true,
            data_intact: true,
            immutable: false,
            times: made.times,
            applied: Some(Arc::new(Accepted {
                request: Request::clone(&intent.granted.request),
                entries: made.entries.clone(),
                statics: BTreeMap::new(),
            })),
        };
        self.history.wrote(intent.cause, &"ecr-pull".into(), &observed, made.fingerprint, world.now);
        self.secret = Some(observed);
    }
}

#[tokio::test]
async fn a_month_takes_two_writes_in_twelve_hours_and_never_sees_an_expired_secret() {
    let mut world = World::new(Answer::Lives(12 * HOUR));
    let mut namespace = Namespace::default();
    let end = world.now + SignedDuration::from_hours(30 * 24);
    namespace.write(WriteCause::Create, &mut world).await;
    while world.now < end {
        match namespace.step(world.now) {
            Step::Idle(Some(until)) => {
                let times = namespace.secret.as_ref().and_then(|secret| secret.times).expect("a secret");
                assert!(times.expires_at > until, "it would expire before {until}");
                // Work takes time, and a restart now and then changes nothing.
                world.now = until + SignedDuration::from_millis(37);
                if namespace.writes % 10 == 0 {
                    namespace.history = History::default();
                }
            }
            Step::Write(_) => namespace.write(WriteCause::Refresh, &mut world).await,
            other => panic!("{other:?}"),
        }
    }
    // Due between 0.5 and 0.6 of 12 hours: 100 to 120 times in 30 days, and once at the start.
    assert!((100..=121).contains(&namespace.writes), "{} writes", namespace.writes);
    assert!(world.calls() <= 121, "{} mints", world.calls());
}

#[tokio::test(start_paused = true)]
async fn namespaces_with_a_restriction_each_are_asked_for_at_the_configured_pace() {
    let mut world = World::new(Answer::Lives(12 * HOUR));
    world.tokens = Tokens::new(world.aws.clone(), settings().refresh, 10);
    let key = keys(&[HOST]).remove(0);
    for n in 0..100 {
        let pattern = format!("team-{n}/*").parse().expect("a pattern");
        let key = TokenKey { restriction: Restriction::Pull([pattern].into()), ..key.clone() };
        world.tokens.lookup(&ask(&key), &format!("team-{n}").into(), world.now);
    }
    let start = tokio::time::Instant::now();
    for calls in 1..=100 {
        world.end_of_call(Answer::Lives(12 * HOUR)).await;
        let paced = start.elapsed().as_secs_f64().mul_add(10.0, 1.1);
        assert!(f64::from(calls) <= paced, "{calls} calls after {:?}", start.elapsed());
    }
    assert!(start.elapsed() < Duration::from_secs(11) && world.calls() == 100);
}
