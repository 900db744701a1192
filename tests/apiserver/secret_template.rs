//! `secretTemplate`: labels and annotations of the administrator, which are added, kept and removed with the configuration.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use testing::aws::{Behaviour, Fault};
use testing::compromised_credential::{TYPE, secret};
use testing::tenants::{HOST, NAME, password, uid, version};

use crate::admission::install_with;
use crate::chart::{RELEASE, configuration};
use crate::harness::{TestCluster, cluster_test};

const FIRST: &str = "secretTemplate: {labels: {team: blue}, annotations: {example.com/contact: 'a, b'}}";
const SECOND: &str = "secretTemplate: {labels: {stage: live}}";

/// Labels and annotations that are not the controller's, as `key=value`.
fn extra(secret: &Secret) -> Vec<String> {
    let is_own =
        |key: &str| key == "app.kubernetes.io/managed-by" || key.starts_with("ecr-pull-secrets.dev/");
    let maps = [&secret.metadata.labels, &secret.metadata.annotations];
    let pairs = maps.into_iter().flatten().flatten().filter(|(key, _)| !is_own(key));
    pairs.map(|(key, value)| format!("{key}={value}")).collect()
}

async fn wait_for(cluster: &TestCluster, expected: &[&str]) -> Secret {
    let found = async || cluster.secret("team-a").await.filter(|secret| extra(secret) == *expected);
    cluster.wait_for(&format!("{expected:?}"), found).await
}

#[test]
fn a_changed_template_is_applied_without_aws_an_event_or_a_new_uid() {
    cluster_test(async |cluster| {
        cluster.opt_in("team-a").await;
        cluster.run_controller().await;
        let first = cluster.wait_for_secret("team-a").await;
        assert_eq!(extra(&first), [""; 0]);
        let mut before = first.clone();
        // Entries without a new token are carried over.
        cluster.aws.set(Behaviour::failing(Fault::ServerError));
        for (config, expected) in [
            (FIRST, &["team=blue", "example.com/contact=a, b"][..]),
            (SECOND, &["stage=live"]),
            ("instance: ecr-pull-secrets", &[]),
        ] {
            cluster.stop_controller().await;
            cluster.run_controller_configured(config).await;
            let now = wait_for(cluster, expected).await;
            assert_eq!((uid(&now), password(&now, HOST)), (uid(&first), password(&first, HOST)), "{config}");
            // The log follows the response.
            let is_logged = async || cluster.log().contains("TemplateChanged");
            cluster.wait_until(&format!("{config} is in the log"), is_logged).await;
            assert_ne!(version(&now), version(&before));
            cluster.stop_controller().await;
            cluster.run_controller_configured(config).await;
            cluster.wait_until("it is in sync", async || cluster.log().contains("first lists")).await;
            before = cluster.existing_secret("team-a").await;
            assert_eq!(version(&now), version(&before), "{config}: an applied template is left alone");
        }
        assert_eq!(cluster.events_of("team-a", "SecretRepaired").await.len(), 0);
    });
}

#[test]
fn a_key_of_the_template_that_was_removed_or_changed_is_repaired_also_after_a_restart() {
    cluster_test(async |cluster| {
        cluster.opt_in("team-a").await;
        cluster.run_controller_configured(FIRST).await;
        let all = ["team=blue", "example.com/contact=a, b"];
        wait_for(cluster, &all).await;
        for edit in [
            json!({"metadata": {"labels": {"team": null}}}),
            json!({"metadata": {"labels": {"team": "red"}}}),
            json!({"metadata": {"annotations": {"example.com/contact": null}}}),
        ] {
            cluster.stop_controller().await;
            cluster.edit("team-a", edit).await;
            cluster.run_controller_configured(FIRST).await;
            wait_for(cluster, &all).await;
            cluster.wait_for_event("team-a", "SecretRepaired").await;
        }
    });
}

/// What another manager set to the same value is also its own.
#[test]
fn a_key_that_leaves_the_template_stays_if_another_client_applied_it_too() {
    cluster_test(async |cluster| {
        cluster.opt_in("team-a").await;
        cluster.run_controller_configured(FIRST).await;
        wait_for(cluster, &["team=blue", "example.com/contact=a, b"]).await;
        let theirs = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME, "labels": {"team": "blue"}},
        });
        let params = PatchParams::apply("argocd");
        let applied = cluster.secrets("team-a").patch(NAME, &params, &Patch::Apply(theirs)).await;
        applied.expect("an admin applies it");
        cluster.stop_controller().await;
        cluster.run_controller_configured("instance: ecr-pull-secrets").await;
        wait_for(cluster, &["team=blue"]).await;
    });
}

#[test]
fn the_admission_policy_allows_exactly_the_values_of_the_template() {
    const VALUES: [&str; 2] = [
        "--set-json",
        r#"config={"serviceAccounts":{"enabled":true},"secretTemplate":{"labels":{"team":"it.s-b"},"annotations":{"example.com/note":"it's \"q\"\n{{ }}"}}}"#,
    ];
    cluster_test(async |cluster| {
        let stolen = install_with(cluster, &VALUES).await;
        cluster.opt_in("team-a").await;
        let config = cluster.config(&configuration(&VALUES).await);
        cluster.run_controller_with(&["--config", &config]).await;
        let now = cluster.wait_for_secret("team-a").await;
        assert_eq!(extra(&now), ["team=it.s-b", "example.com/note=it's \"q\"\n{{ }}"]);
        cluster.stop_controller().await;
        for (kind, key, value, denied) in [
            ("labels", "team", "red", "label team"),
            ("labels", "other", "it.s-b", "label other"),
            ("annotations", "example.com/note", "", "annotation example.com/note"),
        ] {
            let mut body = secret(NAME, TYPE, RELEASE);
            body["metadata"][kind][key] = value.into();
            let said = stolen.apply("team-a", NAME, body).await;
            assert!(said.contains(denied) && said.contains("config.secretTemplate"), "{key}: {said}");
        }
        let without = stolen.apply("team-a", NAME, secret(NAME, TYPE, RELEASE)).await;
        assert_eq!(without, "allowed", "a key that left the template is removed");
        assert_eq!(extra(&cluster.existing_secret("team-a").await), [""; 0]);
    });
}
