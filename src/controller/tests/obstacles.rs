//! Requests of one kind that fail each time do not delay those of another kind.

use std::time::Duration;

use jiff::SignedDuration;

use super::world::{Failing, Reply, World};
use crate::controller::error::RequestError;
use crate::controller::tell::Tell;
use crate::core::plan::PullSecretRefs;
use crate::core::request::Request;
use crate::core::secret::TokenErrorKind;
use crate::core::testing::{HOST, request};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const NAMESPACE: &str = "team-a";

fn named(name: &str) -> Request {
    Request { secret_name: name.into(), ..request(&[HOST]) }
}

fn all_accounts() -> Request {
    Request { service_accounts: vec!["*".into()], ..request(&[HOST]) }
}

fn refs() -> PullSecretRefs {
    PullSecretRefs { resource_version: 0, references: vec![], attached: vec![] }
}

/// A namespace with 20 service accounts, which requests a reference in each.
fn with_accounts() -> World {
    let mut world = World::new();
    for n in 0..20 {
        world.set_service_account(NAMESPACE, &format!("account-{n}"), refs());
    }
    world.annotate(NAMESPACE, all_accounts());
    world
}

fn pass(world: &mut World, seconds: i64) {
    world.run(SignedDuration::from_secs(seconds), SECOND, |_| {});
}

fn aws_fails(world: &mut World) {
    world.replies.insert("eu-central-1".into(), Reply::Error(TokenErrorKind::ServerError));
}

/// A namespace that has the Secret `other` and still has `ecr-pull`, because deletions fail.
fn renamed() -> World {
    let mut world = World::new();
    world.failing.push(Failing::Deletions);
    world.annotate(NAMESPACE, request(&[HOST]));
    world.start("one");
    pass(&mut world, 10);
    world.annotate(NAMESPACE, named("other"));
    pass(&mut world, 10);
    assert!(world.is_valid(NAMESPACE, "other") && world.secret(NAMESPACE, "ecr-pull").is_some());
    world
}

/// N39
#[test]
fn a_secret_does_not_expire_while_the_deletion_of_its_predecessor_fails() {
    let mut world = renamed();
    let mut least = SignedDuration::from_hours(12);
    world.run(SignedDuration::from_hours(30), MINUTE, |world| {
        let times = world.secret(NAMESPACE, "other").and_then(|secret| secret.times).expect("its times");
        least = least.min(world.now.until(times.expires_at));
    });
    assert!(least > SignedDuration::from_hours(4), "renewed {least:?} before its expiry");
}

/// N39: there is always another service account to try.
#[test]
fn a_secret_does_not_expire_and_is_deleted_while_service_accounts_cannot_be_changed() {
    let mut world = with_accounts();
    world.start("one");
    pass(&mut world, 10);
    world.failing.push(Failing::AccountChanges);
    world.write_duration = 10 * SECOND;
    for n in 20..40 {
        world.set_service_account(NAMESPACE, &format!("account-{n}"), refs());
    }
    world.run(SignedDuration::from_hours(13), MINUTE, |world| {
        assert!(world.is_valid(NAMESPACE, "ecr-pull"), "expired at {}", world.now.wall);
    });
    world.opt_out(NAMESPACE);
    pass(&mut world, 60);
    assert!(world.secret(NAMESPACE, "ecr-pull").is_none(), "the namespace opted out");
}

#[test]
fn an_urgent_renewal_without_a_token_does_not_delay_service_accounts_or_the_deletion_of_the_old_secret() {
    let mut world = renamed();
    aws_fails(&mut world);
    world.annotate(NAMESPACE, Request { service_accounts: vec!["*".into()], ..named("other") });
    world.run(SignedDuration::from_mins(11 * 60 + 50), MINUTE, |_| {});
    world.failing.clear();
    world.set_service_account(NAMESPACE, "late", refs());
    pass(&mut world, 70);
    assert!(world.secret(NAMESPACE, "ecr-pull").is_none(), "the deletion is tried again");
    assert!(world.is_valid(NAMESPACE, "other"), "by then it has not expired");
    let late = &world.service_accounts[&(NAMESPACE.into(), "late".into())];
    assert_eq!(late.attached, ["other".into()]);
}

/// N39: a refused write does not delay the deletion either.
#[test]
fn a_predecessor_is_deleted_while_the_update_of_the_secret_is_refused() {
    let mut world = renamed();
    let refusal = RequestError::Forbidden("injected by the test".to_owned());
    world.refusals.insert((NAMESPACE.into(), "other".into()), refusal);
    world.run(SignedDuration::from_hours(8), MINUTE, |_| {});
    world.failing.clear();
    pass(&mut world, 70);
    assert!(world.secret(NAMESPACE, "ecr-pull").is_none());
}

