//! The contract of the decisions: what [`plan`] and [`settle`] do in each situation, and what they never do.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use proptest::option::of;
use proptest::prelude::*;

use crate::core::annotations::tests::{HOST, settings};
use crate::core::annotations::{Reading, Wish};
use crate::core::facts::WriteCause;
use crate::core::facts::{Facts, History, Observed, Owner, Times};
use crate::core::identity::Scope;
use crate::core::plan::{DeleteCause, Intent, Plan, Report, Step, plan};
use crate::core::problem::{Problem, SECRET_NAME};
use crate::core::request::{Accepted, Entry, Request, Target};
use crate::core::settle::{Composition, settle};
use crate::core::statics::Sources;
use crate::core::token::Token;
use crate::core::tries::Tries;

const PUBLIC: &str = "public.ecr.aws";
const HOUR: i64 = 3_600;
const IN_2099: i64 = 4_070_908_800 - 1_700_000_000;

/// `second` seconds after the moment at which the tests play.
fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("a time")
}

fn target(host: &str) -> Target {
    host.to_owned().try_into().expect("a target")
}

fn request(hosts: &[&str]) -> Request {
    let mut registries: Vec<_> = hosts.iter().map(|host| target(host)).collect();
    registries.sort();
    let secret_name = "ecr-pull".into();
    Request { registries, repositories: vec![], role: vec![], secret_name, service_accounts: vec![] }
}

fn named(name: &str) -> Request {
    Request { secret_name: name.into(), ..request(&[HOST]) }
}

fn granted_to(role: &str) -> Request {
    Request { role: vec![role.into()], ..request(&[HOST]) }
}

/// A failure after which nothing is tried before `second`.
fn retry(second: i64) -> Tries {
    Tries { retry_at: Some(at(second)), ..Tries::default() }
}

fn wants(request: Request) -> Reading {
    Reading { wish: Wish::Wants(request), problems: vec![] }
}

/// A Secret of ours that holds `request` with a token issued at `at(0)`.
fn ours(request: &Request) -> Observed {
    Observed {
        uid: "uid-1".into(),
        resource_version: 7,
        owner: Owner::Ours,
        intact: true,
        data_intact: true,
        immutable: false,
        times: Some(Times { expires_at: at(12 * HOUR), refresh_after: at(6 * HOUR) }),
        applied: Some(Arc::new(accepted(request, &[12 * HOUR]))),
    }
}

/// What was applied for `request`, with entries that end at these times (the last one standing for the rest).
fn accepted(request: &Request, ends: &[i64]) -> Accepted {
    let scopes: Vec<_> = match settings().grants.assign("team-a", request) {
        Ok((granted, _)) => granted.assignments.iter().map(|assignment| assignment.scope).collect(),
        Err(_) => vec![],
    };
    let end = |place: usize| at(*ends.get(place).or(ends.last()).expect("an end"));
    let entry = |(place, scope)| Some(Entry { scope, expires_at: Some(end(place)) });
    Accepted {
        request: request.clone(),
        entries: scopes.into_iter().enumerate().map(entry).collect(),
        statics: BTreeMap::new(),
    }
}

/// The same Secret after a write that settled on `made`.
fn rewritten(observed: Observed, request: &Request, made: &Composition) -> Observed {
    let applied =
        Accepted { request: request.clone(), entries: made.entries.clone(), statics: BTreeMap::new() };
    Observed { times: made.times, applied: Some(Arc::new(applied)), ..observed }
}

fn standing(observed: &Observed) -> Vec<(Arc<str>, Observed)> {
    let name = observed.applied.as_ref().map_or("ecr-pull", |applied| &*applied.request.secret_name);
    vec![(name.into(), observed.clone())]
}

type Standing<'a> = &'a [(Arc<str>, Observed)];

fn decide(reading: Option<&Reading>, secrets: Standing<'_>, history: &History, now: Timestamp) -> Plan {
    plan(
        &Facts { namespace: "team-a", reading, secrets, accounts: &[], sources: &Sources::new(), history },
        &settings(),
        now,
    )
}

