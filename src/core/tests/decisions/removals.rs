//! Removals: those that are held, and those that a finalizer holds up.

use super::*;
use crate::core::EventReason;
use crate::core::plan::{RemovalCause, Revocation};
use crate::core::request::AppliedState;
use crate::core::secret::{DraftEntry, StaticGrant, StaticSource};

fn granting_nothing() -> Settings {
    let mut settings = settings();
    settings.grants.default_identity = None;
    settings
}

/// A Secret with an entry of ECR and these static entries.
fn with_static(hosts: &[&str]) -> Observed {
    let mut applied = applied(&request(&[HOST]), &[HOUR]);
    applied.static_entries = hosts.iter().map(|host| ((*host).to_owned(), "mirror@7".to_owned())).collect();
    Observed { applied: Some(Arc::new(applied)), ..observed(&request(&[HOST])) }
}

fn static_grant(hosts: &[&str], namespace: &str) -> StaticGrant {
    StaticGrant {
        secret: "mirror".into(),
        hosts: hosts.iter().map(ToString::to_string).collect(),
        namespaces: vec![namespace.parse().expect("a pattern")],
    }
}

fn sources(hosts: &[&str]) -> StaticSources {
    let credential = token(at(0), HOUR).credential().clone();
    let entries = hosts.iter().map(|host| ((*host).to_owned(), credential.clone())).collect();
    [("mirror".into(), StaticSource { version: 7, entries, unreadable: [].into() })].into()
}

#[test]
fn a_lost_grant_names_its_cause_and_while_it_is_held_nothing_is_deleted() {
    let (secrets, history) = (only(&observed(&request(&[HOST]))), History::default());
    let asks = parsed(request(&[HOST]));
    let now = Facts { parsed: Some(&asks), secrets: &secrets, ..facts(&history) };
    let plan_now = plan(&now, &granting_nothing(), at(0));
    assert_eq!(deleted(&plan_now.step).map(|(reason, ..)| reason), Some(DeleteReason::NotGranted));
    let cause = RemovalCause::Identity("controller".into());
    assert_eq!(plan_now.revocations, [Revocation { cause, uid: "uid-1".into() }]);

    let held = plan(&Facts { held: true, ..now }, &granting_nothing(), at(0));
    assert_eq!((held.step, held.revocations), (Step::Idle(None), plan_now.revocations));
    assert!(held.problems.iter().any(|problem| problem.reason == EventReason::RemovalHeld));
}

#[test]
fn a_hold_does_not_keep_static_entries_that_are_no_longer_granted() {
    let (hub, mirror) = ("docker.io", "mirror.example");
    let (secrets, history) = (only(&with_static(&[hub, mirror])), History::default());
    let (asks, sources) = (parsed(request(&[HOST])), sources(&[hub, mirror]));
    let facts = Facts {
        parsed: Some(&asks),
        secrets: &secrets,
        held: true,
        static_sources: &sources,
        ..facts(&history)
    };
    let mut settings = granting_nothing();
    settings.static_grants = vec![static_grant(&[hub], "*"), static_grant(&[mirror], "team-b")];
    let step = plan(&facts, &settings, at(0)).step;
    assert_eq!(written(&step), Some((WriteReason::StaticEntryChanged, "ecr-pull")));
    let Step::Write(write) = step else { panic!("a write") };
    let draft = compose(&write, &[], &facts, &settings, at(0)).expect("a draft");
    let hosts = draft.entries.iter().map(|entry| match entry {
        DraftEntry::Keep { host } => (host.as_str(), "kept"),
        DraftEntry::Set { host, .. } => (host.as_str(), "set"),
    });
    assert_eq!(hosts.collect::<Vec<_>>(), [(HOST, "kept"), (hub, "set")]);
    let before = secrets[0].1.applied.as_ref().expect("applied");
    assert_eq!(draft.applied.entries, before.entries, "the entry of ECR ends with its token");

    let immutable = Observed { mutability: Mutability::Immutable, ..with_static(&[hub, mirror]) };
    let step = plan(&Facts { secrets: &only(&immutable), ..facts }, &settings, at(0)).step;
    assert_eq!(step, Step::Idle(None), "no write that the API server refuses each time");

    let only_hub = only(&with_static(&[hub]));
    assert_eq!(plan(&Facts { secrets: &only_hub, ..facts }, &settings, at(0)).step, Step::Idle(None));
}

/// RBAC allows no write of a retired name.
#[test]
fn a_hold_keeps_no_secret_under_a_retired_name_whose_static_entries_are_no_longer_granted() {
    let mirror = "mirror.example";
    let secrets = [("ecr-pull".into(), observed(&request(&[HOST]))), ("old".into(), with_static(&[mirror]))];
    let (history, asks) = (History::default(), parsed(request(&[HOST])));
    let facts = Facts { parsed: Some(&asks), secrets: &secrets, held: true, ..facts(&history) };
    let step = plan(&facts, &settings(), at(0)).step;
    assert_eq!(deleted(&step).map(|(reason, name, ..)| (reason, name)), Some((DeleteReason::Retired, "old")));
    let mut granting = settings();
    granting.static_grants = vec![static_grant(&[mirror], "*")];
    let sources = sources(&[]);
    let both = [("ecr-pull".into(), with_static(&[mirror])), ("old".into(), with_static(&[mirror]))];
    let held = plan(&Facts { static_sources: &sources, secrets: &both, ..facts }, &granting, at(0));
    assert_eq!(deleted(&held.step), None);
    assert!(held.problems.iter().any(|problem| problem.reason == EventReason::RemovalHeld));
}