/// N39: the lists take 15 seconds each, and two of them run at once.
#[test]
fn a_renewal_does_not_wait_for_the_list_of_service_accounts_that_is_queued_without_a_token() {
    let west = HOST.replace("eu-central-1", "eu-west-1");
    let requests_accounts = |host: &str| Request { service_accounts: vec!["*".into()], ..request(&[host]) };
    let mut world = World::new();
    let teams: Vec<_> = (0..30).map(|n| format!("team-{n}")).collect();
    world.start("one");
    world.annotate("late", request(&[&west]));
    for team in &teams {
        world.annotate(team, request(&[HOST]));
    }
    pass(&mut world, 10);
    world.replies.insert("eu-west-1".into(), Reply::Error(TokenErrorKind::ServerError));
    world.run(SignedDuration::from_mins(11 * 60 + 40), MINUTE, |_| {});
    world.failing.push(Failing::AccountLists);
    world.write_duration = 15 * SECOND;
    for team in &teams {
        world.annotate(team, requests_accounts(HOST));
    }
    pass(&mut world, 20);
    world.annotate("late", requests_accounts(&west));
    pass(&mut world, 20);
    // The first write fails.
    let key = ("late".into(), "ecr-pull".into());
    let refusal = RequestError::Forbidden("injected by the test".to_owned());
    world.refusals.insert(key.clone(), refusal);
    world.replies.clear();
    let mut seconds = 0;
    while world.refused == 0 {
        pass(&mut world, 1);
        seconds += 1;
        assert!(seconds < 80, "it is not written");
    }
    world.refusals.clear();
    pass(&mut world, 20);
    let times = world.secret("late", "ecr-pull").and_then(|secret| secret.times).expect("its times");
    assert!(world.now.until(times.expires_at) > SignedDuration::from_hours(11), "it was not renewed");
}

/// N57: it tried the first one again when the last one had failed.
#[test]
fn a_single_pass_ends_although_service_accounts_cannot_be_changed() {
    let mut world = with_accounts();
    world.failing.push(Failing::AccountChanges);
    (world.write_duration, world.policy.repeat) = (10 * SECOND, false);
    world.start("sync");
    pass(&mut world, 600);
    assert!(world.is_finished() && world.is_valid(NAMESPACE, "ecr-pull"));
}

/// N39: such a run reported what it would delete, and renewed nothing.
#[test]
fn a_pass_that_deletes_nothing_renews_the_secret_beside_one_that_it_would_delete() {
    let mut world = renamed();
    world.kill_all();
    world.failing.clear();
    world.run(SignedDuration::from_hours(8), MINUTE, |_| {});
    (world.policy.repeat, world.policy.delete) = (false, false);
    let before = world.writes.len();
    world.start("sync");
    pass(&mut world, 10);
    assert_eq!(world.writes.len(), before + 1, "{:?}", world.writes);
    assert!(world.secret(NAMESPACE, "ecr-pull").is_some());
    let told = world.tells.iter().any(|tell| matches!(tell, Tell::WouldDelete { .. }));
    assert!(told, "the deletion is reported");
}

/// N63: the quota of the namespace is used up.
#[test]
fn a_single_pass_renews_the_old_secret_although_the_new_one_cannot_be_created() {
    let mut world = World::new();
    world.annotate(NAMESPACE, request(&[HOST]));
    world.start("one");
    pass(&mut world, 10);
    world.kill_all();
    world.run(SignedDuration::from_hours(8), MINUTE, |_| {});
    world.annotate(NAMESPACE, named("other"));
    world.creations_fail = Some(RequestError::Forbidden("exceeded quota".to_owned()));
    world.policy.repeat = false;
    world.start("sync");
    pass(&mut world, 60);
    let times = world.secret(NAMESPACE, "ecr-pull").and_then(|secret| secret.times).expect("its times");
    assert!(world.is_finished() && world.now.until(times.expires_at) > SignedDuration::from_hours(11));
}

/// N67: the first reply of AWS comes within a second.
#[test]
fn a_single_pass_renews_the_old_secret_although_aws_denies_the_token_of_the_new_one() {
    const WEST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    let mut world = World::new();
    world.annotate(NAMESPACE, request(&[HOST]));
    world.start("one");
    pass(&mut world, 10);
    world.kill_all();
    world.run(SignedDuration::from_hours(8), MINUTE, |_| {});
    world.annotate(NAMESPACE, Request { secret_name: "other".into(), ..request(&[WEST]) });
    world.replies.insert("eu-west-1".into(), Reply::Error(TokenErrorKind::AccessDenied));
    world.policy.repeat = false;
    world.start("sync");
    pass(&mut world, 60);
    let times = world.secret(NAMESPACE, "ecr-pull").and_then(|secret| secret.times).expect("its times");
    assert!(world.is_finished() && world.now.until(times.expires_at) > SignedDuration::from_hours(11));
}

/// N68: the second deletion in a namespace does not repeat the first one.
#[test]
fn a_single_pass_deletes_every_secret_of_a_namespace_that_opted_out() {
    let mut world = renamed();
    world.kill_all();
    world.failing.clear();
    world.opt_out(NAMESPACE);
    world.run(SignedDuration::from_mins(1), SECOND, |_| {});
    world.policy.repeat = false;
    world.start("sync");
    pass(&mut world, 30);
    assert!(world.is_finished() && world.secrets.is_empty(), "{:?}", world.secrets.keys());
}

#[test]
fn deletions_in_a_namespace_that_did_not_opt_in_are_few_however_often_a_client_creates_the_secret() {
    let mut world = World::new();
    world.start("one");
    pass(&mut world, 10);
    for _ in 0..600 {
        if world.secret(NAMESPACE, "ecr-pull").is_none() {
            world.forge(NAMESPACE, "ecr-pull");
        }
        world.run(SignedDuration::from_millis(100), Duration::from_millis(50), |_| {});
    }
    let deleted = world.tells.iter().filter(|tell| matches!(tell, Tell::SecretDeleted { .. })).count();
    assert!((3..=8).contains(&deleted), "{deleted} in a minute");
}
