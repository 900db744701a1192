//! `ecr-pull-secrets sync`: one pass and exit.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use serde_json::json;
use testing::aws::{Behaviour, Fault};
use testing::control_plane::assert_one_at_a_time;
use testing::fault_proxy::{Action, FaultProxy, Rule};
use testing::tenants::{HOST, NAME, assert_untouched, hosts};
use tokio::time::{Instant, sleep};

use crate::harness::{SLOW_ELECTION, cluster_test};

#[test]
fn one_pass_writes_what_is_missing_and_a_second_one_nothing() {
    cluster_test(async |cluster| {
        cluster.opt_in_teams(0..30).await;
        let (code, said) = cluster.run("sync", &[]).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("30 up to date, 30 written, 0 deleted, 0 failed"), "{said}");
        let before = cluster.all_secrets().await;
        assert_eq!(before.len(), 30);
        let (code, said) = cluster.run("sync", &[]).await;
        assert_eq!((code, said.contains("30 up to date, 0 written")), (Some(0), true), "{said}");
        for (namespace, secret) in cluster.all_secrets().await {
            assert_untouched(&before[&namespace], &secret);
        }
        assert_eq!(cluster.aws.calls_for_tokens().len(), 1);
    });
}

#[test]
fn it_deletes_only_with_prune() {
    cluster_test(async |cluster| {
        cluster.opt_in("team-a").await;
        cluster.run("sync", &[]).await;
        cluster.opt_out("team-a").await;
        let (code, said) = cluster.run("sync", &[]).await;
        assert_eq!(
            (code, said.contains("would delete secret team-a/ecr-pull (with --prune)")),
            (Some(0), true),
            "{said}"
        );
        assert!(cluster.secret("team-a").await.is_some());
        let (code, said) = cluster.run("sync", &["--prune"]).await;
        assert_eq!((code, said.contains("1 deleted")), (Some(0), true), "{said}");
        assert!(cluster.secret("team-a").await.is_none());
    });
}

/// N68: the permissions of `deploy/rbac-service-accounts.yaml` are missing.
#[test]
fn service_accounts_that_cannot_be_listed_are_a_failure() {
    cluster_test(async |cluster| {
        cluster.opt_in("team-a").await;
        let config = cluster.config("serviceAccounts: {enabled: true}");
        let (code, said) = cluster.run("sync", &["--config", &config]).await;
        assert_eq!(code, Some(1), "{said}");
        for line in ["FAILED: the API server did not return the service accounts", "1 up to date, 1 written"]
        {
            assert!(said.contains(line), "{line} is not in {said}");
        }
    });
}

#[test]
fn failures_are_listed_and_the_exit_code_is_1() {
    cluster_test(async |cluster| {
        cluster.opt_in("good").await;
        cluster.request("bad", "nonsense").await;
        cluster.opt_in("taken").await;
        cluster
            .create::<Secret>("taken", json!({"metadata": {"name": NAME}, "data": {"key": "dmFsdWU="}}))
            .await;
        let (code, said) = cluster.run("sync", &[]).await;
        assert_eq!(code, Some(1), "{said}");
        assert_eq!(cluster.lease_holder().await, None, "the Lease is released after a failed pass, too");
        for line in [
            "FAILED bad: InvalidAnnotation: ecr-pull-secrets.dev/registries: \"nonsense\"",
            "FAILED taken: SecretNotOwned: secret \"ecr-pull\"",
            "1 up to date, 1 written, 0 deleted, 2 failed",
        ] {
            assert!(said.contains(line), "{line} is not in {said}");
        }
        for (namespace, reason) in
            [("bad", "InvalidAnnotation"), ("taken", "SecretNotOwned"), ("good", "SecretCreated")]
        {
            let events = cluster.events_of(namespace, reason).await;
            assert!(!events.is_empty(), "{namespace}: it exits before its Events are written");
        }
        let good = cluster.wait_for_secret("good").await;
        assert_eq!(hosts(&good), [HOST]);
        cluster.aws.set(Behaviour::failing(Fault::AccessDenied));
        cluster.opt_in("late").await;
        let (code, said) = cluster.run("sync", &[]).await;
        assert_eq!((code, said.contains("FAILED late: TokenFailed")), (Some(1), true), "{said}");
    });
}

