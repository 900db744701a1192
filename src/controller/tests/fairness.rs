//! No namespace takes the tokens, the calls or the writes of another one.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::controller::tell::Tell;
use crate::controller::tests::tokens::respond_with_life;
use crate::controller::tests::world::{Reply, World};
use crate::controller::tokens::{CachedToken, KeyState, TokenCache, Want};
use crate::core::grants::{Restriction, TokenRequest};
use crate::core::request::{OptIn, ParsedAnnotations, Problem};
use crate::core::secret::{TokenError, TokenErrorKind};
use crate::core::testing::{HOST, HOUR, JITTER, at, parsed, request, settings, target};
use crate::core::{Now, whole_seconds};

/// A cache and the calls to AWS, each with the time at which it ends.
struct Aws {
    cache: TokenCache,
    now: Now,
    running: Vec<(TokenRequest, Duration)>,
    calls: usize,
    most_running: usize,
}

/// How long a call to a region takes.
fn duration(request: &TokenRequest) -> Duration {
    let region = request.key.endpoint.to_string();
    if region.starts_with("zz-") || region == "eu-west-9" {
        Duration::from_secs(15)
    } else {
        Duration::from_millis(200)
    }
}

impl Aws {
    fn new() -> Self {
        let cache = TokenCache::new(settings().refresh, JITTER, settings().endpoints());
        Self { cache, now: at(0), running: vec![], calls: 0, most_running: 0 }
    }

    /// The tokens of a namespace that has a Secret if `applied` is set.
    fn lookup(&mut self, namespace: &str, requests: &[TokenRequest], applied: bool) -> Vec<CachedToken> {
        let expires_at = applied.then(|| self.now.after(SignedDuration::from_hours(6)));
        let want = |request| Want { request, expires_at, renewal: None };
        let wants: Vec<_> = requests.iter().map(want).collect();
        self.cache.lookup(&Arc::from(namespace), &wants, self.now)
    }

    /// Lets time pass, in which calls start and end.
    fn pass(&mut self, time: Duration) {
        let end = self.now.mono + time;
        while self.now.mono < end {
            while let Some(request) = self.cache.start_call(self.now) {
                let until = self.now.mono + duration(&request);
                self.running.push((request, until));
                self.calls += 1;
            }
            self.most_running = self.most_running.max(self.running.len());
            let step = Duration::from_millis(10);
            self.now = Now { mono: self.now.mono + step, wall: self.now.after(step) };
            let now = self.now.mono;
            let (ended, running) = self.running.drain(..).partition(|(_, until)| *until <= now);
            self.running = running;
            let ended: Vec<(TokenRequest, Duration)> = ended;
            for (request, _) in ended {
                let result = if duration(&request) > Duration::from_secs(1) {
                    Err(TokenError::new(TokenErrorKind::Timeout, "no reply"))
                } else {
                    respond_with_life(12 * HOUR, self.now.wall)
                };
                self.cache.finish_call(&request.key, result, self.now);
            }
        }
    }

    /// How long a namespace waits for its token.
    fn wait(&mut self, namespace: &str, request: &TokenRequest, applied: bool) -> Duration {
        let start = self.now.mono;
        while self.lookup(namespace, std::slice::from_ref(request), applied)[0].state != KeyState::Fresh {
            self.pass(Duration::from_millis(100));
            assert!(self.now.mono < start + Duration::from_mins(10), "{namespace} waits");
        }
        self.now.mono.saturating_sub(start)
    }
}

fn in_region(region: &str) -> TokenRequest {
    let host = format!("123456789012.dkr.ecr.{region}.amazonaws.com");
    let request = crate::core::request::Request { registries: vec![target(&host)], ..request(&[]) };
    let (granted, _) = settings().grants.assign("team-a", &request).expect("granted");
    granted.assignments[0].request.clone()
}

/// The token of a region, narrowed to one repository.
fn narrowed(region: &str, repository: &str) -> TokenRequest {
    let mut request = in_region(region);
    request.key.restriction = Restriction::Pull([repository.parse().expect("a pattern")].into());
    request
}

fn invented(from: usize) -> Vec<TokenRequest> {
    (from..from + 8).map(|n| in_region(&format!("zz-made-{}", n % 90 + 1))).collect()
}

#[test]
fn invented_regions_of_many_namespaces_do_not_delay_a_region_that_was_applied_before_h1() {
    let mut aws = Aws::new();
    for n in 0..100 {
        aws.lookup(&format!("evil-{n}"), &invented(n * 8), false);
    }
    aws.pass(Duration::from_secs(20));
    let waited = aws.wait("shop", &in_region("ap-south-1"), true);
    assert!(waited < Duration::from_secs(2), "{waited:?}");
    let waited = aws.wait("other", &in_region("eu-central-1"), false);
    assert!(waited < Duration::from_secs(2), "{waited:?} for the controller's region");
    let waited = aws.wait("late", &narrowed("ap-south-1", "late/app"), false);
    assert!(waited < Duration::from_secs(2), "{waited:?} for a new key of a region that works");
}

