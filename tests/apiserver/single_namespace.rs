//! `namespaces.only`: the controller without any permission in the whole cluster.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use serde_json::json;
use testing::tenants::{HOST, INSTANCE, NAME, REGISTRIES, USER, assert_untouched, hosts, uid};
use tokio::time::{Instant, sleep};

use crate::chart::{configuration, installation};
use crate::harness::{TestCluster, cluster_test};

const VALUES: [&str; 4] = [
    "--set-json",
    r#"config={"namespaces":{"only":["team-a","team-b"]},"serviceAccounts":{"enabled":true},
        "defaults":{"registries":["123456789012.dkr.ecr.eu-central-1.amazonaws.com"]},
        "leaderElection":{"leaseDuration":"4s","renewDeadline":"3s","retryPeriod":"1s"}}"#,
    "--set",
    "podDisruptionBudget.enabled=false",
];
const WEST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

/// What a user has who is `admin` of a namespace. Without kube-controller-manager, that role itself is empty.
const PARTS_OF_ADMIN: [&str; 3] =
    ["system:aggregate-to-admin", "system:aggregate-to-edit", "system:aggregate-to-view"];

async fn remove<K>(cluster: &TestCluster)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<K> = Api::all(cluster.admin.clone());
    api.delete(INSTANCE, &DeleteParams::default()).await.expect("the harness granted it");
}

/// Lets a user who is only `admin` of three namespaces install the chart. Returns the configuration file.
async fn install(cluster: &TestCluster) -> String {
    remove::<ClusterRoleBinding>(cluster).await;
    remove::<ClusterRole>(cluster).await;
    for namespace in ["team-a", "team-b", "team-c"] {
        cluster.annotate(namespace, &[]).await;
    }
    cluster.create::<ServiceAccount>(INSTANCE, json!({"metadata": {"name": "installer"}})).await;
    let mut bindings = vec![];
    for namespace in ["team-a", "team-b", INSTANCE] {
        for role in PARTS_OF_ADMIN {
            let binding = json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": {"name": role, "namespace": namespace},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "ServiceAccount", "name": "installer", "namespace": INSTANCE}],
            });
            bindings.push(format!("---\n{binding}\n"));
        }
    }
    cluster.control_plane.apply(&bindings.concat()).await;
    let token = cluster.control_plane.token_for(INSTANCE, "installer").await;
    let installer = cluster.control_plane.client_with(&token).await;
    cluster.control_plane.apply_as(&installer, &installation(&VALUES).await).await;
    cluster.config(&configuration(&VALUES).await)
}

async fn run(cluster: &mut TestCluster, config: &str) {
    cluster.run_controller_with(&["--config", config, "--leader-election"]).await;
}

/// Every request of the controller names a namespace, or is the one for the version.
fn assert_no_cluster_scoped_request(cluster: &TestCluster) {
    let all = cluster.control_plane.audit().into_iter().filter(|entry| entry.user == USER);
    let all: Vec<_> = all.collect();
    assert!(all.len() > 20, "{} requests", all.len());
    let outside: Vec<_> = all.iter().filter(|e| e.namespace.is_none()).map(|e| (&e.verb, &e.uri)).collect();
    assert!(!outside.is_empty() && outside.iter().all(|(_, uri)| **uri == "/version"), "{outside:?}");
    let allowed = ["team-a", "team-b", INSTANCE].map(str::to_owned);
    let foreign = all.iter().filter_map(|e| e.namespace.clone()).find(|name| !allowed.contains(name));
    assert_eq!(foreign, None);
}

async fn wait_for_hosts(cluster: &TestCluster, namespace: &str, expected: &[&str]) {
    let found = async || cluster.secret(namespace).await.filter(|secret| hosts(secret) == *expected);
    cluster.wait_for(&format!("{expected:?} in {namespace}"), found).await;
}

#[test]
fn an_admin_of_the_namespaces_installs_it_and_it_makes_no_cluster_scoped_request_but_for_the_version() {
    cluster_test(async |cluster| {
        let config = install(cluster).await;
        cluster.opt_in("team-c").await;
        let accounts = ("ecr-pull-secrets.dev/service-accounts", Some("builder"));
        cluster.annotate("team-b", &[(REGISTRIES, Some(WEST)), accounts]).await;
        cluster.create::<ServiceAccount>("team-b", json!({"metadata": {"name": "builder"}})).await;
        run(cluster, &config).await;
        wait_for_hosts(cluster, "team-a", &[HOST]).await;
        wait_for_hosts(cluster, "team-b", &[WEST]).await;
        cluster.wait_for_event("team-a", "SecretCreated").await;

        let builder: Api<ServiceAccount> = cluster.api("team-b");
        let is_attached = async || {
            let found = builder.get("builder").await.expect("it exists").image_pull_secrets;
            found.is_some_and(|references| references.len() == 1)
        };
        cluster.wait_until("the reference", is_attached).await;
        let before = cluster.existing_secret("team-a").await;
        cluster.edit("team-a", json!({"data": {".dockerconfigjson": "eyJhdXRocyI6e319"}})).await;
        cluster.wait_for_event("team-a", "SecretRepaired").await;
        wait_for_hosts(cluster, "team-a", &[HOST]).await;
        assert_eq!(uid(&before), uid(&cluster.existing_secret("team-a").await));
        cluster.delete("team-a").await;
        cluster.wait_for_secret("team-a").await;

        // The API server may end a watch at any time: the lists of both namespaces are one.
        let kept = cluster.existing_secret("team-b").await;
        cluster.stop_controller().await;
        run(cluster, &config).await;
        sleep(Duration::from_secs(2)).await;
        assert_untouched(&kept, &cluster.existing_secret("team-b").await);
        assert_eq!(cluster.secret("team-c").await, None, "it is not listed");
        assert_no_cluster_scoped_request(cluster);
    });
}

