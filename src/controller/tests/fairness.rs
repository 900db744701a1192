//! No namespace takes the tokens, the calls or the writes of another one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use crate::controller::error::RequestError;
use crate::controller::queue::Priority;
use crate::controller::tests::tokens::respond_with_life;
use crate::controller::tests::world::{Reply, World};
use crate::controller::tokens::{CachedToken, KeyState, TokenCache, Want};
use crate::core::Now;
use crate::core::grants::{Restriction, TokenRequest};
use crate::core::plan::{Step, WritePlan, WriteReason};
use crate::core::secret::{RefreshPolicy, TokenError, TokenErrorKind};
use crate::core::testing::{HOST, HOUR, JITTER, at, request, settings, target};

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
    if request.dual_stack {
        return Duration::from_secs(4);
    }
    if region.starts_with("zz-") || region == "eu-west-9" {
        Duration::from_secs(15)
    } else {
        Duration::from_millis(200)
    }
}

impl Aws {
    fn new() -> Self {
        Self::with_rate(settings().refresh.tokens_per_second)
    }

    fn with_rate(tokens_per_second: u32) -> Self {
        let policy = RefreshPolicy { tokens_per_second, ..settings().refresh };
        let cache = TokenCache::new(policy, JITTER, settings().endpoints());
        Self { cache, now: at(0), running: vec![], calls: 0, most_running: 0 }
    }