/// The step for a namespace that wants the one registry and in which `observed` stands.
fn tend(observed: &Observed, history: &History, now: Timestamp) -> Step {
    decide(Some(&wants(request(&[HOST]))), &standing(observed), history, now).step
}

fn written(step: &Step) -> Option<(WriteCause, &str)> {
    let Step::Write(intent) = step else { return None };
    Some((intent.cause, &intent.granted.request.secret_name))
}

fn deleted(step: &Step) -> Option<(DeleteCause, &str, &str, u64)> {
    let Step::Delete { name, uid, resource_version, cause } = step else { return None };
    Some((*cause, name, uid, *resource_version))
}

#[test]
fn an_opted_in_namespace_without_a_secret_gets_one() {
    let made = decide(Some(&wants(request(&[HOST]))), &[], &History::default(), at(0));
    assert_eq!(written(&made.step), Some((WriteCause::Create, "ecr-pull")));
    assert_eq!(made.reports, []);
}

#[test]
fn a_foreign_secret_is_reported_and_left_alone() {
    for owner in [Owner::Stranger, Owner::Instance("another".into())] {
        let foreign = Observed { owner, applied: None, ..ours(&request(&[HOST])) };
        let made = decide(Some(&wants(request(&[HOST]))), &standing(&foreign), &History::default(), at(0));
        assert_eq!(made.step, Step::Idle(None));
        assert!(matches!(&made.reports[..], [Report::NotOwned(_)]), "{:?}", made.reports);
        assert_eq!(decide(None, &standing(&foreign), &History::default(), at(0)).step, Step::Idle(None));
    }
}

#[test]
fn a_namespace_that_opted_out_loses_the_secret_by_uid_and_version() {
    let none = Reading { wish: Wish::OptedOut, problems: vec![] };
    for reading in [None, Some(&none)] {
        let made = decide(reading, &standing(&ours(&request(&[HOST]))), &History::default(), at(0));
        assert_eq!(deleted(&made.step), Some((DeleteCause::OptedOut, "ecr-pull", "uid-1", 7)));
    }
}

#[test]
fn a_bad_value_is_reported_and_what_was_applied_keeps_being_refreshed() {
    let bad = Reading { wish: Wish::Unusable, problems: vec![Problem::invalid(SECRET_NAME, "not allowed")] };
    let applied = named("other");
    for (reading, ungranted) in [(bad, false), (wants(granted_to("team-b")), true)] {
        let made = decide(Some(&reading), &standing(&ours(&applied)), &History::default(), at(6 * HOUR));
        let Step::Write(intent) = &made.step else { panic!("{made:?}") };
        assert_eq!((intent.cause, &*intent.granted.request), (WriteCause::Refresh, &applied));
        assert!(matches!(&made.reports[..], [Report::Problem(problem)] if problem.ungranted == ungranted));
        assert_eq!(decide(Some(&reading), &[], &History::default(), at(0)).step, Step::Idle(None));
    }
}

#[test]
fn what_the_configuration_no_longer_grants_is_taken_away() {
    let mut closed = settings();
    closed.grants.default_identity = None;
    let (reading, history) = (wants(request(&[HOST])), History::default());
    let secrets = standing(&ours(&request(&[HOST])));
    let facts = Facts {
        namespace: "team-a",
        reading: Some(&reading),
        secrets: &secrets,
        accounts: &[],
        sources: &Sources::new(),
        history: &history,
    };
    let made = plan(&facts, &closed, at(0));
    assert_eq!(deleted(&made.step), Some((DeleteCause::NotGranted, "ecr-pull", "uid-1", 7)));
    assert!(matches!(&made.reports[..], [Report::Problem(problem)] if problem.ungranted));
}

