//! Commands without a configuration file, on a laptop.

use serde_json::json;
use tempfile::TempDir;
use testing::documents;
use testing::tenants::INSTANCE;

use crate::harness::{TestCluster, cluster_test};
use crate::users::{Output, User};

const RBAC_STATUS: &str = include_str!("../../deploy/rbac-status.yaml");
const FILE: &str = "serviceAccounts: {enabled: true}\n";
/// The commands, with arguments that change nothing in these tests.
const COMMANDS: [&[&str]; 4] = [&["check"], &["explain", "-n", "default"], &["sync"], &["cleanup"]];

async fn store(cluster: &TestCluster, file: &str) {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": INSTANCE, "namespace": INSTANCE},
        "data": {"config.yaml": file},
    });
    cluster.control_plane.apply(&map.to_string()).await;
}

/// The command that gets the file, as each line of the output prints it.
fn printed(output: &Output) -> Vec<&str> {
    let lines = output.text.lines().filter_map(|line| line.split_once("kubectl get configmap"));
    lines
        .filter_map(|(_, rest)| rest.split_once(", then pass --config config.yaml"))
        .map(|(it, _)| it)
        .collect()
}

#[test]
fn without_a_file_they_print_the_command_that_gets_the_one_of_the_controller() {
    cluster_test(async |cluster| {
        store(cluster, FILE).await;
        let admin = User::admin(cluster);
        let config = cluster.config(FILE);
        for command in COMMANDS {
            let output = admin.run(cluster, command).await;
            let [arguments] = printed(&output)[..] else {
                panic!("{command:?}: one line in {}", output.text)
            };
            let folder = TempDir::new().expect("a temporary folder");
            let command_line = format!("kubectl get configmap{arguments}");
            documents::run(&cluster.control_plane, folder.path(), &command_line).await;
            let file = std::fs::read_to_string(folder.path().join("config.yaml")).expect("it was written");
            assert_eq!(file, FILE);
            let output = admin.run(cluster, &[command, &["--config", &config]].concat()).await;
            assert!(printed(&output).is_empty(), "{command:?}: {}", output.text);
        }
    });
}

#[test]
fn they_print_none_if_the_controller_has_the_defaults_or_the_user_may_not_read_its_file() {
    cluster_test(async |cluster| {
        cluster.control_plane.apply(RBAC_STATUS).await;
        let admin = User::admin(cluster);
        let without = admin.run(cluster, COMMANDS[1]).await;
        assert_eq!((without.code, printed(&without).len()), (Some(0), 0), "{}", without.text);
        store(cluster, "instance: ecr-pull-secrets\nsecretNames:\n- ecr-pull\n").await;
        let with_defaults = admin.run(cluster, COMMANDS[1]).await;
        assert_eq!(
            (with_defaults.code, printed(&with_defaults).len()),
            (Some(0), 0),
            "{}",
            with_defaults.text
        );

        store(cluster, FILE).await;
        let viewer = User::with_roles(cluster, "viewer", &["ecr-pull-secrets-status"]).await;
        let forbidden = viewer.run(cluster, COMMANDS[1]).await;
        assert_eq!(forbidden.code, Some(0), "{}", forbidden.text);
        assert!(!forbidden.text.to_lowercase().contains("configmap"), "{}", forbidden.text);
        let asked = cluster.control_plane.requests(&viewer.name, "get", "configmaps");
        assert_eq!(asked.len(), 1, "{asked:?}");
    });
}
