//! Faults of AWS and of the API server, and clients that revert every change.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use super::world::{Reply, World};
use crate::core::EventReason;
use crate::core::plan::{Observed, PullSecretRefs};
use crate::core::request::Request;
use crate::core::secret::TokenErrorKind;
use crate::core::testing::{HOST, HOUR, request, settings, target};

const MILLIS: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const REGION: &str = "eu-central-1";
const WEST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

fn started() -> World {
    let mut world = World::new();
    world.start("one");
    world.annotate("team-a", request(&[HOST]));
    world.run(SignedDuration::from_secs(1), SECOND, |_| {});
    world
}

#[test]
fn a_failing_endpoint_is_retried_with_backoff_reported_once_and_recovers() {
    for kind in [TokenErrorKind::AccessDenied, TokenErrorKind::Throttled, TokenErrorKind::Timeout] {
        let mut world = started();
        let good = world.secret("team-a", "ecr-pull").cloned();
        world.replies.insert(REGION.into(), Reply::Error(kind));
        world.run(SignedDuration::from_hours(8), MINUTE, |_| {});
        assert_eq!(world.secret("team-a", "ecr-pull").cloned(), good, "the good entry is kept");
        assert!(world.is_valid("team-a", "ecr-pull"));
        let (told, new) = world.conditions(EventReason::TokenFailed);
        assert!(told > 10 && new == 1, "one condition, reported {told} times, {new} times as a new one");
        let before = world.calls.len();
        world.run(SignedDuration::from_secs(600), SECOND, |_| {});
        let calls = world.calls.len() - before;
        assert!((9..=14).contains(&calls), "{calls} calls in 10 minutes");
        world.replies.clear();
        world.run(SignedDuration::from_secs(90), SECOND, |_| {});
        let renewed = world.secret("team-a", "ecr-pull").cloned();
        assert!(renewed != good && renewed.is_some(), "renewed once AWS is back");
    }
}

#[test]
fn tokens_of_one_minute_are_renewed_after_half_their_lifetime_and_never_expire() {
    let mut world = World::new();
    world.replies.insert(REGION.into(), Reply::Token(60));
    world.start("one");
    for n in 0..20 {
        world.annotate(&format!("team-{n}"), request(&[HOST]));
    }
    world.run(SignedDuration::from_secs(1), MILLIS, |_| {});
    world.run(SignedDuration::from_secs(300), MILLIS, |world| {
        for n in 0..20 {
            assert!(world.is_valid(&format!("team-{n}"), "ecr-pull"), "expired at {}", world.now.wall);
        }
    });
    assert!((9..=11).contains(&world.calls.len()), "{} calls in five lifetimes", world.calls.len());
    let created = world.writes.iter().filter(|(.., created)| *created).count();
    assert_eq!(created, 20, "every UID is stable");
}

#[test]
fn one_failing_region_delays_no_other_and_keeps_its_entry() {
    let mut world = World::new();
    world.start("one");
    world.annotate("team-a", request(&[HOST, WEST]));
    world.run(SignedDuration::from_secs(1), SECOND, |_| {});
    world.replies.insert("eu-west-1".into(), Reply::Error(TokenErrorKind::ServerError));
    world.run(SignedDuration::from_hours(30), MINUTE, |_| {});
    let applied = world.secret("team-a", "ecr-pull").and_then(|o| o.applied.clone()).expect("applied");
    let [host, west] =
        [0, 1].map(|n| applied.entries[n].as_ref().and_then(|e| e.expires_at).expect("an entry"));
    assert!(host > world.now.wall, "the healthy entry is renewed");
    assert!(west < world.now.wall, "the failing entry is the last good one");
    assert!(
        world.calls_to(REGION) <= 6 && world.calls_to("eu-west-1") > 100,
        "only the failing one is retried"
    );
    world.replies.clear();
    world.run(SignedDuration::from_secs(120), SECOND, |_| {});
    let applied = world.secret("team-a", "ecr-pull").and_then(|o| o.applied.clone()).expect("applied");
    assert!(applied.entries[1].as_ref().and_then(|e| e.expires_at).expect("an entry") > world.now.wall);
}

