//! `ecr-pull-secrets sync`: one pass and exit.

use k8s_openapi::api::core::v1::Secret;
use serde_json::json;
use testing::aws::{Behaviour, Fault};
use testing::tenants::{HOST, NAME, assert_untouched, hosts};

use crate::harness::cluster_test;

#[test]
fn one_pass_writes_what_is_missing_and_a_second_one_nothing() {
    cluster_test(async |cluster| {
        for n in 0..30 {
            cluster.opt_in(&format!("team-{n}")).await;
        }
        let (code, said) = cluster.run("sync", &[]).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("30 in order, 30 written, 0 deleted, 0 failed"), "{said}");
        let before = cluster.all_secrets().await;
        assert_eq!(before.len(), 30);
        let (code, said) = cluster.run("sync", &[]).await;
        assert_eq!((code, said.contains("30 in order, 0 written")), (Some(0), true), "{said}");
        for (namespace, secret) in cluster.all_secrets().await {
            assert_untouched(&before[&namespace], &secret);
        }
        assert_eq!(cluster.aws.calls().len(), 1);
    });
}

#[test]
fn it_deletes_only_with_prune() {
    cluster_test(async |cluster| {
        cluster.opt_in("team-a").await;
        cluster.run("sync", &[]).await;
        cluster.opt_out("team-a").await;
        let (code, said) = cluster.run("sync", &[]).await;
        assert_eq!((code, said.contains("would delete team-a/ecr-pull")), (Some(0), true), "{said}");
        assert!(cluster.secret("team-a").await.is_some());
        let (code, said) = cluster.run("sync", &["--prune"]).await;
        assert_eq!((code, said.contains("1 deleted")), (Some(0), true), "{said}");
        assert!(cluster.secret("team-a").await.is_none());
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
        for line in [
            "FAILED bad: InvalidAnnotation: ecr-pull-secrets.dev/registries: \"nonsense\" is no Amazon ECR host",
            "FAILED taken: SecretNotOwned: secret \"ecr-pull\" was not made by this controller",
            "1 in order, 1 written, 0 deleted, 2 failed",
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