/// N51: the write of the retired name was tried again and again, and the other Secret kept its entry.
#[test]
fn a_hold_writes_no_secret_under_a_retired_name_and_revokes_the_entries_of_both() {
    let retired = ("old".into(), with_static(&["mirror.example"]));
    let current = ("ecr-pull".into(), with_static(&["mirror.example"]));
    let (history, asks) = (History::default(), parsed(request(&[HOST])));
    let step = |secrets: Secrets<'_>| {
        let facts = Facts { parsed: Some(&asks), secrets, held: true, ..facts(&history) };
        plan(&facts, &granting_nothing(), at(0)).step
    };
    let both = step(&[retired, current.clone()]);
    assert_eq!(deleted(&both).map(|(_, name, ..)| name), Some("old"));
    assert_eq!(written(&step(&[current])), Some((WriteReason::StaticEntryChanged, "ecr-pull")));
}

/// N50: the record named the entry, and the Secret did not have it.
#[test]
fn a_write_that_was_planned_before_its_static_source_was_deleted_is_planned_again() {
    let (mut granting, sources) = (settings(), sources(&["mirror.example"]));
    granting.static_grants = vec![static_grant(&["mirror.example"], "*")];
    let secrets = only(&observed(&request(&[HOST])));
    let (history, asks) = (History::default(), parsed(request(&[HOST])));
    let before =
        Facts { parsed: Some(&asks), secrets: &secrets, static_sources: &sources, ..facts(&history) };
    let Step::Write(write) = plan(&before, &granting, at(0)).step else { panic!("no write") };
    let tokens = [Some(token(at(0), 12 * HOUR))];
    assert!(compose(&write, &tokens, &before, &granting, at(0)).is_some());
    assert!(compose(&write, &tokens, &facts(&history), &granting, at(0)).is_none());
}

#[test]
fn a_secret_that_a_finalizer_holds_is_reported_and_not_deleted_again() {
    let secrets = only(&Observed { is_deleting: true, ..observed(&request(&[HOST])) });
    let (history, now) = (History::default(), at(0));
    let out = decide(None, &secrets, &history, now);
    assert_eq!(out.step, Step::Idle(None));
    assert!(out.problems.iter().any(|problem| problem.reason == EventReason::DeletionBlocked));
    let wanted = parsed(request(&[HOST]));
    let due = decide(Some(&wanted), &secrets, &history, at(11 * HOUR));
    assert_eq!(written(&due.step), Some((WriteReason::RenewalDue, "ecr-pull")), "pods still use it");
}

#[test]
fn the_cause_is_the_identity_that_lost_its_grant_whatever_the_order_of_the_entries() {
    let mut applied = applied(&request(&[HOST, "123456789012.dkr.ecr.eu-west-1.amazonaws.com"]), &[HOUR]);
    applied.entries[1].as_mut().expect("an entry").identity = "team-a".into();
    let applied = AppliedState { request: with_role("team-a"), ..applied };
    let secrets = only(&Observed { applied: Some(Arc::new(applied)), ..observed(&request(&[HOST])) });
    let history = History::default();
    let asks = parsed(with_role("team-a"));
    let plan = decide(Some(&asks), &secrets, &history, at(0));
    let causes: Vec<_> = plan.revocations.iter().map(|revocation| &revocation.cause).collect();
    assert_eq!(causes, [&RemovalCause::Identity("team-a".into())]);
}

#[test]
fn what_a_finalizer_holds_does_not_count_as_a_removal() {
    let secrets = only(&Observed { is_deleting: true, ..observed(&request(&[HOST])) });
    let (history, asks) = (History::default(), parsed(request(&[HOST])));
    let facts = Facts { parsed: Some(&asks), secrets: &secrets, ..facts(&history) };
    assert_eq!(plan(&facts, &granting_nothing(), at(0)).revocations, []);
}

#[test]
fn in_a_namespace_that_is_not_included_nothing_is_written_while_its_removal_is_held() {
    let mut applied = (**with_static(&["docker.io"]).applied.as_ref().expect("applied")).clone();
    applied.request.by_default = true;
    let secrets = only(&Observed { applied: Some(Arc::new(applied)), ..observed(&request(&[HOST])) });
    let history = History::default();
    let facts = Facts { secrets: &secrets, held: true, ..facts(&history) };
    assert_eq!(plan(&facts, &settings(), at(0)).step, Step::Idle(None), "the admission policy denies it");
}

#[test]
fn the_creation_under_a_new_name_and_the_renewal_under_the_former_one_replace_each_other() {
    let old = observed(&request(&[HOST]));
    let secrets = only(&old);
    let wanted =
        Request { secret_name: "other".into(), ..request(&["123456789012.dkr.ecr.eu-west-1.amazonaws.com"]) };
    for (failures, names) in [(0, ["other", "ecr-pull"]), (3, ["ecr-pull", "other"])] {
        let retry = RetryState { failures, ..RetryState::default() };
        let history = History { retry: retry.into(), ..History::default() };
        let plan = decide(Some(&parsed(wanted.clone())), &secrets, &history, at(11 * HOUR));
        let Step::Write(write) = &plan.step else { panic!("a write: {:?}", plan.step) };
        let second = write.otherwise.as_deref().expect("two writes");
        assert_eq!([&plan.step, second].map(|step| written(step).map(|(_, name)| name)), names.map(Some));
        let kept = [&plan.granted, &plan.former]
            .map(|granted| granted.as_ref().map(|g| g.request.secret_name.clone()));
        assert_eq!(kept, [Some("other".into()), Some("ecr-pull".into())], "the keys of both are kept");
    }
}
