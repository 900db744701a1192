//! What is fresh stays as it is, and nothing is forgotten.

use std::time::Duration;

use testing::aws::Behaviour;

use crate::world::{HOST, REGISTRIES, World, assert_untouched, auths, time, uid, version};

#[tokio::test]
async fn a_restart_while_fresh_neither_mints_nor_writes() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    world.run_controller().await;
    for n in 0..20 {
        world.opt_in(&format!("team-{n}")).await;
    }
    world.wait_until("20 secrets", async |world: &World| world.all_secrets().await.len() == 20).await;
    let before = world.all_secrets().await;
    world.stop_controller().await;
    let (mints, writes) = (world.aws.calls().len(), world.requests("patch").len());
    world.run_controller().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.aws.calls().len(), mints, "a mint");
    assert_eq!(world.requests("patch").len(), writes, "a write");
    assert_eq!(world.requests("get").len(), 0, "a read of a secret");
    for (namespace, secret) in world.all_secrets().await {
        assert_untouched(&before[&namespace], &secret);
    }
    world.finish().await;
}

#[tokio::test]
async fn killed_in_the_middle_of_two_hundred_creations_it_ends_up_with_all() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    world.run_into_two_hundred_creations().await;
    world.kill_controller();
    let before = world.all_secrets().await;
    assert!(before.len() < 200, "it was killed too late to show anything");
    world.run_controller().await;
    world.wait_until("200 secrets", async |world: &World| world.all_secrets().await.len() == 200).await;
    let after = world.all_secrets().await;
    for (namespace, secret) in &after {
        assert_eq!(auths(secret).into_keys().collect::<Vec<_>>(), [HOST], "{namespace}");
        assert!(time(secret, "expires-at") > jiff::Timestamp::now(), "{namespace}");
    }
    for (namespace, secret) in before {
        assert_eq!(uid(&secret), uid(&after[&namespace]), "{namespace}");
    }
    world.finish().await;
}

#[tokio::test]
async fn after_a_bad_annotation_and_a_restart_the_applied_request_is_still_refreshed() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    world.aws.set(Behaviour::living(Duration::from_secs(20)));
    world.run_controller().await;
    world.opt_in("team-a").await;
    let first = world.wait_for_secret("team-a").await;
    world.annotate("team-a", &[(REGISTRIES, Some("no-host-at-all"))]).await;
    let event = world.wait_for_event("team-a", "InvalidAnnotation").await;
    let message = event.message.expect("a message");
    assert!(message.starts_with("ecr-pull-secrets.dev/registries: \"no-host-at-all\" is no"), "{message}");
    world.stop_controller().await;
    world.run_controller().await;
    let refreshed = async |world: &World| {
        let now = world.secret("team-a").await.expect("it is never gone");
        (version(&now) != version(&first)).then_some(now)
    };
    for _ in 0..2 {
        let secret = world.wait_for("a refresh", refreshed).await;
        assert_eq!(uid(&secret), uid(&first));
        assert_eq!(auths(&secret).into_keys().collect::<Vec<_>>(), [HOST]);
    }
    world.finish().await;
}

#[tokio::test]
async fn an_annotation_removed_while_stopped_takes_its_secret_with_it() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    world.run_controller().await;
    for namespace in ["stays", "goes", "says-none"] {
        world.opt_in(namespace).await;
        world.wait_for_secret(namespace).await;
    }
    world.stop_controller().await;
    world.annotate("goes", &[(REGISTRIES, None)]).await;
    world.annotate("says-none", &[(REGISTRIES, Some("none"))]).await;
    world.run_controller().await;
    world.wait_for_no_secret("goes").await;
    world.wait_for_no_secret("says-none").await;
    world.wait_for_event("goes", "SecretDeleted").await;
    assert!(world.secret("stays").await.is_some());
    world.finish().await;
}

#[tokio::test]
async fn a_configuration_that_takes_many_secrets_away_has_to_be_confirmed() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    world.run_controller().await;
    for n in 0..12 {
        world.opt_in(&format!("team-{n}")).await;
    }
    world.wait_until("12 secrets", async |world: &World| world.all_secrets().await.len() == 12).await;
    world.stop_controller().await;
    let config = world.config("defaults: {identity: none}");
    world.run_controller_with(&["--config", &config]).await;
    let told = async |world: &World| {
        let events = world.events("team-0").await;
        events.iter().any(|event| {
            event.message.as_ref().is_some_and(|said| said.contains("neither deleted nor refreshed"))
        })
    };
    world.wait_until("an Event about it", told).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.all_secrets().await.len(), 12, "none is deleted unconfirmed");
    assert!(world.log().contains("--confirm-removals"));
    world.stop_controller().await;
    world.run_controller_with(&["--config", &config, "--confirm-removals"]).await;
    world.wait_until("no secrets", async |world: &World| world.all_secrets().await.is_empty()).await;
    world.finish().await;
}