#[test]
fn a_renamed_secret_is_written_first_and_the_old_one_goes_once_it_stands_intact() {
    let (reading, history) = (wants(named("other")), History::default());
    let mut secrets = standing(&ours(&request(&[HOST])));
    let step = |secrets: Standing<'_>| decide(Some(&reading), secrets, &history, at(0)).step;
    assert_eq!(written(&step(&secrets)), Some((WriteCause::Create, "other")));
    secrets.push(("other".into(), Observed { intact: false, ..ours(&named("other")) }));
    assert_eq!(written(&step(&secrets)), Some((WriteCause::Repair, "other")));
    secrets[1].1.intact = true;
    assert_eq!(deleted(&step(&secrets)), Some((DeleteCause::Renamed, "ecr-pull", "uid-1", 7)));
    assert_eq!(step(&secrets[1..]), Step::Idle(Some(at(6 * HOUR))));
}

#[test]
fn a_fresh_intact_secret_is_left_until_it_is_due_also_after_a_restart() {
    let secret = ours(&request(&[HOST]));
    let running =
        History { written: Some(("ecr-pull".into(), 7)), due: Some(at(6 * HOUR)), ..History::default() };
    for history in [History::default(), running] {
        assert_eq!(tend(&secret, &history, at(0)), Step::Idle(Some(at(6 * HOUR))));
        assert_eq!(written(&tend(&secret, &history, at(6 * HOUR))), Some((WriteCause::Refresh, "ecr-pull")));
    }
}

#[test]
fn what_somebody_edited_is_repaired_and_another_request_is_applied() {
    let fine = ours(&request(&[HOST]));
    let later = Times { expires_at: at(IN_2099), refresh_after: at(6 * HOUR) };
    let running = History { written: Some(("ecr-pull".into(), 6)), ..History::default() };
    let cases = [
        (Observed { intact: false, ..fine.clone() }, History::default(), WriteCause::Repair),
        (Observed { times: None, ..fine.clone() }, History::default(), WriteCause::Repair),
        (Observed { times: Some(later), ..fine.clone() }, History::default(), WriteCause::Repair),
        (fine, running, WriteCause::Repair),
        (ours(&request(&[HOST, PUBLIC])), History::default(), WriteCause::Change),
    ];
    for (observed, history, cause) in cases {
        assert_eq!(written(&tend(&observed, &history, at(0))), Some((cause, "ecr-pull")), "{observed:?}");
    }
}

#[test]
fn after_a_failure_nothing_is_tried_before_its_time() {
    let history = History { tries: retry(6 * HOUR + 30), ..History::default() };
    let (reading, secrets) = (wants(request(&[HOST])), standing(&ours(&request(&[HOST]))));
    for (reading, secrets) in [(Some(&reading), &secrets[..]), (Some(&reading), &[]), (None, &secrets)] {
        let step = |second| decide(reading, secrets, &history, at(6 * HOUR + second)).step;
        assert_eq!(step(0), Step::Idle(Some(at(6 * HOUR + 30))));
        assert!(!matches!(step(30), Step::Idle(_)));
    }
}

#[test]
fn repairs_back_off_to_ten_minutes_and_no_further() {
    let edited = Observed { intact: false, ..ours(&request(&[HOST])) };
    let (mut now, mut history, mut waits) = (at(0), History::default(), vec![]);
    for _ in 0..14 {
        assert_eq!(written(&tend(&edited, &history, now)), Some((WriteCause::Repair, "ecr-pull")));
        history.wrote(WriteCause::Repair, &"ecr-pull".into(), &edited, 1, now);
        let Step::Idle(Some(later)) = tend(&edited, &history, now) else { panic!("no wait at {now}") };
        waits.push(later.duration_since(now));
        now = later;
    }
    assert!(waits[0] <= SignedDuration::from_secs(1) && waits.is_sorted_by_key(|w| w.as_secs().min(400)));
    assert!(waits[13] >= SignedDuration::from_secs(450) && waits[13] <= SignedDuration::from_mins(10));
    history.wrote(WriteCause::Repair, &"ecr-pull".into(), &edited, 1, now + SignedDuration::from_mins(21));
    assert_eq!(history.tries.repairs, 1, "a quiet while is forgiven");
}

