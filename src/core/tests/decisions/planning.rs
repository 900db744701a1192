//! The plan in each situation.

use super::*;
use crate::core::EventReason;
use crate::core::grants::Identity;
use crate::core::request::{AppliedState, TemplateFingerprint};
use crate::core::secret::SecretTemplate;

#[test]
fn an_opted_in_namespace_without_a_secret_gets_one() {
    let plan = decide(Some(&parsed(request(&[HOST]))), &[], &History::default(), at(0));
    assert_eq!(written(&plan.step), Some((WriteReason::Missing, "ecr-pull")));
    assert_eq!(plan.problems, []);
}

#[test]
fn a_foreign_secret_is_reported_and_not_changed() {
    for owner in [Owner::Unmanaged, Owner::OtherInstance("another".into())] {
        let foreign = Observed { owner, applied: None, ..observed(&request(&[HOST])) };
        let plan = decide(Some(&parsed(request(&[HOST]))), &only(&foreign), &History::default(), at(0));
        assert_eq!(plan.step, Step::Idle(None));
        assert!(
            matches!(&plan.problems[..], [Problem { reason: EventReason::SecretNotOwned, .. }]),
            "{:?}",
            plan.problems
        );
        assert_eq!(decide(None, &only(&foreign), &History::default(), at(0)).step, Step::Idle(None));
    }
}

#[test]
fn opting_out_deletes_the_secret_at_its_uid_and_version() {
    let out = ParsedAnnotations { opt_in: OptIn::Out, renew: None, problems: vec![] };
    for parsed in [None, Some(&out)] {
        let plan = decide(parsed, &only(&observed(&request(&[HOST]))), &History::default(), at(0));
        assert_eq!(deleted(&plan.step), Some((DeleteReason::OptedOut, "ecr-pull", "uid-1".into(), 7)));
    }
}

#[test]
fn an_invalid_or_ungranted_value_is_reported_and_the_applied_request_stays_in_force() {
    let problem = Problem::invalid(annotations::SECRET_NAME, "not allowed");
    let bad = ParsedAnnotations { opt_in: OptIn::Invalid, renew: None, problems: vec![problem] };
    let applied = named("other");
    for (parsed, reason) in
        [(bad, EventReason::InvalidAnnotation), (parsed(with_role("team-b")), EventReason::NotGranted)]
    {
        let secrets = only(&observed(&applied));
        let plan = decide(Some(&parsed), &secrets, &History::default(), at(6 * HOUR));
        let Step::Write(write) = &plan.step else { panic!("{plan:?}") };
        assert_eq!((write.reason, &*write.granted.request), (WriteReason::RenewalDue, &applied));
        assert!(matches!(&plan.problems[..], [problem] if problem.reason == reason));
        assert_eq!(decide(Some(&parsed), &[], &History::default(), at(0)).step, Step::Idle(None));
    }
}

#[test]
fn a_namespace_is_blocked_only_if_the_controller_cannot_do_anything() {
    let invalid_item = || Problem::invalid(annotations::REGISTRIES, "\"typo\": expected a registry");
    let valid = ParsedAnnotations { problems: vec![invalid_item()], ..parsed(request(&[HOST])) };
    let no_region = Problem::no_region(annotations::REGISTRIES, "default");
    let of = |problem| ParsedAnnotations { opt_in: OptIn::Invalid, renew: None, problems: vec![problem] };
    let failed = History { retry: retry_at(60).into(), ..History::default() };
    for (parsed, history, blocked) in [
        (&valid, &History::default(), false),
        (&valid, &failed, false),
        (&of(no_region), &History::default(), false),
        (&of(invalid_item()), &History::default(), true),
        (&parsed(with_role("team-b")), &History::default(), true),
    ] {
        let plan = decide(Some(parsed), &[], history, at(0));
        assert_eq!(plan.is_blocked(), blocked, "{plan:?}");
        assert!(!plan.problems.is_empty());
    }
}

#[test]
fn service_accounts_that_are_not_enabled_are_reported_and_the_applied_request_stays_in_force() {
    let mut disabled = settings();
    disabled.names.service_accounts = false;
    let key = |key: &str| format!("{}{key}", crate::core::PREFIX);
    let values = BTreeMap::from([
        (key(annotations::REGISTRIES), "public.ecr.aws".to_owned()),
        (key(annotations::SERVICE_ACCOUNTS), "*".to_owned()),
    ]);
    let parsed = annotations::parse(&values, false, disabled.request_rules()).expect("opted in");
    let applied = Request { service_accounts: vec!["builder".into()], ..request(&[HOST]) };
    let secrets = only(&observed(&applied));
    let history = History::default();
    let plan = decide_with(&disabled, Some(&parsed), &secrets, &history, at(6 * HOUR));
    let [problem] = &plan.problems[..] else { panic!("{plan:?}") };
    assert!(problem.message.contains("service accounts are not enabled"), "{problem:?}");
    assert_eq!(problem.reason, EventReason::InvalidAnnotation);
    let Step::Write(write) = &plan.step else { panic!("{plan:?}") };
    assert_eq!(*write.granted.request, request(&[HOST]), "without the service accounts");
}

