//! Secrets that another client made immutable, or seems to have made immutable.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use super::world::{Reply, World};
use crate::controller::error::RequestError;
use crate::core::EventReason;
use crate::core::plan::{Mutability, Observed};
use crate::core::secret::TokenErrorKind;
use crate::core::testing::{HOST, request};

const SECOND: Duration = Duration::from_secs(1);
const NAME: &str = "ecr-pull";
const WEST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

/// A Secret with the field `immutable`, an hour after it was written.
fn world() -> World {
    let mut world = World::new();
    world.annotate("team-a", request(&[HOST]));
    world.start("one");
    world.run(SignedDuration::from_hours(1), SECOND, |_| {});
    world.edit("team-a", NAME, |observed| observed.mutability = Mutability::Unknown);
    world
}

#[test]
fn an_immutable_secret_is_tried_once_and_replaced_in_the_last_quarter_of_its_lifetime() {
    let mut world = world();
    let first = make_immutable(&mut world).uid;
    world.run(SignedDuration::from_mins(30), SECOND, |_| {});
    assert_eq!(world.refused, 1);
    world.edit("team-a", NAME, |observed| observed.intact = false);
    world.run(SignedDuration::from_mins(450) - SignedDuration::from_secs(1), SECOND, |world| {
        assert!(world.secret("team-a", NAME).is_some_and(|secret| secret.uid == first), "9 hours");
    });
    assert_eq!((world.refused, world.conditions(EventReason::SecretImmutable).1), (1, 1));
    world.run(SignedDuration::from_mins(1), SECOND, |world| assert!(world.is_valid("team-a", NAME)));
    assert!(world.secret("team-a", NAME).is_some_and(|secret| secret.uid != first));
}

/// A Secret with entries of two regions, and the process that wrote it.
fn two_regions() -> (World, usize) {
    let mut world = World::new();
    world.annotate("team-a", request(&[HOST, WEST]));
    let first = world.start("one");
    world.run(SignedDuration::from_mins(1), SECOND, |_| {});
    (world, first)
}

fn deny_west(world: &mut World) {
    world.replies.insert("eu-west-1".to_owned(), Reply::Error(TokenErrorKind::AccessDenied));
}

/// From now on, the API server refuses writes of this Secret.
fn make_immutable(world: &mut World) -> Observed {
    world.refusals.insert((Arc::from("team-a"), NAME.into()), RequestError::Immutable("is set".into()));
    world.secret("team-a", NAME).expect("it exists").clone()
}

/// The entry of a region that fails is kept until it expires, and the Secret is replaced at that moment.
#[test]
fn a_region_without_a_token_delays_the_replacement_until_its_entry_expires_and_no_longer() {
    let (mut world, node) = two_regions();
    world.kill(node);
    let first = make_immutable(&mut world);
    deny_west(&mut world);
    world.start("two");
    let expires_at = first.times.expect("times").expires_at;
    let left = world.now.until(expires_at) - SignedDuration::from_secs(2);
    world.run(left, Duration::from_mins(1), |world| {
        let uid = world.secret("team-a", NAME).map(|secret| secret.uid.clone());
        assert_eq!(uid, Some(first.uid.clone()), "{}", world.now.wall);
    });
    world.run(SignedDuration::from_secs(4), Duration::from_millis(100), |_| {});
    assert!(world.is_valid("team-a", NAME), "the other region has a token");
    assert!(world.secret("team-a", NAME).is_some_and(|secret| secret.uid != first.uid));
}

/// N24: the token of the region is in the Secret and in the cache, and lives for hours.
#[test]
fn a_region_whose_renewal_fails_does_not_delay_the_replacement_while_its_token_lives() {
    let (mut world, _) = two_regions();
    let first = make_immutable(&mut world).uid;
    deny_west(&mut world);
    world.run(SignedDuration::from_mins(9 * 60 + 5), Duration::from_mins(1), |_| {});
    let secret = world.secret("team-a", NAME).expect("it exists");
    assert!(secret.uid != first && secret.entries().count() == 2, "{secret:?}");
}

/// N19: the last quarter of the lifetime is that of the live entries, hours later.
#[test]
fn an_immutable_secret_with_an_expired_entry_is_replaced_as_soon_as_its_region_returns() {
    let (mut world, _) = two_regions();
    deny_west(&mut world);
    world.run(SignedDuration::from_hours(14), Duration::from_mins(1), |_| {});
    let has_expired_entry = |world: &World| {
        let observed = world.secret("team-a", NAME).expect("it exists");
        observed.entries().any(|entry| entry.expires_at.is_none_or(|at| at <= world.now.wall))
    };
    assert!(has_expired_entry(&world), "the region failed for 14 hours");
    let first = make_immutable(&mut world).uid;
    world.replies.remove("eu-west-1");
    world.run(SignedDuration::from_mins(15), SECOND, |_| {});
    assert_eq!(world.refused, 1);
    assert!(!has_expired_entry(&world), "each region has a token");
    assert!(world.secret("team-a", NAME).is_some_and(|secret| secret.uid != first));
}

/// Metadata show that a client set the field, but not its value.
#[test]
fn a_secret_with_immutable_false_keeps_its_uid() {
    let mut world = world();
    let first = world.secret("team-a", NAME).expect("it exists").uid.clone();
    world.run(SignedDuration::from_hours(24), Duration::from_mins(1), |world| {
        assert!(world.is_valid("team-a", NAME));
    });
    assert!(world.secret("team-a", NAME).is_some_and(|secret| secret.uid == first));
    assert_eq!(world.conditions(EventReason::SecretImmutable), (0, 0));
}

/// N33: the monotonic clock, by which AWS's clock counts on, does not run while the machine is suspended.
#[test]
fn after_a_suspension_the_replacement_is_as_late_as_the_suspension_was_long() {
    let (mut world, _) = two_regions();
    let first = make_immutable(&mut world).uid;
    world.run(SignedDuration::from_hours(8), Duration::from_mins(1), |_| {});
    world.now.wall += SignedDuration::from_mins(10);
    let is_replaced = |world: &World| world.secret("team-a", NAME).is_some_and(|secret| secret.uid != first);
    world.run(SignedDuration::from_mins(57), Duration::from_mins(1), |_| {});
    assert!(!is_replaced(&world));
    world.run(SignedDuration::from_mins(5), Duration::from_mins(1), |_| {});
    assert!(is_replaced(&world));
}
