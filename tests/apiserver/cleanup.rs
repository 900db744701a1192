//! `ecr-pull-secrets cleanup` removes everything that an instance made, and nothing else.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Api;
use serde_json::json;
use testing::control_plane::assert_one_at_a_time;
use testing::fault_proxy::{Action, FaultProxy, Rule};
use testing::tenants::{INSTANCE, NAME, USER, uid};

use crate::harness::{RBAC, TestCluster, cluster_test};

const ACCOUNTS: &str = include_str!("../../deploy/rbac-service-accounts.yaml");

/// The rights that cleaning up takes: its own, and to delete the Lease.
async fn allow(cluster: &TestCluster) {
    cluster
        .control_plane
        .apply(&RBAC.replace("[get, create, update]", "[get, create, update, delete]"))
        .await;
    let lease = json!({"group": "coordination.k8s.io", "resource": "leases", "verb": "delete",
        "namespace": INSTANCE, "name": INSTANCE});
    cluster.wait_until_allowed(json!({"user": USER, "resourceAttributes": lease})).await;
}

#[test]
fn it_prints_what_it_would_do_and_does_it_with_yes() {
    cluster_test(async |cluster| {
        allow(cluster).await;
        cluster.control_plane.apply(ACCOUNTS).await;
        let file = cluster.config("serviceAccounts: {enabled: true}");
        cluster.run_controller_with(&["--config", &file, "--leader-election"]).await;
        for namespace in ["team-a", "team-b"] {
            cluster.annotate(namespace, &[("ecr-pull-secrets.dev/service-accounts", Some("builder"))]).await;
            let builder = json!({"metadata": {"name": "builder"}, "imagePullSecrets": [{"name": "theirs"}]});
            cluster.create::<ServiceAccount>(namespace, builder).await;
            cluster.opt_in(namespace).await;
        }
        let accounts = ["team-a", "team-b"].map(|namespace| cluster.api::<ServiceAccount>(namespace));
        let references = async |accounts: &Api<ServiceAccount>| {
            let account = accounts.get("builder").await.expect("it is there");
            let all = account.image_pull_secrets.unwrap_or_default();
            all.into_iter().map(|reference| reference.name).collect::<Vec<_>>()
        };
        cluster.wait_for_secrets(2).await;
        for accounts in &accounts {
            let refers = async || references(accounts).await == ["theirs", NAME];
            cluster.wait_until("the reference", refers).await;
        }
        cluster.annotate("foreign", &[]).await;
        let foreign: Secret = cluster.create("foreign", json!({"metadata": {"name": NAME}})).await;

        let (code, said) = cluster.run("cleanup", &["--config", &file]).await;
        assert_eq!(code, Some(0), "{said}");
        for line in
            ["would delete secret team-a/ecr-pull", "service account team-b/builder", "nothing was changed"]
        {
            assert!(said.contains(line), "{line:?} in {said}");
        }
        assert_eq!(cluster.all_secrets().await.len(), 3);
        let (code, said) = cluster.run("cleanup", &["--config", &file, "--yes", "--timeout", "1s"]).await;
        assert_eq!(code, Some(1), "the controller would make it all again: {said}");
        assert!(said.contains("\"controller_") && said.contains("--force"), "it names the leader: {said}");
        assert_eq!(cluster.all_secrets().await.len(), 3);
        cluster.stop_controller().await;

        let (code, said) = cluster.run("cleanup", &["--config", &file, "--yes"]).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(
            said.contains("2 references and 2 secrets of instance \"ecr-pull-secrets\" removed, 0 failed"),
            "{said}"
        );
        let left = cluster.all_secrets().await;
        assert_eq!(left.keys().collect::<Vec<_>>(), ["foreign"]);
        assert_eq!(uid(&left["foreign"]), uid(&foreign));
        assert_eq!(references(&accounts[0]).await, ["theirs"]);
        let account = accounts[0].get("builder").await.expect("it is there");
        assert_eq!(account.metadata.annotations.unwrap_or_default().len(), 0, "our record is gone too");
        let leases: Api<Lease> = cluster.api(INSTANCE);
        assert!(leases.get_opt(INSTANCE).await.expect("the admin reads leases").is_none());
        let (code, said) = cluster.run("cleanup", &["--config", &file, "--yes"]).await;
        assert_eq!((code, said.contains("0 references and 0 secrets")), (Some(0), true), "{said}");
    });
}