#[test]
fn a_secret_that_is_no_longer_granted_is_deleted() {
    let mut closed = settings();
    closed.grants.default_identity = None;
    let (parsed, history) = (parsed(request(&[HOST])), History::default());
    let secrets = only(&observed(&request(&[HOST])));
    let plan = decide_with(&closed, Some(&parsed), &secrets, &history, at(0));
    assert_eq!(deleted(&plan.step), Some((DeleteReason::NotGranted, "ecr-pull", "uid-1".into(), 7)));
    assert!(matches!(&plan.problems[..], [Problem { reason: EventReason::NotGranted, .. }]));
}

#[test]
fn a_rename_creates_the_new_secret_and_deletes_the_old_one_once_the_new_one_is_intact() {
    let (parsed, history) = (parsed(named("other")), History::default());
    let mut secrets = only(&observed(&request(&[HOST])));
    let step = |secrets: Secrets<'_>| decide(Some(&parsed), secrets, &history, at(0)).step;
    assert_eq!(written(&step(&secrets)), Some((WriteReason::Missing, "other")));
    secrets.push(("other".into(), Observed { intact: false, ..observed(&named("other")) }));
    assert_eq!(written(&step(&secrets)), Some((WriteReason::FieldsTakenOver, "other")));
    secrets[1].1.intact = true;
    assert_eq!(deleted(&step(&secrets)), Some((DeleteReason::Renamed, "ecr-pull", "uid-1".into(), 7)));
    assert_eq!(step(&secrets[1..]), Step::Idle(Some(wall(6 * HOUR))));
}

#[test]
fn a_secret_with_a_retired_name_is_never_written_and_deleted_once_another_one_exists() {
    let history = History::default();
    let old = || vec![("old".into(), observed(&named("old")))];
    for parsed in [parsed(request(&[HOST])), invalid()] {
        let step = |secrets: Secrets<'_>| decide(Some(&parsed), secrets, &history, at(0)).step;
        assert_eq!(
            written(&step(&old())),
            Some((WriteReason::Missing, "ecr-pull")),
            "the applied request stays in force"
        );
        let mut both = old();
        both.insert(0, ("ecr-pull".into(), observed(&request(&[HOST]))));
        assert_eq!(deleted(&step(&both)), Some((DeleteReason::Retired, "old", "uid-1".into(), 7)));
    }
    assert_eq!(
        deleted(&decide(None, &old(), &history, at(0)).step),
        Some((DeleteReason::OptedOut, "old", "uid-1".into(), 7))
    );
}

#[test]
fn a_secret_that_only_the_configuration_requested_is_deleted_as_not_included() {
    let by_default = Request { by_default: true, ..request(&[HOST]) };
    let secrets = only(&observed(&by_default));
    let step = decide(None, &secrets, &History::default(), at(0)).step;
    assert_eq!(deleted(&step).map(|(reason, ..)| reason), Some(DeleteReason::NotIncluded));
}

#[test]
fn an_intact_secret_is_not_written_until_it_is_due_even_after_a_restart() {
    let secret = observed(&request(&[HOST]));
    let running =
        History { written: Some(("ecr-pull".into(), 7)), due: Some(wall(6 * HOUR)), ..History::default() };
    for history in [History::default(), running] {
        assert_eq!(step_for(&secret, &history, at(0)), Step::Idle(Some(wall(6 * HOUR))));
        let step = step_for(&secret, &history, at(6 * HOUR));
        assert_eq!(written(&step), Some((WriteReason::RenewalDue, "ecr-pull")));
    }
}

