//! The whole lifecycle of a namespace.

use std::time::Duration;

use jiff::SignedDuration;

use super::world::{Reply, World};
use crate::controller::tell::Tell;
use crate::core::EventReason;
use crate::core::plan::{DeleteReason, WriteReason};
use crate::core::request::annotations::{OptIn, ParsedAnnotations, REGISTRIES};
use crate::core::request::{Problem, Request, Target};
use crate::core::testing::{HOST, request, request_for, settings};

const LONG: Duration = Duration::from_mins(10);
const SECOND: Duration = Duration::from_secs(1);
const NAMESPACE: &str = "team-a";

fn reasons(world: &World) -> Vec<WriteReason> {
    let reason = |tell: &Tell| match tell {
        Tell::SecretWritten { reason, .. } => Some(*reason),
        _ => None,
    };
    world.tells.iter().filter_map(reason).collect()
}

fn deletions(world: &World) -> Vec<DeleteReason> {
    let reason = |tell: &Tell| match tell {
        Tell::SecretDeleted { reason, .. } => Some(*reason),
        _ => None,
    };
    world.tells.iter().filter_map(reason).collect()
}

/// A standby does not plan, so it cannot tell whether a person must act.
#[test]
fn a_blocked_namespace_is_pending_on_no_replica() {
    let mut world = World::new();
    world.start("first");
    world.start("second");
    let problem = Problem::invalid(REGISTRIES, "not a registry");
    let invalid = ParsedAnnotations { opt_in: OptIn::Invalid, renew: None, problems: vec![problem] };
    world.set_annotations(NAMESPACE, invalid);
    world.run(SignedDuration::from_mins(1), SECOND, |_| {});
    let counts: Vec<_> = world
        .tells
        .iter()
        .filter_map(|tell| match tell {
            Tell::Counted(counted) => {
                Some((counted.namespaces.pending, counted.namespaces.blocked, counted.in_sync_at))
            }
            _ => None,
        })
        .collect();
    let of = |blocked| {
        counts
            .iter()
            .filter(move |(_, count, in_sync)| *count == blocked && in_sync.is_some() == (blocked == 1))
    };
    assert!(of(1).count() > 5 && of(0).count() > 5, "the leader and the standby: {counts:?}");
    assert!(counts.iter().all(|(pending, ..)| *pending == 0), "{counts:?}");
}

#[test]
fn opt_in_a_month_of_renewals_edit_failover_rename_and_opt_out() {
    let mut world = World::new();
    let first = world.start("first");
    world.start("second");

    world.annotate(NAMESPACE, request(&[HOST]));
    world.run(SignedDuration::from_secs(1), SECOND, |_| {});
    assert_eq!(reasons(&world), [WriteReason::Missing]);
    let uid = world.secret(NAMESPACE, "ecr-pull").expect("a secret").uid.clone();

    world.run(SignedDuration::from_hours(30 * 24), LONG, |world| {
        assert!(world.is_valid(NAMESPACE, "ecr-pull"), "expired at {}", world.now.wall);
    });
    // A Secret is due between 0.5 and 0.6 of 12 hours: 100 to 120 times in 30 days.
    let renewals = reasons(&world).len() - 1;
    assert!((100..=120).contains(&renewals), "{renewals} renewals");
    assert!(reasons(&world)[1..].iter().all(|reason| *reason == WriteReason::RenewalDue));
    assert!(world.calls.len() <= renewals + 1, "{} calls to AWS", world.calls.len());

    world.edit(NAMESPACE, "ecr-pull", |observed| observed.intact = false);
    world.run(SignedDuration::from_secs(1), SECOND, |_| {});
    assert_eq!(reasons(&world).last(), Some(&WriteReason::FieldsTakenOver));
    assert!(world.secret(NAMESPACE, "ecr-pull").is_some_and(|secret| secret.intact && secret.uid == uid));

    let (writes, calls) = (world.writes.len(), world.calls.len());
    world.kill(first);
    world.run(SignedDuration::from_secs(10), SECOND, |_| {});
    assert_eq!(world.writes.len(), writes, "the new leader writes no fresh secret");
    world.run(SignedDuration::from_hours(24), LONG, |world| {
        assert!(world.is_valid(NAMESPACE, "ecr-pull"), "expired after the failover");
    });
    assert!(world.writes.len() > writes && world.calls.len() > calls, "the second controller renews");
    assert!(world.secret(NAMESPACE, "ecr-pull").is_some_and(|secret| secret.uid == uid), "the same object");

    world.annotate(NAMESPACE, Request { secret_name: "other".into(), ..request(&[HOST]) });
    world.run(SignedDuration::from_secs(3), SECOND, |world| {
        let valid = ["ecr-pull", "other"].map(|name| world.is_valid(NAMESPACE, name));
        assert!(valid.contains(&true), "no valid secret during the rename");
    });
    assert!(world.is_valid(NAMESPACE, "other") && world.secret(NAMESPACE, "ecr-pull").is_none());
    assert_eq!(deletions(&world), [DeleteReason::Renamed]);

    world.opt_out(NAMESPACE);
    world.run(SignedDuration::from_secs(3), SECOND, |_| {});
    assert!(world.secrets.is_empty());
    assert_eq!(deletions(&world), [DeleteReason::Renamed, DeleteReason::OptedOut]);
    let (writes, calls) = (world.writes.len(), world.calls.len());
    world.run(SignedDuration::from_hours(24), LONG, |_| {});
    assert_eq!((world.writes.len(), world.calls.len()), (writes, calls), "then nothing is done");
}

