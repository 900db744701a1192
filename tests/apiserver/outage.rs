//! The API server goes away and comes back.

use std::time::Duration;

use jiff::Timestamp;
use testing::aws::Behaviour;
use testing::tenants::{time, uid, version};
use tokio::time::sleep;

use crate::harness::cluster_test;

/// One outage of ten seconds, in which a renewal becomes due. `controller::tests` has longer ones.
#[test]
fn after_an_outage_of_the_api_server_it_converges_without_a_restart() {
    cluster_test(async |cluster| {
        cluster.aws.set(Behaviour::living(Duration::from_secs(20)));
        cluster.run_controller().await;
        for namespace in ["stays", "goes"] {
            cluster.opt_in(namespace).await;
        }
        cluster.wait_for_secret("goes").await;
        let before = cluster.wait_for_secret("stays").await;
        cluster.control_plane.stop_apiserver().await;
        sleep(Duration::from_secs(10)).await;
        assert_eq!(cluster.probe("/livez").await.0, 200, "it stays alive without an API server");
        cluster.control_plane.start_apiserver().await;
        cluster.opt_in("comes").await;
        cluster.opt_out("goes").await;
        cluster.wait_for_secret("comes").await;
        cluster.wait_for_no_secret("goes").await;
        let renewed = async || {
            let now = cluster.existing_secret("stays").await;
            let is_live = time(&now, "expires-at") > Timestamp::now();
            (is_live && version(&now) != version(&before)).then_some(now)
        };
        let after = cluster.wait_for("a renewal", renewed).await;
        assert_eq!(uid(&after), uid(&before));
    });
}
