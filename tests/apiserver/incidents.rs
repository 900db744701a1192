//! The commands of `docs/incident-playbook.md`, as they are printed there.

use std::process::Command;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::ListParams;
use testing::compromised_credential::{TYPE, secret};
use testing::documents;
use testing::tenants::{INSTANCE, NAME};

use crate::admission::{install_chart, opt_in};
use crate::harness::{TestCluster, cluster_test};

const PLAYBOOK: &str = include_str!("../../docs/incident-playbook.md");

/// The blocks of shell commands that contain `part`.
fn blocks(part: &str) -> Vec<String> {
    let mut found = documents::texts(PLAYBOOK, "sh");
    found.retain(|block| block.contains(part));
    assert!(!found.is_empty(), "{part}");
    found
}

/// Runs a block in the folder of the audit log, as an admin: its output.
async fn run(cluster: &TestCluster, block: String) -> String {
    let kubeconfig = cluster.control_plane.admin_kubeconfig();
    documents::run(&cluster.control_plane, kubeconfig.parent().expect("a folder"), &block).await
}

/// Replaces the access key of a user, except for what AWS does.
async fn replace_key(cluster: &TestCluster, replacement: &str, id: String) {
    let create = "kubectl create secret generic ecr-pull-secrets-aws --namespace ecr-pull-secrets \
        --from-literal AWS_ACCESS_KEY_ID=old --from-literal other=old";
    run(cluster, create.to_owned()).await;
    assert_eq!(run(cluster, id.clone()).await, "old");
    run(cluster, format!("echo AWS_ACCESS_KEY_ID=new > key.env\n{replacement}")).await;
    assert_eq!(run(cluster, id).await, "new");
    let annotations = "kubectl get secret ecr-pull-secrets-aws --namespace ecr-pull-secrets \
        --output jsonpath={.metadata.annotations}";
    assert_eq!(run(cluster, annotations.to_owned()).await, "", "no copy of the key");
}

#[test]
fn the_commands_of_the_incident_playbook_end_a_stolen_token_and_its_queries_find_it() {
    if Command::new("jq").arg("--help").output().is_err() {
        testing::skip_this("jq is missing");
        return;
    }
    cluster_test(async |cluster| {
        let stolen = install_chart(cluster).await;
        opt_in(cluster, &stolen, "team-a").await;
        cluster.annotate("tenant", &[]).await;
        stolen.reaches_no_other_name("team-a").await;
        assert_eq!(stolen.apply("team-a", NAME, secret(NAME, TYPE, INSTANCE)).await, "allowed");
        let denied = stolen.apply("tenant", NAME, secret(NAME, TYPE, INSTANCE)).await;
        assert!(denied.starts_with("policy: "), "{denied}");
        let secrets: Api<Secret> = Api::namespaced(stolen.client.clone(), "team-a");
        secrets.get(NAME).await.expect("it can read this");
        let all = ListParams::default().fields(&format!("metadata.name={NAME}"));
        secrets.list(&all).await.expect("it can list these");

        let mut queries = blocks("audit.log");
        queries.retain(|block| block.starts_with("jq"));
        let parts = [
            "tenant\tsecrets\tecr-pull",
            "private",
            "/api/v1/",
            "\tlist\t",
            "ecr-pull-secrets:ecr-pull-secrets\tsystem:serviceaccounts,",
        ];
        assert_eq!(queries.len(), parts.len());
        for (query, part) in queries.into_iter().zip(parts) {
            let lines = async || run(cluster, query.clone()).await.contains(part).then_some(());
            cluster.wait_for(&format!("{part} in the audit log, by {query}"), lines).await;
        }
        let only = |part| blocks(part).remove(0);
        assert!(run(cluster, only("[.metadata.namespace, (")).await.contains("team-a\t"));
        let can_i = only("auth can-i").replace("USER", "mallory").replace("GROUP", "system:masters");
        assert_eq!(run(cluster, can_i).await, "yes\n", "the group counts");
        assert!(run(cluster, only("get clusterrolebindings")).await.contains("system:masters"));
        run(cluster, only("annotate --overwrite namespace")).await;
        run(cluster, only("annotate namespace team-a")).await;
        run(cluster, only("> canary.token")).await;
        let bindings = run(cluster, only("get rolebindings,clusterrolebindings")).await;
        for binding in
            ["ClusterRoleBinding\t\tecr-pull-secrets\n", "RoleBinding\tecr-pull-secrets\tecr-pull-secrets\n"]
        {
            assert!(bindings.contains(binding), "{bindings}");
        }
        assert_eq!(bindings.lines().count(), 2, "{bindings}");
        let review = async || run(cluster, only("TokenReview")).await;
        assert!(review().await.contains(r#""authenticated":true"#), "the token is valid");
        for block in blocks("kubectl delete") {
            run(cluster, block).await;
        }
        cluster
            .wait_until("the check says so", async || review().await.contains("invalid bearer token"))
            .await;
        run(cluster, only("kubectl apply --filename restore.json")).await;
        assert!(!review().await.contains(r#""authenticated":true"#), "the token stays invalid");
        replace_key(cluster, &only("kubectl replace"), only("{.data.AWS_ACCESS_KEY_ID}")).await;
        let refused =
            async || secrets.get(NAME).await.is_err_and(|error| error.to_string().contains("nauthorized"));
        cluster.wait_until("the token is invalid", refused).await;
    });
}
