//! What the controller's own credential can and cannot do: nothing to a secret of another name.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use crate::world::{NAME, World};

fn code<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> u16 {
    match result {
        Ok(_) => 200,
        Err(kube::Error::Api(status)) => status.code,
        Err(error) => panic!("no answer: {error}"),
    }
}

async fn own_client(world: &World) -> Client {
    let kubeconfig = world.cluster.kubeconfig_for("ecr-pull-secrets", "ecr-pull-secrets").await;
    world.cluster.client_for(&kubeconfig).await
}

#[tokio::test]
async fn its_credential_touches_no_secret_of_another_name() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    world.run_controller().await;
    world.opt_in("team-a").await;
    world.wait_for_secret("team-a").await;
    let body = |name: &str| {
        serde_json::from_value::<Secret>(json!({"metadata": {"name": name}, "data": {"key": "dmFsdWU="}}))
            .expect("a secret")
    };
    world
        .secrets("team-a")
        .create(&PostParams::default(), &body("private"))
        .await
        .expect("a secret of the tenant");

    let client = own_client(&world).await;
    let (everywhere, here): (Api<Secret>, Api<Secret>) =
        (Api::all(client.clone()), Api::namespaced(client, "team-a"));
    let apply = PatchParams { force: true, ..PatchParams::apply("ecr-pull-secrets") };
    let manifest =
        |name: &str| Patch::Apply(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}));
    assert_eq!(code(everywhere.list(&ListParams::default()).await), 403, "list of all");
    assert_eq!(code(here.list(&ListParams::default()).await), 403, "list of a namespace");
    assert_eq!(code(everywhere.list_metadata(&ListParams::default()).await), 403, "list of all metadata");
    assert_eq!(code(everywhere.list(&ListParams::default().fields("metadata.name=private")).await), 403);
    assert_eq!(code(here.get("private").await), 403, "get");
    assert_eq!(code(here.get_metadata("private").await), 403, "get of metadata");
    assert_eq!(code(here.create(&PostParams::default(), &body("another")).await), 403, "create by POST");
    assert_eq!(
        code(here.create(&PostParams::default(), &body(NAME)).await),
        403,
        "create by POST, the name being allowed"
    );
    assert_eq!(code(here.patch("another", &apply, &manifest("another")).await), 403, "create by apply");
    assert_eq!(code(here.patch("private", &apply, &manifest("private")).await), 403, "apply");
    assert_eq!(
        code(here.patch("private", &PatchParams::default(), &Patch::Merge(json!({"data": null}))).await),
        403
    );
    assert_eq!(code(here.replace("private", &PostParams::default(), &body("private")).await), 403, "replace");
    assert_eq!(code(here.delete("private", &DeleteParams::default()).await), 403, "delete");
    let all = ListParams::default();
    assert_eq!(code(here.delete_collection(&DeleteParams::default(), &all).await), 403, "delete of all");
    assert_eq!(code(here.get(NAME).await), 200, "what it is for");
    let private = world.secrets("team-a").get("private").await.expect("it is untouched");
    assert_eq!(private.data.expect("data")["key"].0, b"value");
    world.finish().await;
}

#[tokio::test]
async fn a_right_that_is_missing_is_named_and_the_rest_goes_on() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    let readonly = crate::world::RBAC
        .replace("verbs: [get, list, watch, create, patch, delete]", "verbs: [get, list, watch]");
    assert_ne!(readonly, crate::world::RBAC);
    world.cluster.apply(&readonly).await;
    world.run_controller().await;
    world.opt_in("team-a").await;
    let event = world.wait_for_event("team-a", "WriteFailed").await;
    let message = event.message.expect("a message");
    assert!(
        message.contains("cannot patch resource \"secrets\"") && message.contains("ClusterRole"),
        "{message}"
    );
    assert_eq!(world.probe("/livez").await.0, 200);
    world.cluster.apply(crate::world::RBAC).await;
    world.wait_for_secret("team-a").await;
    world.wait_for_event("team-a", "SecretRecovered").await;
    world.finish().await;
}