    /// The tokens of a namespace that has a Secret if `applied` is set.
    fn lookup(&mut self, namespace: &str, requests: &[TokenRequest], applied: bool) -> Vec<CachedToken> {
        let expires_at = applied.then(|| self.now.after(SignedDuration::from_hours(6)));
        let want = |request| Want { request, expires_at, renewal: None };
        let wants: Vec<_> = requests.iter().map(want).collect();
        self.cache.lookup(&Arc::from(namespace), &wants, None, self.now)
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
            self.now = Now { mono: self.now.mono + step, wall: self.now.after(step), ..self.now };
            let now = self.now.mono;
            let (ended, running) = self.running.drain(..).partition(|(_, until)| *until <= now);
            self.running = running;
            let ended: Vec<(TokenRequest, Duration)> = ended;
            for (request, _) in ended {
                let result = if duration(&request) > Duration::from_secs(1) {
                    Err(TokenError::new(TokenErrorKind::Timeout, "no reply"))
                } else if format!("{:?}", request.key.restriction).contains("denied") {
                    Err(TokenError::new(TokenErrorKind::AccessDenied, "injected by the test"))
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

/// N55: each of them is tried again after a minute.
#[test]
fn thousands_of_expired_secrets_whose_tokens_are_denied_delay_no_other() {
    let mut aws = Aws::with_rate(50);
    let denied: Vec<_> = (0..4_000).map(|n| narrowed("eu-central-1", &format!("denied-{n}/a"))).collect();
    let look_up_all = |aws: &mut Aws| {
        let expires_at = Some(at(-1).wall);
        for (n, request) in denied.iter().enumerate() {
            let want = Want { request, expires_at, renewal: None };
            aws.cache.lookup(&Arc::from(format!("broken-{n}")), &[want], None, aws.now);
        }
    };
    // The first two calls of each are not known to be denied.
    for _ in 0..240 {
        look_up_all(&mut aws);
        aws.pass(Duration::from_secs(1));
    }
    for (name, request, applied) in [
        ("shop", in_region("ap-south-1"), true),
        ("late", narrowed("eu-central-1", "late/app"), false),
        ("due", narrowed("eu-central-1", "due/app"), true),
    ] {
        let start = aws.now.mono;
        while aws.lookup(name, std::slice::from_ref(&request), applied)[0].state != KeyState::Fresh {
            look_up_all(&mut aws);
            aws.pass(Duration::from_millis(500));
            assert!(aws.now.mono < start + Duration::from_secs(5), "{name} waits");
        }
    }
}

/// N54: the calls of those with narrowed tokens are not shared, but belong to the same endpoint and identity.
#[test]
fn dual_stack_hosts_whose_name_does_not_reply_delay_no_standard_host_of_the_same_identity() {
    let mut aws = Aws::new();
    aws.wait("first", &in_region("eu-central-1"), false);
    let look_up = |aws: &mut Aws| {
        for n in 0..60 {
            let request =
                TokenRequest { dual_stack: true, ..narrowed("eu-central-1", &format!("dual-{n}/a")) };
            let want = Want { request: &request, expires_at: Some(at(-1).wall), renewal: None };
            aws.cache.lookup(&Arc::from(format!("dual-{n}")), &[want], None, aws.now);
        }
    };
    for _ in 0..120 {
        look_up(&mut aws);
        aws.pass(Duration::from_secs(1));
    }
    let (start, request) = (aws.now.mono, narrowed("eu-central-1", "shop/app"));
    while aws.lookup("shop", std::slice::from_ref(&request), true)[0].state != KeyState::Fresh {
        look_up(&mut aws);
        aws.pass(Duration::from_millis(500));
        assert!(aws.now.mono < start + Duration::from_secs(5), "it waits");
    }
}

/// N55: it was denied again and again, and then its cause was corrected.
#[test]
fn a_key_that_was_denied_does_not_wait_for_all_others() {
    let mut aws = Aws::with_rate(10);
    let corrected = narrowed("eu-central-1", "corrected/a");
    for _ in 0..3 {
        aws.lookup("corrected", std::slice::from_ref(&corrected), true);
        aws.now.mono += Duration::from_secs(1);
        let request = aws.cache.start_call(aws.now).expect("a call");
        let denied = TokenError::new(TokenErrorKind::AccessDenied, "injected by the test");
        aws.cache.finish_call(&request.key, Err(denied), aws.now);
        aws.pass(Duration::from_mins(1));
    }
    let others: Vec<_> = (0..2_000).map(|n| narrowed("eu-central-1", &format!("other-{n}/a"))).collect();
    for (n, request) in others.iter().enumerate() {
        aws.lookup(&format!("other-{n}"), std::slice::from_ref(request), true);
    }
    let waited = aws.wait("corrected", &corrected, true);
    assert!(waited < Duration::from_secs(5), "{waited:?}");
}

/// N56: after a restart, each of them waits for a region that does not reply.
#[test]
fn an_applied_region_does_not_wait_for_thousands_of_namespaces_in_others_that_hang() {
    let mut aws = Aws::new();
    for n in 0..2_000 {
        let request = narrowed(&format!("zz-made-{}", n % 8 + 1), &format!("team-{n}/a"));
        aws.lookup(&format!("team-{n}"), &[request], true);
    }
    aws.pass(Duration::from_secs(20));
    let waited = aws.wait("shop", &in_region("ap-south-1"), true);
    assert!(waited < Duration::from_mins(1), "{waited:?}");
}

/// N54: both kinds of host share the token, and their namespaces ask in the same order each time.
#[test]
fn a_name_that_cannot_be_reached_takes_no_token_from_those_who_request_the_other_name() {
    for (asks_first, fails) in [(true, true), (false, false)] {
        let mut aws = Aws::new();
        let name = |dual_stack| TokenRequest { dual_stack, ..in_region("eu-central-1") };
        let mut tries = 0;
        loop {
            for (namespace, is_dual_stack) in [("aaa", asks_first), ("shop", !asks_first)] {
                aws.lookup(namespace, &[name(is_dual_stack)], false);
            }
            tries += 1;
            let Some(request) = aws.cache.start_call(aws.now) else { panic!("no call") };
            if request.dual_stack != fails {
                break;
            }
            let error = TokenError::new(TokenErrorKind::Unreachable, "injected by the test");
            aws.cache.finish_call(&request.key, Err(error), aws.now);
            assert!(tries < 3, "only one name is tried");
            aws.pass(Duration::from_mins(1));
        }
        assert_eq!(tries, 2);
    }
}

/// N42: its call was queued for another namespace, behind those that hang.
#[test]
fn a_region_that_was_applied_does_not_wait_for_invented_ones_although_a_new_namespace_named_it_first() {
    let mut aws = Aws::new();
    for n in 0..100 {
        let mut requests = invented(n * 8);
        requests[7] = in_region("ap-south-1");
        aws.lookup(&format!("evil-{n}"), &requests, false);
    }
    aws.pass(Duration::from_secs(20));
    let waited = aws.wait("shop", &in_region("ap-south-1"), true);
    assert!(waited < Duration::from_secs(2), "{waited:?}");
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
        aws.cache.lookup(&Arc::from(name), &[want], None, aws.now);
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

/// N40: a registry that denies its token keeps the Secret due for renewal.
#[test]
fn a_request_that_changes_while_an_entry_cannot_be_renewed_causes_few_writes_too() {
    let west = HOST.replace("eu-central-1", "eu-west-1");
    let wants = |turn: usize| {
        let accounts = vec![format!("account-{turn}")];
        crate::core::request::Request { service_accounts: accounts, ..request(&[HOST, &west]) }
    };
    let mut world = World::new();
    world.start("one");
    world.annotate("team-a", wants(0));
    world.run(SignedDuration::from_secs(1), Duration::from_secs(1), |_| {});
    world.replies.insert("eu-west-1".into(), Reply::Error(TokenErrorKind::AccessDenied));
    for hours in [8, 6] {
        world.run(SignedDuration::from_hours(hours), Duration::from_mins(1), |_| {});
        let before = world.writes.len();
        for turn in 1..=600 {
            world.annotate("team-a", wants(turn));
            world.run(SignedDuration::from_millis(100), Duration::from_millis(50), |_| {});
        }
        let writes = world.writes.len() - before;
        assert!(writes <= 10 + 6 + 1, "{writes} writes in a minute");
    }
    let (granted, _) = settings().grants.assign("team-a", &wants(1)).expect("granted");
    let observed = world.secret("team-a", "ecr-pull").cloned().expect("the secret");
    assert!(observed.is_urgent(world.now), "an entry has expired");
    let plan =
        WritePlan::new(WriteReason::RequestChanged, Arc::new(granted), BTreeMap::new(), Some(observed));
    let lane = Priority::of(&Step::Write(Box::new(plan)), world.now);
    assert_eq!(lane, Some(Priority::New), "nor does it come before what expires elsewhere");
}

/// N69: each change ends the backoff of the failures before.
#[test]
fn writes_that_are_refused_are_few_however_often_the_request_changes() {
    let wants = |turn: usize| {
        let accounts = vec![format!("account-{turn}")];
        crate::core::request::Request { service_accounts: accounts, ..request(&[HOST]) }
    };
    let text = || "a policy".to_owned();
    for error in [RequestError::Forbidden(text()), RequestError::AdmissionDenied(text())] {
        let mut world = World::new();
        world.start("one");
        world.annotate("team-a", wants(0));
        world.run(SignedDuration::from_secs(1), Duration::from_secs(1), |_| {});
        world.refusals.insert(("team-a".into(), "ecr-pull".into()), error);
        for turn in 1..=600 {
            world.annotate("team-a", wants(turn));
            world.run(SignedDuration::from_millis(100), Duration::from_millis(50), |_| {});
        }
        assert!(world.refused <= 10 + 6 + 1, "{} writes in a minute", world.refused);
    }
}

/// As behind two webhooks that do not respond and fail open, for 10 seconds each, when every Secret is overdue.
#[test]
fn if_each_write_takes_twenty_seconds_two_thousand_overdue_secrets_are_renewed_within_eight_minutes() {
    const NAMESPACES: usize = 2_000;
    let mut world = World::new();
    let first = world.start("one");
    for n in 0..NAMESPACES {
        world.annotate(&format!("team-{n}"), request(&[HOST]));
    }
    world.run(SignedDuration::from_secs(1), Duration::from_millis(100), |_| {});
    assert_eq!(world.writes.len(), NAMESPACES);
    world.kill(first);
    world.run(SignedDuration::from_hours(8), Duration::from_mins(10), |_| {});
    world.write_duration = Duration::from_secs(20);
    world.start("two");
    let (start, mut end) = (world.now.mono, None);
    world.run(SignedDuration::from_mins(15), Duration::from_secs(1), |world| {
        if world.writes.len() == 2 * NAMESPACES {
            end.get_or_insert(world.now.mono.saturating_sub(start));
        }
    });
    let end = end.expect("all are renewed");
    println!("renewed in {end:?}");
    assert!(end < Duration::from_mins(8), "{end:?}");
}

/// The API server is slow, and the namespaces of one tenant keep more writes queued than it takes.
#[test]
fn a_hundred_namespaces_that_change_their_requests_let_no_token_of_another_expire() {
    const NAMESPACES: usize = 100;
    let mut world = World::new();
    world.replies.insert("eu-central-1".into(), Reply::Token(60));
    world.start("one");
    world.annotate("team-a", request(&[HOST]));
    world.run(SignedDuration::from_secs(1), Duration::from_secs(1), |_| {});
    world.write_duration = Duration::from_millis(1_500);
    let west = HOST.replace("eu-central-1", "eu-west-1");
    for turn in 0..3_000 {
        let accounts = vec![format!("account-{turn}")];
        let changed = crate::core::request::Request { service_accounts: accounts, ..request(&[&west]) };
        world.annotate(&format!("evil-{}", turn % NAMESPACES), changed);
        world.run(SignedDuration::from_millis(60), Duration::from_millis(60), |world| {
            assert!(world.is_valid("team-a", "ecr-pull"), "expired after {:?}", world.now.mono);
        });
    }
    let evil = world.writes.iter().filter(|(namespace, ..)| namespace.starts_with("evil")).count();
    assert!(evil > 500, "only {evil} writes of the attacker");
}