#[test]
fn a_refresh_that_is_due_does_not_wait_for_the_backoff_of_repairs() {
    let tries = Tries { repairs: 20, repaired_at: Some(at(0)), ..Tries::default() };
    let repairs = History { tries, ..History::default() };
    let history = History { due: Some(at(100)), ..repairs.clone() };
    let edited = Observed { intact: false, ..ours(&request(&[HOST])) };
    assert_eq!(tend(&edited, &history, at(1)), Step::Idle(Some(at(100))));
    assert_eq!(written(&tend(&edited, &history, at(100))), Some((WriteCause::Repair, "ecr-pull")));
    let Step::Idle(Some(later)) = tend(&edited, &repairs, at(100)) else { panic!("no wait") };
    assert!(later > at(100));
}

#[test]
fn an_immutable_secret_is_reported_and_recreated_in_the_last_quarter_of_its_life() {
    let (reading, history) = (wants(request(&[HOST])), History::default());
    let secrets = standing(&Observed { immutable: true, ..ours(&request(&[HOST])) });
    for hour in 0..9 {
        let made = decide(Some(&reading), &secrets, &history, at(hour * HOUR));
        assert_eq!(made.step, Step::Idle(Some(at(9 * HOUR))));
        assert!(matches!(&made.reports[..], [Report::Immutable(_)]));
    }
    let made = decide(Some(&reading), &secrets, &history, at(9 * HOUR));
    assert_eq!(deleted(&made.step), Some((DeleteCause::Immutable, "ecr-pull", "uid-1", 7)));
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![(-100_000i64..100_000).prop_map(at), Just(Timestamp::MIN), Just(Timestamp::MAX)]
}

prop_compose! {
    fn any_observed()(
        owner in prop_oneof![
            2 => Just(Owner::Ours), 1 => Just(Owner::Stranger), 1 => Just(Owner::Instance("b".into()))
        ],
        (intact, data_intact, immutable) in any::<(bool, bool, bool)>(),
        times in of((any_time(), any_time())),
        (uid, resource_version) in ("[a-z]{3}", 1u64..4),
        applied in of(prop_oneof![Just(named("ecr-pull")), Just(named("other")), Just(granted_to("b"))]),
    ) -> Observed {
        let times = times.map(|(expires_at, refresh_after)| Times { expires_at, refresh_after });
        let applied = applied.map(|request| Arc::new(accepted(&request, &[HOUR])));
        let uid = uid.into();
        Observed { uid, resource_version, owner, intact, data_intact, immutable, times, applied }
    }
}

prop_compose! {
    fn any_history()(
        (written, fingerprint) in of((1u64..4, any::<u64>())).prop_map(Option::unzip),
        (due, retry_at, repaired_at) in (of(any_time()), of(any_time()), of(any_time())),
        (failures, repairs) in any::<(u32, u32)>(),
    ) -> History {
        let written = written.map(|version| ("ecr-pull".into(), version));
        let tries = Tries { failures, retry_at, repairs, repaired_at };
        History { written, fingerprint, due, tries, ..History::default() }
    }
}

fn any_reading() -> impl Strategy<Value = Option<Reading>> {
    let bare = |wish| Reading { wish, problems: vec![] };
    of(prop_oneof![
        Just(bare(Wish::OptedOut)),
        Just(bare(Wish::Unusable)),
        Just(wants(granted_to("b"))),
        prop_oneof![Just("ecr-pull"), Just("other")].prop_map(|name| wants(named(name))),
    ])
}