#[test]
fn a_hanging_endpoint_delays_a_new_namespace_by_two_seconds() {
    let mut world = World::new();
    world.replies.insert("eu-west-1".into(), Reply::Hang);
    world.start("one");
    world.annotate("team-a", request(&[HOST, WEST]));
    world.run(SignedDuration::from_millis(1_900), MILLIS, |_| {});
    assert!(world.secrets.is_empty(), "it waits for both");
    world.run(SignedDuration::from_millis(500), MILLIS, |_| {});
    assert!(world.is_valid("team-a", "ecr-pull"), "then it is written with the one token");
}

#[test]
fn repairs_of_constant_edits_back_off_and_renewals_still_happen() {
    let mut world = started();
    let writes = world.writes.len();
    world.run(SignedDuration::from_secs(20), Duration::from_millis(50), |_| {});
    assert_eq!(world.writes.len(), writes, "nothing is written without an edit");
    let mut edited = 0;
    for _ in 0..400 {
        if world.secret("team-a", "ecr-pull").is_some_and(|secret| secret.intact) {
            world.edit("team-a", "ecr-pull", |observed| observed.intact = false);
            edited += 1;
        }
        world.run(SignedDuration::from_millis(49), Duration::from_millis(49), |_| {});
    }
    let repairs = world.writes.len() - writes;
    assert!((3..=7).contains(&repairs), "{repairs} repairs in 20 s, after {edited} edits");
    for _ in 0..(24 * 60) {
        if world.secret("team-a", "ecr-pull").is_some_and(|secret| secret.intact) {
            world.edit("team-a", "ecr-pull", |observed| observed.intact = false);
        }
        world.run(SignedDuration::from_secs(60), MINUTE, |world| {
            assert!(world.is_valid("team-a", "ecr-pull"), "expired at {}", world.now.wall);
        });
    }
}

/// The watch reports the edit before the API server refuses the repair.
#[test]
fn a_repair_that_an_edit_overtook_follows_at_once() {
    let mut world = started();
    world.write_duration = SECOND;
    for pause in [900, 1_300] {
        world.edit("team-a", "ecr-pull", |observed| observed.intact = false);
        world.run(SignedDuration::from_millis(pause), MILLIS, |_| {});
    }
    assert!(
        world.secret("team-a", "ecr-pull").is_some_and(|secret| secret.intact),
        "after two writes of 1 s"
    );
}

/// The repairs wrote the old token, so the backoff of the last one began after the renewal was due.
#[test]
fn once_aws_responds_again_the_backoff_of_repairs_delays_no_renewal() {
    let mut world = started();
    let edit = |world: &mut World| {
        if world.secret("team-a", "ecr-pull").is_some_and(|secret| secret.intact) {
            world.edit("team-a", "ecr-pull", |observed| observed.intact = false);
        }
        world.run(SignedDuration::from_secs(20), MINUTE, |_| {});
    };
    world.replies.insert("eu-central-1".into(), Reply::Error(TokenErrorKind::ServerError));
    let expires_at =
        world.secret("team-a", "ecr-pull").and_then(|secret| secret.times).expect("times").expires_at;
    while world.now.until(expires_at) > SignedDuration::from_mins(7) {
        edit(&mut world);
    }
    world.replies.clear();
    for _ in 0..9 {
        edit(&mut world);
    }
    let renewed = world.secret("team-a", "ecr-pull").and_then(|secret| secret.times).expect("times");
    assert!(renewed.expires_at > expires_at, "renewed within 3 minutes");
}

/// With two regions of which one fails, the old entry of that one expires first.
#[test]
fn an_entry_that_expired_is_renewed_unpaced_when_its_region_responds_again() {
    const COUNT: usize = 300;
    let mut settings = settings();
    settings.refresh.writes_per_second = 1;
    let mut world = World::with_settings(settings);
    world.start("one");
    for n in 0..COUNT {
        world.annotate(&format!("team-{n}"), request(&[HOST, WEST]));
    }
    world.run(SignedDuration::from_mins(1), SECOND, |_| {});
    world.replies.insert("eu-west-1".into(), Reply::Error(TokenErrorKind::ServerError));
    world.run(SignedDuration::from_hours(13), MINUTE, |_| {});
    world.replies.clear();
    world.run(SignedDuration::from_secs(90), SECOND, |_| {});
    let target = target(WEST);
    let is_live = |secret: &Observed| {
        let entry = secret.applied.as_ref().and_then(|applied| applied.entry(&target).cloned());
        entry.and_then(|entry| entry.expires_at).is_some_and(|at| at > world.now.wall)
    };
    assert_eq!(world.secrets.values().filter(|secret| is_live(secret)).count(), COUNT);
}

