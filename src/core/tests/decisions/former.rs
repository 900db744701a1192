//! Secrets under a former name: they are kept as long as they may have an entry that the requested one lacks.

use super::*;
use crate::core::plan::{PullSecretChange, PullSecretRefs};

fn secret(name: &str, hosts: &[&str], expiries: &[i64]) -> (Arc<str>, Observed) {
    let request = Request { secret_name: name.into(), ..request(hosts) };
    (name.into(), observed_with(applied(&request, expiries)))
}

/// The Secret `other`, which was written for both registries without a token for the second one.
fn partial(hosts: &[&str]) -> (Arc<str>, Observed) {
    let (name, observed) = secret("other", hosts, &[12 * HOUR]);
    let mut applied = (**observed.applied.as_ref().expect("a record")).clone();
    *applied.entries.last_mut().expect("an entry") = None;
    (name, observed_with(applied))
}

fn renamed(hosts: &[&str]) -> ParsedAnnotations {
    parsed(Request { secret_name: "other".into(), ..request(hosts) })
}

fn next(parsed: &ParsedAnnotations, secrets: Secrets<'_>, now: Now) -> Step {
    decide(Some(parsed), secrets, &History::default(), now).step
}

/// Whether a step, or the one to start without its tokens, deletes a Secret.
fn deletes(step: &Step) -> bool {
    step.alternatives().any(|step| deleted(step).is_some())
}

/// N21: which of two Secrets is the requested one is a guess then.
#[test]
fn while_the_annotations_are_invalid_no_secret_is_deleted_and_the_last_applied_one_is_renewed() {
    let mut secrets = [secret("ecr-pull", &[HOST], &[12 * HOUR]), secret("other", &[HOST], &[12 * HOUR])];
    secrets[1].1.resource_version = 12;
    assert_eq!(next(&invalid(), &secrets, at(0)), Step::Idle(Some(wall(6 * HOUR))));
    assert_eq!(written(&next(&invalid(), &secrets, at(6 * HOUR))), Some((WriteReason::RenewalDue, "other")));
    // A finalizer holds the old one.
    (secrets[0].1.is_deleting, secrets[0].1.resource_version) = (true, 13);
    assert_eq!(written(&next(&invalid(), &secrets, at(6 * HOUR))), Some((WriteReason::RenewalDue, "other")));
    assert_eq!(next(&renamed(&[HOST]), &secrets[1..], at(0)), Step::Idle(Some(wall(6 * HOUR))));
}

/// N22
#[test]
fn service_accounts_refer_to_both_secrets_until_the_new_one_has_every_entry() {
    let request =
        Request { secret_name: "other".into(), service_accounts: vec!["*".into()], ..request(&[HOST, WEST]) };
    let applied = |mut observed: Observed| {
        let mut applied = (**observed.applied.as_ref().expect("a record")).clone();
        applied.request.service_accounts = vec!["*".into()];
        observed.applied = Some(Arc::new(applied));
        observed
    };
    let old = secret("ecr-pull", &[HOST, WEST], &[12 * HOUR]);
    let (name, new) = partial(&[HOST, WEST]);
    let refs = |names: &[&str]| {
        let names: Vec<Arc<str>> = names.iter().map(|name| (*name).into()).collect();
        PullSecretRefs { resource_version: 1, references: names.clone(), attached: names }
    };
    let (asks, history) = (parsed(request), History::default());
    let step = |new: &Observed, refs: PullSecretRefs| {
        let secrets = [old.clone(), (name.clone(), applied(new.clone()))];
        let service_accounts = [("default".into(), refs)];
        let facts = Facts {
            parsed: Some(&asks),
            secrets: &secrets,
            service_accounts: &service_accounts,
            ..facts(&history)
        };
        plan(&facts, &settings(), at(HOUR)).step
    };
    let change = |kept: &[&str]| {
        Step::SetPullSecret(PullSecretChange {
            service_account: "default".into(),
            secret: Some("other".into()),
            kept: kept.iter().map(|name| (*name).into()).collect(),
            removal: None,
        })
    };
    assert_eq!(step(&new, refs(&["ecr-pull"])), change(&["ecr-pull"]));
    assert_eq!(written(&step(&new, refs(&["ecr-pull", "other"]))), Some((WriteReason::RenewalDue, "other")));
    let (_, complete) = secret("other", &[HOST, WEST], &[12 * HOUR]);
    assert_eq!(step(&complete, refs(&["ecr-pull", "other"])), change(&[]));
    assert_eq!(
        deleted(&step(&complete, refs(&["other"]))).map(|(_, name, ..)| name.to_owned()),
        Some("ecr-pull".into())
    );
}

