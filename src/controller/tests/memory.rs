//! The memory that the controller holds for each namespace, in requested bytes and blocks: these do not depend on the machine.

use jiff::SignedDuration;

use super::world::World;
use crate::core::grants::{Identity, IdentityName, Pattern, RegistryPattern};
use crate::core::settings::Settings;
use crate::core::testing::{HOST, request, role, settings};

/// The bytes and blocks of the controller once so many namespaces have their Secrets. The tokens of the test have a few bytes.
fn held(settings: Settings, namespaces: usize) -> (i64, i64) {
    let mut world = World::with_settings(settings);
    for n in 0..namespaces {
        world.annotate(&format!("team-{n}"), request(&[HOST]));
    }
    world.start("a");
    world.run(SignedDuration::from_mins(5), std::time::Duration::from_secs(5), |_| {});
    assert_eq!(world.secrets.len(), namespaces);
    world.held()
}

/// The bytes and blocks of one more namespace.
fn held_for_each(settings: &Settings) -> (i64, i64) {
    let ((few, few_blocks), (many, many_blocks)) =
        (held(settings.clone(), 250), held(settings.clone(), 1_250));
    ((many - few) / 1_000, (many_blocks - few_blocks) / 1_000)
}

#[test]
fn a_namespace_that_shares_its_token_takes_less_than_680_bytes() {
    let (bytes, blocks) = held_for_each(&settings());
    println!("{bytes} bytes in {blocks} blocks for each namespace");
    assert!(bytes < 680 && blocks <= 5, "{bytes} bytes in {blocks} blocks");
}

#[test]
fn a_namespace_with_a_token_of_its_own_takes_less_than_2200_bytes() {
    let mut settings = settings();
    settings.grants.default_identity = None;
    settings.grants.identities = vec![Identity {
        name: IdentityName::new("tenants"),
        role: Some(role().into()),
        namespaces: vec![Pattern::any()],
        registries: vec![RegistryPattern::AllPrivate],
        repositories: vec!["{namespace}/*".parse().expect("a template")],
        pull_through_cache: false,
        list_tags: false,
        profile: None,
    }];
    let (bytes, blocks) = held_for_each(&settings);
    println!("{bytes} bytes in {blocks} blocks for each namespace");
    assert!(bytes < 2_200 && blocks <= 23, "{bytes} bytes in {blocks} blocks");
}
