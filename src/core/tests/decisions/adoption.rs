//! Secrets of other tools: which are adopted, when, and what the messages about the others say.

use super::*;
use crate::core::EventReason;
use crate::core::plan::Obstacle;

fn foreign(owner: Owner) -> Observed {
    let base = observed(&request(&[HOST]));
    Observed {
        owner,
        is_applied: false,
        intact: false,
        data_intact: false,
        times: None,
        applied: None,
        ..base
    }
}

#[test]
fn an_adoptable_secret_is_adopted_only_in_a_namespace_that_opted_in() {
    let secrets = only(&foreign(Owner::Adoptable));
    let plan = decide(Some(&parsed(request(&[HOST]))), &secrets, &History::default(), at(0));
    assert_eq!((written(&plan.step), plan.problems), (Some((WriteReason::Adopted, "ecr-pull")), vec![]));
    let Step::Write(write) = plan.step else { panic!("no write") };
    assert_eq!(write.observed.map(|observed| observed.version()), Some(secrets[0].1.version()));
    let out = ParsedAnnotations { opt_in: OptIn::Out, renew: None, problems: vec![] };
    for parsed in [None, Some(&out), Some(&invalid())] {
        assert_eq!(decide(parsed, &secrets, &History::default(), at(0)).step, Step::Idle(None), "{parsed:?}");
    }
    let other = parsed(named("other"));
    let step = decide(Some(&other), &secrets, &History::default(), at(0)).step;
    assert_eq!(written(&step), Some((WriteReason::Missing, "other")), "the namespace uses another name");
}

/// Only a refused write shows whether `immutable` is true.
#[test]
fn a_secret_that_may_be_immutable_is_tried() {
    let secret = Observed { mutability: Mutability::Unknown, ..foreign(Owner::Adoptable) };
    assert_eq!(
        written(&step_for(&secret, &History::default(), at(0))),
        Some((WriteReason::Adopted, "ecr-pull"))
    );
}

#[test]
fn an_adoption_waits_for_a_token_for_each_registry() {
    let secret = foreign(Owner::Adoptable);
    let write = write_plan(WriteReason::Adopted, &request(&[HOST, PUBLIC]), Some(secret));
    let token = || Some(token(at(0), 12 * HOUR));
    for tokens in [[None, None], [token(), None], [None, token()]] {
        assert!(composed(&write, &tokens, at(0)).is_none(), "the tool may have a live token for the other");
    }
    let draft = composed(&write, &[token(), token()], at(0)).expect("worth writing");
    assert!(!draft.keeps_entries() && set_targets(&draft).len() == 2);
}

/// N62: the tool may have a live token for `default`.
#[test]
fn an_adoption_waits_for_the_region() {
    let asks = parsed(request_for(vec![target(PUBLIC), Target::Default]));
    let secrets = only(&foreign(Owner::Adoptable));
    let plan = decide_with(&nowhere(), Some(&asks), &secrets, &History::default(), at(0));
    assert_eq!(plan.step, Step::Idle(None));
    assert!(plan.problems.iter().any(|problem| problem.reason == EventReason::RegionUnknown));
}

#[test]
fn the_secret_of_a_former_name_is_deleted_after_the_adoption() {
    let mut secrets = only(&foreign(Owner::Adoptable));
    secrets.push(("other".into(), observed(&named("other"))));
    let parsed = parsed(request(&[HOST]));
    let step = decide(Some(&parsed), &secrets, &History::default(), at(0)).step;
    assert_eq!(written(&step), Some((WriteReason::Adopted, "ecr-pull")));
    secrets[0].1 = observed(&request(&[HOST]));
    let step = decide(Some(&parsed), &secrets, &History::default(), at(0)).step;
    assert_eq!(deleted(&step), Some((DeleteReason::Renamed, "other", "uid-1".into(), 7)));
}

/// A tool that still runs may replace the Secret any number of times.
#[test]
fn adopting_again_backs_off_like_a_repair() {
    let secret = foreign(Owner::Adoptable);
    let mut history = History::default();
    history.record_write(WriteReason::Adopted, &"ecr-pull".into(), &observed(&request(&[HOST])), 1, at(0));
    assert_eq!(history.retry.repairs, 0, "the first adoption is not a repair");
    history.record_write(WriteReason::Adopted, &"ecr-pull".into(), &observed(&request(&[HOST])), 2, at(1));
    assert_eq!(history.retry.repairs, 1);
    let Step::Idle(Some(later)) = step_for(&secret, &history, at(1)) else { panic!("no wait") };
    assert!(later > wall(1) && later < wall(3), "{later}");
}

#[test]
fn each_secret_that_is_not_adopted_is_reported_with_the_command_to_run() {
    let delete = "\"kubectl delete secret -n team-a ecr-pull\"";
    for (owner, expected) in [
        (Owner::Unmanaged, ["was not created by this controller", delete, "a rule to adopt"]),
        (Owner::OtherInstance("b".into()), ["belongs to the instance \"b\"", delete, "secret-name"]),
        (Owner::NotAdoptable(Obstacle::Type), ["its type is not", delete, "creates it again"]),
        (Owner::NotAdoptable(Obstacle::Immutable), ["it is immutable", delete, "creates it again"]),
        (
            Owner::NotAdoptable(Obstacle::OwnerReference("ExternalSecret/ecr\n".into())),
            [
                "has the owner \"ExternalSecret/ecr",
                "creationPolicy: Orphan",
                "kubectl patch secret -n team-a ecr-pull --type merge -p {\"metadata\":{\"ownerReferences\":null}}",
            ],
        ),
    ] {
        let secrets = only(&foreign(owner));
        let plan = decide(Some(&parsed(request(&[HOST]))), &secrets, &History::default(), at(0));
        assert_eq!(plan.step, Step::Idle(None));
        let [Problem { reason: EventReason::SecretNotOwned, message, .. }] = &plan.problems[..] else {
            panic!("{:?}", plan.problems)
        };
        assert!(expected.iter().all(|part| message.contains(part)) && !message.contains('\n'), "{message}");
        assert!(message.len() < 1_000, "an Event holds it: {message}");
    }
}
