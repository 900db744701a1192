//! What the controller's own credential can and cannot do: nothing to a secret of another name.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use testing::tenants::NAME;

use crate::harness::{RBAC, cluster_test};

fn code<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> u16 {
    match result {
        Ok(_) => 200,
        Err(kube::Error::Api(status)) => status.code,
        Err(error) => panic!("no answer: {error}"),
    }
}

#[test]
fn its_credential_touches_no_secret_of_another_name() {
    cluster_test(async |cluster| {
        cluster.run_controller().await;
        cluster.opt_in("team-a").await;
        cluster.wait_for_secret("team-a").await;
        let body = |name: &str| {
            serde_json::from_value::<Secret>(json!({"metadata": {"name": name}, "data": {"key": "dmFsdWU="}}))
                .expect("a secret")
        };
        cluster
            .secrets("team-a")
            .create(&PostParams::default(), &body("private"))
            .await
            .expect("a secret of the tenant");

        let client = cluster.own_client().await;
        let (everywhere, here): (Api<Secret>, Api<Secret>) =
            (Api::all(client.clone()), Api::namespaced(client, "team-a"));
        let apply = PatchParams { force: true, ..PatchParams::apply("ecr-pull-secrets") };
        let manifest = |name: &str| {
            Patch::Apply(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}))
        };
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
        assert_eq!(
            code(here.replace("private", &PostParams::default(), &body("private")).await),
            403,
            "replace"
        );
        assert_eq!(code(here.delete("private", &DeleteParams::default()).await), 403, "delete");
        let all = ListParams::default();
        assert_eq!(code(here.delete_collection(&DeleteParams::default(), &all).await), 403, "delete of all");
        assert_eq!(code(here.get(NAME).await), 200, "what it is for");
        let private = cluster.secret_named("team-a", "private").await.expect("it is untouched");
        assert_eq!(private.data.expect("data")["key"].0, b"value");
    });
}

#[test]
fn a_right_that_is_missing_is_named_and_the_rest_goes_on() {
    cluster_test(async |cluster| {
        let readonly =
            RBAC.replace("verbs: [get, list, watch, create, patch, delete]", "verbs: [get, list, watch]");
        assert_ne!(readonly, RBAC);
        cluster.control_plane.apply(&readonly).await;
        let own: Api<Secret> = Api::namespaced(cluster.own_client().await, "default");
        let dry = PatchParams { dry_run: true, ..PatchParams::apply("ecr-pull-secrets") };
        let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME}});
        let refused = async || code(own.patch(NAME, &dry, &Patch::Apply(&body)).await) == 403;
        cluster.wait_until("the rights are in force", refused).await;
        cluster.run_controller().await;
        cluster.opt_in("team-a").await;
        let message = cluster.wait_for_message("team-a", "WriteFailed").await;
        assert!(
            message.contains("cannot patch resource \"secrets\"") && message.contains("ClusterRole"),
            "{message}"
        );
        assert_eq!(cluster.probe("/livez").await.0, 200);
        cluster.control_plane.apply(RBAC).await;
        cluster.wait_for_secret("team-a").await;
        cluster.wait_for_event("team-a", "SecretRecovered").await;
    });
}