#[test]
fn repairs_of_constant_deletions_back_off() {
    let mut world = started();
    let writes = world.writes.len();
    for _ in 0..400 {
        if world.secret("team-a", "ecr-pull").is_some() {
            world.delete("team-a", "ecr-pull");
        }
        world.run(SignedDuration::from_millis(49), Duration::from_millis(49), |_| {});
    }
    let created = world.writes.len() - writes;
    assert!((3..=7).contains(&created), "created {created} times in 20 s");
}

#[test]
fn repairs_of_a_reference_that_is_constantly_removed_back_off() {
    let mut world = World::new();
    world.start("one");
    let none = || PullSecretRefs { resource_version: 0, references: vec!["theirs".into()], attached: vec![] };
    world.set_service_account("team-a", "default", none());
    let all = Request { service_accounts: vec!["*".into()], ..request(&[HOST]) };
    world.annotate("team-a", all);
    world.run(SignedDuration::from_secs(1), SECOND, |_| {});
    let key: (Arc<str>, Arc<str>) = ("team-a".into(), "default".into());
    let mut attached = 0;
    for _ in 0..1_200 {
        if !world.service_accounts[&key].attached.is_empty() {
            attached += 1;
            world.set_service_account("team-a", "default", none());
        }
        world.run(SignedDuration::from_millis(49), Duration::from_millis(49), |_| {});
    }
    assert!((4..=9).contains(&attached), "attached {attached} times in a minute");
}

#[test]
fn an_outage_of_the_api_server_loses_nothing() {
    let mut world = started();
    world.annotate("team-b", request(&[HOST]));
    world.api_available = false;
    world.run(SignedDuration::from_secs(30), SECOND, |_| {});
    assert!(world.secret("team-b", "ecr-pull").is_none());
    world.opt_out("team-a");
    world.api_available = true;
    world.run(SignedDuration::from_mins(1), SECOND, |_| {});
    assert!(world.is_valid("team-b", "ecr-pull") && world.secret("team-a", "ecr-pull").is_none());
}

#[test]
fn a_leader_that_cannot_renew_the_lease_writes_nothing() {
    let mut world = started();
    world.api_available = false;
    world.run(SignedDuration::from_secs(4), MILLIS, |_| {});
    world.annotate("team-b", request(&[HOST]));
    let told = world.tells.len();
    world.run(SignedDuration::from_secs(60), SECOND, |_| {});
    assert_eq!(world.conditions(EventReason::WriteFailed).0, 0, "it makes no attempt");
    assert!(world.tells.len() >= told);
}

#[test]
fn a_token_that_has_expired_on_arrival_causes_no_hot_loop() {
    let mut world = World::new();
    world.replies.insert(REGION.into(), Reply::Token(-HOUR));
    world.start("one");
    world.annotate("team-a", request(&[HOST]));
    world.run(SignedDuration::from_mins(5), MILLIS, |_| {});
    assert!((4..=10).contains(&world.calls.len()), "{} calls in 5 minutes", world.calls.len());
    assert!(world.writes.len() <= 10, "{} writes", world.writes.len());
}

#[test]
fn while_every_request_hangs_a_due_renewal_does_not_wake_the_loop() {
    let mut world = World::new();
    world.start("one");
    for n in 0..100 {
        world.annotate(&format!("team-{n}"), request(&[HOST]));
    }
    world.run(SignedDuration::from_hours(5), Duration::from_mins(10), |_| {});
    assert_eq!(world.secrets.len(), 100);
    world.api_hangs = true;
    // The run fails if it takes a hundred thousand steps.
    world.run(SignedDuration::from_hours(4), Duration::from_mins(10), |_| {});
    assert_eq!(world.writes.len(), 100, "no request is answered");
}

#[test]
fn a_refused_write_is_repeated_when_the_api_server_demands_it_and_each_minute_at_the_latest() {
    for (demanded, most) in [(Some(30), 20), (Some(3_600), 11)] {
        let mut world = started();
        world.delete("team-a", "ecr-pull");
        world.retry_after = demanded.map(Duration::from_secs);
        world.refused = 0;
        world.run(SignedDuration::from_mins(10), SECOND, |_| {});
        assert!((9..=most).contains(&world.refused), "{} writes in ten minutes", world.refused);
    }
}
