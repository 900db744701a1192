//! The commands of `docs/incident-playbook.md`, as they are printed there.

use std::process::Command;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::ListParams;
use testing::compromised_credential::{TYPE, secret};
use testing::tenants::{INSTANCE, NAME};

use crate::admission::install_chart;
use crate::harness::{TestCluster, cluster_test};

const PLAYBOOK: &str = include_str!("../../docs/incident-playbook.md");

/// The blocks of shell commands that contain `part`.
fn blocks(part: &str) -> Vec<String> {
    let mut found = vec![];
    for block in PLAYBOOK.split("```sh\n").skip(1) {
        let block = block.split("```").next().expect("the end of the block");
        if block.contains(part) {
            found.push(block.lines().map(str::trim_start).collect::<Vec<_>>().join("\n"));
        }
    }
    assert!(!found.is_empty(), "{part}");
    found
}

/// Runs a block in the folder of the audit log, as an admin: its output.
async fn run(cluster: &TestCluster, block: String) -> String {
    let mut command = Command::new("bash");
    command
        .args(["-euo", "pipefail", "-c", &block])
        .current_dir(cluster.control_plane.admin_kubeconfig().parent().expect("a folder"));
    command.env("KUBECONFIG", cluster.control_plane.admin_kubeconfig());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    let output = output.expect("bash starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{block}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--help").output().is_ok()
}

#[test]
fn the_commands_of_the_incident_playbook_end_a_stolen_token_and_its_queries_find_it() {
    if !["kubectl", "jq"].into_iter().all(has) {
        println!("skipped: kubectl or jq is missing");
        return;
    }
    cluster_test(async |cluster| {
        let stolen = install_chart(cluster).await;
        cluster.opt_in("team-a").await;
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
            "ecr-pull-secrets:ecr-pull-secrets",
        ];
        assert_eq!(queries.len(), parts.len());
        for (query, part) in queries.into_iter().zip(parts) {
            let lines = async || run(cluster, query.clone()).await.contains(part).then_some(());
            cluster.wait_for(&format!("{part} in the audit log, by {query}"), lines).await;
        }
        let only = |part| blocks(part).remove(0);
        assert!(run(cluster, only("[.metadata.namespace, (")).await.contains("team-a\t"));
        run(cluster, only("annotate --overwrite namespace")).await;
        run(cluster, only("annotate namespace team-a")).await;
        run(cluster, only("> canary.token")).await;
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
        let refused =
            async || secrets.get(NAME).await.is_err_and(|error| error.to_string().contains("nauthorized"));
        cluster.wait_until("the token is invalid", refused).await;
    });
}