#[test]
fn a_namespace_that_names_thirty_keys_a_second_delays_no_other_and_gets_its_share_h2() {
    let mut aws = Aws::new();
    let mut longest = Duration::ZERO;
    for turn in 0..1_800 {
        let pattern = format!("evil/{turn}");
        aws.lookup("evil", &[narrowed("eu-central-1", &pattern)], false);
        aws.pass(Duration::from_millis(33));
        if turn % 100 == 50 {
            let name = format!("team-{turn}");
            longest = longest.max(aws.wait(&name, &narrowed("eu-central-1", &name), false));
        }
    }
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    assert!(aws.calls < 18 + 70, "{} calls", aws.calls);
    aws.pass(Duration::from_mins(1));
    let last = narrowed("eu-central-1", "evil/last");
    let waited = aws.wait("evil", &last, false);
    assert!(waited <= Duration::from_secs(16), "{waited:?} after a quiet minute");
}

#[test]
fn three_hundred_keys_of_a_region_that_hangs_do_not_delay_a_healthy_one() {
    let mut aws = Aws::new();
    aws.wait("first", &in_region("eu-west-1"), true);
    for n in 0..300 {
        aws.lookup(&format!("team-{n}"), &[narrowed("eu-west-9", &format!("team-{n}/a"))], true);
    }
    for n in 0..20 {
        aws.pass(Duration::from_secs(1));
        let waited = aws.wait(&format!("new-{n}"), &narrowed("eu-west-1", &format!("new-{n}/a")), false);
        assert!(waited <= Duration::from_secs(2), "{waited:?}");
    }
    assert!(aws.most_running <= 40, "{} calls at once", aws.most_running);
}

#[test]
fn a_call_that_no_namespace_wants_any_more_is_not_made_and_its_key_is_dropped() {
    let mut aws = Aws::new();
    aws.lookup("team-a", &[in_region("eu-west-1"), in_region("eu-west-2")], false);
    aws.lookup("team-a", &[in_region("eu-west-2")], false);
    aws.pass(Duration::from_secs(1));
    assert_eq!(aws.calls, 1);
    aws.lookup("team-b", &[in_region("eu-west-2")], false);
    aws.cache.release("team-a");
    assert_eq!(aws.lookup("team-b", &[in_region("eu-west-2")], false)[0].state, KeyState::Fresh);
    aws.cache.release("team-b");
    assert!(matches!(
        aws.lookup("team-c", &[in_region("eu-west-2")], false)[0].state,
        KeyState::Pending { .. }
    ));
}

#[test]
fn a_corrected_annotation_gets_its_key_at_once_and_one_that_keeps_changing_after_a_quiet_moment() {
    let mut aws = Aws::new();
    assert!(aws.wait("team-a", &narrowed("eu-central-1", "team-a/one"), false) < Duration::from_secs(1));
    aws.pass(Duration::from_secs(6));
    assert!(aws.wait("team-a", &narrowed("eu-central-1", "team-a/two"), true) < Duration::from_secs(1));
    let three = narrowed("eu-central-1", "team-a/three");
    let waited = aws.wait("team-a", &three, true);
    assert!(waited >= Duration::from_secs(4) && waited <= Duration::from_secs(7), "{waited:?}");
}

#[test]
fn what_expires_first_is_fetched_first_and_before_new_keys_and_renewals() {
    let mut aws = Aws::new();
    aws.wait("first", &in_region("eu-central-1"), false);
    let lookup = |aws: &mut Aws, name: &str, left: Option<i64>| {
        let request = narrowed("eu-central-1", &format!("{name}/a"));
        let expires_at = left.map(|left| aws.now.after(SignedDuration::from_secs(left)));
        let want = Want { request: &request, expires_at, renewal: None };
        aws.cache.lookup(&Arc::from(name), &[want], aws.now);
    };
    for (name, left) in
        [("renewal", Some(20_000)), ("new", None), ("soon", Some(600)), ("expired", Some(-60))]
    {
        lookup(&mut aws, name, left);
    }
    let mut order = vec![];
    for _ in 0..4 {
        aws.now.mono += Duration::from_secs(1);
        let request = aws.cache.start_call(aws.now).expect("a call");
        order.push(format!("{:?}", request.key.restriction));
    }
    for (found, name) in order.iter().zip(["expired", "soon", "new", "renewal"]) {
        assert!(found.contains(name), "{order:?}");
    }
}

#[test]
fn a_request_that_changes_ten_times_a_second_causes_few_writes_and_the_last_one_is_applied() {
    let mut world = World::new();
    world.start("one");
    let wants = |turn: usize| {
        let accounts = vec![format!("account-{turn}")];
        crate::core::request::Request { service_accounts: accounts, ..request(&[HOST]) }
    };
    for turn in 0..600 {
        world.annotate("team-a", wants(turn));
        world.run(SignedDuration::from_millis(100), Duration::from_millis(50), |_| {});
    }
    assert!(world.writes.len() <= 1 + 10 + 6, "{} writes in a minute", world.writes.len());
    world.run(SignedDuration::from_secs(15), Duration::from_secs(1), |_| {});
    let applied = world.secret("team-a", "ecr-pull").and_then(|secret| secret.applied.clone());
    assert_eq!(applied.map(|applied| applied.request.clone()), Some(wants(599)));
}