#[test]
fn annotations_count_within_a_minute_and_an_opt_out_deletes() {
    cluster_test(async |cluster| {
        let config = install(cluster).await;
        run(cluster, &config).await;
        wait_for_hosts(cluster, "team-a", &[HOST]).await;
        let kept = cluster.wait_for_secret("team-b").await;
        cluster.request("team-a", "none").await;
        let begun = Instant::now();
        while cluster.secret("team-a").await.is_some() {
            assert!(begun.elapsed() < Duration::from_mins(2), "an opt-out is noticed within a minute");
            sleep(Duration::from_millis(100)).await;
        }
        cluster.wait_for_event("team-a", "SecretDeleted").await;
        assert_untouched(&kept, &cluster.existing_secret("team-b").await);
        assert_no_cluster_scoped_request(cluster);
    });
}

/// The Role of a namespace may lack `get` on the Namespace, or may be missing.
#[test]
fn without_the_permission_to_read_the_namespace_the_configuration_counts_and_a_missing_role_delays_no_other()
{
    cluster_test(async |cluster| {
        let config = install(cluster).await;
        let roles: Api<Role> = cluster.api("team-a");
        let mut role = roles.get("ecr-pull-secrets-pull-secrets").await.expect("the chart creates it");
        let all = role.rules.as_mut().expect("rules");
        all.retain(|rule| rule.resources.as_deref() != Some(&["namespaces".to_owned()]));
        let patch = Patch::Merge(json!({"rules": role.rules}));
        roles
            .patch("ecr-pull-secrets-pull-secrets", &PatchParams::default(), &patch)
            .await
            .expect("it is patched");
        let missing: Api<Role> = cluster.api("team-b");
        missing
            .delete("ecr-pull-secrets-pull-secrets", &DeleteParams::default())
            .await
            .expect("it is deleted");
        let client = cluster.own_client().await;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let secrets: Api<Secret> = Api::namespaced(client, "team-b");
        let is_refused = |error: kube::Error| matches!(error, kube::Error::Api(status) if status.code == 403);
        let refused = async || {
            namespaces.get("team-a").await.is_err_and(is_refused)
                && secrets.get(NAME).await.is_err_and(is_refused)
        };
        cluster.wait_until("the rights are in force", refused).await;
        cluster.request("team-a", WEST).await;
        run(cluster, &config).await;
        wait_for_hosts(cluster, "team-a", &[HOST]).await;
        assert!(cluster.log().contains("no permission to read the Namespace"));
        cluster.edit("team-a", json!({"data": {".dockerconfigjson": "eyJhdXRocyI6e319"}})).await;
        let begun = Instant::now();
        wait_for_hosts(cluster, "team-a", &[HOST]).await;
        assert!(begun.elapsed() < Duration::from_secs(20), "the watch of team-b fails, and delays no other");
        assert_eq!(cluster.secret("team-b").await, None);

        cluster.control_plane.apply(&installation(&VALUES).await).await;
        cluster.wait_for_secret("team-b").await;
        assert_no_cluster_scoped_request(cluster);
    });
}

#[test]
fn cleanup_and_sync_stay_within_the_namespaces() {
    cluster_test(async |cluster| {
        let config = install(cluster).await;
        let allow = json!({"rules": [{
            "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": [INSTANCE],
            "verbs": ["get", "create", "update", "delete"],
        }]});
        let roles: Api<Role> = cluster.api(INSTANCE);
        roles.patch(INSTANCE, &PatchParams::default(), &Patch::Merge(&allow)).await.expect("it is patched");
        let (code, said) = cluster.run("sync", &["--config", &config]).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("2 up to date, 2 written"), "{said}");
        let (code, said) = cluster.run("cleanup", &["--config", &config, "--yes"]).await;
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(cluster.all_secrets().await.len(), 0);
        assert_no_cluster_scoped_request(cluster);
    });
}
