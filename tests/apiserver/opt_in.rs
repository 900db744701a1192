//! Opting in by the configuration, and names that are no longer used.

use k8s_openapi::api::core::v1::Secret;
use serde_json::json;
use testing::tenants::{HOST, NAME, annotation, hosts, uid};

use crate::harness::{RBAC, cluster_test};

fn config(namespaces: &str) -> String {
    format!("defaults: {{registries: [{HOST}]}}\nnamespaces: {namespaces}\n")
}

#[test]
fn namespaces_are_included_by_labels_and_names_and_their_annotation_wins() {
    cluster_test(async |cluster| {
        for namespace in ["plain", "labelled", "says-none", "app-a", "app-test", "app-other"] {
            cluster.annotate(namespace, &[]).await;
        }
        cluster.label("labelled", json!({"team": "blue"})).await;
        cluster.label("says-none", json!({"team": "blue"})).await;
        cluster.label("kube-public", json!({"team": "blue"})).await;
        cluster.request("says-none", "none").await;
        let other = "222222222222.dkr.ecr.eu-central-1.amazonaws.com";
        cluster.request("app-other", other).await;
        let yaml = config("{selector: {matchLabels: {team: blue}}, include: ['app-*'], exclude: [app-test]}");
        cluster.run_controller_configured(&yaml).await;
        for namespace in ["labelled", "app-a"] {
            let secret = cluster.wait_for_secret(namespace).await;
            assert_eq!(hosts(&secret), [HOST], "{namespace}");
            assert!(annotation(&secret, "applied").contains(r#""byDefault":true"#));
        }
        let asked = cluster.wait_for_secret("app-other").await;
        assert_eq!(hosts(&asked), [other], "what it asks for comes before the default");
        cluster.annotate("comes-later", &[]).await;
        cluster.label("comes-later", json!({"team": "blue"})).await;
        cluster.wait_for_secret("comes-later").await;
        assert_eq!(
            cluster.all_secrets().await.into_keys().collect::<Vec<_>>(),
            ["app-a", "app-other", "comes-later", "labelled"]
        );

        cluster.label("labelled", json!({"team": null})).await;
        cluster.wait_for_no_secret("labelled").await;
        cluster.request("app-a", "none").await;
        cluster.wait_for_no_secret("app-a").await;
        cluster.request("app-test", "default").await;
        cluster.wait_for_secret("app-test").await;
    });
}

#[test]
fn a_configuration_that_includes_far_fewer_removes_nothing_until_that_is_confirmed() {
    cluster_test(async |cluster| {
        for n in 0..12 {
            cluster.annotate(&format!("app-{n}"), &[]).await;
        }
        cluster.opt_in("asks").await;
        cluster
            .run_controller_configured(&config("{include: ['*'], exclude: [default, ecr-pull-secrets]}"))
            .await;
        cluster.wait_for_secrets(13).await;
        cluster.stop_controller().await;

        let none = cluster.config(&config("{include: []}"));
        cluster.run_controller_with(&["--config", &none]).await;
        cluster.opt_out("asks").await;
        cluster.wait_for_no_secret("asks").await;
        assert_eq!(cluster.all_secrets().await.len(), 12, "removing the annotation needs no confirmation");
        let id = cluster.held_id().expect("the log names the ID");
        cluster.stop_controller().await;

        cluster.run_controller_with(&["--config", &none, &format!("--confirm-removals={id}")]).await;
        cluster.wait_for_secrets(0).await;
    });
}

#[test]
fn a_retired_name_is_cleaned_up_once_the_new_one_exists() {
    cluster_test(async |cluster| {
        let old = cluster.config("secretNames: [old-name]");
        let rights = RBAC.replace("[ecr-pull]", "[old-name]");
        cluster.control_plane.apply(&rights).await;
        for namespace in ["team-a", "team-b"] {
            cluster.opt_in(namespace).await;
        }
        cluster.run_controller_with(&["--config", &old]).await;
        for namespace in ["team-a", "team-b"] {
            let there = async || cluster.secret_named(namespace, "old-name").await;
            cluster.wait_for("the old secret", there).await;
        }
        cluster.stop_controller().await;
        cluster.annotate("theirs", &[]).await;
        let theirs: Secret = cluster.create("theirs", json!({"metadata": {"name": "old-name"}})).await;

        // While nothing ran, one namespace opted out.
        cluster.opt_out("team-b").await;
        let new = cluster.config(&format!("secretNames: [{NAME}]\nretiredSecretNames: [old-name]"));
        let wanted = "resourceNames: [ecr-pull]\n    verbs: [get, list, watch, create, patch, delete]";
        let retired = "  - apiGroups: [\"\"]\n    resources: [secrets]\n    resourceNames: [old-name]\n    verbs: [get, list, watch, delete]";
        assert!(RBAC.contains(wanted));
        cluster.control_plane.apply(&RBAC.replace(wanted, &format!("{wanted}\n{retired}"))).await;
        cluster.run_controller_with(&["--config", &new]).await;
        cluster.wait_for_secret("team-a").await;
        for namespace in ["team-a", "team-b"] {
            let gone = async || cluster.secret_named(namespace, "old-name").await.is_none();
            cluster.wait_until("the old secret is gone", gone).await;
        }
        assert!(cluster.secret("team-b").await.is_none());
        let still =
            cluster.secret_named("theirs", "old-name").await.expect("a secret that is not ours stays");
        assert_eq!(uid(&still), uid(&theirs));
    });
}

#[test]
fn a_secret_that_a_finalizer_holds_is_reported_and_not_as_deleted() {
    cluster_test(async |cluster| {
        cluster.run_controller().await;
        cluster.opt_in("team-a").await;
        cluster.wait_for_secret("team-a").await;
        let finalizers = |list: serde_json::Value| json!({"metadata": {"finalizers": list}});
        cluster.edit("team-a", finalizers(json!(["test.example/hold"]))).await;
        cluster.opt_out("team-a").await;
        let message = cluster.wait_for_message("team-a", "DeletionBlocked").await;
        assert!(message.contains("finalizer"), "{message}");
        let held = cluster.existing_secret("team-a").await;
        assert!(held.metadata.deletion_timestamp.is_some(), "it was deleted once");
        assert!(cluster.events_of("team-a", "SecretDeleted").await.is_empty());

        cluster.opt_in("team-a").await;
        cluster.edit("team-a", finalizers(json!([]))).await;
        let renewed = async || cluster.secret("team-a").await.filter(|secret| uid(secret) != uid(&held));
        cluster.wait_for("a new secret", renewed).await;
    });
}