/// N18: after an edit, an entry is kept whose expiry is not known any more.
#[test]
fn an_entry_of_unknown_expiry_may_be_live() {
    let mut old = secret("ecr-pull", &[HOST, WEST], &[12 * HOUR]);
    let mut applied = (**old.1.applied.as_ref().expect("a record")).clone();
    applied.entries[1].as_mut().expect("an entry").expires_at = None;
    old.1.applied = Some(Arc::new(applied));
    let step = next(&renamed(&[HOST, WEST]), &[old, partial(&[HOST, WEST])], at(HOUR));
    assert_eq!(written(&step), Some((WriteReason::RenewalDue, "other")));
}

/// N18: the times of a Secret are those of the entry that expires first.
#[test]
fn a_secret_is_kept_until_its_last_entry_has_expired() {
    let old = secret("ecr-pull", &[HOST, WEST], &[12 * HOUR, 16 * HOUR]);
    let (name, mut new) = partial(&[HOST, WEST]);
    new.times = Some(Times { expires_at: wall(24 * HOUR), refresh_after: wall(18 * HOUR) });
    let secrets = [old, (name, new)];
    for (hour, is_deleted) in [(12, false), (15, false), (16, true)] {
        let step = next(&renamed(&[HOST, WEST]), &secrets, at(hour * HOUR));
        assert_eq!(deletes(&step), is_deleted, "at {hour} h: {step:?}");
    }
}

/// N33: while the clock of the leader is ahead, live entries have expired by it.
#[test]
fn an_entry_that_has_expired_only_by_a_wrong_clock_is_not_lost() {
    let old = secret("ecr-pull", &[HOST, WEST], &[12 * HOUR]);
    let (name, mut new) = partial(&[HOST, WEST]);
    new.times = Some(Times { expires_at: wall(24 * HOUR), refresh_after: wall(18 * HOUR) });
    let secrets = [old, (name, new)];
    for (skew, is_deleted) in [(None, false), (Some(-10), false), (Some(0), true), (Some(10), true)] {
        let now = skewed(at(13 * HOUR), skew);
        let step = next(&renamed(&[HOST, WEST]), &secrets, now);
        assert_eq!(deletes(&step), is_deleted, "{skew:?}: {step:?}");
    }
}

/// N34: a new leader has an older token, and the region fails.
#[test]
fn a_secret_is_kept_if_the_new_one_ends_soon_and_sooner() {
    let old = secret("ecr-pull", &[HOST], &[12 * HOUR]);
    for (hours, hour, is_deleted) in [(11, 7, true), (11, 9, false), (12, 10, true), (13, 11, true)] {
        let (name, mut new) = secret("other", &[HOST], &[hours * HOUR]);
        new.times = Some(Times { expires_at: wall(hours * HOUR), refresh_after: wall(6 * HOUR) });
        let step = next(&renamed(&[HOST]), &[old.clone(), (name, new)], at(hour * HOUR));
        assert_eq!(deleted(&step).is_some(), is_deleted, "{hours}, {hour}: {step:?}");
    }
    let (name, mut other_scope) = old;
    let mut applied = (**other_scope.applied.as_ref().expect("a record")).clone();
    applied.entries[0].as_mut().expect("an entry").scope = ScopeFingerprint(1);
    other_scope.applied = Some(Arc::new(applied));
    let (new_name, mut new) = secret("other", &[HOST], &[11 * HOUR]);
    new.times = Some(Times { expires_at: wall(11 * HOUR), refresh_after: wall(6 * HOUR) });
    let step = next(&renamed(&[HOST]), &[(name, other_scope), (new_name, new)], at(9 * HOUR));
    assert!(deleted(&step).is_some(), "the old token may not be granted any more: {step:?}");
}

