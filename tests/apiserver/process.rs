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
async fn a_second_signal_aborts_what_the_first_one_waits_for() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    world.aws.set(Behaviour::living(Duration::from_secs(10)));
    world.run_controller().await;
    world.opt_in("team-a").await;
    world.wait_for_secret("team-a").await;
    // The refresh is due after five or six seconds, and hangs.
    world.cluster.apiserver().expect("it runs").signal("STOP");
    sleep(Duration::from_secs(8)).await;
    world.controller().terminate();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.controller().exit_code(), None, "a write is in flight, and waited for");
    world.controller().terminate();
    let code = world.controller().wait(Duration::from_secs(2)).await;
    world.cluster.apiserver().expect("it runs").signal("CONT");
    assert_eq!(code, Some(1));
    assert!(world.log().contains("aborted by a second signal"));
}

#[tokio::test]
async fn sigterm_in_the_middle_of_two_hundred_creations_loses_no_write() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    world.run_into_two_hundred_creations().await;
    world.controller().terminate();
    assert_eq!(world.controller().wait(Duration::from_secs(10)).await, Some(0));
    let (secrets, log) = (world.all_secrets().await.len(), world.log());
    assert!((1..200).contains(&secrets), "{secrets} secrets: it was ended too late to show anything");
    assert_eq!(log.matches("\"secret written\"").count(), secrets, "every write was waited for");
    world.assert_tells_nothing(&log);
}

#[tokio::test]
async fn probe_tells_by_its_exit_code_whether_a_page_says_200() {
    if !testing::real_cluster() {
        return;
    }
    let probe = |url: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ecr-pull-secrets"));
        let output = command.args(["probe", url, "--wait", "0"]).output().expect("it starts");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), said)
    };
    let mut world = World::start().await;
    world.run_controller().await;
    let (code, said) = probe(&world.page("/readyz"));
    assert_eq!((code, said.contains("/readyz: ok")), (Some(0), true), "{said}");
    let (code, said) = probe(&world.page("/nothing"));
    assert_eq!((code, said.contains("404")), (Some(1), true), "{said}");
    let (code, said) = probe("https://127.0.0.1/readyz");
    assert_eq!((code, said.contains("expected http://HOST:PORT/PATH")), (Some(2), true), "{said}");
    let gone = world.page("/readyz");
    world.stop_controller().await;
    let (code, said) = probe(&gone);
    assert_eq!(code, Some(1), "nobody answers: {said}");
}
