//! The API server goes away and comes back.

use std::time::Duration;

use jiff::Timestamp;
use testing::aws::Behaviour;
use tokio::time::sleep;

use crate::world::{REGISTRIES, World, time, uid, version};

#[tokio::test]
async fn after_thirty_seconds_without_an_api_server_it_converges_without_a_restart() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    world.aws.set(Behaviour::living(Duration::from_mins(1)));
    world.run_controller().await;
    for namespace in ["stays", "goes"] {
        world.opt_in(namespace).await;
    }
    world.wait_for_secret("goes").await;
    let before = world.wait_for_secret("stays").await;
    world.cluster.stop_apiserver().await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(world.probe("/livez").await.0, 200, "it is alive, whoever else is not");
    world.cluster.start_apiserver().await;
    world.opt_in("comes").await;
    world.annotate("goes", &[(REGISTRIES, None)]).await;
    world.wait_for_secret("comes").await;
    world.wait_for_no_secret("goes").await;
    let refreshed = async |world: &World| {
        let now = world.secret("stays").await.expect("it is there");
        (version(&now) != version(&before)).then_some(now)
    };
    let after = world.wait_for("a refresh", refreshed).await;
    assert_eq!(uid(&after), uid(&before));
    assert!(time(&after, "expires-at") > Timestamp::now());
    world.finish().await;
}
