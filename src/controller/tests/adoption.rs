//! Adoption of the Secrets of other tools, which may still write them.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use super::world::World;
use crate::controller::error::RequestError;
use crate::core::EventReason;
use crate::core::testing::{HOST, request};

const SECOND: Duration = Duration::from_secs(1);
const NAME: &str = "ecr-pull";

/// A namespace that opted in, with a Secret of another tool.
fn world() -> World {
    let mut world = World::new();
    world.put_foreign("team-a", NAME, "theirs");
    world.annotate("team-a", request(&[HOST]));
    world
}

fn notices(world: &World, reason: EventReason) -> usize {
    world.conditions(reason).0
}

#[test]
fn a_secret_of_another_tool_is_adopted_in_place_with_one_event() {
    let mut world = world();
    world.start("one");
    world.run(SignedDuration::from_secs(5), SECOND, |_| {});
    let adopted = world.secret("team-a", NAME).expect("it exists");
    assert_eq!((adopted.uid.clone(), world.writes.len()), ("theirs".into(), 1));
    assert!(world.is_valid("team-a", NAME));
    let told = [EventReason::SecretAdopted, EventReason::SecretCreated, EventReason::SecretRepaired];
    assert_eq!(told.map(|reason| notices(&world, reason)), [1, 0, 0]);
    world.run(SignedDuration::from_hours(13), Duration::from_mins(1), |world| {
        assert!(world.is_valid("team-a", NAME));
    });
    assert_eq!(notices(&world, EventReason::SecretAdopted), 1, "then it is renewed as any other");
    world.opt_out("team-a");
    world.run(SignedDuration::from_secs(5), SECOND, |_| {});
    assert!(world.secret("team-a", NAME).is_none());
}

#[test]
fn a_tool_that_replaces_the_secret_all_the_time_causes_few_writes() {
    let mut world = world();
    world.start("one");
    for n in 0..600 {
        world.put_foreign("team-a", NAME, &format!("theirs-{n}"));
        world.run(SignedDuration::from_secs(1), SECOND, |_| {});
    }
    let writes = world.writes.len();
    assert!((5..20).contains(&writes), "{writes} writes in ten minutes");
}

#[test]
fn a_secret_of_another_type_is_tried_once_for_each_version_and_created_when_it_was_deleted() {
    for error in
        [RequestError::OtherType("field is immutable".into()), RequestError::Immutable("is set".into())]
    {
        let mut world = world();
        world.refusals.insert((Arc::from("team-a"), NAME.into()), error.clone());
        world.start("one");
        world.run(SignedDuration::from_hours(1), SECOND, |_| {});
        assert_eq!((world.refused, world.writes.len()), (1, 0), "{error}");
        let (_, reported) = world.conditions(EventReason::SecretNotOwned);
        assert_eq!(reported, 1, "{error}");
        for n in 0..600 {
            world.put_foreign("team-a", NAME, &format!("theirs-{n}"));
            world.run(SignedDuration::from_secs(1), SECOND, |_| {});
        }
        let refused = world.refused;
        assert!((5..25).contains(&refused), "{refused} attempts in ten minutes: {error}");
        world.run(SignedDuration::from_mins(2), SECOND, |_| {});
        world.delete("team-a", NAME);
        world.run(SignedDuration::from_secs(1), Duration::from_millis(100), |_| {});
        assert!(world.is_valid("team-a", NAME), "{error}");
        assert_eq!(notices(&world, EventReason::SecretAdopted), 0, "{error}");
    }
}
