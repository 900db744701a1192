//! Clusters with a mutating policy that sets something on every Secret, also on those of the controller.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use serde_json::json;
use testing::aws::Behaviour;
use testing::tenants::{HOST, password, uid};

use super::{VALUES, install_chart};
use crate::chart::{configuration, install};
use crate::harness::{TestCluster, cluster_test_with};

/// Of `admissionregistration.k8s.io/v1`, as the chart's own.
pub const POLICY: (&str, u32) = ("MutatingAdmissionPolicy", 36);

fn mutation(expression: &str) -> String {
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"], "operations": ["CREATE", "UPDATE"]});
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": "stamp"},
        "spec": {
            "failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "matchConstraints": {"resourceRules": [rule]},
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": "stamp"}, "spec": {"policyName": "stamp"},
    });
    format!("{policy}\n---\n{binding}\n")
}

/// Starts the controller under a mutation of every Secret. Returns the message of the denial in `team-a`, after which the
/// value is set, and the first Secret.
async fn denial_and_secret(cluster: &mut TestCluster, expression: &str, value: &str) -> (String, Secret) {
    install_chart(cluster).await;
    cluster.control_plane.apply(&mutation(expression)).await;
    cluster.annotate("probe", &[]).await;
    let mutated = async || {
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let plain = serde_json::from_value(json!({"metadata": {"name": "probe"}})).expect("a Secret");
        let secret = cluster.secrets("probe").create(&dry, &plain).await.expect("it is created");
        secret.immutable.is_some() || secret.metadata.labels.is_some()
    };
    cluster.wait_until("the mutation is in force", mutated).await;
    cluster.aws.set(Behaviour::living(Duration::from_secs(20)));
    let config = cluster.config(&configuration(&VALUES).await);
    cluster.run_controller_with(&["--config", &config]).await;
    cluster.opt_in("team-a").await;
    let message = cluster.wait_for_message("team-a", "WriteFailed").await;
    assert!(cluster.secret("team-a").await.is_none());
    install(cluster, &[&VALUES[..], &["--set-json", value]].concat()).await;
    let secret = cluster.wait_for_secret("team-a").await;
    (message, secret)
}

/// As a mutating webhook that records the team, or the last writer.
#[test]
fn a_stamp_on_every_secret_is_denied_with_its_key_and_the_value_that_allows_it() {
    cluster_test_with(POLICY, async |cluster| {
        let stamp = "Object{metadata: Object.metadata{
            labels: {'stamp.example/team': 'unknown'}, annotations: {'stamp.example/by': request.userInfo.username}}}";
        let allow = r#"admissionPolicy={"allowedMetadata":["stamp.example/*"]}"#;
        let (message, first) = denial_and_secret(cluster, stamp, allow).await;
        assert!(message.contains("label stamp.example/team"), "{message}");
        assert!(message.contains("admissionPolicy.allowedMetadata"), "{message}");
        assert_eq!(first.metadata.labels.as_ref().expect("labels")["stamp.example/team"], "unknown");
        // The stamp of another client is replaced by the next renewal.
        cluster.edit("team-a", json!({"metadata": {"annotations": {"example.com/theirs": "x"}}})).await;
        let renewed = async || {
            let now = cluster.existing_secret("team-a").await;
            (password(&now, HOST) != password(&first, HOST)).then_some(now)
        };
        let now = cluster.wait_for("the next token", renewed).await;
        assert_eq!(uid(&now), uid(&first));
        let annotations = now.metadata.annotations.expect("annotations");
        assert!(annotations["stamp.example/by"].ends_with(":ecr-pull-secrets"), "{annotations:?}");
        assert_eq!(annotations["example.com/theirs"], "x");
        cluster.wait_for_event("team-a", "SecretRecovered").await;
    });
}

#[test]
fn immutable_on_every_secret_is_denied_with_the_value_that_allows_it() {
    cluster_test_with(POLICY, async |cluster| {
        let allow = r#"admissionPolicy={"allowImmutable":true}"#;
        let (message, first) = denial_and_secret(cluster, "Object{immutable: true}", allow).await;
        assert!(
            message.contains("immutable") && message.contains("admissionPolicy.allowImmutable"),
            "{message}"
        );
        assert_eq!(first.immutable, Some(true));
        let recreated = async || {
            let now = cluster.secret("team-a").await?;
            (password(&now, HOST) != password(&first, HOST)).then_some(now)
        };
        let now = cluster.wait_for("the next token", recreated).await;
        assert_ne!(uid(&now), uid(&first), "an immutable Secret is recreated");
    });
}