#[test]
fn it_holds_the_lease_until_its_pass_ends_and_a_controller_that_starts_meanwhile_stands_by() {
    cluster_test(async |cluster| {
        // One write hangs: so long does the pass take.
        let proxy = FaultProxy::start(&cluster.control_plane);
        let hangs = proxy.add(Rule::new(Action::Hang).method("PATCH").path("/namespaces/slow/secrets/"));
        cluster.opt_in("slow").await;
        cluster.opt_in_teams(0..20).await;
        let mut sync = cluster.behind(&proxy, |cluster| cluster.start_command("sync", &[]));
        cluster.wait_for_secrets(20).await;
        cluster.spawn_candidate("controller-2");
        let standby = async || cluster.candidate("controller-2").probe("/readyz").await.0 == 200;
        cluster.wait_until("the controller has its first lists", standby).await;
        assert!(cluster.holds_the_lease("sync").await && sync.exit_code().is_none(), "{}", sync.log_tail());
        assert!(!cluster.candidate("controller-2").leads().await);
        hangs.remove();
        assert_eq!(sync.wait(Duration::from_mins(1)).await, Some(1), "{}", sync.log_tail());
        assert!(sync.log().contains("20 up to date, 20 written, 0 deleted, 1 failed"), "{}", sync.log_tail());
        assert!(!cluster.holds_the_lease("sync").await, "it is released before the exit");
        cluster.wait_until_leader("controller-2").await;
        cluster.wait_for_secret("slow").await;
        let both = async || assert_one_at_a_time(cluster.requests("patch")) == 2;
        cluster.wait_until("writes of both in the audit log", both).await;
    });
}

#[test]
fn it_waits_for_a_leader_that_ends_within_the_timeout() {
    cluster_test(async |cluster| {
        cluster.spawn_candidate_with("first", SLOW_ELECTION);
        cluster.wait_until_leader("first").await;
        let mut sync = cluster.start_command("sync", &["--timeout", "60s"]);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(sync.exit_code(), None, "{}", sync.log_tail());
        assert!(cluster.holds_the_lease("first").await);
        cluster.stop("first").await;
        assert_eq!(sync.wait(Duration::from_mins(1)).await, Some(0), "{}", sync.log_tail());
        assert_eq!(cluster.lease_holder().await, None, "released");

        cluster.spawn_candidate("second");
        cluster.wait_until_leader("second").await;
        cluster.kill("second");
        assert!(cluster.holds_the_lease("second").await, "nobody released it");
        let start = Instant::now();
        let (code, said) = cluster.run("sync", &[]).await;
        assert_eq!(code, Some(0), "a leader that does not renew counts as gone: {said}");
        assert!(start.elapsed() >= Duration::from_secs(3), "which takes as long as the Lease lasts");
    });
}

#[test]
fn it_refuses_while_a_leader_keeps_running_unless_it_is_forced() {
    cluster_test(async |cluster| {
        cluster.spawn_candidate_with("first", SLOW_ELECTION);
        cluster.wait_until_leader("first").await;
        let holder = cluster.lease_holder().await.expect("it leads");
        let start = Instant::now();
        let (code, said) = cluster.run("sync", &["--timeout", "1s"]).await;
        assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
        for part in [&format!("{holder:?}"), "ecr-pull-secrets/ecr-pull-secrets", "--timeout", "--force"] {
            assert_eq!((code, said.contains(part)), (Some(1), true), "{part} is not in {said}");
        }
        assert_eq!(cluster.lease_holder().await, Some(holder.clone()));

        // So that only the command writes.
        cluster.candidate_process("first").signal("STOP");
        cluster.opt_in("team-a").await;
        let (code, said) = cluster.run("sync", &["--force"]).await;
        assert_eq!((code, said.contains("without the Lease (--force)")), (Some(0), true), "{said}");
        assert!(said.contains("1 up to date, 1 written"), "{said}");
        assert_eq!(cluster.lease_holder().await, Some(holder), "it leaves the Lease alone");
        cluster.candidate_process("first").signal("CONT");
        cluster.wait_until_leader("first").await;
        cluster.opt_in("team-b").await;
        cluster.wait_for_secret("team-b").await;
    });
}

/// It is suspended while it waits for AWS, because a write in flight could still arrive.
#[test]
fn once_another_process_has_the_lease_it_writes_nothing() {
    cluster_test(async |cluster| {
        cluster.opt_in("team-a").await;
        cluster.aws.set(Behaviour::failing(Fault::Hang));
        let mut sync = cluster.start_command("sync", &[]);
        let called = async || cluster.aws.count("GetAuthorizationToken") > 0;
        cluster.wait_until("a request to AWS", called).await;
        assert!(cluster.holds_the_lease("sync").await, "{}", sync.log_tail());
        sync.signal("STOP");
        cluster.aws.reset();
        cluster.spawn_candidate("second");
        cluster.wait_for_secret("team-a").await;
        sync.signal("CONT");
        assert_eq!(sync.wait(Duration::from_mins(1)).await, Some(1), "{}", sync.log_tail());
        assert!(sync.log().contains("lost"), "{}", sync.log_tail());
        assert!(cluster.holds_the_lease("second").await);
        let audited = async || !cluster.requests("patch").is_empty();
        cluster.wait_until("the write in the audit log", audited).await;
        assert_eq!(cluster.requests("patch").len(), 1);
    });
}