/// A change that the owner of a namespace makes.
#[derive(Clone, Debug)]
enum Move {
    /// Requests these regions; those from 100 on do not exist.
    Regions(Vec<u8>),
    Renames,
    Renews,
    IsInvalid(u8),
    OptsOut,
}

fn moves() -> impl Strategy<Value = Vec<(Move, u64)>> {
    let one = prop_oneof![
        4 => vec(prop_oneof![0..4u8, 100..120u8], 1..9).prop_map(Move::Regions),
        1 => Just(Move::Renames),
        2 => Just(Move::Renews),
        2 => any::<u8>().prop_map(Move::IsInvalid),
        1 => Just(Move::OptsOut),
    ];
    vec((one, prop_oneof![Just(1u64), Just(50), Just(700), Just(8_000)]), 1..80)
}

fn host(region: u8) -> String {
    let region =
        if region < 100 { format!("eu-west-{}", region + 1) } else { format!("zz-made-{}", region - 99) };
    format!("123456789012.dkr.ecr.{region}.amazonaws.com")
}

/// A world in which the owner of `noisy` makes these moves, while four other namespaces opt in one after another.
fn played(moves: &[(Move, u64)]) -> (World, u64) {
    let mut world = World::new();
    world.start("one");
    for region in 100..120 {
        let name = host(region).split('.').nth(3).expect("a region").to_owned();
        world.replies.insert(name, Reply::Error(TokenErrorKind::Unreachable));
    }
    world.annotate("quiet-0", request(&[HOST]));
    let (mut spent, mut current) = (0, request(&[HOST]));
    for (turn, (step, pause)) in moves.iter().enumerate() {
        let now = whole_seconds(world.now.wall);
        match step {
            Move::Regions(regions) => {
                let hosts: Vec<_> = regions.iter().map(|region| host(*region)).collect();
                current = request(&hosts.iter().map(String::as_str).collect::<Vec<_>>());
                current.registries.dedup();
                world.annotate("noisy", current.clone());
            }
            Move::Renames => {
                let other = if current.secret_name == "other" { "ecr-pull" } else { "other" };
                current.secret_name = other.to_owned();
                world.annotate("noisy", current.clone());
            }
            Move::Renews => {
                world.set_annotations(
                    "noisy",
                    ParsedAnnotations { renew: Some(now), ..parsed(current.clone()) },
                );
            }
            Move::IsInvalid(value) => {
                let problem = Problem::invalid("role", &format!("{value} is not a role"));
                let opt_in = OptIn::Invalid;
                world.set_annotations(
                    "noisy",
                    ParsedAnnotations { opt_in, renew: None, problems: vec![problem] },
                );
            }
            Move::OptsOut => world.opt_out("noisy"),
        }
        world.run(
            SignedDuration::from_millis(i64::try_from(*pause).expect("short")),
            Duration::from_millis(500),
            |_| {},
        );
        spent += pause;
        if turn % 20 == 10 {
            let name = format!("quiet-{}", turn / 20 + 1);
            world.annotate(&name, request(&[HOST]));
            world.run(SignedDuration::from_millis(900), Duration::from_millis(100), |_| {});
            spent += 900;
            assert!(world.is_valid(&name, "ecr-pull"), "{name} is served within a second");
        }
    }
    (world, spent / 1_000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Calls, writes and Events of a namespace stay below bounds that depend on time only, whatever its owner does, and the
    /// others get the same as without it.
    #[test]
    fn whatever_one_namespace_requests_its_costs_are_bounded_and_the_others_get_the_same(moves in moves()) {
        let (world, seconds) = played(&moves);
        let seconds = usize::try_from(seconds).expect("short");
        // 64 new keys, one in ten seconds, one round of renewals in five minutes, and the backoff of 20 invented regions.
        let calls = world.calls.iter().filter(|key| key.endpoint.to_string() != "eu-central-1").count();
        prop_assert!(calls <= 64 + seconds / 10 + 8 * (1 + seconds / 300) + 20 * (6 + seconds / 45), "{calls} calls");
        let of = |name: &str| world.writes.iter().filter(|(namespace, ..)| **namespace == *name).count();
        prop_assert!(of("noisy") <= 40 + seconds / 4, "{} writes in {seconds} s", of("noisy"));
        let events: std::collections::BTreeSet<_> = world.tells.iter().filter_map(|tell| match tell {
            Tell::Notice { event, .. } if *event.namespace == *"noisy" => {
                Some((event.reason.into_str(), event.subject.clone()))
            }
            _ => None,
        }).collect();
        prop_assert!(events.len() <= 64, "{} Events", events.len());
        for n in 0..=3 {
            let name = format!("quiet-{n}");
            prop_assert!(of(&name) <= 1, "{name} was written again");
        }
    }
}
