//! A restart changes no fresh Secret and forgets nothing.

use std::time::Duration;

use jiff::Timestamp;
use testing::aws::Behaviour;
use testing::tenants::{HOST, assert_untouched, hosts, time, uid, version};

use crate::harness::cluster_test;

#[test]
fn a_restart_while_fresh_neither_fetches_tokens_nor_writes() {
    cluster_test(async |cluster| {
        cluster.run_controller().await;
        cluster.opt_in_teams(0..20).await;
        cluster.wait_for_secrets(20).await;
        let before = cluster.all_secrets().await;
        cluster.stop_controller().await;
        let mints = cluster.aws.calls_for_tokens().len();
        cluster.run_controller().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(cluster.aws.calls_for_tokens().len(), mints, "a mint");
        assert_eq!(cluster.requests("patch").len(), 20, "one write for each namespace");
        assert_eq!(cluster.requests("get").len(), 0, "a read of a secret");
        for (namespace, secret) in cluster.all_secrets().await {
            assert_untouched(&before[&namespace], &secret);
        }
    });
}

#[test]
fn killed_in_the_middle_of_two_hundred_creations_it_creates_all_after_a_restart() {
    cluster_test(async |cluster| {
        let _proxy = cluster.run_into_two_hundred_creations().await;
        cluster.kill_controller();
        let before = cluster.all_secrets().await;
        assert!(before.len() < 200, "it was killed too late to show anything");
        cluster.run_controller().await;
        cluster.wait_for_secrets(200).await;
        let after = cluster.all_secrets().await;
        for (namespace, secret) in &after {
            assert_eq!(hosts(secret), [HOST], "{namespace}");
            assert!(time(secret, "expires-at") > Timestamp::now(), "{namespace}");
        }
        for (namespace, secret) in before {
            assert_eq!(uid(&secret), uid(&after[&namespace]), "{namespace}");
        }
    });
}

#[test]
fn after_a_bad_annotation_and_a_restart_the_applied_request_is_still_refreshed() {
    cluster_test(async |cluster| {
        cluster.aws.set(Behaviour::living(Duration::from_secs(12)));
        cluster.run_controller().await;
        cluster.opt_in("team-a").await;
        let first = cluster.wait_for_secret("team-a").await;
        cluster.request("team-a", "no-host-at-all").await;
        let message = cluster.wait_for_message("team-a", "InvalidAnnotation").await;
        assert!(message.starts_with("ecr-pull-secrets.dev/registries: \"no-host-at-all\""), "{message}");
        cluster.stop_controller().await;
        cluster.run_controller().await;
        let refreshed = async || {
            let now = cluster.existing_secret("team-a").await;
            (version(&now) != version(&first)).then_some(now)
        };
        for _ in 0..2 {
            let secret = cluster.wait_for("a refresh", refreshed).await;
            assert_eq!(uid(&secret), uid(&first));
            assert_eq!(hosts(&secret), [HOST]);
        }
    });
}

#[test]
fn the_secret_of_an_annotation_removed_while_stopped_is_deleted() {
    cluster_test(async |cluster| {
        cluster.run_controller().await;
        for namespace in ["stays", "goes", "says-none"] {
            cluster.opt_in(namespace).await;
            cluster.wait_for_secret(namespace).await;
        }
        cluster.stop_controller().await;
        cluster.opt_out("goes").await;
        cluster.request("says-none", "none").await;
        cluster.run_controller().await;
        cluster.wait_for_no_secret("goes").await;
        cluster.wait_for_no_secret("says-none").await;
        cluster.wait_for_event("goes", "SecretDeleted").await;
        assert!(cluster.secret("stays").await.is_some());
    });
}

#[test]
fn a_configuration_that_removes_many_secrets_has_to_be_confirmed() {
    cluster_test(async |cluster| {
        cluster.run_controller().await;
        cluster.opt_in_teams(0..12).await;
        cluster.wait_for_secrets(12).await;
        cluster.stop_controller().await;
        let config = cluster.config("defaults: {identity: none}");
        cluster.run_controller_with(&["--config", &config]).await;
        let reported = async || {
            let events = cluster.events_of("team-0", "RemovalHeld").await;
            let mut messages = events.into_iter().filter_map(|event| event.message);
            messages.any(|message| message.contains("confirms the removal"))
        };
        cluster.wait_until("an Event about it", reported).await;
        let held =
            async || cluster.probe("/metrics").await.1.contains("held_removals{cause=\"identities\"} 12");
        cluster.wait_until("the metric", held).await;
        assert_eq!(cluster.all_secrets().await.len(), 12, "none is deleted unconfirmed");
        let id = cluster.held_id().expect("the log names the ID");
        cluster.stop_controller().await;
        cluster.run_controller_with(&["--config", &config, "--confirm-removals=000000000000"]).await;
        cluster.wait_until("another ID", async || cluster.held_id().is_some()).await;
        assert_eq!(cluster.held_id().as_ref(), Some(&id), "the same set has the same ID");
        assert_eq!(cluster.all_secrets().await.len(), 12, "another set was confirmed");
        cluster.stop_controller().await;
        cluster.run_controller_with(&["--config", &config, &format!("--confirm-removals={id}")]).await;
        cluster.wait_for_secrets(0).await;
    });
}