/// N18: the region of `default` fails, so its host is not known.
#[test]
fn an_entry_that_was_requested_by_its_host_may_be_that_of_default() {
    let old = secret("ecr-pull", &[HOST, WEST], &[12 * HOUR]);
    let asks = Request { secret_name: "other".into(), ..request_for(vec![target(WEST), Target::Default]) };
    let mut applied = applied(&asks, &[12 * HOUR]);
    let default = asks.registries.iter().position(|target| *target == Target::Default).expect("requested");
    applied.entries[default] = None;
    let new = ("other".into(), observed_with(applied));
    let step = next(&parsed(asks), &[old, new], at(HOUR));
    assert_eq!(written(&step), Some((WriteReason::RenewalDue, "other")));
}

/// N23: an adoption waits for every token, and the old Secret has the only entries meanwhile.
#[test]
fn the_old_secret_is_renewed_while_an_adoption_waits_for_tokens() {
    let (_, old) = secret("ecr-pull", &[HOST, WEST], &[12 * HOUR]);
    let foreign = Observed {
        owner: Owner::Adoptable,
        is_applied: false,
        intact: false,
        data_intact: false,
        times: None,
        applied: None,
        ..old.clone()
    };
    for times in [old.times, None] {
        let secrets =
            [("ecr-pull".into(), Observed { times, ..old.clone() }), ("other".into(), foreign.clone())];
        let Step::Write(write) = next(&renamed(&[HOST, WEST]), &secrets, at(6 * HOUR)) else {
            panic!("no write")
        };
        assert_eq!((write.reason, &*write.granted.request.secret_name), (WriteReason::Adopted, "other"));
        let second = write.otherwise.expect("the renewal of the old one");
        assert_eq!(written(&second), Some((WriteReason::RenewalDue, "ecr-pull")));
    }
}

/// N25: the renewal of the old Secret waits for a token, and the new one for the backoff of repairs.
#[test]
fn a_step_that_waits_for_tokens_does_not_delay_another_one_that_may_start_sooner() {
    let old = secret("ecr-pull", &[HOST], &[12 * HOUR]);
    let retry = RetryState { repairs: 5, repaired_at: Some(wall(6 * HOUR)), ..RetryState::default() };
    let history = History { due: Some(wall(6 * HOUR)), retry: retry.into(), ..History::default() };
    let step = decide(Some(&renamed(&[HOST])), &[old], &history, at(6 * HOUR)).step;
    assert_eq!(written(&step), Some((WriteReason::RenewalDue, "ecr-pull")));
    let Step::Write(write) = step else { panic!("{step:?}") };
    assert!(write.again_at.is_some_and(|at| at > wall(6 * HOUR) && at < wall(7 * HOUR)), "{write:?}");
}

/// N39: a deletion that is refused each time, as without the permission.
#[test]
fn while_the_deletion_of_the_old_secret_fails_the_new_one_is_renewed_first() {
    let secrets = [secret("ecr-pull", &[HOST], &[12 * HOUR]), secret("other", &[HOST], &[12 * HOUR])];
    let step = |failures, now| {
        let removals = RetryState { failures, retry_at: Some(wall(HOUR)), ..RetryState::default() };
        let history = History { removals: removals.into(), ..History::default() };
        decide(Some(&renamed(&[HOST])), &secrets, &history, now).step
    };
    assert!(deleted(&step(0, at(7 * HOUR))).is_some(), "a renewal can wait for a deletion");
    for (failures, second) in [(8, 7 * HOUR), (0, 12 * HOUR - 60), (8, 12 * HOUR - 60)] {
        let step = step(failures, at(second));
        assert_eq!(
            written(&step),
            Some((WriteReason::RenewalDue, "other")),
            "{failures} failures, {second} s"
        );
        let Step::Write(write) = step else { panic!("{step:?}") };
        assert!(deleted(write.otherwise.as_deref().expect("the deletion")).is_some());
    }
}

