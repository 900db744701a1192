//! What a compromised credential of the controller can do, and which layer refuses the rest: RBAC or the admission
//! policy, both as the chart renders them.

mod additions;
mod mutations;

pub use mutations::POLICY;

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use testing::compromised_credential::{CompromisedCredential, TYPE, secret};
use testing::control_plane::AuditEntry;
use testing::tenants::{HOST, NAME, REGISTRIES, Tenants};

use crate::chart::{RELEASE, configuration, install};
use crate::harness::{TestCluster, cluster_test};

const VALUES: [&str; 2] = [
    "--set-json",
    r#"config={"secretNames":["ecr-pull"],"serviceAccounts":{"enabled":true},"namespaces":{
        "selector":{"matchLabels":{"team":"blue"},"matchExpressions":[{"key":"stage","operator":"NotIn","values":["test","it's \"q\""]}]},
        "include":["app-*"],"exclude":["app-test"]},
        "defaults":{"registries":["123456789012.dkr.ecr.eu-central-1.amazonaws.com"]}}"#,
];

/// Installs the chart's rights and policies, and waits until the policies are in force.
pub async fn install_chart(cluster: &TestCluster) -> CompromisedCredential {
    install_with(cluster, &VALUES).await
}

/// As [`install_chart`], with these values.
pub async fn install_with(cluster: &TestCluster, values: &[&str]) -> CompromisedCredential {
    install(cluster, values).await;
    stolen_under_policies(cluster).await
}

/// The stolen credential, once the policies are in force.
async fn stolen_under_policies(cluster: &TestCluster) -> CompromisedCredential {
    let client = cluster.own_client().await;
    let stolen = CompromisedCredential { client, tenants: Tenants::clone(cluster) };
    cluster.annotate("probe", &[]).await;
    cluster.create::<ServiceAccount>("probe", json!({"metadata": {"name": "probe"}})).await;
    let in_force = async || stolen.policies_are_in_force("probe", "probe").await;
    cluster.wait_until("the policies are in force", in_force).await;
    stolen
}

/// Opts a namespace in, and waits until the policies' view of it has this. It gets no Secret.
pub async fn opt_in(cluster: &TestCluster, stolen: &CompromisedCredential, namespace: &str) {
    cluster.opt_in(namespace).await;
    let api: Api<Secret> = Api::namespaced(stolen.client.clone(), namespace);
    let dry = PatchParams { dry_run: true, ..PatchParams::apply("ecr-pull-secrets").force() };
    let body = Patch::Apply(secret(NAME, TYPE, RELEASE));
    let open = async || api.patch(NAME, &dry, &body).await.is_ok();
    cluster.wait_until(&format!("{namespace} counts as opted in"), open).await;
}

#[test]
fn a_stolen_credential_reaches_no_other_secret_and_no_other_namespace() {
    cluster_test(async |cluster| {
        let stolen = install_chart(cluster).await;
        cluster.annotate("tenant", &[]).await;
        opt_in(cluster, &stolen, "opted-in").await;
        for namespace in ["tenant", "opted-in"] {
            stolen.reaches_no_other_name(namespace).await;
            stolen.gains_no_rights(namespace).await;
        }
        stolen.creates_nothing_else("opted-in", "tenant").await;
        stolen.leaves_a_foreign_secret_alone("opted-in").await;
    });
}

#[test]
fn the_policy_applies_the_configured_opt_in_as_the_controller_does() {
    cluster_test(async |cluster| {
        let stolen = install_chart(cluster).await;
        for (namespace, labels, annotation, allowed) in [
            ("plain", json!({}), None, false),
            ("asks", json!({}), Some(HOST), true),
            ("says-none", json!({"team": "blue"}), Some(" none\n"), false),
            ("labelled", json!({"team": "blue"}), None, true),
            ("labelled-test", json!({"team": "blue", "stage": "test"}), None, false),
            ("labelled-live", json!({"team": "blue", "stage": "live"}), None, true),
            ("other-team", json!({"team": "red"}), None, false),
            ("app-one", json!({}), None, true),
            ("app-test", json!({"team": "blue"}), None, false),
            ("app-test-asks", json!({}), Some(""), true),
            ("kube-app", json!({"team": "blue"}), None, false),
        ] {
            cluster.annotate(namespace, &[]).await;
            cluster.label(namespace, labels).await;
            cluster.annotate(namespace, &[(REGISTRIES, annotation)]).await;
            let expected = async || {
                let said = stolen.apply(namespace, NAME, secret(NAME, TYPE, RELEASE)).await;
                let _ = cluster.secrets(namespace).delete(NAME, &DeleteParams::default()).await;
                if allowed { said == "allowed" } else { said.contains("in namespaces that opted in") }
            };
            // Its view of a namespace may lag for a moment.
            cluster.wait_until(&format!("{namespace}: allowed is {allowed}"), expected).await;
        }
        let config = cluster.config(&configuration(&VALUES).await);
        let (code, said) = cluster.run("sync", &["--config", &config, "--force"]).await;
        assert_eq!(code, Some(1), "an empty annotation is an error: {said}");
        let served: Vec<_> = cluster.all_secrets().await.into_keys().collect();
        assert_eq!(served, ["app-one", "asks", "labelled", "labelled-live"], "{said}");
    });
}

