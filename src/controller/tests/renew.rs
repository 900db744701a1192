//! New tokens on demand: the annotation `renew`.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::world::{Reply, World};
use crate::controller::tell::Tell;
use crate::core::plan::WriteReason;
use crate::core::request::ParsedAnnotations;
use crate::core::secret::TokenErrorKind;
use crate::core::testing::{HOST, parsed, request};
use crate::core::{EventReason, whole_seconds};

const SECOND: Duration = Duration::from_secs(1);
const REGION: &str = "eu-central-1";
const OTHER: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

/// A world with these namespaces, each with a Secret that is an hour old.
fn served(namespaces: &[&str]) -> World {
    let mut world = World::new();
    world.start("one");
    for namespace in namespaces {
        world.annotate(namespace, request(&[HOST]));
    }
    world.run(SignedDuration::from_hours(1), Duration::from_mins(10), |_| {});
    assert_eq!((world.writes.len(), world.calls.len()), (namespaces.len(), 1));
    world
}

/// Asks for tokens that were issued at this time or later, in whole seconds, as an annotation is parsed.
fn renew(world: &mut World, namespace: &str, time: Timestamp) {
    let time = whole_seconds(time);
    let parsed = ParsedAnnotations { renew: Some(time), ..parsed(request(&[HOST])) };
    world.set_annotations(namespace, parsed);
}

fn issued_at(world: &World, namespace: &str) -> Timestamp {
    let applied = world.secret(namespace, "ecr-pull").and_then(|secret| secret.applied.as_ref());
    applied.and_then(|applied| applied.entries[0].as_ref()?.issued_at).expect("an issue time")
}

fn requested(world: &World) -> usize {
    let is_requested =
        |tell: &&Tell| matches!(tell, Tell::SecretWritten { reason: WriteReason::RenewRequested, .. });
    world.tells.iter().filter(is_requested).count()
}

#[test]
fn a_token_that_was_issued_before_the_time_is_replaced_at_once_and_only_in_that_namespace() {
    let mut world = served(&["team-a", "team-b"]);
    let (time, before) = (world.now.wall, issued_at(&world, "team-b"));
    renew(&mut world, "team-a", time);
    world.run(SignedDuration::from_secs(1), SECOND, |_| {});
    assert!(issued_at(&world, "team-a") >= whole_seconds(time));
    assert_eq!((requested(&world), world.calls.len()), (1, 2));
    assert_eq!(world.conditions(EventReason::SecretRenewed), (1, 1));
    world.run(SignedDuration::from_hours(2), Duration::from_mins(10), |_| {});
    assert_eq!((requested(&world), world.calls.len()), (1, 2), "the same time asks for nothing more");
    assert_eq!(issued_at(&world, "team-b"), before, "a fresh token of another namespace stays");
}

/// An attacker with the controller's credential can write any issue time.
#[test]
fn an_issue_time_in_the_future_does_not_satisfy_the_request() {
    for ahead in [SignedDuration::from_secs(50), SignedDuration::from_hours(11)] {
        let mut world = served(&["team-a"]);
        world.kill_all();
        let forged = whole_seconds(world.now.after(ahead));
        world.edit("team-a", "ecr-pull", |secret| {
            let mut applied = (**secret.applied.as_ref().expect("a record")).clone();
            applied.entries[0].as_mut().expect("an entry").issued_at = Some(forged);
            secret.applied = Some(applied.into());
        });
        world.start("two");
        world.run(SignedDuration::from_secs(5), SECOND, |_| {});
        assert_eq!(issued_at(&world, "team-a"), forged, "the edit is not detected");
        let time = world.now.wall;
        renew(&mut world, "team-a", time);
        world.run(SignedDuration::from_secs(5), SECOND, |_| {});
        let issued_at = issued_at(&world, "team-a");
        assert!(whole_seconds(time) <= issued_at && issued_at <= world.now.wall, "{issued_at}");
        assert_eq!(requested(&world), 1);
    }
}

#[test]
fn a_token_that_another_namespace_caused_satisfies_the_request() {
    let mut world = served(&["team-a", "team-b"]);
    let time = world.now.wall;
    renew(&mut world, "team-a", time);
    world.run(SignedDuration::from_mins(1), SECOND, |_| {});
    renew(&mut world, "team-b", time);
    world.run(SignedDuration::from_secs(1), SECOND, |_| {});
    assert_eq!((requested(&world), world.calls.len()), (2, 2));
    assert_eq!(issued_at(&world, "team-a"), issued_at(&world, "team-b"));
}

#[test]
fn a_key_is_fetched_for_requests_once_in_five_minutes_and_a_request_that_comes_too_early_is_served_then() {
    let mut world = served(&["team-a", "team-b"]);
    for turn in 0..59 {
        let time = world.now.wall;
        renew(&mut world, if turn % 2 == 0 { "team-a" } else { "team-b" }, time);
        world.run(SignedDuration::from_secs(10), SECOND, |_| {});
    }
    assert_eq!(world.calls.len(), 3, "at the start, and twice in less than ten minutes");
    let last = world.now.wall;
    renew(&mut world, "team-a", last);
    world.run(SignedDuration::from_mins(5), SECOND, |_| {});
    assert!(issued_at(&world, "team-a") >= whole_seconds(last) && world.calls.len() == 4);
}

