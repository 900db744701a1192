//! `cleanup` and `sync` on a laptop, where the namespace of the context is not that of the controller.

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::ListParams;
use testing::tenants::{INSTANCE, uid};

use crate::harness::{TestCluster, cluster_test};
use crate::users::User;

/// Each Lease of the cluster, as NAMESPACE/NAME.
async fn leases(cluster: &TestCluster) -> Vec<String> {
    let all = Api::<Lease>::all(cluster.admin.clone()).list(&ListParams::default()).await;
    let all = all.expect("the admin lists Leases").items;
    let name = |lease: Lease| {
        [lease.metadata.namespace, lease.metadata.name].map(Option::unwrap_or_default).join("/")
    };
    all.into_iter().map(name).filter(|name| name.ends_with(&format!("/{INSTANCE}"))).collect()
}

#[test]
fn they_refuse_to_run_while_a_controller_holds_the_lease_in_the_namespace_of_the_instance() {
    cluster_test(async |cluster| {
        cluster.start_controller("controller", &["--leader-election"]);
        cluster.opt_in("team-a").await;
        let before = cluster.wait_for_secret("team-a").await;
        let admin = User::admin(cluster);
        for command in [&["cleanup", "--yes"], &["sync", "--prune"]] {
            let output = admin.run(cluster, &[&command[..], &["--timeout", "1s"]].concat()).await;
            assert_eq!(output.code, Some(1), "{}", output.text);
            let holder = "error: \"controller_";
            let lease = "holds the Lease ecr-pull-secrets/ecr-pull-secrets: stop that process";
            assert!(output.text.contains(holder) && output.text.contains(lease), "{}", output.text);
        }
        assert_eq!(uid(&cluster.existing_secret("team-a").await), uid(&before));
        assert_eq!(leases(cluster).await, ["ecr-pull-secrets/ecr-pull-secrets"]);
    });
}

#[test]
fn the_flag_selects_another_namespace_and_the_error_names_it_if_that_of_the_instance_is_missing() {
    cluster_test(async |cluster| {
        cluster.opt_in("team-a").await;
        let admin = User::admin(cluster);
        let elsewhere = admin.run(cluster, &["sync", "--namespace", "team-a"]).await;
        assert_eq!(elsewhere.code, Some(0), "{}", elsewhere.text);
        assert_eq!(leases(cluster).await, ["team-a/ecr-pull-secrets"]);

        let config = cluster.config("instance: missing");
        let missing = admin.run(cluster, &["cleanup", "--yes", "--config", &config, "--timeout", "1s"]).await;
        assert_eq!(missing.code, Some(1), "{}", missing.text);
        for part in ["missing/missing", "not found", "with --namespace"] {
            assert!(missing.text.contains(part), "{part:?} in {}", missing.text);
        }
    });
}