#[test]
fn of_service_accounts_only_the_reference_to_its_own_secret_can_be_changed() {
    cluster_test(async |cluster| {
        let stolen = install_chart(cluster).await;
        opt_in(cluster, &stolen, "team-a").await;
        stolen.changes_only_references("team-a").await;
    });
}

#[test]
fn only_its_own_events_can_be_written() {
    cluster_test(async |cluster| {
        let stolen = install_chart(cluster).await;
        cluster.annotate("tenant", &[]).await;
        for namespace in ["tenant", "kube-system"] {
            stolen.writes_only_its_own_events(namespace).await;
        }
    });
}

#[test]
fn a_denial_is_in_the_audit_log() {
    cluster_test(async |cluster| {
        let stolen = install_chart(cluster).await;
        cluster.annotate("tenant", &[]).await;
        let said = stolen.apply("tenant", NAME, secret(NAME, TYPE, RELEASE)).await;
        assert!(said.starts_with("policy: "), "{said}");
        let audited = async || {
            let denied =
                |entry: &AuditEntry| entry.namespace.as_deref() == Some("tenant") && entry.code == 403;
            cluster.requests("patch").into_iter().find(denied).and_then(|entry| entry.validation_failure)
        };
        let failure = cluster.wait_for("the annotation", audited).await;
        assert!(failure.contains("ecr-pull-secrets-secrets") && failure.contains("opted in"), "{failure}");
    });
}

#[test]
fn the_manifests_of_deploy_have_the_policies_too() {
    cluster_test(async |cluster| {
        // The harness applied deploy/rbac.yaml.
        cluster.control_plane.apply(include_str!("../../../deploy/rbac-service-accounts.yaml")).await;
        cluster.control_plane.apply(include_str!("../../../deploy/admission-policy.yaml")).await;
        let stolen = stolen_under_policies(cluster).await;
        opt_in(cluster, &stolen, "team-a").await;
        stolen.changes_only_references("team-a").await;
        stolen.writes_only_its_own_events("team-a").await;
        stolen.creates_nothing_with_an_addition("team-a").await;
    });
}

#[test]
fn under_the_charts_rights_and_policies_the_whole_job_is_done() {
    cluster_test(async |cluster| {
        install_chart(cluster).await;
        let config = cluster.config(&configuration(&VALUES).await);
        cluster.run_controller_with(&["--config", &config, "--leader-election"]).await;
        cluster.opt_in_teams(0..30).await;
        for n in 0..30 {
            cluster.wait_for_secret(&format!("team-{n}")).await;
        }
        let denied: Vec<_> =
            cluster.requests("patch").into_iter().filter(|entry| entry.code == 403).collect();
        println!("refused while the policy's view lagged: {} of 30", denied.len());
        // A Secret is repaired, also when its labels are gone.
        let strip = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null, "ecr-pull-secrets.dev/instance": null}}});
        for (namespace, edit) in
            [("team-0", json!({"data": {".dockerconfigjson": "e30="}})), ("team-1", strip)]
        {
            let before = cluster.wait_for_secret(namespace).await;
            cluster.edit(namespace, edit).await;
            let repaired = async || {
                let now = cluster.secret(namespace).await.expect("it stays");
                now.data == before.data && now.metadata.labels == before.metadata.labels
            };
            cluster.wait_until(&format!("{namespace} is repaired"), repaired).await;
        }
        cluster.annotate("team-2", &[("ecr-pull-secrets.dev/service-accounts", Some("builder"))]).await;
        let accounts: Api<ServiceAccount> = cluster.api("team-2");
        cluster.create::<ServiceAccount>("team-2", json!({"metadata": {"name": "builder"}})).await;
        let attached = async |wanted: usize| {
            let account = accounts.get("builder").await.expect("it is there");
            account.image_pull_secrets.unwrap_or_default().len() == wanted
        };
        cluster.wait_until("the reference", async || attached(1).await).await;
        cluster.request("team-2", "none").await;
        cluster.wait_until("no reference", async || attached(0).await).await;
        cluster.opt_out("team-3").await;
        for namespace in ["team-2", "team-3"] {
            cluster.wait_for_no_secret(namespace).await;
        }
        for n in 0..30 {
            let events = cluster.events_of(&format!("team-{n}"), "WriteFailed").await;
            assert!(events.is_empty(), "{events:?}");
        }
    });
}
