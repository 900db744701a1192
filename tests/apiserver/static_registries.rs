//! Entries of other registries that go beside those of ECR, and follow the Secret that they come from.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use testing::aws::{Behaviour, Fault};
use testing::tenants::{HOST, INSTANCE, annotation, auths, uid, version};

use crate::harness::{TestCluster, cluster_test};

const RBAC: &str = include_str!("../../deploy/rbac-static-registries.yaml");
const SOURCE: &str = "registry-logins";
const CONFIG: &str = "\
staticRegistries:
  - {secret: registry-logins, registries: [docker.io, mirror.example], namespaces: ['team-*']}";

async fn run(cluster: &mut TestCluster) {
    let config = cluster.config(CONFIG);
    cluster.run_controller_with(&["--config", &config, "--namespace", INSTANCE]).await;
}

fn data(entries: &Value) -> Value {
    json!({ ".dockerconfigjson": STANDARD.encode(json!({ "auths": entries }).to_string()) })
}

async fn create_source(cluster: &TestCluster, entries: &Value) {
    let body = json!({
        "metadata": {"name": SOURCE}, "type": "kubernetes.io/dockerconfigjson", "data": data(entries),
    });
    cluster.create::<Secret>(INSTANCE, body).await;
}

async fn patch_source(cluster: &TestCluster, patch: Value) {
    let patch = Patch::Merge(patch);
    let api = cluster.secrets(INSTANCE);
    api.patch(SOURCE, &PatchParams::default(), &patch).await.expect("the source is patched");
}

fn passwords(secret: &Secret) -> Vec<(String, String)> {
    let password = |value: &Value| value["password"].as_str().unwrap_or_default().to_owned();
    auths(secret).iter().filter(|(host, _)| *host != HOST).map(|(h, v)| (h.clone(), password(v))).collect()
}

fn of(entries: &[(&str, &str)]) -> Vec<(String, String)> {
    entries.iter().map(|(host, password)| ((*host).to_owned(), (*password).to_owned())).collect()
}

async fn wait_for(cluster: &TestCluster, namespace: &str, entries: &[(&str, &str)]) -> Secret {
    let found = async || cluster.secret(namespace).await.filter(|secret| passwords(secret) == of(entries));
    cluster.wait_for(&format!("{entries:?} in {namespace}"), found).await
}

#[test]
fn granted_namespaces_get_the_entries_and_follow_their_changes() {
    cluster_test(async |cluster| {
        cluster.control_plane.apply(RBAC).await;
        let auth = STANDARD.encode("me:first");
        create_source(cluster, &json!({"docker.io": {"auth": auth}, "quay.io": {"auth": auth}})).await;
        cluster.opt_in("team-a").await;
        cluster.opt_in("dev").await;
        run(cluster).await;
        let first = wait_for(cluster, "team-a", &[("docker.io", "first")]).await;
        assert!(auths(&first).contains_key(HOST), "beside those of ECR");
        assert_eq!(passwords(&cluster.wait_for_secret("dev").await), [], "nobody granted it");
        assert!(!annotation(&first, "applied").contains(&auth), "{}", annotation(&first, "applied"));

        // Followed while AWS is out of order, and without a token that is not needed.
        cluster.aws.set(Behaviour::failing(Fault::ServerError));
        let entries = json!({
            "docker.io": {"username": "me", "password": "second"}, "mirror.example": {"auth": auth},
        });
        patch_source(cluster, json!({ "data": data(&entries) })).await;
        let both = [("docker.io", "second"), ("mirror.example", "first")];
        let second = wait_for(cluster, "team-a", &both).await;
        assert_eq!(uid(&first), uid(&second));
        assert_eq!(auths(&first)[HOST], auths(&second)[HOST], "the token of ECR is carried over");
        cluster.aws.reset();

        // Another change of the source is not a change of its entries.
        patch_source(cluster, json!({ "metadata": {"labels": {"touched": "yes"}} })).await;
        cluster.opt_in("team-b").await;
        wait_for(cluster, "team-b", &both).await;
        assert_eq!(version(&second), version(&cluster.existing_secret("team-a").await));

        // Changed while nothing ran.
        cluster.stop_controller().await;
        patch_source(cluster, json!({ "data": data(&json!({"mirror.example": {"auth": auth}})) })).await;
        run(cluster).await;
        wait_for(cluster, "team-a", &[("mirror.example", "first")]).await;

        // A deleted source removes no entry, also not with a restart and a repair.
        cluster
            .secrets(INSTANCE)
            .delete(SOURCE, &DeleteParams::default())
            .await
            .expect("the source is deleted");
        cluster.stop_controller().await;
        run(cluster).await;
        cluster
            .edit("team-a", json!({ "metadata": {"labels": {"ecr-pull-secrets.dev/instance": null}} }))
            .await;
        cluster.wait_for_event("team-a", "SecretRepaired").await;
        wait_for(cluster, "team-a", &[("mirror.example", "first")]).await;

        // A withdrawn grant does.
        cluster.stop_controller().await;
        let config = cluster.config("instance: ecr-pull-secrets");
        cluster.run_controller_with(&["--config", &config]).await;
        let last = wait_for(cluster, "team-a", &[]).await;
        assert!(auths(&last).contains_key(HOST));
    });
}

#[test]
fn without_the_right_to_read_the_source_secrets_are_still_written() {
    cluster_test(async |cluster| {
        cluster.opt_in("team-a").await;
        run(cluster).await;
        cluster.wait_for_secret("team-a").await;
        assert!(cluster.log().contains(SOURCE), "the log names what cannot be read");
    });
}