proptest! {
    #[test]
    fn only_what_is_ours_is_ever_written_or_deleted_and_every_wait_is_for_the_future(
        reading in any_reading(), secrets in [of(any_observed()), of(any_observed())],
        history in any_history(), now in any_time(),
    ) {
        let names: [Arc<str>; 2] = ["ecr-pull".into(), "other".into()];
        let secrets: Vec<_> = names.into_iter().zip(secrets).filter_map(|(n, o)| Some((n, o?))).collect();
        let of_name = |name: &str| secrets.iter().find(|(n, _)| **n == *name).map(|(_, observed)| observed);
        match decide(reading.as_ref(), &secrets, &history, now).step {
            Step::Idle(until) => prop_assert!(until.is_none_or(|until| until > now)),
            Step::Write(intent) => {
                let there = of_name(&intent.granted.request.secret_name);
                prop_assert_eq!(there, intent.observed.as_ref());
                prop_assert!(there.is_none_or(|there| there.owner == Owner::Ours && !there.immutable));
            }
            Step::Delete { name, uid, resource_version, .. } => {
                let there = of_name(&name).expect("what is deleted was seen");
                prop_assert_eq!(&there.owner, &Owner::Ours);
                prop_assert_eq!((&there.uid, there.resource_version), (&uid, resource_version));
            }
            Step::Account { .. } => prop_assert!(false, "there is no service account"),
        }
    }
}

fn token(issued: Timestamp, life: i64) -> Arc<Token> {
    let expires = issued + SignedDuration::from_secs(life);
    Arc::new(Token::new(STANDARD.encode("AWS:x"), issued, expires, None).expect("a token"))
}

fn intent(cause: WriteCause, request: &Request, observed: Option<Observed>) -> Intent {
    let (granted, _) = settings().grants.assign("team-a", request).expect("granted");
    Intent { cause, granted, statics: BTreeMap::new(), observed }
}

type Tokens<'a> = &'a [Option<Arc<Token>>];

fn settled(intent: &Intent, tokens: Tokens<'_>, now: Timestamp) -> Option<Composition> {
    settle(intent, tokens, "team-a", &History::default(), &settings(), now)
}

fn fresh(made: &Composition) -> Vec<Target> {
    made.fresh.iter().map(|(target, _)| target.clone()).collect()
}

proptest! {
    #[test]
    fn a_secret_is_never_due_before_its_token_may_be_renewed(
        nanos in 0i64..1_000_000_000, life in 1i64..50_000, spread in any::<bool>(),
    ) {
        let mut settings = settings();
        settings.refresh.jitter = if spread { settings.refresh.jitter } else { 0.0 };
        let now = at(0) + SignedDuration::from_nanos(nanos);
        let (token, wanted) = (token(now, life), intent(WriteCause::Create, &request(&[HOST]), None));
        let made = settle(&wanted, &[Some(token.clone())], "team-a", &History::default(), &settings, now);
        let times = made.and_then(|made| made.times).expect("a write");
        prop_assert!(times.refresh_after >= token.renew_after(settings.refresh), "{times:?}");
        prop_assert!(times.expires_at <= token.expires_at(), "{times:?}");
        prop_assert_eq!(times.refresh_after.subsec_nanosecond() + times.expires_at.subsec_nanosecond(), 0);
    }
}

#[test]
fn a_live_entry_is_not_replaced_by_a_token_that_ends_earlier() {
    let one = request(&[HOST]);
    let repair = intent(WriteCause::Repair, &one, Some(ours(&one)));
    let made = settled(&repair, &[Some(token(at(HOUR), 2 * HOUR))], at(HOUR)).expect("a repair");
    assert_eq!((fresh(&made), &made.carried), (vec![], &one.registries));
    assert_eq!(made.times, ours(&one).times);
    let made = settled(&repair, &[Some(token(at(HOUR), 12 * HOUR))], at(HOUR)).expect("a repair");
    assert_eq!((fresh(&made), &made.carried), (one.registries, &vec![]));
}

