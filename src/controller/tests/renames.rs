//! Another `secret-name`, while tokens or writes fail. The old Secret is kept and renewed until the new one serves as well.

use std::time::Duration;

use jiff::SignedDuration;

use super::world::{Reply, World};
use crate::controller::error::RequestError;
use crate::core::plan::PullSecretRefs;
use crate::core::request::Request;
use crate::core::secret::TokenErrorKind;
use crate::core::testing::{HOST, request};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const NAMESPACE: &str = "team-a";
const WEST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

fn named(name: &str, hosts: &[&str]) -> Request {
    Request { secret_name: name.into(), ..request(hosts) }
}

/// A namespace whose Secret `ecr-pull` has these registries, and a controller that has just started.
fn world(hosts: &[&str]) -> World {
    let mut world = World::new();
    let first = world.start("first");
    world.annotate(NAMESPACE, request(hosts));
    world.run(SignedDuration::from_secs(10), SECOND, |_| {});
    world.kill(first);
    world.start("second");
    world.run(SignedDuration::from_mins(1), SECOND, |_| {});
    world
}

fn denies(world: &mut World, region: &str) {
    world.replies.insert(region.to_owned(), Reply::Error(TokenErrorKind::AccessDenied));
}

#[test]
fn the_old_secret_stays_as_long_as_it_has_a_live_entry_that_the_new_one_lacks() {
    let mut world = world(&[HOST, WEST]);
    denies(&mut world, "eu-west-1");
    world.annotate(NAMESPACE, named("other", &[HOST, WEST]));
    world.run(SignedDuration::from_hours(11), MINUTE, |world| {
        assert!(world.secret(NAMESPACE, "ecr-pull").is_some(), "{}: its entry is live", world.now.wall);
    });
    assert!(world.is_valid(NAMESPACE, "other"));
    world.run(SignedDuration::from_hours(2), MINUTE, |_| {});
    assert!(world.secret(NAMESPACE, "ecr-pull").is_none(), "no entry of it is live");
}

/// N66: without their list, service accounts may refer to it.
#[test]
fn the_old_secret_stays_until_the_service_accounts_are_listed() {
    let accounts = |name| Request { service_accounts: vec!["*".into()], ..named(name, &[HOST]) };
    let mut world = World::new();
    let refs = PullSecretRefs { resource_version: 0, references: vec![], attached: vec![] };
    world.set_service_account(NAMESPACE, "default", refs);
    world.annotate(NAMESPACE, accounts("ecr-pull"));
    world.start("first");
    world.run(SignedDuration::from_secs(10), SECOND, |_| {});
    world.kill_all();
    world.annotate(NAMESPACE, accounts("other"));
    world.accounts_unavailable = true;
    let second = world.start("second");
    world.run(SignedDuration::from_mins(5), SECOND, |_| {});
    assert!(world.is_valid(NAMESPACE, "other") && world.secret(NAMESPACE, "ecr-pull").is_some());
    let referred = |world: &World| world.service_accounts.values().next().expect("one").references.clone();
    assert_eq!(referred(&world), ["ecr-pull".into()]);
    world.accounts_unavailable = false;
    world.list_accounts(second);
    world.run(SignedDuration::from_mins(5), SECOND, |_| {});
    assert_eq!(referred(&world), ["other".into()]);
    assert!(world.secret(NAMESPACE, "ecr-pull").is_none());
}

/// Found by the simulation (N18): the record of an edited Secret is not that of its data.
#[test]
fn an_edited_secret_under_the_old_name_stays_until_the_new_one_has_every_entry() {
    let mut world = World::new();
    let first = world.start("first");
    world.annotate(NAMESPACE, request(&[HOST, WEST]));
    world.run(SignedDuration::from_secs(10), SECOND, |_| {});
    world.kill(first);
    world.edit(NAMESPACE, "ecr-pull", |secret| {
        (secret.intact, secret.times, secret.applied) = (false, None, None);
    });
    denies(&mut world, "eu-west-1");
    world.annotate(NAMESPACE, named("other", &[HOST, WEST]));
    world.start("second");
    world.run(SignedDuration::from_hours(1), MINUTE, |world| {
        assert!(world.secret(NAMESPACE, "ecr-pull").is_some(), "deleted at {}", world.now.wall);
    });
    assert!(world.is_valid(NAMESPACE, "other"));
    world.replies.clear();
    world.run(SignedDuration::from_mins(15), MINUTE, |_| {});
    assert!(world.secret(NAMESPACE, "ecr-pull").is_none());
}

#[test]
fn the_old_secret_goes_at_once_when_the_new_one_has_each_of_its_entries() {
    let mut world = world(&[HOST, WEST]);
    denies(&mut world, "eu-west-1");
    world.annotate(NAMESPACE, named("other", &[HOST]));
    world.run(SignedDuration::from_mins(1), SECOND, |_| {});
    assert!(world.is_valid(NAMESPACE, "other") && world.secret(NAMESPACE, "ecr-pull").is_none());
}

#[test]
fn the_old_secret_is_renewed_while_there_is_no_token_for_the_new_one() {
    let mut world = world(&[HOST]);
    denies(&mut world, "eu-west-1");
    world.annotate(NAMESPACE, named("other", &[WEST]));
    world.run(SignedDuration::from_hours(48), MINUTE, |world| {
        assert!(world.is_valid(NAMESPACE, "ecr-pull"), "expired at {}", world.now.wall);
    });
    let calls = world.calls_to("eu-central-1");
    assert!((6..=12).contains(&calls), "{calls} calls in 48 hours");
    world.replies.clear();
    world.run(SignedDuration::from_mins(2), SECOND, |_| {});
    assert!(world.is_valid(NAMESPACE, "other") && world.secret(NAMESPACE, "ecr-pull").is_none());
}

/// One refused creation must not make the controller wait for a token that only the old Secret needs.
#[test]
fn the_new_secret_is_tried_again_although_there_is_no_token_for_the_old_one() {
    let mut world = world(&[HOST]);
    denies(&mut world, "eu-central-1");
    world.run(SignedDuration::from_hours(8), MINUTE, |_| {});
    world.creations_fail = Some(RequestError::unavailable("overloaded"));
    world.annotate(NAMESPACE, named("other", &[WEST]));
    world.run(SignedDuration::from_secs(30), SECOND, |_| {});
    world.creations_fail = None;
    world.run(SignedDuration::from_mins(3), SECOND, |_| {});
    assert!(world.is_valid(NAMESPACE, "other"));
}