#[test]
fn each_foreign_edit_has_its_reason_and_a_changed_request_is_applied() {
    let intact = observed(&request(&[HOST]));
    let later = Times { expires_at: wall(IN_2099), refresh_after: wall(6 * HOUR) };
    let another_version = History { written: Some(("ecr-pull".into(), 6)), ..History::default() };
    let cases = [
        (Observed { intact: false, ..intact.clone() }, History::default(), WriteReason::FieldsTakenOver),
        (Observed { times: None, ..intact.clone() }, History::default(), WriteReason::ImplausibleTimes),
        (
            Observed { times: Some(later), ..intact.clone() },
            History::default(),
            WriteReason::ImplausibleTimes,
        ),
        (intact, another_version, WriteReason::ForeignWrite),
        (observed(&request(&[HOST, PUBLIC])), History::default(), WriteReason::RequestChanged),
    ];
    for (secret, history, reason) in cases {
        assert_eq!(written(&step_for(&secret, &history, at(0))), Some((reason, "ecr-pull")), "{secret:?}");
    }
}

#[test]
fn a_changed_template_is_applied_at_the_rate_of_renewals_and_an_applied_one_is_left_alone() {
    let labels = BTreeMap::from([("team".to_owned(), "blue".to_owned())]);
    let template = SecretTemplate::new(labels, BTreeMap::new());
    let with_template = Settings { secret_template: template.clone(), ..settings() };
    let step = |settings: &Settings, template| {
        let applied = AppliedState { template, ..applied(&request(&[HOST]), &[12 * HOUR]) };
        let secrets = only(&observed_with(applied));
        decide_with(settings, Some(&parsed(request(&[HOST]))), &secrets, &History::default(), at(0)).step
    };
    for (settings, recorded) in [
        (&with_template, None),
        (&with_template, Some(TemplateFingerprint(7))),
        (&settings(), template.fingerprint()),
    ] {
        let step = step(settings, recorded);
        assert_eq!(written(&step), Some((WriteReason::TemplateChanged, "ecr-pull")), "{recorded:?}");
    }
    assert!(WriteReason::TemplateChanged.is_paced() && !WriteReason::TemplateChanged.is_repair());
    assert!(matches!(step(&with_template, template.fingerprint()), Step::Idle(_)));
    assert!(matches!(step(&settings(), None), Step::Idle(_)));
}

#[test]
fn after_a_failure_no_attempt_is_made_before_the_retry_time() {
    let retry = || retry_at(6 * HOUR + 30).into();
    let history = History { retry: retry(), removals: retry(), ..History::default() };
    let (parsed, secrets) = (parsed(request(&[HOST])), only(&observed(&request(&[HOST]))));
    for (parsed, secrets) in [(Some(&parsed), &secrets[..]), (Some(&parsed), &[]), (None, &secrets)] {
        let step = |second| decide(parsed, secrets, &history, at(6 * HOUR + second)).step;
        assert_eq!(step(0), Step::Idle(Some(wall(6 * HOUR + 30))));
        assert!(!matches!(step(30), Step::Idle(_)));
    }
}

#[test]
fn repairs_back_off_to_at_most_ten_minutes() {
    let edited = Observed { intact: false, ..observed(&request(&[HOST])) };
    let repair = WriteReason::FieldsTakenOver;
    let (mut now, mut history, mut waits) = (at(0), History::default(), vec![]);
    for _ in 0..14 {
        assert_eq!(written(&step_for(&edited, &history, now)), Some((repair, "ecr-pull")));
        history.record_write(repair, &"ecr-pull".into(), &edited, 1, now);
        let Step::Idle(Some(later)) = step_for(&edited, &history, now) else { panic!("no wait at {now:?}") };
        waits.push(now.until(later));
        now.wall = later;
    }
    assert!(waits[0] <= SignedDuration::from_secs(1) && waits.is_sorted_by_key(|w| w.as_secs().min(400)));
    assert!(waits[13] >= SignedDuration::from_secs(450) && waits[13] <= SignedDuration::from_mins(10));
    now.wall += SignedDuration::from_mins(21);
    history.record_write(repair, &"ecr-pull".into(), &edited, 1, now);
    assert_eq!(history.retry.repairs, 1, "the count starts again after a quiet time");
}

#[test]
fn a_renewal_that_is_due_does_not_wait_for_the_repair_backoff() {
    let retry = RetryState { repairs: 20, repaired_at: Some(wall(0)), ..RetryState::default() };
    let repairs = History { retry: retry.into(), ..History::default() };
    let history = History { due: Some(wall(100)), ..repairs.clone() };
    let edited = Observed { intact: false, ..observed(&request(&[HOST])) };
    assert_eq!(step_for(&edited, &history, at(1)), Step::Idle(Some(wall(100))));
    for repaired_at in [0, 200] {
        let retry = RetryState { repaired_at: Some(wall(repaired_at)), ..(*history.retry).clone() };
        let history = History { retry: retry.into(), ..history.clone() };
        let step = step_for(&edited, &history, at(repaired_at + 100));
        assert_eq!(written(&step), Some((WriteReason::RenewalDue, "ecr-pull")), "only with a new token");
    }
    let Step::Idle(Some(later)) = step_for(&edited, &repairs, at(100)) else { panic!("no wait") };
    assert!(later > wall(100));
}

