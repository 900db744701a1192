//! `check` with `namespaces.only`, where the controller has Roles in its namespaces only.

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role};
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use testing::tenants::INSTANCE;
use testing::tools;

use super::{Ecr, assert_finds, findings};
use crate::harness::{TestCluster, cluster_test};
use crate::users::User;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/ecr-pull-secrets");
const VALUES: &str = r#"config={"namespaces":{"only":["team-a","team-b"]},"serviceAccounts":{"enabled":true},
    "defaults":{"registries":["123456789012.dkr.ecr.eu-central-1.amazonaws.com"]}}"#;

/// Replaces the rights of the controller by those of the chart. Returns the path of the configuration file.
async fn install(cluster: &TestCluster) -> String {
    let delete = DeleteParams::default();
    let bindings: Api<ClusterRoleBinding> = Api::all(cluster.admin.clone());
    bindings.delete(INSTANCE, &delete).await.expect("the harness granted it");
    let roles: Api<ClusterRole> = Api::all(cluster.admin.clone());
    roles.delete(INSTANCE, &delete).await.expect("the harness granted it");
    for namespace in ["team-a", "team-b"] {
        cluster.annotate(namespace, &[]).await;
    }
    let args = ["template", INSTANCE, CHART, "--namespace", INSTANCE, "--set-json", VALUES];
    let text = tools::run("helm", &args, &[]).await.expect("the chart renders");
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).expect("YAML");
    let is_of_kind = |object: &&Value, kinds: &[&str]| kinds.iter().any(|kind| object["kind"] == *kind);
    for object in objects.iter().filter(|object| is_of_kind(object, &["Role", "RoleBinding"])) {
        cluster.control_plane.apply(&object.to_string()).await;
    }
    let config = objects.iter().find_map(|object| object["data"]["config.yaml"].as_str());
    cluster.config(config.expect("a ConfigMap with the file"))
}

#[test]
fn in_single_namespace_mode_a_sound_setup_is_green_with_a_warning_about_the_missing_policy() {
    cluster_test(async |cluster| {
        let ecr = Ecr::start(cluster).await;
        let config = install(cluster).await;
        cluster.start_controller("controller", &["--leader-election", "--config", &config]);
        cluster.wait_until_leader("controller").await;
        cluster.wait_for_secret("team-a").await;
        cluster.wait_for_secret("team-b").await;
        for mut user in [User::controller(cluster), User::admin(cluster)] {
            ecr.env(&mut user);
            let output = user.run(cluster, &["check", "-o", "json", "--config", &config]).await;
            assert_eq!(output.code, Some(0), "{}: {}", user.name, output.text);
            let warnings = findings(&output, "warning");
            assert_eq!(warnings.len(), 1, "{}: {warnings:?}", user.name);
            assert!(
                warnings[0].starts_with("admission-policy: single-namespace mode, in team-a, team-b")
                    && warnings[0].contains("change their service accounts, and forge events"),
                "{warnings:?}"
            );
            let passed = findings(&output, "ok").join("\n");
            for expected in [
                "may create, patch events, in namespace \"team-b\"",
                "can read and write no other secret",
                "namespaces: 2 of 2 namespaces ready",
            ] {
                assert!(
                    passed.contains(expected) || (user.name == "admin" && expected.starts_with("can")),
                    "{}: {expected} is missing in {passed}",
                    user.name
                );
            }
            assert!(!passed.contains("in every namespace"), "{passed}");
        }
        let mut user = User::controller(cluster);
        ecr.env(&mut user);
        let roles: Api<Role> = cluster.api("team-b");
        roles.delete("ecr-pull-secrets-pull-secrets", &DeleteParams::default()).await.expect("it exists");
        let missing = ["may not create, patch events, in namespace \"team-b\"", "namespaces.only"];
        assert_finds(cluster, &user, &["--config", &config], "failed", &missing).await;
        // team-a is not hidden.
        assert_finds(cluster, &user, &["--config", &config], "skipped", &["1 of 2 namespaces ready"]).await;
    });
}

#[test]
fn before_the_installation_in_single_namespace_mode_an_admin_of_the_namespaces_needs_no_cluster_scoped_right()
{
    cluster_test(async |cluster| {
        let ecr = Ecr::start(cluster).await;
        let config = install(cluster).await;
        let mut installer = User::with_roles(cluster, "installer", &[]).await;
        ecr.env(&mut installer);
        let args = ["--pre", "--config", &config];
        let missing = ["may not create roles, in namespace \"team-a\"", "administrator of the namespaces"];
        assert_finds(cluster, &installer, &args, "failed", &missing).await;
        for namespace in ["team-a", "team-b", INSTANCE] {
            let role = json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
                "metadata": {"name": "admin", "namespace": namespace},
                "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}],
            });
            let binding = json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": {"name": "admin", "namespace": namespace},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "admin"},
                "subjects": [{"kind": "ServiceAccount", "name": "installer", "namespace": INSTANCE}],
            });
            cluster.control_plane.apply(&role.to_string()).await;
            cluster.control_plane.apply(&binding.to_string()).await;
            let all = json!({"namespace": namespace, "group": "*", "resource": "*", "verb": "*"});
            installer.wait_until_allowed(cluster, all).await;
        }
        let output = installer.run(cluster, &[&["check", "-o", "json"][..], &args].concat()).await;
        assert_eq!(output.code, Some(0), "{}", output.text);
        let warnings = findings(&output, "warning");
        assert!(warnings.len() == 1 && warnings[0].contains("single-namespace mode"), "{warnings:?}");
        let passed = findings(&output, "ok").join("\n");
        assert!(
            passed.contains("may create roles, in namespace \"team-b\"")
                && !passed.contains("clusterroles")
                && !passed.contains("create namespaces"),
            "{passed}"
        );
    });
}
