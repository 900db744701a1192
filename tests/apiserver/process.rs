//! The process: signals, probes, logs.

use std::time::Duration;

use testing::aws::{Behaviour, Fault};
use tokio::time::{Instant, sleep};

use crate::harness::{TestCluster, cluster_test};

#[test]
fn it_is_alive_before_it_is_ready_and_reports_what_it_waits_for() {
    cluster_test(async |cluster| {
        cluster.control_plane.stop_apiserver().await;
        cluster.spawn_controller(&[]);
        cluster.wait_until("the probes", async || cluster.probe("/livez").await.0 == 200).await;
        let (status, why) = cluster.probe("/readyz").await;
        assert_eq!((status, why.contains("first lists")), (503, true), "{why}");
        assert_eq!(cluster.probe("/nothing").await.0, 404);
        let logged = async || cluster.log().contains("the API server does not respond");
        cluster.wait_until("a line in the log", logged).await;
        cluster.control_plane.start_apiserver().await;
        cluster.wait_until("readiness", async || cluster.probe("/readyz").await.0 == 200).await;
    });
}

#[test]
fn sigterm_ends_it_within_seconds_also_while_aws_and_the_api_server_hang() {
    cluster_test(async |cluster| {
        cluster.aws.set_for_region("us-east-1", Behaviour::failing(Fault::Hang));
        cluster.run_controller().await;
        cluster.opt_in("team-a").await;
        cluster.wait_for_secret("team-a").await;
        let hanging = "123456789012.dkr.ecr.us-east-1.amazonaws.com";
        cluster.request("team-b", hanging).await;
        sleep(Duration::from_secs(1)).await;
        cluster.control_plane.apiserver().expect("it runs").signal("STOP");
        let start = Instant::now();
        cluster.stop_controller().await;
        assert!(start.elapsed() < Duration::from_secs(30));
        cluster.control_plane.apiserver().expect("it runs").signal("CONT");
    });
}

#[test]
fn a_second_signal_aborts_the_writes_that_the_first_one_waits_for() {
    cluster_test(async |cluster| {
        cluster.aws.set(Behaviour::living(Duration::from_secs(10)));
        cluster.run_controller().await;
        cluster.opt_in("team-a").await;
        cluster.wait_for_secret("team-a").await;
        // The refresh is due after five or six seconds, and hangs.
        cluster.control_plane.apiserver().expect("it runs").signal("STOP");
        let minted = cluster.aws.minted().len();
        cluster.wait_until("a new token", async || cluster.aws.minted().len() > minted).await;
        sleep(Duration::from_secs(2)).await;
        cluster.controller().terminate();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(cluster.controller().exit_code(), None, "a write is in flight, and waited for");
        cluster.controller().terminate();
        let code = cluster.controller().wait(Duration::from_secs(30)).await;
        cluster.control_plane.apiserver().expect("it runs").signal("CONT");
        assert_eq!(code, Some(1));
        assert!(cluster.log().contains("aborted by a second signal"));
    });
}

#[test]
fn sigterm_in_the_middle_of_two_hundred_creations_loses_no_write() {
    cluster_test(async |cluster| {
        let _proxy = cluster.run_into_two_hundred_creations().await;
        cluster.controller().terminate();
        assert_eq!(cluster.controller().wait(Duration::from_mins(1)).await, Some(0));
        let secrets = cluster.all_secrets().await.len();
        assert!((1..200).contains(&secrets), "{secrets} secrets: it was ended too late to show anything");
        assert_eq!(
            cluster.log().matches("\"secret written\"").count(),
            secrets,
            "every write was waited for"
        );
    });
}

#[test]
fn the_start_warns_once_if_every_namespace_gets_the_controllers_whole_scope_and_not_without_that_identity() {
    cluster_test(async |cluster| {
        for (identity, expected) in [("controller", 1), ("none", 0)] {
            cluster.run_controller_configured(&format!("defaults: {{identity: {identity}}}\n")).await;
            let log = cluster.log();
            let is_warning = |line: &&str| line.contains("\"WARN\"") && line.contains("whole scope");
            let warnings: Vec<_> = log.lines().filter(is_warning).collect();
            assert_eq!(warnings.len(), expected, "{identity}: {warnings:?}");
            let names_remedy = |line: &&str| line.contains("set defaults.identity to \\\"none\\\"");
            assert!(warnings.iter().all(names_remedy), "{warnings:?}");
            assert!(log.contains("\"starting\""), "the log has the start");
            cluster.stop_controller().await;
        }
    });
}

/// Runs `probe` once: its exit code and output.
async fn probe(cluster: &mut TestCluster, url: &str) -> (Option<i32>, String) {
    cluster.run_program(&["probe", url, "--timeout", "0"]).await
}

#[test]
fn the_exit_code_of_probe_is_0_only_if_the_page_has_status_200() {
    cluster_test(async |cluster| {
        cluster.run_controller().await;
        let (ready, unknown) = (cluster.page("/readyz"), cluster.page("/nothing"));
        for (url, code, output) in [
            (&*ready, 0, "/readyz: ok"),
            (&unknown, 1, "404"),
            ("https://127.0.0.1/readyz", 2, "expected http://HOST:PORT/PATH"),
        ] {
            let (found, said) = probe(cluster, url).await;
            assert_eq!((found, said.contains(output)), (Some(code), true), "{said}");
        }
        cluster.stop_controller().await;
        let (code, said) = probe(cluster, &ready).await;
        assert_eq!(code, Some(1), "nothing listens: {said}");
    });
}