#[test]
fn an_immutable_secret_is_reported_and_recreated_in_the_last_quarter_of_its_lifetime() {
    let (parsed, history) = (parsed(request(&[HOST])), History::default());
    let secrets = only(&Observed { mutability: Mutability::Immutable, ..observed(&request(&[HOST])) });
    for hour in 0..9 {
        let plan = decide(Some(&parsed), &secrets, &history, at(hour * HOUR));
        assert_eq!(plan.step, Step::Idle(Some(wall(9 * HOUR))));
        assert!(matches!(&plan.problems[..], [Problem { reason: EventReason::SecretImmutable, .. }]));
    }
    let plan = decide(Some(&parsed), &secrets, &history, at(9 * HOUR));
    assert_eq!(deleted(&plan.step), Some((DeleteReason::Immutable, "ecr-pull", "uid-1".into(), 7)));
}

/// Once set, `immutable: false` can still be changed, and metadata do not tell the two apart.
#[test]
fn a_secret_that_may_be_immutable_is_renewed_and_repaired_as_any_other() {
    let (parsed, history) = (parsed(request(&[HOST])), History::default());
    let secret = Observed { mutability: Mutability::Unknown, ..observed(&request(&[HOST])) };
    let plan = decide(Some(&parsed), &only(&secret), &history, at(6 * HOUR));
    assert_eq!(written(&plan.step), Some((WriteReason::RenewalDue, "ecr-pull")));
    assert_eq!(plan.problems, []);
    let edited = Observed { intact: false, ..secret };
    let step = decide(Some(&parsed), &only(&edited), &history, at(HOUR)).step;
    assert_eq!(written(&step), Some((WriteReason::FieldsTakenOver, "ecr-pull")));
}

/// With `refresh.at: 0.1`, half of the time from the renewal to the expiry would be 45 % of the lifetime.
#[test]
fn an_immutable_secret_with_an_early_renewal_is_kept_until_the_last_quarter_of_its_lifetime() {
    let (parsed, history) = (parsed(request(&[HOST])), History::default());
    let times = Some(Times { expires_at: wall(12 * HOUR), refresh_after: wall(HOUR) });
    let secret = Observed { mutability: Mutability::Immutable, times, ..observed(&request(&[HOST])) };
    let step = decide(Some(&parsed), &only(&secret), &history, at(8 * HOUR)).step;
    assert_eq!(step, Step::Idle(Some(wall(9 * HOUR))));
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![(-100_000i64..100_000).prop_map(wall), Just(Timestamp::MIN), Just(Timestamp::MAX)]
}

prop_compose! {
    fn any_observed()(
        owner in prop_oneof![
            2 => Just(Owner::This), 1 => Just(Owner::Unmanaged), 1 => Just(Owner::OtherInstance("b".into()))
        ],
        (is_applied, intact, data_intact, is_deleting) in any::<(bool, bool, bool, bool)>(),
        mutability in any_mutability(),
        times in of((any_time(), any_time())),
        (uid, resource_version) in ("[a-z]{3}", 1u64..4),
        state in of(prop_oneof![Just(named("ecr-pull")), Just(named("other")), Just(with_role("b"))]),
    ) -> Observed {
        let times = times.map(|(expires_at, refresh_after)| Times { expires_at, refresh_after });
        let applied = state.map(|request| Arc::new(applied(&request, &[HOUR])));
        let uid = uid.into();
        Observed {
            uid,
            resource_version,
            owner,
            is_applied,
            intact,
            data_intact,
            is_deleting,
            mutability,
            times,
            applied,
        }
    }
}

prop_compose! {
    fn any_history()(
        (written, fingerprint) in of((1u64..4, any::<u64>())).prop_map(Option::unzip),
        (due, retry_at, repaired_at) in (of(any_time()), of(any_time()), of(any_time())),
        (failures, repairs) in any::<(u32, u32)>(),
    ) -> History {
        let written = written.map(|version| ("ecr-pull".into(), version));
        let retry = RetryState { failures, retry_at, repairs, repaired_at, ..RetryState::default() };
        History { written, fingerprint, due, retry: retry.into(), ..History::default() }
    }
}

