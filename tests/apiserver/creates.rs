//! Annotate → secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use testing::aws::Behaviour;
use testing::registry::Registry;

use crate::world::{HOST, NAME, REGISTRIES, World, annotation, auths, time};

#[tokio::test]
async fn an_annotated_namespace_gets_a_secret_that_the_registry_accepts() {
    if !testing::real_cluster() {
        return;
    }
    let registry = Registry::start_for(&[HOST], "the-password-of-the-token").await;
    let mut world = World::start().await;
    world.aws.set(Behaviour { password: Some("the-password-of-the-token".into()), ..Behaviour::default() });
    world.run_controller().await;
    world.annotate("team-a", &[(REGISTRIES, Some("123456789012, public.ecr.aws"))]).await;
    let secret = world.wait_for_secret("team-a").await;

    assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/dockerconfigjson"));
    let labels = serde_json::to_value(&secret.metadata.labels).expect("labels");
    let expected = json!({"app.kubernetes.io/managed-by": "ecr-pull-secrets", "app.kubernetes.io/instance": "ecr-pull-secrets"});
    assert_eq!(labels, expected);
    let lifetime = time(&secret, "expires-at").duration_since(Timestamp::now());
    assert!(lifetime > SignedDuration::from_mins(11 * 60 + 50) && lifetime <= SignedDuration::from_hours(12));
    let half = time(&secret, "refresh-after").duration_since(Timestamp::now());
    assert!(
        half > SignedDuration::from_mins(5 * 60 + 50) && half < SignedDuration::from_mins(7 * 60 + 15),
        "{half}"
    );
    let ends = time(&secret, "expires-at").as_second();
    let rest = r#""instance":"ecr-pull-secrets","registries":["123456789012.dkr.ecr.eu-central-1.amazonaws.com","public.ecr.aws"],"repositories":[],"role":[],"secretName":"ecr-pull","serviceAccounts":[]}"#;
    let applied = annotation(&secret, "applied");
    let (entries, found) = applied.split_at(applied.find(r#""instance""#).expect("an instance"));
    assert_eq!(found, rest);
    assert_eq!(entries.matches(&format!("@{ends}\"")).count(), 2, "{entries}: each entry with its end");
    assert_eq!(secret.metadata.annotations.as_ref().map(std::collections::BTreeMap::len), Some(3));

    let auths = auths(&secret);
    assert_eq!(auths.keys().collect::<Vec<_>>(), [HOST, "public.ecr.aws"]);
    let auth = STANDARD.encode("AWS:the-password-of-the-token");
    let entry = json!({"username": "AWS", "password": "the-password-of-the-token", "auth": auth});
    assert_eq!(auths[HOST], entry);
    assert_eq!(registry.get_v2(HOST, Some(&format!("Basic {auth}"))).await, 200);
    assert_eq!(registry.get_v2(HOST, None).await, 401);
    assert_eq!(registry.get_v2(HOST, Some(&format!("Basic {}", STANDARD.encode("AWS:other")))).await, 401);
    assert_eq!(
        (world.aws.count("GetAuthorizationToken"), world.aws.count("GetPublicAuthorizationToken")),
        (1, 1)
    );
    world.wait_for_event("team-a", "SecretCreated").await;
    world.finish().await;
}

#[tokio::test]
async fn default_is_the_registry_that_the_token_names() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    world.run_controller().await;
    world.annotate("team-a", &[(REGISTRIES, Some("default"))]).await;
    let secret = world.wait_for_secret("team-a").await;
    assert_eq!(auths(&secret).into_keys().collect::<Vec<_>>(), [HOST]);
    world.finish().await;
}

#[tokio::test]
async fn two_hundred_namespaces_cost_one_token() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    for n in 0..100 {
        world.opt_in(&format!("before-{n}")).await;
    }
    world.run_controller().await;
    for n in 0..100 {
        world.opt_in(&format!("after-{n}")).await;
    }
    let all = async |world: &World| world.all_secrets().await.len() == 200;
    world.wait_until("200 secrets", all).await;
    assert_eq!(world.aws.calls().len(), 1, "one GetAuthorizationToken and no other call");
    assert_eq!(world.requests("patch").len(), 200, "one write each");
    let secrets = world.all_secrets().await;
    let passwords: std::collections::BTreeSet<_> =
        secrets.values().map(|s| auths(s)[HOST].to_string()).collect();
    assert_eq!(passwords.len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn another_secret_name_is_written_before_the_old_one_goes() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    world.cluster.apply(&crate::world::RBAC.replace("[ecr-pull]", "[ecr-pull, other-name]")).await;
    let config = world.config("secretNames: [ecr-pull, other-name]");
    world.run_controller_with(&["--config", &config]).await;
    world.opt_in("team-a").await;
    world.wait_for_secret("team-a").await;
    world.annotate("team-a", &[("ecr-pull-secrets.dev/secret-name", Some("other-name"))]).await;
    world.wait_for_no_secret("team-a").await;
    let other = world.secrets("team-a").get("other-name").await.expect("it is there before the old one goes");
    assert_eq!(auths(&other).into_keys().collect::<Vec<_>>(), [HOST]);
    assert!(world.secrets("team-a").get_opt(NAME).await.expect("a look").is_none());
    world.finish().await;
}
