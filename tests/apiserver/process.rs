//! The process: signals, probes, logs.

use std::time::Duration;

use testing::aws::{Behaviour, Fault};
use tokio::time::{Instant, sleep};

use crate::world::World;

#[tokio::test]
async fn it_is_alive_before_it_is_ready_and_says_what_it_waits_for() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    world.cluster.stop_apiserver().await;
    world.spawn_controller(&[]);
    world.wait_until("the probes", async |world: &World| world.probe("/livez").await.0 == 200).await;
    let (status, why) = world.probe("/readyz").await;
    assert_eq!((status, why.contains("first lists")), (503, true), "{why}");
    assert_eq!(world.probe("/nothing").await.0, 404);
    world
        .wait_until("a word in the log", async |world: &World| {
            world.log().contains("the API server does not answer")
        })
        .await;
    world.cluster.start_apiserver().await;
    world.wait_until("readiness", async |world: &World| world.probe("/readyz").await.0 == 200).await;
    world.finish().await;
}

#[tokio::test]
async fn sigterm_ends_it_within_seconds_also_while_aws_and_the_api_server_hang() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    world.aws.set_for_region("us-east-1", Behaviour::failing(Fault::Hang));
    world.run_controller().await;
    world.opt_in("team-a").await;
    world.wait_for_secret("team-a").await;
    let hanging = "123456789012.dkr.ecr.us-east-1.amazonaws.com";
    world.annotate("team-b", &[(crate::world::REGISTRIES, Some(hanging))]).await;
    sleep(Duration::from_secs(1)).await;
    world.cluster.apiserver().expect("it runs").signal("STOP");
    let start = Instant::now();
    world.stop_controller().await;
    assert!(start.elapsed() < Duration::from_secs(10));
    world.cluster.apiserver().expect("it runs").signal("CONT");
}

#[tokio::test]
async fn a_second_signal_aborts() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    world.run_controller().await;
    world.opt_in("team-a").await;
    world.wait_for_secret("team-a").await;
    world.cluster.apiserver().expect("it runs").signal("STOP");
    // A write is in flight, and will not end: the Secret is due, as its token lives for a moment only.
    world.aws.set(Behaviour::living(Duration::from_secs(6)));
    let controller = world.controller();
    controller.terminate();
    controller.terminate();
    let code = controller.wait(Duration::from_secs(5)).await;
    world.cluster.apiserver().expect("it runs").signal("CONT");
    assert!(matches!(code, Some(0 | 1)), "{code:?}");
}
