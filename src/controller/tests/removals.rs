//! The limit on removals that follow from the configuration.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use super::world::World;
use crate::controller::tell::{HeldRemovals, Tell};
use crate::core::EventReason;
use crate::core::grants::{CONTROLLER, Grants, Identity, IdentityName};
use crate::core::plan::RemovalCause;
use crate::core::request::Request;
use crate::core::settings::Settings;
use crate::core::testing::{HOST, request, settings};

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_mins(10);

/// Settings with these identities, each for the namespaces `NAME-*`, and no default.
fn granting(names: &[&str]) -> Settings {
    let identity = |name: &&str| Identity {
        name: IdentityName::new(name),
        namespaces: vec![format!("{name}-*").parse().expect("a pattern")],
        ..Identity::controller()
    };
    let grants = Grants {
        identities: names.iter().map(identity).collect(),
        default_identity: None,
        ..settings().grants
    };
    Settings { grants, ..settings() }
}

/// A world in which this number of namespaces of each identity has a Secret.
fn served(teams: &[(&str, usize)]) -> World {
    let names: Vec<_> = teams.iter().map(|(name, _)| *name).collect();
    let mut world = World::with_settings(granting(&names));
    world.start("first");
    for (name, count) in teams {
        for n in 0..*count {
            world.annotate(&format!("{name}-{n}"), request(&[HOST]));
        }
    }
    world.run(SignedDuration::from_secs(10), SECOND, |_| {});
    assert_eq!(world.secrets.len(), teams.iter().map(|(_, count)| count).sum::<usize>());
    world
}

/// Replaces every controller by one with another configuration, and lets it work for ten minutes.
fn reconfigure(world: &mut World, settings: Settings) {
    world.kill_all();
    world.settings = Arc::new(settings);
    world.tells.clear();
    world.start("next");
    world.run(SignedDuration::from_mins(10), LONG, |_| {});
}

fn held(world: &World) -> Option<&HeldRemovals> {
    world.tells.iter().rev().find_map(|tell| match tell {
        Tell::RemovalsHeld(held) => Some(held),
        _ => None,
    })
}

fn of(world: &World, identity: &str) -> usize {
    world.secrets.keys().filter(|(namespace, _)| namespace.starts_with(identity)).count()
}

#[test]
fn many_removals_of_one_identity_are_held_until_exactly_they_are_confirmed() {
    let mut world = served(&[("a", 30), ("b", 30)]);
    reconfigure(&mut world, granting(&["b"]));
    let (held, writes) = (held(&world).cloned().expect("held"), world.writes.len());
    assert_eq!(held.by_cause, [(RemovalCause::Identity("a".into()), 30)].into());
    assert_eq!((world.secrets.len(), world.conditions(EventReason::RemovalHeld).1), (60, 30));
    world.run(SignedDuration::from_hours(24), LONG, |_| {});
    let renewed = &world.writes[writes..];
    assert!(renewed.len() >= 60 && renewed.iter().all(|(namespace, ..)| namespace.starts_with("b-")));
    assert!(!world.calls[1..].iter().any(|key| key.identity.as_str() == "a"), "no token of the lost grant");

    world.policy.confirm_removals = Some("0123456789ab".into());
    reconfigure(&mut world, granting(&["b"]));
    assert_eq!(world.secrets.len(), 60, "another set was confirmed");

    world.policy.confirm_removals = Some(held.id.as_str().into());
    reconfigure(&mut world, granting(&["b"]));
    assert_eq!((of(&world, "a"), of(&world, "b")), (0, 30));
    assert_eq!(world.conditions(EventReason::SecretDeleted).0, 30);
}

#[test]
fn a_confirmation_is_of_one_set_only() {
    let mut world = served(&[("a", 30), ("b", 60)]);
    reconfigure(&mut world, granting(&["b"]));
    world.policy.confirm_removals = Some(held(&world).expect("held").id.as_str().into());
    reconfigure(&mut world, granting(&[]));
    assert_eq!(world.secrets.len(), 90, "the configuration removes more than was confirmed");
}

