//! What is ours is put right; what is not ours is left alone.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use serde_json::{Value, json};
use testing::aws::Behaviour;
use tokio::time::{Instant, sleep};

use crate::world::{HOST, NAME, World, annotation, assert_untouched, auths, uid, version};

/// Every way in which somebody may spoil a Secret, with what is patched into it.
fn edits() -> Vec<(&'static str, Value)> {
    let instance = "app.kubernetes.io/instance";
    vec![
        ("data", json!({"data": {".dockerconfigjson": "e30="}})),
        ("label-changed", json!({"metadata": {"labels": {instance: "spoiled"}}})),
        ("label-stripped", json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}})),
        ("labels-stripped", json!({"metadata": {"labels": null}})),
        (
            "expiry",
            json!({"metadata": {"annotations": {"ecr-pull-secrets.dev/expires-at": "2099-01-01T00:00:00Z"}}}),
        ),
        ("due", json!({"metadata": {"annotations": {"ecr-pull-secrets.dev/refresh-after": null}}})),
        ("applied", json!({"metadata": {"annotations": {"ecr-pull-secrets.dev/applied": "{}"}}})),
    ]
}

fn assert_right(namespace: &str, secret: &Secret) {
    let labels = secret.metadata.labels.as_ref().expect("labels");
    assert_eq!(labels["app.kubernetes.io/instance"], "ecr-pull-secrets", "{namespace}");
    assert_eq!(labels["app.kubernetes.io/managed-by"], "ecr-pull-secrets", "{namespace}");
    assert_eq!(auths(secret).into_keys().collect::<Vec<_>>(), [HOST], "{namespace}");
    assert!(annotation(secret, "expires-at") < "2099", "{namespace}");
    assert!(annotation(secret, "refresh-after") < "2099", "{namespace}");
    assert!(annotation(secret, "applied").contains(HOST), "{namespace}");
}

async fn wait_for_repairs(world: &World, spoiled: &[(&'static str, Secret, Secret)]) {
    for (namespace, before, after) in spoiled {
        let repaired = async |world: &World| {
            let now = world.secret(namespace).await.expect("it is there");
            (version(&now) != version(after)).then_some(now)
        };
        let now = world.wait_for(&format!("the repair of {namespace}"), repaired).await;
        assert_eq!(uid(&now), uid(before), "{namespace}");
        assert_right(namespace, &now);
    }
}

async fn spoil(world: &World) -> Vec<(&'static str, Secret, Secret)> {
    let mut spoiled = vec![];
    for (namespace, patch) in edits() {
        let before = world.wait_for_secret(namespace).await;
        world.edit(namespace, patch).await;
        let after = world.secret(namespace).await.expect("it is there");
        spoiled.push((namespace, before, after));
    }
    spoiled
}

#[tokio::test]
async fn what_was_edited_while_stopped_is_repaired() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    world.run_controller().await;
    for (namespace, _) in edits() {
        world.opt_in(namespace).await;
        world.wait_for_secret(namespace).await;
    }
    world.stop_controller().await;
    let spoiled = spoil(&world).await;
    world.run_controller().await;
    wait_for_repairs(&world, &spoiled).await;
    let writes = world.requests("patch").len();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(world.requests("patch").len(), writes, "then nothing is written");
    world.finish().await;
}

#[tokio::test]
async fn what_is_edited_while_running_is_repaired() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    world.run_controller().await;
    for (namespace, patch) in edits() {
        world.opt_in(namespace).await;
        let before = world.wait_for_secret(namespace).await;
        world.edit(namespace, patch).await;
        let repaired = async |world: &World| {
            let now = world.secret(namespace).await.expect("it is there");
            let right = now.metadata.labels.as_ref().is_some_and(|labels| labels.len() == 2)
                && now.metadata.labels.as_ref().is_some_and(|l| l["app.kubernetes.io/instance"] != "spoiled")
                && now.metadata.annotations.as_ref().is_some_and(|a| {
                    a.len() == 3 && a.values().all(|v| v != "{}" && v < &"2099".to_owned() || v.len() > 30)
                })
                && !auths_or_empty(&now).is_empty();
            right.then_some(now)
        };
        let now = world.wait_for(&format!("the repair of {namespace}"), repaired).await;
        assert_eq!(uid(&now), uid(&before), "{namespace}");
        assert_right(namespace, &now);
        world.wait_for_event(namespace, "SecretRepaired").await;
    }
    assert_eq!(world.aws.calls().len(), 1, "repairs mint nothing");
    world.finish().await;
}

fn auths_or_empty(secret: &Secret) -> String {
    let data = &secret.data.as_ref().expect("data")[".dockerconfigjson"].0;
    if data == b"{}" { String::new() } else { format!("{}", data.len()) }
}