#[test]
fn an_expired_token_is_used_only_when_nothing_better_stands() {
    let (one, now) = (request(&[HOST]), at(HOUR));
    let tokens = [Some(token(at(-HOUR), HOUR))];
    let create = settled(&intent(WriteCause::Create, &one, None), &tokens, now).expect("a write");
    assert_eq!(fresh(&create), one.registries);
    assert_eq!(create.times.map(|times| times.expires_at), Some(at(0)), "it says when it ended");
    let standing = |expires| {
        let times = Some(Times { expires_at: at(expires), refresh_after: at(0) });
        Some(Observed { times, applied: Some(Arc::new(accepted(&one, &[expires]))), ..ours(&one) })
    };
    for (expires, used) in [(12 * HOUR, false), (0, false), (1, false), (-HOUR, true)] {
        let made = settled(&intent(WriteCause::Refresh, &one, standing(expires)), &tokens, now);
        assert_eq!(made.is_some(), used, "what stands ended at {expires}");
    }
    let mut unknown = accepted(&one, &[12 * HOUR]);
    unknown.entries[0].as_mut().expect("an entry").expires_at = None;
    let unknown = Observed { applied: Some(Arc::new(unknown)), ..ours(&one) };
    for unknown in [Observed { times: None, ..ours(&one) }, unknown] {
        assert!(settled(&intent(WriteCause::Refresh, &one, Some(unknown)), &tokens, now).is_none());
    }
}

#[test]
fn nothing_is_written_without_a_token_or_twice_with_the_same_ones() {
    let (one, now) = (request(&[HOST]), at(6 * HOUR));
    assert!(settled(&intent(WriteCause::Create, &one, None), &[None], now).is_none());
    let refresh = intent(WriteCause::Refresh, &one, Some(ours(&one)));
    assert!(settled(&refresh, &[None], now).is_none());
    let tokens = [Some(token(now, 12 * HOUR))];
    let made = settled(&refresh, &tokens, now).expect("a refresh");
    let history = History { fingerprint: Some(made.fingerprint), ..History::default() };
    assert!(settle(&refresh, &tokens, "team-a", &history, &settings(), now).is_none());
    let newer = [Some(token(at(12 * HOUR), 12 * HOUR))];
    assert!(settle(&refresh, &newer, "team-a", &history, &settings(), now).is_some());
}

#[test]
fn a_failing_entry_is_carried_and_keeps_the_times_it_had() {
    let (both, now) = (request(&[HOST, PUBLIC]), at(6 * HOUR));
    let refresh = intent(WriteCause::Refresh, &both, Some(ours(&both)));
    let made =
        settled(&refresh, &[Some(token(now, 12 * HOUR)), None], now).expect("the other is not delayed");
    assert_eq!((fresh(&made), &made.carried), (vec![target(HOST)], &vec![target(PUBLIC)]));
    assert_eq!(made.times, ours(&both).times);
    let now = at(12 * HOUR);
    let made = settled(&refresh, &[Some(token(now, 12 * HOUR)), None], now).expect("a refresh");
    assert_eq!(made.carried, [target(PUBLIC)], "an expired entry is kept");
    let times = made.times.expect("times");
    assert_eq!(times.expires_at, at(24 * HOUR), "but no longer counts");
    assert!(times.refresh_after <= now, "and stays due");
}

#[test]
fn a_missing_entry_is_due_at_once() {
    let wanted = intent(WriteCause::Create, &request(&[HOST, PUBLIC]), None);
    let made = settled(&wanted, &[Some(token(at(0), 12 * HOUR)), None], at(0)).expect("the other one");
    assert_eq!((fresh(&made), made.carried), (vec![target(HOST)], vec![]));
    assert_eq!(made.times, Some(Times { expires_at: at(12 * HOUR), refresh_after: at(0) }));
}

#[test]
fn nothing_is_carried_from_data_that_somebody_changed() {
    let both = request(&[HOST, PUBLIC]);
    let tampered = Observed { intact: false, data_intact: false, ..ours(&both) };
    let repair = intent(WriteCause::Repair, &both, Some(tampered));
    assert!(settled(&repair, &[None, None], at(0)).is_none());
    let made = settled(&repair, &[Some(token(at(0), HOUR)), None], at(0)).expect("a repair");
    assert_eq!((fresh(&made), made.carried), (vec![target(HOST)], vec![]));
    let relabelled = Observed { intact: false, ..ours(&both) };
    let made = settled(&intent(WriteCause::Repair, &both, Some(relabelled)), &[None, None], at(0));
    assert_eq!(made.expect("metadata are repaired").carried, both.registries);
}