#[test]
fn the_removals_of_one_identity_do_not_hold_those_of_another() {
    let mut world = served(&[("kept", 60), ("few", 8), ("forged", 12)]);
    reconfigure(&mut world, granting(&["kept"]));
    assert_eq!((of(&world, "few"), of(&world, "forged"), of(&world, "kept")), (0, 12, 60));
    assert_eq!(held(&world).map(|held| held.by_cause.len()), Some(1));
}

#[test]
fn a_tenth_of_a_large_identity_needs_no_confirmation() {
    let mut world = served(&[("a", 200)]);
    let mut settings = granting(&["a"]);
    settings.grants.identities[0].namespaces =
        ["a-1*", "a-2*", "a-3*", "a-4*", "a-5*", "a-6*", "a-7*", "a-8*", "a-9*"]
            .map(|pattern| pattern.parse().expect("a pattern"))
            .into();
    reconfigure(&mut world, settings);
    assert_eq!(world.secrets.len(), 199, "a-0 is not included any more");
}

#[test]
fn all_causes_together_are_held_above_a_quarter() {
    let mut world = served(&[("a", 9), ("b", 9), ("c", 9)]);
    reconfigure(&mut world, granting(&["c"]));
    assert_eq!(world.secrets.len(), 27);
    assert_eq!(held(&world).map(|held| held.by_cause.values().sum()), Some(18));
}

#[test]
fn labels_that_are_lost_one_by_one_are_held_too_and_give_back_what_they_had() {
    let mut world = World::new();
    world.start("one");
    let by_default = || Request { by_default: true, ..request(&[HOST]) };
    for n in 0..20 {
        world.annotate(&format!("app-{n}"), by_default());
    }
    world.run(SignedDuration::from_secs(5), SECOND, |_| {});
    for n in 0..20 {
        world.opt_out(&format!("app-{n}"));
        world.run(SignedDuration::from_secs(20), SECOND, |_| {});
    }
    assert_eq!(world.secrets.len(), 10, "ten need no confirmation");
    assert_eq!(held(&world).map(|held| held.by_cause.clone()), Some([(RemovalCause::Namespaces, 10)].into()));
    for n in 0..20 {
        world.annotate(&format!("app-{n}"), by_default());
    }
    world.run(SignedDuration::from_hours(24), LONG, |world| {
        assert!((10..20).all(|n| world.is_valid(&format!("app-{n}"), "ecr-pull")));
    });
    assert_eq!(world.secrets.len(), 20);
    world.opt_out("app-3");
    world.run(SignedDuration::from_mins(1), SECOND, |_| {});
    assert_eq!(world.secrets.len(), 19, "then a single one is not held");
}

#[test]
fn secrets_under_a_retired_name_are_held_and_their_successors_are_renewed() {
    let mut old = settings();
    (old.names.secret_names, old.names.retired_names) = (vec!["old".into()], vec![]);
    let mut world = World::with_settings(old);
    world.start("first");
    for n in 0..12 {
        world.annotate(&format!("team-{n}"), Request { secret_name: "old".into(), ..request(&[HOST]) });
    }
    world.run(SignedDuration::from_secs(5), SECOND, |_| {});
    for n in 0..12 {
        world.annotate(&format!("team-{n}"), request(&[HOST]));
    }
    reconfigure(&mut world, settings());
    assert_eq!(world.secrets.len(), 24);
    let held = held(&world).cloned().expect("held");
    assert_eq!(held.by_cause, [(RemovalCause::SecretNames, 12)].into());
    world.run(SignedDuration::from_hours(24), LONG, |world| {
        assert!((0..12).all(|n| world.is_valid(&format!("team-{n}"), "ecr-pull")));
    });
    world.policy.confirm_removals = Some(held.id.as_str().into());
    reconfigure(&mut world, settings());
    assert_eq!(world.secrets.len(), 12);
}

#[test]
fn namespaces_that_opt_out_are_never_held() {
    let mut world = served(&[(CONTROLLER, 30)]);
    for n in 0..30 {
        world.opt_out(&format!("{CONTROLLER}-{n}"));
    }
    world.run(SignedDuration::from_mins(1), SECOND, |_| {});
    assert!(world.secrets.is_empty() && held(&world).is_none());
}
