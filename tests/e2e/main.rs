//! From `helm install` to a running pod: a real API server, a real node with a network of pods and Services, Helm, and a
//! registry that demands the token.

mod at_once;
mod availability;
mod compromised_credential;
mod credential_provider;
mod failover;
mod harness;
mod in_a_pod;
mod install;
mod installations;
mod monitoring;
mod upgrades;

use testing::tenants::HOST;

use harness::e2e_test;

/// With the chart's defaults, but on the node's network, of which only one pod can have the port.
#[test]
fn a_pod_runs_by_the_secret_and_not_without_it() {
    let namespaces = ["team-a", "team-b"].map(str::to_owned);
    e2e_test("a_pod_runs_by_the_secret_and_not_without_it", &namespaces, async |e2e| {
        e2e.install_on_the_node().await;
        e2e.test_pull().await;
        let prometheus = e2e.start_prometheus().await;
        e2e.test_renewal().await;
        e2e.test_dashboard(&prometheus).await;
    });
}

/// One way after the other, on the pods' own network.
#[test]
fn each_way_to_install_ends_in_a_pod_that_pulls() {
    let namespaces = installations::NAMESPACES.map(str::to_owned);
    e2e_test("each_way_to_install_ends_in_a_pod_that_pulls", &namespaces, async |e2e| {
        e2e.test_installations().await;
        e2e.install_from_registry().await;
        e2e.test_commands("by-chart").await;
        e2e.test_pods_with_their_account("by-chart").await;
    });
}

/// With the chart's defaults, on the pods' own network, in a namespace that enforces Pod Security "restricted".
#[test]
fn two_replicas_are_upgraded_attacked_rolled_back_killed_and_drained() {
    let teams = ["team-a", "team-c", "tenant", "asks"].map(str::to_owned);
    let namespaces: Vec<_> = teams.into_iter().chain(failover::namespaces()).collect();
    let name = "two_replicas_are_upgraded_attacked_rolled_back_killed_and_drained";
    e2e_test(name, &namespaces, async |e2e| {
        e2e.install_two_replicas().await;
        let probe = e2e.probe_availability("team-a", HOST);
        e2e.test_upgrade().await;
        e2e.test_compromised_credential().await;
        e2e.test_rollback().await;
        e2e.test_failover().await;
        let seen = probe.finish().await;
        assert_eq!(seen.secrets.len(), 1, "its UID is stable");
        let reads = seen.reads;
        e2e.log(&format!("each of {reads} reads of team-a found a live token, in one and the same secret"));
    });
}
