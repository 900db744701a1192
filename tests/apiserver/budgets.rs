//! Quantities of the program that do not depend on the machine. Each bound is the figure that was seen, and a margin: a
//! change that needs more of something fails here, whatever a clock shows.

use std::time::Duration;

use testing::link::{Link, Traffic};
use testing::tenants::USER;

use crate::harness::{TestCluster, cluster_test};

const NAMESPACES: usize = 200;

/// The requests of the controller with this verb, for Secrets and Namespaces.
fn count(cluster: &TestCluster, verb: &str) -> [usize; 2] {
    ["secrets", "namespaces"].map(|resource| cluster.control_plane.requests(USER, verb, resource).len())
}

/// The pages of lists that the controller requested.
fn pages(cluster: &TestCluster) -> u64 {
    count(cluster, "list").iter().sum::<usize>() as u64
}

#[test]
fn two_hundred_namespaces_cost_one_write_each_one_token_and_one_connection() {
    cluster_test(async |cluster| {
        cluster.opt_in_teams(0..NAMESPACES).await;
        let url = cluster.control_plane.url();
        let link =
            Link::start(url.trim_start_matches("https://").parse().expect("the address of the API server"));
        link.lead(&cluster.kubeconfig);
        cluster.run_controller().await;
        cluster.wait_for_secrets(NAMESPACES).await;
        // An entry of the audit log may follow the response.
        let audited = async || count(cluster, "patch")[0] >= NAMESPACES;
        cluster.wait_until("the audit log has the writes", audited).await;
        // The last responses and the watch events of the writes.
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(count(cluster, "patch"), [NAMESPACES, 0], "one write for each namespace");
        assert_eq!(["get", "create", "update", "delete"].map(|verb| count(cluster, verb)), [[0, 0]; 4]);
        assert_eq!(cluster.aws.calls_for_tokens().len(), 1, "one token for all of them");
        let Traffic { connections, sent, received } = link.traffic();
        println!("created: {connections} connections, {sent} bytes sent, {received} received");
        assert_eq!(connections, 1);
        // 8,300 and 4,500 for each namespace were seen, with some of the Events, which follow slowly. The rest of the margin
        // is for all of them.
        assert!(sent / NAMESPACES as u64 <= 11_000, "{sent} bytes were sent");
        assert!(received / NAMESPACES as u64 <= 7_000, "{received} bytes were received");

        cluster.stop_controller().await;
        let (before, pages_before) = (link.traffic(), pages(cluster));
        cluster.run_controller().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(count(cluster, "patch"), [NAMESPACES, 0], "a restart writes nothing");
        assert_eq!(cluster.aws.calls_for_tokens().len(), 1, "a restart fetches no token");
        let after = link.traffic();
        let received = after.received - before.received;
        println!("restarted: {} bytes sent, {received} received", after.sent - before.sent);
        assert_eq!(after.connections, 2);
        // 2,700 in all, and 2,060 for each namespace. An API server before 1.34 does not stream lists: 700 for each page.
        let pages = pages(cluster) - pages_before;
        assert!(after.sent - before.sent <= 5_000 + 1_000 * pages, "{before:?} {after:?}, {pages} pages");
        assert!(received / NAMESPACES as u64 <= 2_500, "{before:?} {after:?}");
    });
}
