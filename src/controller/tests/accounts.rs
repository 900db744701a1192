//! Service accounts of namespaces that opt in after the watch reported them.

use std::time::Duration;

use jiff::SignedDuration;

use crate::controller::tests::world::{Failing, World};
use crate::core::EventReason;
use crate::core::plan::PullSecretRefs;
use crate::core::request::Request;
use crate::core::testing::{HOST, request};

const SECOND: Duration = Duration::from_secs(1);

fn refs(names: &[&str]) -> PullSecretRefs {
    let references = names.iter().map(|name| (*name).into()).collect();
    PullSecretRefs { resource_version: 0, references, attached: vec![] }
}

fn all_accounts() -> Request {
    Request { service_accounts: vec!["*".into()], ..request(&[HOST]) }
}

fn attached(world: &World, namespace: &str) -> usize {
    let of = world.service_accounts.iter().filter(|((of, _), _)| **of == *namespace);
    of.filter(|(_, refs)| !refs.attached.is_empty()).count()
}

fn pass(world: &mut World, seconds: i64) {
    world.run(SignedDuration::from_secs(seconds), SECOND, |_| {});
}

#[test]
fn a_namespace_that_opts_in_later_gets_its_service_accounts_by_one_list_and_the_others_cause_none() {
    let mut world = World::new();
    for n in 0..50 {
        for name in ["default", "build"] {
            world.set_service_account(&format!("team-{n}"), name, refs(&["theirs"]));
        }
    }
    world.annotate("team-0", all_accounts());
    world.start("one");
    pass(&mut world, 1);
    assert_eq!((attached(&world, "team-0"), world.lists.len()), (2, 0), "it opted in before the start");
    world.annotate("team-1", all_accounts());
    world.annotate("team-2", request(&[HOST]));
    pass(&mut world, 1);
    assert_eq!((attached(&world, "team-1"), attached(&world, "team-2")), (2, 0));
    assert_eq!(world.lists, ["team-1".into()], "the other one needs none");
    world.set_service_account("team-1", "late", refs(&[]));
    pass(&mut world, 1);
    assert_eq!((attached(&world, "team-1"), world.lists.len()), (3, 1), "the watch reports it");
    world.annotate("team-2", all_accounts());
    world.opt_out("team-1");
    pass(&mut world, 1);
    assert_eq!((attached(&world, "team-1"), attached(&world, "team-2")), (0, 2));
    assert!(world.lists.len() == 2 && world.secret("team-1", "ecr-pull").is_none());
}

#[test]
fn a_namespace_that_opts_in_and_out_again_and_again_causes_few_lists() {
    let mut world = World::new();
    world.set_service_account("team-a", "default", refs(&[]));
    world.start("one");
    for _ in 0..600 {
        world.annotate("team-a", all_accounts());
        world.run(SignedDuration::from_millis(50), Duration::from_millis(50), |_| {});
        world.opt_out("team-a");
        // Its owner deletes the Secret, so that nothing is left.
        if world.secret("team-a", "ecr-pull").is_some() {
            world.delete("team-a", "ecr-pull");
        }
        world.set_service_account("team-a", "default", refs(&[]));
        world.run(SignedDuration::from_millis(50), Duration::from_millis(50), |_| {});
    }
    assert!(world.lists.len() <= 7, "{} lists in a minute", world.lists.len());
    world.annotate("team-a", all_accounts());
    pass(&mut world, 120);
    assert_eq!(attached(&world, "team-a"), 1, "then it is served");
}

#[test]
fn a_list_that_fails_is_repeated_and_reported_and_the_secret_does_not_wait() {
    let mut world = World::new();
    world.set_service_account("team-a", "default", refs(&[]));
    world.start("one");
    world.failing.push(Failing::AccountLists);
    world.annotate("team-a", all_accounts());
    pass(&mut world, 60);
    assert!(world.is_valid("team-a", "ecr-pull"));
    assert!((4..=8).contains(&world.lists.len()), "{} lists in a minute", world.lists.len());
    assert_eq!(world.conditions(EventReason::WriteFailed).1, 1, "one new condition");
    world.failing.clear();
    pass(&mut world, 60);
    assert_eq!(attached(&world, "team-a"), 1);
}

#[test]
fn a_forged_record_in_a_namespace_that_did_not_opt_in_is_removed_with_growing_delays() {
    let mut world = World::new();
    world.start("one");
    let forged = || PullSecretRefs { attached: vec!["ecr-pull".into()], ..refs(&["ecr-pull"]) };
    let mut removed = 0;
    world.set_service_account("team-a", "default", forged());
    for _ in 0..1_200 {
        if attached(&world, "team-a") == 0 {
            removed += 1;
            world.set_service_account("team-a", "default", forged());
        }
        world.run(SignedDuration::from_millis(49), Duration::from_millis(49), |_| {});
    }
    assert!((4..=9).contains(&removed), "removed {removed} times in a minute");
}
