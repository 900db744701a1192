//! The hook that cleans up after an uninstall, when it fails.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::Api;
use serde_json::json;
use testing::helm;

use super::{CHART, all, render};
use crate::harness::{TestCluster, cluster_test};

const NAMESPACE: &str = "other";
const NAME: &str = "other-ecr-pull-secrets-cleanup";

/// The objects of the hook that exist.
async fn rights(cluster: &TestCluster) -> Vec<&'static str> {
    let client = || cluster.admin.clone();
    let get = "the admin reads it";
    let mut found = vec![];
    let (role, binding): (Api<ClusterRole>, Api<ClusterRoleBinding>) =
        (Api::all(client()), Api::all(client()));
    let (own, bound): (Api<Role>, Api<RoleBinding>) = (cluster.api(NAMESPACE), cluster.api(NAMESPACE));
    let account: Api<ServiceAccount> = cluster.api(NAMESPACE);
    for (kind, exists) in [
        ("ServiceAccount", account.get_opt(NAME).await.expect(get).is_some()),
        ("ClusterRole", role.get_opt(NAME).await.expect(get).is_some()),
        ("ClusterRoleBinding", binding.get_opt(NAME).await.expect(get).is_some()),
        ("Role", own.get_opt(NAME).await.expect(get).is_some()),
        ("RoleBinding", bound.get_opt(NAME).await.expect(get).is_some()),
    ] {
        if exists {
            found.push(kind);
        }
    }
    found
}

async fn install_and_uninstall(cluster: &TestCluster) -> String {
    let kubeconfig = cluster.control_plane.admin_kubeconfig().display().to_string();
    let at = ["other", "--namespace", NAMESPACE, "--kubeconfig", &kubeconfig];
    let set = ["--create-namespace", "--set", "cleanupOnUninstall=true"];
    helm::run(&[&["install"], &at[..], &set, &[CHART]].concat()).await.expect("an installation");
    helm::run(&[&["uninstall"], &at[..], &["--timeout", "4s"]].concat()).await.expect_err("the hook fails")
}

/// No kubelet runs here: the job does not end in time.
#[test]
fn its_rights_do_not_outlive_a_hook_that_fails() {
    cluster_test(async |cluster| {
        install_and_uninstall(cluster).await;
        assert!(rights(cluster).await.is_empty(), "{:?}", rights(cluster).await);
        let jobs: Api<Job> = cluster.api(NAMESPACE);
        jobs.get(NAME).await.expect("its log shows why");
    });
}

#[tokio::test]
async fn helm_deletes_its_rights_also_if_it_fails_but_keeps_the_job() {
    let objects = render(&["--set", "cleanupOnUninstall=true"]).await.expect("the chart renders");
    for (kind, count) in [
        ("ServiceAccount", 1),
        ("ClusterRole", 1),
        ("ClusterRoleBinding", 1),
        ("Role", 1),
        ("RoleBinding", 1),
    ] {
        let hook = |object: &serde_json::Value| {
            object.pointer("/metadata/annotations/helm.sh~1hook-delete-policy").cloned()
        };
        let hooks: Vec<_> = all(&objects, kind).iter().filter_map(hook).collect();
        assert_eq!(hooks, vec![json!("before-hook-creation,hook-succeeded,hook-failed"); count], "{kind}");
    }
    let job = &all(&objects, "Job")[0]["metadata"]["annotations"]["helm.sh/hook-delete-policy"];
    assert_eq!(*job, json!("before-hook-creation,hook-succeeded"));
}
