//! What is planned in each situation.

use super::*;

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
fn a_retired_name_is_never_written_and_goes_once_another_one_stands() {
    let history = History::default();
    let old = || vec![("old".into(), ours(&named("old")))];
    let unusable = Reading { wish: Wish::Unusable, problems: vec![] };
    for reading in [wants(request(&[HOST])), unusable] {
        let step = |secrets: Standing<'_>| decide(Some(&reading), secrets, &history, at(0)).step;
        assert_eq!(
            written(&step(&old())),
            Some((WriteCause::Create, "ecr-pull")),
            "what was applied stays in force"
        );
        let mut both = old();
        both.insert(0, ("ecr-pull".into(), ours(&request(&[HOST]))));
        assert_eq!(deleted(&step(&both)), Some((DeleteCause::Renamed, "old", "uid-1", 7)));
    }
    assert_eq!(
        deleted(&decide(None, &old(), &history, at(0)).step),
        Some((DeleteCause::OptedOut, "old", "uid-1", 7))
    );
}

#[test]
fn what_only_the_configuration_asked_for_is_taken_away_by_the_configuration() {
    let by_default = Request { by_default: true, ..request(&[HOST]) };
    let secrets = standing(&ours(&by_default));
    let step = decide(None, &secrets, &History::default(), at(0)).step;
    assert_eq!(deleted(&step).map(|(cause, ..)| cause), Some(DeleteCause::NotGranted));
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