#[test]
fn it_waits_until_the_lease_of_a_killed_controller_expires_and_reports_missing_rights() {
    cluster_test(async |cluster| {
        cluster.spawn_candidate("first");
        cluster.opt_in("team-a").await;
        cluster.wait_for_secret("team-a").await;
        cluster.kill("first");
        let (code, said) = cluster.run("cleanup", &["--yes"]).await;
        assert_eq!(code, Some(1), "the right to delete the Lease is missing: {said}");
        assert!(said.contains("delete the Lease") && said.contains("and delete"), "{said}");
        assert!(cluster.all_secrets().await.is_empty());
        allow(cluster).await;
        let (code, said) = cluster.run("cleanup", &["--yes"]).await;
        assert_eq!(code, Some(0), "{said}");
    });
}

#[test]
fn many_are_removed_and_those_of_another_instance_stay() {
    cluster_test(async |cluster| {
        cluster.opt_in("of-another").await;
        let another = cluster.config("instance: another");
        let (code, said) = cluster.run("sync", &["--config", &another, "--force"]).await;
        assert_eq!(code, Some(0), "{said}");
        cluster.opt_in_teams(0..120).await;
        cluster.run_controller().await;
        cluster.wait_for_secrets(121).await;
        cluster.stop_controller().await;
        allow(cluster).await;
        let (code, said) = cluster.run("cleanup", &["--yes"]).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("120 secrets of instance"), "{said}");
        assert_eq!(cluster.all_secrets().await.into_keys().collect::<Vec<_>>(), ["of-another"]);
    });
}

#[test]
fn with_force_it_removes_all_although_a_controller_holds_the_lease() {
    cluster_test(async |cluster| {
        cluster.spawn_candidate("first");
        cluster.opt_in("team-a").await;
        cluster.wait_for_secret("team-a").await;
        // So that it does not create the Secret again.
        cluster.candidate_process("first").signal("STOP");
        let (code, said) = cluster.run("cleanup", &["--yes", "--force"]).await;
        assert_eq!((code, said.contains("without the Lease (--force)")), (Some(0), true), "{said}");
        assert!(cluster.all_secrets().await.is_empty());
        assert!(cluster.holds_the_lease("first").await);
        cluster.kill("first");
    });
}

/// How many removals `cleanup` requests at once.
const AT_ONCE: usize = 16;

#[test]
fn once_another_process_has_the_lease_it_removes_nothing_more() {
    cluster_test(async |cluster| {
        cluster.opt_in_teams(0..100).await;
        let (code, said) = cluster.run("sync", &[]).await;
        assert_eq!(code, Some(0), "{said}");
        // It waits for the replies to its first removals, and no request is on its way, when it is stopped.
        let proxy = FaultProxy::start(&cluster.control_plane);
        let late = Rule::new(Action::DelayReply(Duration::from_secs(30))).method("DELETE").path("/secrets/");
        let removals = proxy.add(late);
        let mut cleanup = cluster.behind(&proxy, |cluster| cluster.start_command("cleanup", &["--yes"]));
        cluster.wait_until("its first removals", async || removals.commits() == AT_ONCE).await;
        assert!(cluster.holds_the_lease("cleanup").await);
        cleanup.signal("STOP");
        cluster.spawn_candidate("second");
        cluster.wait_until_leader("second").await;
        // Which also creates again what was removed.
        cluster.wait_for_secrets(100).await;
        cleanup.signal("CONT");
        let code = cleanup.wait(Duration::from_mins(1)).await;
        let is_told = cleanup.log().contains("lost the Lease");
        assert_eq!((code, is_told), (Some(1), true), "{}", cleanup.log_tail());
        assert_eq!(cluster.all_secrets().await.len(), 100);
        assert!(cluster.holds_the_lease("second").await);
        let writes = [cluster.requests("delete"), cluster.requests("patch")].concat();
        assert_one_at_a_time(writes);
    });
}