#[test]
fn a_token_that_reaches_further_than_is_granted_now_is_neither_kept_nor_carried() {
    let both = request(&[HOST, PUBLIC]);
    let mut wider = accepted(&both, &[12 * HOUR]);
    let entry = wider.entries[0].as_mut().expect("an entry");
    entry.scope = Scope(entry.scope.0 ^ 1);
    let secret = Observed { applied: Some(Arc::new(wider)), ..ours(&both) };
    let step = decide(Some(&wants(both.clone())), &standing(&secret), &History::default(), at(0)).step;
    assert_eq!(written(&step), Some((WriteCause::Change, "ecr-pull")));
    let change = intent(WriteCause::Change, &both, Some(secret));
    let shorter = token(at(0), HOUR);
    let made = settled(&change, &[Some(shorter), None], at(0)).expect("a change");
    assert_eq!((fresh(&made), made.carried), (vec![target(HOST)], vec![target(PUBLIC)]));
    let made = settled(&change, &[None, Some(token(at(0), 12 * HOUR))], at(0)).expect("a change");
    assert_eq!((made.carried, made.entries[0]), (vec![], None), "the wider token is not written again");
}

#[test]
fn entries_of_one_secret_have_ends_of_their_own_also_after_a_restart() {
    let both = request(&[HOST, PUBLIC]);
    let mut secret =
        Observed { applied: Some(Arc::new(accepted(&both, &[12 * HOUR, 7 * HOUR]))), ..ours(&both) };
    secret.times = Some(Times { expires_at: at(7 * HOUR), refresh_after: at(6 * HOUR) });
    let refresh = intent(WriteCause::Refresh, &both, Some(secret));
    let tokens = [Some(token(at(6 * HOUR), 3 * HOUR)), Some(token(at(6 * HOUR), 3 * HOUR))];
    let made = settled(&refresh, &tokens, at(6 * HOUR)).expect("a refresh");
    assert_eq!((made.carried, made.fresh.len()), (vec![target(HOST)], 1), "only the one that ends earlier");
}

// Bugs that were fixed, by what they broke.

#[test]
fn a_missing_entry_is_written_also_when_its_token_ends_a_second_before_the_others() {
    let both = request(&[HOST, PUBLIC]);
    let b = token(at(0), 12 * HOUR);
    let made = settled(&intent(WriteCause::Create, &both, None), &[Some(b.clone()), None], at(0))
        .expect("something to write");
    let observed = rewritten(ours(&both), &both, &made);
    let history = History {
        fingerprint: Some(made.fingerprint),
        due: made.times.map(|t| t.refresh_after),
        ..History::default()
    };
    // PUBLIC's token arrives one second later with an end one second earlier (Date resolution)
    let p = token(at(1), 12 * HOUR - 2);
    let refresh = intent(WriteCause::Refresh, &both, Some(observed));
    let made = settle(&refresh, &[Some(b), Some(p)], "team-a", &history, &settings(), at(1));
    assert!(made.is_some_and(|m| m.fresh.len() == 2), "the missing entry is written");
}

#[test]
fn an_expired_entry_gives_way_to_a_live_token_that_ends_before_its_neighbour() {
    let both = request(&[HOST, PUBLIC]);
    let refresh = intent(WriteCause::Refresh, &both, Some(ours(&both)));
    let now = at(12 * HOUR);
    let b = token(now, 12 * HOUR);
    let made = settled(&refresh, &[Some(b.clone()), None], now).expect("something to write");
    let observed = rewritten(ours(&both), &both, &made);
    let history = History { fingerprint: Some(made.fingerprint), ..History::default() };
    let p = token(at(12 * HOUR + 60), HOUR);
    let refresh = intent(WriteCause::Refresh, &both, Some(observed));
    let made = settle(&refresh, &[Some(b), Some(p)], "team-a", &history, &settings(), at(12 * HOUR + 60));
    assert!(made.is_some_and(|m| m.carried.is_empty()), "expired entry replaced");
}