fn any_annotations() -> impl Strategy<Value = Option<ParsedAnnotations>> {
    of(prop_oneof![
        Just(ParsedAnnotations { opt_in: OptIn::Out, renew: None, problems: vec![] }),
        Just(invalid()),
        Just(parsed(with_role("b"))),
        prop_oneof![Just("ecr-pull"), Just("other")].prop_map(|name| parsed(named(name))),
    ])
}

proptest! {
    #[test]
    fn only_managed_secrets_are_written_or_deleted_and_every_wait_ends_in_the_future(
        parsed in any_annotations(), secrets in [of(any_observed()), of(any_observed())],
        history in any_history(), now in any_time(),
    ) {
        let names: [Arc<str>; 2] = ["ecr-pull".into(), "other".into()];
        let secrets: Vec<_> = names.into_iter().zip(secrets).filter_map(|(n, o)| Some((n, o?))).collect();
        let of_name = |name: &str| secrets.iter().find(|(n, _)| **n == *name).map(|(_, observed)| observed);
        match decide(parsed.as_ref(), &secrets, &history, at_wall(now)).step {
            Step::Idle(until) => prop_assert!(until.is_none_or(|until| until > now)),
            Step::Write(write) => {
                let current = of_name(&write.granted.request.secret_name);
                prop_assert_eq!(current, write.observed.as_deref());
                prop_assert!(current.is_none_or(|o| o.owner == Owner::This && o.mutability != Mutability::Immutable));
            }
            Step::Delete(deletion) => {
                let current = of_name(&deletion.name).expect("a deleted Secret was observed");
                prop_assert_eq!(&current.owner, &Owner::This);
                prop_assert_eq!(current.version(), deletion.version);
            }
            Step::Replace(replacement) => {
                let current = of_name(&replacement.deletion.name).expect("a replaced Secret was observed");
                prop_assert!(current.owner == Owner::This && current.mutability == Mutability::Immutable);
                prop_assert_eq!(current, &replacement.observed);
            }
            Step::SetPullSecret(_) | Step::ListServiceAccounts => {
                prop_assert!(false, "there are no service accounts");
            }
        }
    }
}

/// The plan of a controller that does not know its region, and may use all registries of one account.
fn plan_nowhere(request: &Request, observed: &Observed, second: i64) -> Plan {
    let (parsed, mut nowhere) = (parsed(request.clone()), nowhere());
    let registries = vec!["123456789012/*".parse().expect("a pattern")];
    nowhere.grants.default_identity = Some(Identity { registries, ..Identity::controller() });
    decide_with(&nowhere, Some(&parsed), &only(observed), &History::default(), at(second))
}

/// N62: a list that has `default` and a host.
#[test]
fn without_the_region_no_entry_of_default_is_removed() {
    let asks = request_for(vec![target(WEST), Target::Default]);
    let step = |observed: &Observed, second| plan_nowhere(&asks, observed, second).step;
    assert_eq!(step(&observed(&request(&[HOST])), HOUR), Step::Idle(Some(wall(6 * HOUR))));
    let immutable =
        Observed { mutability: Mutability::Immutable, ..observed_with(applied(&asks, &[12 * HOUR])) };
    assert!(!matches!(step(&immutable, 9 * HOUR), Step::Replace(_)));
}

/// N62: a problem with the region is among those that are named.
#[test]
fn nor_is_one_of_a_list_with_many_registries_that_are_not_granted() {
    let denied = |n: u64| target(&format!("{}.dkr.ecr.eu-west-1.amazonaws.com", 999_999_999_990 + n));
    let asks: Vec<_> = (0..3).map(denied).chain([target(WEST), Target::Default]).collect();
    let plan = plan_nowhere(&request_for(asks), &observed(&request(&[HOST])), HOUR);
    assert!(plan.problems.iter().any(|problem| problem.reason == EventReason::RegionUnknown));
    assert_eq!(plan.step, Step::Idle(Some(wall(6 * HOUR))));
}

/// The applied request cannot be used here: its record was removed, or its role is not granted any more.
#[test]
fn without_the_region_what_is_granted_is_written_if_nothing_can_be_kept() {
    let asks = request_for(vec![target(WEST), Target::Default]);
    let stripped = Observed { intact: false, times: None, applied: None, ..observed(&request(&[HOST])) };
    let mut revoked = applied(&request(&[WEST]), &[12 * HOUR]);
    revoked.request.role = vec!["revoked".into()];
    for observed in [stripped, observed_with(revoked)] {
        let step = plan_nowhere(&asks, &observed, 7 * HOUR).step;
        assert!(matches!(step, Step::Write(_)), "{step:?}");
    }
}
