//! The hook that cleans up after an uninstall, when it fails.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use testing::compromised_credential::{TYPE, outcome, secret};
use testing::tools;

use super::{CHART, RELEASE, all, configuration, install, render};
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
    tools::run("helm", &[&["install"], &at[..], &set, &[CHART]].concat(), &[])
        .await
        .expect("an installation");
    tools::run("helm", &[&["uninstall"], &at[..], &["--timeout", "4s"]].concat(), &[])
        .await
        .expect_err("the hook fails")
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

const OWN_ONLY: &str = "only delete secrets of its own instance";

const NO_JOBS: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: no-jobs}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [batch], apiVersions: [v1], resources: [jobs], operations: [CREATE]}]}
  validations: [{expression: "false", message: no jobs here}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: no-jobs}
spec: {policyName: no-jobs, validationActions: [Deny]}
"#;

/// Helm deletes nothing if it cannot create the job, for example because of a quota.
#[test]
fn rights_that_a_refused_job_leaves_behind_are_restricted_to_secrets_of_the_instance() {
    cluster_test(async |cluster| {
        cluster.control_plane.apply(NO_JOBS).await;
        let jobs: Api<Job> = cluster.api("default");
        let container = json!({"name": "x", "image": "x"});
        let spec = json!({"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}});
        let job = serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": spec})).expect("a Job");
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let refused = async || outcome(jobs.create(&dry, &job).await).contains("no jobs here");
        cluster.wait_until("jobs are refused", refused).await;
        let said = install_and_uninstall(cluster).await;
        assert!(said.contains("no jobs here"), "{said}");
        assert_eq!(rights(cluster).await.len(), 5, "docs/operations.md says so");

        let kubeconfig = cluster.control_plane.kubeconfig_for(NAMESPACE, NAME).await;
        let client = cluster.control_plane.client_for(&kubeconfig).await;
        let secrets: Api<Secret> = Api::namespaced(client, "default");
        for (instance, allowed) in [("another", false), ("other", true)] {
            cluster.create::<Secret>("default", secret("ecr-pull", TYPE, instance)).await;
            if !allowed {
                // The API server applies a new role and a new policy after some time, each after its own.
                let dry = DeleteParams { dry_run: true, ..DeleteParams::default() };
                let denied = async || outcome(secrets.delete("ecr-pull", &dry).await).contains(OWN_ONLY);
                cluster.wait_until("the policy is applied", denied).await;
            }
            let said = outcome(secrets.delete("ecr-pull", &DeleteParams::default()).await);
            assert_eq!(said.contains(OWN_ONLY), !allowed, "{said}");
            if !allowed {
                cluster
                    .api::<Secret>("default")
                    .delete("ecr-pull", &DeleteParams::default())
                    .await
                    .expect("gone");
            }
        }
    });
}

#[test]
fn under_its_rights_and_policies_the_cleanup_does_its_whole_job() {
    cluster_test(async |cluster| {
        let values = ["--set-json", r#"cleanupOnUninstall=true,config={"serviceAccounts":{"enabled":true}}"#];
        install(cluster, &values).await;
        let config = cluster.config(&configuration(&values).await);
        cluster.run_controller_with(&["--config", &config, "--leader-election"]).await;
        for namespace in ["team-a", "team-b"] {
            cluster.annotate(namespace, &[("ecr-pull-secrets.dev/service-accounts", Some("builder"))]).await;
            cluster.create::<ServiceAccount>(namespace, json!({"metadata": {"name": "builder"}})).await;
            cluster.opt_in(namespace).await;
        }
        let attached = async |namespace: &str| {
            let account = cluster.api::<ServiceAccount>(namespace).get("builder").await.expect("it is there");
            account.image_pull_secrets.unwrap_or_default().len()
        };
        for namespace in ["team-a", "team-b"] {
            cluster.wait_until("the reference", async || attached(namespace).await == 1).await;
        }
        cluster.stop_controller().await;
        cluster.kubeconfig =
            cluster.control_plane.kubeconfig_for(RELEASE, &format!("{RELEASE}-cleanup")).await;
        let (code, said) = cluster.run("cleanup", &["--config", &config, "--yes"]).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(cluster.all_secrets().await.is_empty(), "{said}");
        for namespace in ["team-a", "team-b"] {
            let account = cluster.api::<ServiceAccount>(namespace).get("builder").await.expect("it is there");
            assert_eq!(account.image_pull_secrets, None, "{said}");
        }
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