#[tokio::test]
async fn a_deleted_secret_comes_back() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    world.run_controller().await;
    world.opt_in("team-a").await;
    let first = world.wait_for_secret("team-a").await;
    world.delete("team-a").await;
    let second = world.wait_for_secret("team-a").await;
    assert_ne!(uid(&first), uid(&second));
    assert_eq!(auths(&first), auths(&second), "with the token that there is");
    world.stop_controller().await;
    world.delete("team-a").await;
    world.run_controller().await;
    assert_right("team-a", &world.wait_for_secret("team-a").await);
    world.finish().await;
}

#[tokio::test]
async fn what_is_not_ours_is_left_alone_and_reported() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    let other = world.config("instance: other");
    world.run_controller_with(&["--config", &other]).await;
    world.opt_in("another-instance").await;
    world.wait_for_secret("another-instance").await;
    world.stop_controller().await;
    for (namespace, kind) in [("opaque", "Opaque"), ("same-type", "kubernetes.io/dockerconfigjson")] {
        world.opt_in(namespace).await;
        let body = json!({
            "metadata": {"name": NAME}, "type": kind,
            "data": {".dockerconfigjson": "eyJhdXRocyI6e319"},
        });
        let body = serde_json::from_value(body).expect("a secret");
        world
            .secrets(namespace)
            .create(&PostParams::default(), &body)
            .await
            .expect("a secret of somebody else");
    }
    let before = world.all_secrets().await;
    assert_eq!(before.len(), 3);
    world.run_controller().await;
    for namespace in ["another-instance", "opaque", "same-type"] {
        let event = world.wait_for_event(namespace, "SecretNotOwned").await;
        assert_eq!(event.type_.as_deref(), Some("Warning"));
        assert_eq!(event.involved_object.namespace.as_deref(), Some(namespace));
        let message = event.message.expect("a message");
        assert!(message.starts_with("secret \"ecr-pull\"") && message.contains("left alone"), "{message}");
    }
    world.annotate("opaque", &[(crate::world::REGISTRIES, None)]).await;
    sleep(Duration::from_secs(2)).await;
    for (namespace, secret) in world.all_secrets().await {
        assert_untouched(&before[&namespace], &secret);
    }
    assert_eq!(world.requests("delete").len(), 0);
    world.finish().await;
}

#[tokio::test]
async fn a_writer_in_a_loop_does_not_make_us_spin() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    world.run_controller().await;
    world.opt_in("team-a").await;
    world.wait_for_secret("team-a").await;
    let before = world.requests("patch").len();
    let end = Instant::now() + Duration::from_secs(20);
    let mut edits = 0;
    while Instant::now() < end {
        let patch = json!({"metadata": {"annotations": {"ecr-pull-secrets.dev/expires-at": format!("edit {edits}")}}});
        world.edit("team-a", patch).await;
        edits += 1;
        sleep(Duration::from_millis(50)).await;
    }
    let repairs = world.requests("patch").len() - before;
    assert!(edits > 100 && (3..=7).contains(&repairs), "{edits} edits were met with {repairs} repairs");
    let right = async |world: &World| {
        let secret = world.secret("team-a").await.expect("it is there");
        !annotation(&secret, "expires-at").starts_with("edit")
    };
    world.wait_until("the last repair", right).await;
    world.finish().await;
}

#[tokio::test]
async fn a_deleter_in_a_loop_does_not_make_us_spin() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    world.run_controller().await;
    world.opt_in("team-a").await;
    let end = Instant::now() + Duration::from_secs(15);
    while Instant::now() < end {
        if world.secret("team-a").await.is_some() {
            world.delete("team-a").await;
        }
        sleep(Duration::from_millis(20)).await;
    }
    let creations = world.requests("patch").len();
    assert!((3..=7).contains(&creations), "{creations} creations");
    world.wait_for_secret("team-a").await;
    world.finish().await;
}

#[tokio::test]
async fn an_immutable_secret_is_reported_and_made_anew_only_before_it_expires() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    world.aws.set(Behaviour::living(Duration::from_secs(40)));
    world.run_controller().await;
    world.opt_in("team-a").await;
    let first = world.wait_for_secret("team-a").await;
    world.edit("team-a", json!({"immutable": true})).await;
    let event = world.wait_for_event("team-a", "SecretNotOwned").await;
    assert!(event.message.expect("a message").contains("immutable"));
    let anew = async |world: &World| world.secret("team-a").await.filter(|now| uid(now) != uid(&first));
    let second = world.wait_for("a new secret", anew).await;
    let expiry = crate::world::time(&first, "expires-at");
    let left = expiry.duration_since(jiff::Timestamp::now());
    assert!(left.is_positive() && left.as_secs() <= 12, "made anew with {left} left");
    assert_right("team-a", &second);
    world.finish().await;
}