/// N39: there is always another service account to try, so their failures must not delay the Secret.
#[test]
fn while_changes_of_service_accounts_fail_the_secret_is_renewed_or_deleted_first() {
    let request = Request { service_accounts: vec!["*".into()], ..request(&[HOST]) };
    let secrets = only(&observed_with(applied(&request, &[12 * HOUR])));
    let asks = parsed(request);
    let step = |parsed: Option<&ParsedAnnotations>, failures: u32, attached: &[&str], now| {
        let attached: Vec<Arc<str>> = attached.iter().map(|name| (*name).into()).collect();
        let refs = PullSecretRefs { resource_version: 1, references: attached.clone(), attached };
        let service_accounts = [("default".into(), refs.clone()), ("other".into(), refs)];
        let mut history = History::default();
        if failures > 0 {
            let retry = RetryState { failures, retry_at: Some(wall(20 * HOUR)), ..RetryState::default() };
            history.change_service_account(&"default".into(), |failed| *failed = retry);
        }
        let facts =
            Facts { parsed, secrets: &secrets, service_accounts: &service_accounts, ..facts(&history) };
        plan(&facts, &settings(), now).step
    };
    let account = |step: &Step| match step {
        Step::SetPullSecret(change) => Some(change.service_account.to_string()),
        _ => None,
    };
    assert_eq!(account(&step(Some(&asks), 0, &[], at(7 * HOUR))), Some("default".into()));
    for (failures, second) in [(1, 7 * HOUR), (0, 12 * HOUR - 60), (1, 13 * HOUR)] {
        let step = step(Some(&asks), failures, &[], at(second));
        assert_eq!(written(&step).map(|(reason, _)| reason), Some(WriteReason::RenewalDue), "{second} s");
        let Step::Write(write) = step else { panic!("{step:?}") };
        assert!(account(write.otherwise.as_deref().expect("the other service account")).is_some());
    }
    assert_eq!(account(&step(None, 0, &["ecr-pull"], at(HOUR))), Some("default".into()));
    assert!(deleted(&step(None, 1, &["ecr-pull"], at(HOUR))).is_some(), "the namespace opted out");
}

/// N53: the data of the new one are not those of its record.
#[test]
fn an_immutable_secret_that_another_client_filled_replaces_no_other_one() {
    let new = Observed {
        mutability: Mutability::Immutable,
        intact: false,
        data_intact: false,
        ..secret("other", &[HOST, WEST], &[12 * HOUR]).1
    };
    let secrets = [secret("ecr-pull", &[HOST, WEST], &[12 * HOUR]), ("other".into(), new)];
    let step = next(&renamed(&[HOST, WEST]), &secrets, at(HOUR));
    assert!(
        matches!(&step, Step::Replace(replacement) if &*replacement.deletion.name == "other"),
        "{step:?}"
    );
    assert!(step.alternatives().all(|step| deleted(step).is_none_or(|(_, name, ..)| name != "ecr-pull")));
}