#[test]
fn what_one_namespace_requests_is_fetched_once_in_five_minutes_whatever_the_key() {
    let mut world = served(&["team-a", "team-b"]);
    for turn in 0..59 {
        let time = whole_seconds(world.now.wall);
        // Another namespace keeps both keys, so that they stay the same.
        let both = || ParsedAnnotations { renew: None, ..parsed(request(&[HOST, OTHER])) };
        world.set_annotations("team-b", both());
        let host = if turn % 2 == 0 { HOST } else { OTHER };
        world.set_annotations("team-a", ParsedAnnotations { renew: Some(time), ..parsed(request(&[host])) });
        world.run(SignedDuration::from_secs(10), SECOND, |_| {});
    }
    assert_eq!(
        world.calls.len(),
        4,
        "the first token of each key, and two renewals in less than ten minutes"
    );
}

#[test]
fn a_time_ahead_is_awaited_up_to_five_minutes_and_reported_beyond() {
    let mut world = served(&["team-a"]);
    let time = world.now.after(SignedDuration::from_mins(4));
    renew(&mut world, "team-a", time);
    world.run(SignedDuration::from_mins(3), SECOND, |_| {});
    assert_eq!((requested(&world), world.conditions(EventReason::InvalidAnnotation)), (0, (0, 0)));
    world.run(SignedDuration::from_mins(2), SECOND, |_| {});
    assert!(issued_at(&world, "team-a") >= whole_seconds(time) && requested(&world) == 1);
    let far = world.now.after(SignedDuration::from_mins(6));
    renew(&mut world, "team-a", far);
    world.run(SignedDuration::from_mins(1), SECOND, |_| {});
    assert_eq!(requested(&world), 1);
    assert_eq!(world.conditions(EventReason::InvalidAnnotation).1, 1);
}

#[test]
fn a_request_never_delays_an_ordinary_renewal() {
    let mut world = served(&["team-a"]);
    for _ in 0..(14 * 30) {
        let time = world.now.wall;
        renew(&mut world, "team-a", time);
        world.run(SignedDuration::from_mins(2), SECOND, |world| {
            assert!(world.is_valid("team-a", "ecr-pull"), "expired at {}", world.now.wall);
        });
    }
    assert!(world.calls.len() <= 14 * 12 + 3, "{} calls", world.calls.len());
}

#[test]
fn while_aws_fails_a_request_is_retried_with_backoff_and_the_entry_is_kept() {
    let mut world = served(&["team-a"]);
    let (time, before) = (world.now.wall, issued_at(&world, "team-a"));
    world.replies.insert(REGION.into(), Reply::Error(TokenErrorKind::ServerError));
    renew(&mut world, "team-a", time);
    world.run(SignedDuration::from_mins(10), SECOND, |world| {
        assert!(world.is_valid("team-a", "ecr-pull"));
    });
    assert_eq!(issued_at(&world, "team-a"), before);
    assert!((5..20).contains(&world.calls.len()), "{} calls", world.calls.len());
    world.replies.clear();
    world.run(SignedDuration::from_mins(2), SECOND, |_| {});
    assert!(issued_at(&world, "team-a") >= whole_seconds(time));
}

#[test]
fn after_a_restart_a_request_that_was_served_asks_for_nothing() {
    let mut world = served(&["team-a"]);
    let time = world.now.wall;
    renew(&mut world, "team-a", time);
    world.run(SignedDuration::from_secs(5), SECOND, |_| {});
    world.kill(0);
    world.start("two");
    world.run(SignedDuration::from_hours(1), Duration::from_mins(1), |_| {});
    assert_eq!((requested(&world), world.calls.len()), (1, 2));
}

/// A controller that has just started holds no token, so that it fetches one whatever the time.
#[test]
fn after_a_restart_the_first_request_is_served_at_once_and_counts() {
    let mut world = served(&["team-a"]);
    renew_and_restart(&mut world);
    let time = world.now.wall;
    renew(&mut world, "team-a", time);
    world.run(SignedDuration::from_secs(37), SECOND, |_| {});
    assert_eq!((requested(&world), world.calls.len()), (2, 3), "the restart ended the wait");
    let time = world.now.wall;
    renew(&mut world, "team-a", time);
    world.run(SignedDuration::from_mins(4), SECOND, |_| {});
    assert_eq!((requested(&world), world.calls.len()), (2, 3), "the next one waits");
    world.run(SignedDuration::from_mins(1), SECOND, |_| {});
    assert_eq!((requested(&world), world.calls.len()), (3, 4));
}

#[test]
fn after_a_restart_an_ordinary_renewal_delays_no_request() {
    let mut world = served(&["team-a"]);
    renew_and_restart(&mut world);
    let before = world.calls.len();
    while world.calls.len() == before {
        world.run(SignedDuration::from_mins(1), SECOND, |_| {});
    }
    let time = world.now.wall;
    renew(&mut world, "team-a", time);
    world.run(SignedDuration::from_secs(5), SECOND, |_| {});
    assert_eq!((requested(&world), world.calls.len()), (2, before + 2));
}

/// Serves one request, then replaces the controller, and waits for the Lease.
fn renew_and_restart(world: &mut World) {
    let time = world.now.wall;
    renew(world, "team-a", time);
    world.run(SignedDuration::from_secs(5), SECOND, |_| {});
    world.kill_all();
    world.start("two");
    world.run(SignedDuration::from_secs(30), SECOND, |_| {});
    assert_eq!((requested(world), world.calls.len()), (1, 2));
}
