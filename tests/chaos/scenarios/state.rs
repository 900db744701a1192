//! Restarts, and states that somebody else changed.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use testing::aws::{Behaviour, Fault};
use testing::tenants::{HOST, INSTANCE, REGISTRIES, time};

use super::serve;
use crate::judge::INCLUDED;
use crate::world::World;

const ACCOUNT_RIGHTS: &str = include_str!("../../../deploy/rbac-service-accounts.yaml");
const SOURCE: &str = "registry-logins";
const STATIC_ENTRY: &str = r#"{"auths": {"docker.io": {"auth": "bWU6Zmlyc3Q="}}}"#;
const STATIC_CONFIG: &str =
    "staticRegistries: [{secret: registry-logins, registries: [docker.io], namespaces: ['team-*']}]";
const STATIC_RIGHTS: &str = include_str!("../../../deploy/rbac-static-registries.yaml");

/// A restart with a region that ends with a line end, as Secrets made from files have it.
pub async fn region_with_a_line_end(world: &mut World<'_>) {
    world.observe_missing(3);
    for namespace in ["team-a", "team-b"] {
        world.cluster.request(namespace, "default").await;
    }
    world.start("first", &[]).await;
    world.cluster.wait_for_secrets(2).await;
    world.stop("first").await;
    world.cluster.aws_env.retain(|(name, _)| name != "AWS_REGION");
    world.cluster.aws_env.push(("AWS_REGION".to_owned(), "eu-central-1\n".to_owned()));
    world.spawn("second", &[]);
    world.watch_for(6).await;
}

/// etcd is put back to a copy while the controller runs. Then a Secret is deleted and a namespace opts in.
pub async fn restored_storage(world: &mut World<'_>) {
    world.observe_missing(15);
    world.start("first", &[]).await;
    serve(world.cluster, &["team-a"]).await;
    world.cluster.control_plane.save_storage().await;
    // Versions that the controller has seen and the copy does not have.
    serve(world.cluster, &["team-b"]).await;
    for n in 0..40 {
        world.cluster.label("team-a", json!({ "counter": n.to_string() })).await;
    }
    world.cluster.control_plane.restore_storage().await;
    world.cluster.delete("team-a").await;
    world.cluster.opt_in("team-c").await;
    world.watch_for(20).await;
}

/// An immutable Secret, a restart, and an AWS that is away until shortly before the token expires.
pub async fn immutable(world: &mut World<'_>) {
    world.observe_missing(8);
    world.cluster.aws.set(Behaviour::living(Duration::from_secs(32)));
    world.start("first", &[]).await;
    serve(world.cluster, &["team-a"]).await;
    world.stop("first").await;
    let secret = world.cluster.edit("team-a", json!({ "immutable": true })).await;
    world.cluster.aws.set(Behaviour::failing(Fault::Unavailable));
    world.spawn("second", &[]);
    let left = time(&secret, "expires-at").duration_since(jiff::Timestamp::now()).as_secs();
    world.watch_for(u64::try_from(left - 3).unwrap_or_default()).await;
    world.cluster.aws.reset();
    world.watch_for(6).await;
}

fn data(text: &str) -> Value {
    json!({ "stringData": { ".dockerconfigjson": text } })
}

/// Creates the Secret with static entries.
async fn create_source(world: &World<'_>) {
    let mut source = data(STATIC_ENTRY);
    source["metadata"] = json!({ "name": SOURCE });
    source["type"] = json!("kubernetes.io/dockerconfigjson");
    world.cluster.create::<Secret>(INSTANCE, source).await;
}

/// The Secret with static entries is `{}` for some seconds.
pub async fn empty_source(world: &mut World<'_>) {
    world.observe_missing(2);
    world.cluster.control_plane.apply(STATIC_RIGHTS).await;
    create_source(world).await;
    let config = world.cluster.config(STATIC_CONFIG);
    world.start("first", &["--config", &config, "--namespace", INSTANCE]).await;
    serve(world.cluster, &["team-a"]).await;
    world.watch_for(1).await;
    let patch = async |value: Value| {
        let api = world.cluster.secrets(INSTANCE);
        api.patch(SOURCE, &PatchParams::default(), &Patch::Merge(value)).await.expect("it is patched");
    };
    patch(data("{}")).await;
    world.watch_for(4).await;
    patch(data(STATIC_ENTRY)).await;
    world.watch_for(1).await;
}

/// Most of the namespaces that the configuration includes are being deleted. After a restart the label is removed from
/// one of the others.
pub async fn terminating_namespaces(world: &mut World<'_>) {
    world.observe_missing(5);
    let config = world.cluster.config(&format!(
        "{{defaults: {{registries: [{HOST}]}}, namespaces: {{selector: {{matchExpressions: [{{key: {INCLUDED}, \
         operator: Exists}}]}}}}}}"
    ));
    for n in 0..15 {
        let namespace = format!("team-{n}");
        world.cluster.annotate(&namespace, &[]).await;
        world.cluster.label(&namespace, json!({ INCLUDED: "true" })).await;
    }
    world.start("first", &["--config", &config]).await;
    world.cluster.wait_for_secrets(15).await;
    world.stop("first").await;
    // Without kube-controller-manager they never go.
    let namespaces: Api<Namespace> = Api::all(world.cluster.admin.clone());
    for n in 0..12 {
        let params = DeleteParams::default();
        namespaces.delete(&format!("team-{n}"), &params).await.expect("the deletion begins");
    }
    world.start("second", &["--config", &config]).await;
    world.cluster.label("team-14", json!({ INCLUDED: null })).await;
    world.watch_for(8).await;
}

/// Tenants list many service accounts with long names: the applied state has a bound, which is near here.
pub async fn long_requests(world: &mut World<'_>) {
    world.observe_missing(45);
    world.cluster.control_plane.apply(STATIC_RIGHTS).await;
    world.cluster.control_plane.apply(ACCOUNT_RIGHTS).await;
    create_source(world).await;
    let config = world.cluster.config(&format!("serviceAccounts: {{enabled: true}}\n{STATIC_CONFIG}"));
    world.start("first", &["--config", &config, "--namespace", INSTANCE]).await;
    let name = |n: usize, len: usize| format!("{}{n:02}", &"service.".repeat(32)[..len - 2]);
    for last in (10..=130).step_by(8) {
        let mut names: Vec<String> = (0..31).map(|n| name(n, 250)).collect();
        names.push(name(31, last));
        let accounts = names.join(",");
        let annotations =
            [(REGISTRIES, Some(HOST)), ("ecr-pull-secrets.dev/service-accounts", Some(&*accounts))];
        world.cluster.annotate(&format!("team-{last}"), &annotations).await;
    }
    world.watch_for(6).await;
}