#[test]
fn unbelievable_times_are_not_kept_by_a_repair() {
    let both = request(&[HOST, PUBLIC]);
    let t2099 = at(IN_2099);
    let observed = Observed { times: Some(Times { expires_at: t2099, refresh_after: t2099 }), ..ours(&both) };
    let repair = intent(WriteCause::Repair, &both, Some(observed));
    let all_carried = settled(&repair, &[None, None], at(0)).expect("something to write");
    let made = settled(&repair, &[Some(token(at(0), 12 * HOUR)), None], at(0)).expect("something to write");
    assert!(made.times.expect("times").refresh_after <= at(0), "mixed: {:?}", made.times);
    assert!(all_carried.times.expect("times").is_believable(at(0)), "all carried: {:?}", all_carried.times);
}

#[test]
fn repairs_do_not_spin_while_one_entry_is_missing() {
    let both = request(&[HOST, PUBLIC]);
    let reading = wants(both.clone());
    let (mut now, mut history, mut writes) = (at(0), History::default(), 0);
    let tokens = [Some(token(at(0), 12 * HOUR)), None];
    let mut secret = Observed { intact: false, ..ours(&both) };
    secret.times = Some(Times { expires_at: at(12 * HOUR), refresh_after: at(0) });
    while now < at(60) {
        match decide(Some(&reading), &standing(&secret), &history, now).step {
            Step::Write(intent) => {
                if let Some(made) = settle(&intent, &tokens, "team-a", &history, &settings(), now) {
                    writes += 1;
                    secret = rewritten(secret, &both, &made);
                    secret.resource_version += 1;
                    history.wrote(intent.cause, &"ecr-pull".into(), &secret, made.fingerprint, now);
                }
                now += SignedDuration::from_millis(10);
            }
            Step::Idle(Some(t)) => now = t,
            other => panic!("{other:?}"),
        }
    }
    assert!(writes < 10, "{writes} writes in a minute");
}

#[test]
fn an_immutable_secret_is_deleted_no_sooner_than_a_failure_allows() {
    let observed = Observed { immutable: true, ..ours(&request(&[HOST])) };
    let history = History { tries: retry(10 * HOUR + 30), ..History::default() };
    assert_eq!(tend(&observed, &history, at(10 * HOUR)), Step::Idle(Some(at(10 * HOUR + 30))));
}

#[test]
fn an_immutable_secret_with_unbelievable_times_is_made_anew() {
    let t = Some(Times { expires_at: at(IN_2099), refresh_after: at(6 * HOUR) });
    let observed = Observed { immutable: true, times: t, ..ours(&request(&[HOST])) };
    let step = tend(&observed, &History::default(), at(12 * HOUR));
    assert!(matches!(step, Step::Delete { .. }), "{step:?}");
}

#[test]
fn a_rename_to_a_taken_name_keeps_the_old_secret_refreshed() {
    let mut secrets = standing(&ours(&request(&[HOST])));
    secrets
        .push(("other".into(), Observed { owner: Owner::Stranger, applied: None, ..ours(&named("other")) }));
    let step = decide(Some(&wants(named("other"))), &secrets, &History::default(), at(7 * HOUR)).step;
    assert!(matches!(step, Step::Write(_)), "{step:?}");
}

#[test]
fn a_rename_that_is_taken_back_is_no_repair() {
    // wrote "other" (rv 9), then the annotation goes back before "ecr-pull" (rv 7) was deleted
    let mut secrets = standing(&ours(&request(&[HOST])));
    secrets.push(("other".into(), Observed { resource_version: 9, ..ours(&named("other")) }));
    let history =
        History { written: Some(("other".into(), 9)), due: Some(at(6 * HOUR)), ..History::default() };
    let step = decide(Some(&wants(request(&[HOST]))), &secrets, &history, at(1)).step;
    assert!(!matches!(step, Step::Write(_)), "{step:?}");
}