#[test]
fn a_rename_leaves_no_moment_without_a_valid_secret() {
    let mut world = World::new();
    world.start("one");
    world.annotate(NAMESPACE, request(&[HOST]));
    world.run(SignedDuration::from_secs(1), SECOND, |_| {});
    for name in ["other", "ecr-pull", "other"] {
        world.annotate(NAMESPACE, Request { secret_name: name.into(), ..request(&[HOST]) });
        world.run(SignedDuration::from_secs(3), Duration::from_millis(20), |world| {
            let valid = ["ecr-pull", "other"].map(|name| world.is_valid(NAMESPACE, name));
            assert!(valid.contains(&true), "no valid secret at {}", world.now.wall);
        });
        assert_eq!(world.secrets.len(), 1, "the old one is deleted");
        assert!(world.is_valid(NAMESPACE, name));
    }
}

#[test]
fn two_hundred_namespaces_share_one_token_and_are_written_once_each() {
    let mut world = World::new();
    world.start("one");
    for n in 0..200 {
        world.annotate(&format!("team-{n}"), request(&[HOST]));
    }
    world.run(SignedDuration::from_secs(5), SECOND, |_| {});
    assert_eq!((world.secrets.len(), world.writes.len(), world.calls.len()), (200, 200, 1));
}

#[test]
fn after_a_restart_fresh_tokens_and_secrets_are_neither_fetched_nor_written() {
    let mut world = World::new();
    let first = world.start("first");
    for n in 0..20 {
        world.annotate(&format!("team-{n}"), request(&[HOST]));
    }
    world.run(SignedDuration::from_secs(5), SECOND, |_| {});
    world.kill(first);
    world.start("second");
    world.run(SignedDuration::from_hours(5), LONG, |_| {});
    assert_eq!((world.writes.len(), world.calls.len()), (20, 1));
}

#[test]
fn a_deleted_secret_is_recreated_unless_the_namespace_opted_out() {
    let mut world = World::new();
    world.start("one");
    world.annotate(NAMESPACE, request(&[HOST]));
    world.run(SignedDuration::from_secs(1), SECOND, |_| {});
    world.delete(NAMESPACE, "ecr-pull");
    world.run(SignedDuration::from_secs(2), SECOND, |_| {});
    assert_eq!(reasons(&world), [WriteReason::Missing, WriteReason::Missing]);
    world.opt_out(NAMESPACE);
    world.run(SignedDuration::from_secs(2), SECOND, |_| {});
    assert!(world.secrets.is_empty());
}