/// The reply to the change was lost, so it counts as failed.
#[test]
fn a_service_account_that_needs_no_change_any_more_does_not_count_as_failing() {
    let secrets = only(&observed(&request(&[HOST])));
    let refs = |names: &[&str]| {
        let names: Vec<Arc<str>> = names.iter().map(|name| (*name).into()).collect();
        PullSecretRefs { resource_version: 1, references: names.clone(), attached: names }
    };
    let service_accounts = [("default".into(), refs(&[])), ("other".into(), refs(&["ecr-pull"]))];
    let mut history = History::default();
    history.change_service_account(&"default".into(), |retry| retry.failures = 1);
    let facts = Facts { secrets: &secrets, service_accounts: &service_accounts, ..facts(&history) };
    let step = plan(&facts, &settings(), at(HOUR)).step;
    assert!(matches!(&step, Step::SetPullSecret(change) if &*change.service_account == "other"), "{step:?}");
}

/// N64: any client can raise the version of a Secret.
#[test]
fn while_the_annotations_are_invalid_a_label_on_the_old_secret_changes_nothing() {
    let mut secrets =
        [secret("ecr-pull", &[HOST, WEST], &[12 * HOUR]), secret("other", &[HOST], &[13 * HOUR])];
    (secrets[0].1.resource_version, secrets[1].1.resource_version) = (13, 12);
    assert_eq!(written(&next(&invalid(), &secrets, at(7 * HOUR))), Some((WriteReason::RenewalDue, "other")));
    // The role of the old request is not granted any more.
    secrets.swap(0, 1);
    let mut old = (**secrets[1].1.applied.as_ref().expect("a record")).clone();
    old.request.role = vec!["revoked".into()];
    secrets[1].1.applied = Some(Arc::new(old));
    assert!(!deletes(&next(&invalid(), &secrets, at(2 * HOUR))));
}

/// N65: a finalizer holds the first one.
#[test]
fn each_former_secret_is_renewed_while_the_new_one_cannot_be_created() {
    let mut three = settings();
    three.names.secret_names.push("third".into());
    let mut first = secret("ecr-pull", &[WEST], &[12 * HOUR]);
    first.1.is_deleting = true;
    let second = secret("other", &[HOST], &[12 * HOUR]);
    let asks = parsed(Request { secret_name: "third".into(), ..request(&[WEST]) });
    let step = decide_with(&three, Some(&asks), &[first, second], &History::default(), at(7 * HOUR)).step;
    assert!(
        step.alternatives().any(|step| written(step).is_some_and(|(_, name)| name == "other")),
        "{step:?}"
    );
}

/// N65: it is not gone yet, and pods use it.
#[test]
fn a_former_secret_that_a_finalizer_holds_is_renewed_while_the_new_one_cannot_be_created() {
    let mut old = secret("ecr-pull", &[HOST], &[12 * HOUR]);
    old.1.is_deleting = true;
    let step = next(&parsed(named("other")), &[old], at(7 * HOUR));
    let renews = |step| written(step) == Some((WriteReason::RenewalDue, "ecr-pull"));
    assert!(step.alternatives().any(renews), "{step:?}");
}

/// N66: without the permission, the list never ends.
#[test]
fn without_the_list_of_service_accounts_an_expired_former_secret_is_deleted_and_a_live_one_reported() {
    let (old, mut new) = (secret("ecr-pull", &[HOST], &[12 * HOUR]), secret("other", &[HOST], &[14 * HOUR]));
    new.1.times = Some(Times { expires_at: wall(14 * HOUR), refresh_after: wall(13 * HOUR) });
    let (parsed, history) = (parsed(named("other")), History::default());
    let secrets = [old, new];
    let unlisted = Facts {
        parsed: Some(&parsed),
        secrets: &secrets,
        known_accounts: KnownAccounts::Unlisted,
        ..facts(&history)
    };
    let live = plan(&unlisted, &settings(), at(3 * HOUR));
    let is_reported = |problem: &Problem| problem.message.contains("may refer to secret \"ecr-pull\"");
    assert!(!deletes(&live.step) && live.problems.iter().any(is_reported), "{live:?}");
    let expired = plan(&unlisted, &settings(), at(12 * HOUR));
    assert!(deletes(&expired.step) && expired.problems.is_empty(), "{expired:?}");
}
