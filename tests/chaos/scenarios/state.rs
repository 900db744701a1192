//! Restarts, and states that somebody else changed.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use testing::aws::{Behaviour, Fault};
use testing::tenants::{INSTANCE, time};

use super::serve;
use crate::world::World;

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
    world.observe_missing(20);
    world.start("first", &[]).await;
    serve(world.cluster, &["team-a"]).await;
    world.cluster.control_plane.save_etcd().await;
    // Versions that the controller has seen and the copy does not have.
    serve(world.cluster, &["team-b"]).await;
    for n in 0..40 {
        world.cluster.label("team-a", json!({ "counter": n.to_string() })).await;
    }
    world.cluster.control_plane.restore_etcd().await;
    world.cluster.delete("team-a").await;
    world.cluster.opt_in("team-c").await;
    world.watch_for(25).await;
}

/// An immutable Secret, a restart, and an AWS that is away until shortly before the token expires.
pub async fn immutable(world: &mut World<'_>) {
    world.observe_missing(2);
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

/// The Secret with static entries is `{}` for some seconds.
pub async fn empty_source(world: &mut World<'_>) {
    const SOURCE: &str = "registry-logins";
    world.observe_missing(2);
    world.cluster.control_plane.apply(STATIC_RIGHTS).await;
    let data = |text: String| json!({ "stringData": { ".dockerconfigjson": text } });
    let entry = json!({"auths": {"docker.io": {"auth": "bWU6Zmlyc3Q="}}}).to_string();
    let mut source = data(entry.clone());
    source["metadata"] = json!({ "name": SOURCE });
    source["type"] = json!("kubernetes.io/dockerconfigjson");
    world.cluster.create::<Secret>(INSTANCE, source).await;
    let config = world.cluster.config(
        "staticRegistries: [{secret: registry-logins, registries: [docker.io], namespaces: ['team-*']}]",
    );
    world.start("first", &["--config", &config, "--namespace", INSTANCE]).await;
    serve(world.cluster, &["team-a"]).await;
    world.watch_for(1).await;
    let patch = async |value: Value| {
        let api = world.cluster.secrets(INSTANCE);
        api.patch(SOURCE, &PatchParams::default(), &Patch::Merge(value)).await.expect("it is patched");
    };
    patch(data("{}".to_owned())).await;
    world.watch_for(4).await;
    patch(data(entry)).await;
    world.watch_for(1).await;
}
