//! Entries of other registries that go beside those of ECR, and follow the Secret that they come from.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use testing::aws::{Behaviour, Fault};

use crate::world::{HOST, World, annotation, auths, uid, version};

const RBAC: &str = include_str!("../../deploy/rbac-static-registries.yaml");
const HOME: &str = "ecr-pull-secrets";
const SOURCE: &str = "registry-logins";
const CONFIG: &str = "\
staticRegistries:
  - {secret: registry-logins, registries: [docker.io, mirror.example], namespaces: ['team-*']}";

async fn begin() -> (World, Vec<String>) {
    let world = World::start().await;
    world.cluster.apply(RBAC).await;
    let config = world.config(CONFIG);
    (world, vec!["--config".to_owned(), config, "--namespace".to_owned(), HOME.to_owned()])
}

async fn run(world: &mut World, flags: &[String]) {
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    world.run_controller_with(&flags).await;
}

fn sources(world: &World) -> Api<Secret> {
    Api::namespaced(world.admin.clone(), HOME)
}

fn data(entries: &Value) -> Value {
    json!({ ".dockerconfigjson": STANDARD.encode(json!({ "auths": entries }).to_string()) })
}

async fn create_source(world: &World, entries: &Value) {
    let body = json!({
        "metadata": {"name": SOURCE}, "type": "kubernetes.io/dockerconfigjson", "data": data(entries),
    });
    let body = serde_json::from_value(body).expect("a secret");
    sources(world).create(&PostParams::default(), &body).await.expect("it is created");
}

async fn patch_source(world: &World, patch: Value) {
    sources(world).patch(SOURCE, &PatchParams::default(), &Patch::Merge(patch)).await.expect("it is patched");
}

fn passwords(secret: &Secret) -> Vec<(String, String)> {
    let password = |value: &Value| value["password"].as_str().unwrap_or_default().to_owned();
    auths(secret).iter().filter(|(host, _)| *host != HOST).map(|(h, v)| (h.clone(), password(v))).collect()
}

fn of(entries: &[(&str, &str)]) -> Vec<(String, String)> {
    entries.iter().map(|(host, password)| ((*host).to_owned(), (*password).to_owned())).collect()
}

async fn wait_for(world: &World, namespace: &str, entries: &[(&str, &str)]) -> Secret {
    let found =
        async |world: &World| world.secret(namespace).await.filter(|secret| passwords(secret) == of(entries));
    world.wait_for(&format!("{entries:?} in {namespace}"), found).await
}

#[tokio::test]
async fn granted_namespaces_get_the_entries_and_follow_their_changes() {
    if !testing::real_cluster() {
        return;
    }
    let (mut world, flags) = begin().await;
    let auth = STANDARD.encode("me:first");
    create_source(&world, &json!({"docker.io": {"auth": auth}, "quay.io": {"auth": auth}})).await;
    world.opt_in("team-a").await;
    world.opt_in("dev").await;
    run(&mut world, &flags).await;
    let first = wait_for(&world, "team-a", &[("docker.io", "first")]).await;
    assert!(auths(&first).contains_key(HOST), "beside those of ECR");
    assert_eq!(passwords(&world.wait_for_secret("dev").await), [], "nobody granted it");
    assert!(!annotation(&first, "applied").contains(&auth), "{}", annotation(&first, "applied"));

    // Followed while AWS is out of order, and without a token that is not needed.
    world.aws.set(Behaviour::failing(Fault::ServerError));
    let entries = json!({
        "docker.io": {"username": "me", "password": "second"}, "mirror.example": {"auth": auth},
    });
    patch_source(&world, json!({ "data": data(&entries) })).await;
    let both = [("docker.io", "second"), ("mirror.example", "first")];
    let second = wait_for(&world, "team-a", &both).await;
    assert_eq!(uid(&first), uid(&second));
    assert_eq!(auths(&first)[HOST], auths(&second)[HOST], "the token of ECR is carried over");
    world.aws.reset();

    // Another change of the source is none of its entries'.
    patch_source(&world, json!({ "metadata": {"labels": {"touched": "yes"}} })).await;
    world.opt_in("team-b").await;
    wait_for(&world, "team-b", &both).await;
    assert_eq!(version(&second), version(&world.secret("team-a").await.expect("it is there")));

    // Changed while nothing ran.
    world.stop_controller().await;
    patch_source(&world, json!({ "data": data(&json!({"mirror.example": {"auth": auth}})) })).await;
    run(&mut world, &flags).await;
    wait_for(&world, "team-a", &[("mirror.example", "first")]).await;

    // A source that is gone takes nothing away, also not with a restart and a repair.
    sources(&world).delete(SOURCE, &DeleteParams::default()).await.expect("it is deleted");
    world.stop_controller().await;
    run(&mut world, &flags).await;
    world.edit("team-a", json!({ "metadata": {"labels": {"app.kubernetes.io/instance": null}} })).await;
    world.wait_for_event("team-a", "SecretRepaired").await;
    wait_for(&world, "team-a", &[("mirror.example", "first")]).await;

    // A grant that is withdrawn does.
    world.stop_controller().await;
    let config = world.config("instance: ecr-pull-secrets");
    world.run_controller_with(&["--config", &config]).await;
    let last = wait_for(&world, "team-a", &[]).await;
    assert!(auths(&last).contains_key(HOST));
    world.finish().await;
}

#[tokio::test]
async fn without_the_right_to_read_the_source_secrets_are_served_all_the_same() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    let config = world.config(CONFIG);
    world.opt_in("team-a").await;
    world.run_controller_with(&["--config", &config, "--namespace", HOME]).await;
    world.wait_for_secret("team-a").await;
    assert!(world.log().contains(SOURCE), "the log names what cannot be read");
    world.finish().await;
}