#[test]
fn after_a_change_of_the_region_default_is_the_registry_of_the_new_one_at_once() {
    let mut world = World::new();
    let first = world.start("first");
    world.annotate(NAMESPACE, request_for(vec![Target::Default]));
    world.run(SignedDuration::from_secs(10), SECOND, |_| {});
    let region = |world: &World| {
        let observed = world.secret(NAMESPACE, "ecr-pull").expect("a secret");
        let applied = observed.applied.as_ref().expect("a record");
        applied.entry(&Target::Default).and_then(|entry| entry.host.region()).map(ToString::to_string)
    };
    assert_eq!(region(&world).as_deref(), Some("eu-central-1"));

    world.kill(first);
    let corrected = Some("eu-west-1".parse().expect("a region"));
    let mut changed = settings();
    changed.region.clone_from(&corrected);
    changed.grants.default_region = corrected;
    world.settings = changed.into();
    // Until there is a token of the new region, the Secret keeps the entry of the old one.
    world.replies.insert("eu-west-1".to_owned(), Reply::Hang);
    let second = world.start("second");
    world.run(SignedDuration::from_secs(30), SECOND, |world| assert!(world.is_valid(NAMESPACE, "ecr-pull")));
    assert_eq!(region(&world).as_deref(), Some("eu-central-1"));
    assert_eq!(reasons(&world), [WriteReason::Missing]);

    world.kill(second);
    world.replies.clear();
    let third = world.start("third");
    world.run(SignedDuration::from_secs(10), SECOND, |world| assert!(world.is_valid(NAMESPACE, "ecr-pull")));
    assert_eq!(region(&world).as_deref(), Some("eu-west-1"));
    assert_eq!(reasons(&world), [WriteReason::Missing, WriteReason::RenewalDue]);
    world.kill(third);
    world.start("fourth");
    world.run(SignedDuration::from_hours(1), SECOND, |_| {});
    assert_eq!(reasons(&world).len(), 2, "no further write");
}

/// N59: the API server deletes an Event that was not updated for an hour.
#[test]
fn a_lasting_problem_is_reported_at_least_every_ten_minutes() {
    let mut world = World::new();
    world.start("one");
    world.set_annotations(
        "team-a",
        ParsedAnnotations {
            opt_in: OptIn::Invalid,
            renew: None,
            problems: vec![Problem::invalid("registries", "nonsense")],
        },
    );
    world.run(SignedDuration::from_hours(2), Duration::from_mins(1), |_| {});
    let (all, new) = world.conditions(EventReason::InvalidAnnotation);
    assert!((12..=17).contains(&all) && new == 1, "{all} times, {new} times as a new one");
}

/// N70: nothing is planned for such a namespace.
#[test]
fn a_misspelled_key_is_reported_as_often() {
    let mut world = World::new();
    world.start("one");
    for namespace in ["typo", "corrected"] {
        world.miss_opt_in(namespace);
    }
    world.annotate("corrected", request(&[HOST]));
    world.run(SignedDuration::from_hours(2), Duration::from_mins(1), |_| {});
    let (all, new) = world.conditions(EventReason::InvalidAnnotation);
    assert!((12 + 1..=14).contains(&all) && new == 2, "{all} times, {new} times as a new one");
}

/// N60: the list of the namespaces often ends before this process leads.
#[test]
fn a_misspelled_key_that_was_listed_before_the_process_leads_is_reported_then() {
    let mut world = World::new();
    world.api_available = false;
    world.start("one");
    world.miss_opt_in("typo");
    world.miss_opt_in("corrected");
    world.annotate("corrected", request(&[HOST]));
    world.run(SignedDuration::from_secs(10), Duration::from_secs(1), |_| {});
    assert_eq!(world.conditions(EventReason::InvalidAnnotation), (0, 0));
    world.api_available = true;
    world.run(SignedDuration::from_secs(20), Duration::from_secs(1), |_| {});
    assert_eq!(world.conditions(EventReason::InvalidAnnotation), (1, 1));
}
