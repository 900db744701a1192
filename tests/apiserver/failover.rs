//! Several controllers: one writes, and another one follows it at once.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tempfile::TempDir;
use testing::control_plane::assert_one_at_a_time;
use testing::process::Process;
use testing::tenants::INSTANCE;
use tokio::time::{Instant, sleep};

use crate::harness::{QUICK_ELECTION, RBAC, SLOW_ELECTION, TestCluster, cluster_test};

async fn wait_until_ready(cluster: &TestCluster, name: &str) {
    let ready = async || cluster.candidate(name).probe("/readyz").await.0 == 200;
    cluster.wait_until(&format!("{name} is ready"), ready).await;
}

async fn leads(cluster: &TestCluster, name: &str) -> bool {
    cluster.candidate(name).leads().await
}

/// Starts `first` and `second`, which are ready, and of which the first leads.
async fn start_two(cluster: &mut TestCluster, election: &str) {
    cluster.spawn_candidate_with("first", election);
    cluster.wait_until_leader("first").await;
    cluster.spawn_candidate_with("second", election);
    wait_until_ready(cluster, "first").await;
    wait_until_ready(cluster, "second").await;
    assert!(!leads(cluster, "second").await, "one is enough");
}

/// Asserts that no process wrote a Secret again once another one had, and how many wrote at least.
fn assert_one_writer_at_a_time(cluster: &TestCluster, least: usize) {
    let writers = assert_one_at_a_time(cluster.requests("patch"));
    assert!(writers >= least, "the writers are told apart: {writers}");
}

/// How often the leader ends. The simulation does it in every order of events.
const ROUNDS: usize = 4;

/// Ends the leader several times: how long until a namespace that opts in at once has its Secret.
async fn failovers(cluster: &mut TestCluster, election: &str, end: impl Fn(&mut Process), limit: Duration) {
    start_two(cluster, election).await;
    let (mut leader, mut standby) = ("first".to_owned(), "second".to_owned());
    let mut took = vec![];
    for n in 0..ROUNDS {
        let [led, before, after, next] =
            ["led", "before", "after", "standby"].map(|when| format!("{when}-{n}"));
        // Every leader writes at least once.
        cluster.opt_in(&led).await;
        cluster.wait_for_secret(&led).await;
        cluster.opt_in(&before).await;
        end(cluster.candidate_process(&leader));
        let start = Instant::now();
        cluster.opt_in(&after).await;
        cluster.wait_for_secret(&after).await;
        took.push(start.elapsed());
        cluster.wait_for_secret(&before).await;
        let ended = cluster.candidate_process(&leader).wait(Duration::from_mins(1)).await;
        ended.expect("the old leader is gone");
        // The old one may have written the last Secret while it ended. The next one starts later, because it could
        // otherwise acquire the Lease first.
        cluster.wait_until_leader(&standby).await;
        cluster.spawn_candidate_with(&next, election);
        leader = std::mem::replace(&mut standby, next);
        wait_until_ready(cluster, &standby).await;
    }
    took.sort();
    println!("failover: {took:?}");
    assert_one_writer_at_a_time(cluster, ROUNDS);
    assert!(took[ROUNDS - 1] < limit, "{took:?}");
}

#[test]
fn soon_after_a_crash_another_one_writes() {
    cluster_test(async |cluster| {
        // The Lease lasts 4 s. The rest is for a machine that runs other tests; tests/e2e measures without them.
        failovers(cluster, QUICK_ELECTION, Process::kill9, Duration::from_secs(30)).await;
    });
}

#[test]
fn at_once_after_a_clean_end_another_one_writes() {
    cluster_test(async |cluster| {
        // Before the Lease expires, so it was released.
        failovers(cluster, SLOW_ELECTION, Process::terminate, Duration::from_secs(25)).await;
    });
}

/// N46: the process goes on, and its metrics with it.
#[test]
fn a_leader_that_starts_again_once_the_region_is_known_shows_whether_it_leads_then() {
    cluster_test(async |cluster| {
        let folder = TempDir::new().expect("a temporary folder");
        let profile = folder.path().join("config");
        std::fs::write(&profile, "").expect("a file");
        cluster.aws_env.retain(|(name, _)| !name.ends_with("_REGION") && name != "AWS_CONFIG_FILE");
        cluster.aws_env.push(("AWS_CONFIG_FILE".to_owned(), profile.display().to_string()));
        cluster.run_controller_with(&["--leader-election"]).await;
        cluster.wait_until_leader("controller").await;
        std::fs::write(&profile, "[default]\nregion = eu-central-1\n").expect("a file");
        let found = async || cluster.log().contains("starting again");
        cluster.wait_until("the region is known", found).await;
        // Another process takes the Lease.
        let hold = async |holder: Option<&str>| {
            let renewed = MicroTime(Timestamp::now());
            let spec = json!({"holderIdentity": holder, "leaseDurationSeconds": 600, "renewTime": renewed});
            let (leases, patch) = (cluster.api::<Lease>(INSTANCE), Patch::Merge(json!({"spec": spec})));
            leases.patch(INSTANCE, &PatchParams::default(), &patch).await.expect("a Lease");
        };
        hold(Some("other")).await;
        let follows = async || !leads(cluster, "controller").await;
        cluster.wait_until("it shows that it does not lead", follows).await;
        wait_until_ready(cluster, "controller").await;
        assert!(!leads(cluster, "controller").await);
        hold(None).await;
        cluster.wait_until_leader("controller").await;
    });
}

#[test]
fn a_leader_that_was_frozen_writes_nothing_when_it_wakes() {
    cluster_test(async |cluster| {
        let election = "leaderElection: {leaseDuration: 10s, renewDeadline: 8s, retryPeriod: 1s}";
        start_two(cluster, election).await;
        cluster.opt_in_teams(0..20).await;
        cluster.wait_for_secret("team-19").await;
        for n in 20..60 {
            cluster.opt_in(&format!("team-{n}")).await;
            if n == 40 {
                cluster.candidate_process("first").signal("STOP");
            }
        }
        // A request that was on its way is refused once its Secret exists.
        cluster.wait_for_secrets(60).await;
        assert!(leads(cluster, "second").await);
        cluster.candidate_process("first").signal("CONT");
        cluster.opt_in("later").await;
        cluster.wait_for_secrets(61).await;
        sleep(Duration::from_secs(2)).await;
        assert!(!leads(cluster, "first").await && leads(cluster, "second").await);
        assert_eq!(cluster.all_secrets().await.len(), 61);
        assert_one_writer_at_a_time(cluster, 2);
    });
}

#[test]
fn a_leader_that_cannot_renew_stops_before_the_lease_can_be_taken_and_leads_again() {
    cluster_test(async |cluster| {
        let election = "leaderElection: {leaseDuration: 20s, renewDeadline: 8s, retryPeriod: 1s}";
        cluster.spawn_candidate_with("first", election);
        cluster.wait_until_leader("first").await;
        cluster.opt_in("team-a").await;
        cluster.wait_for_secret("team-a").await;
        // It accepts connections and does not reply.
        cluster.control_plane.apiserver().expect("it runs").signal("STOP");
        let silent = Instant::now();
        assert!(leads(cluster, "first").await, "for a moment it still may");
        cluster.wait_until("it stops", async || !leads(cluster, "first").await).await;
        let took = silent.elapsed();
        println!("stopped {took:?} after the API server fell silent");
        assert!(took < Duration::from_secs(18), "{took:?}");
        assert_eq!(cluster.candidate("first").probe("/livez").await.0, 200, "it waits, and does not end");
        sleep(Duration::from_secs(5)).await;
        assert!(!leads(cluster, "first").await);
        cluster.control_plane.apiserver().expect("it runs").signal("CONT");
        cluster.wait_until_leader("first").await;
        cluster.opt_in("team-b").await;
        cluster.wait_for_secret("team-b").await;
    });
}

#[test]
fn without_rights_on_the_lease_it_is_not_ready_and_logs_what_is_missing() {
    cluster_test(async |cluster| {
        let roles: Api<RoleBinding> = cluster.api(INSTANCE);
        roles.delete(INSTANCE, &DeleteParams::default()).await.expect("the role binding is deleted");
        cluster.spawn_candidate("first");
        let reported = async || {
            cluster.candidate("first").process.log().contains("allow get, create and update on leases")
        };
        cluster.wait_until("a line in the log", reported).await;
        assert_eq!(cluster.candidate("first").probe("/readyz").await.0, 503);
        assert!(!leads(cluster, "first").await);
        cluster.control_plane.apply(RBAC).await;
        cluster.wait_until_leader("first").await;
        wait_until_ready(cluster, "first").await;
    });
}

#[test]
fn its_credential_writes_no_lease_of_another_name_and_creates_its_own_by_name_only() {
    cluster_test(async |cluster| {
        let client = cluster.own_client().await;
        let put = async |namespace: &str, name: &str| {
            let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
            let lease = serde_json::from_value(json!({"metadata": {"name": name}})).expect("a Lease");
            match api.replace(name, &PostParams::default(), &lease).await {
                Ok(_) => 200,
                Err(kube::Error::Api(status)) => status.code,
                Err(error) => panic!("{error}"),
            }
        };
        // The API server applies new rights a moment later.
        cluster.wait_until("a PUT that creates it", async || put(INSTANCE, INSTANCE).await == 200).await;
        assert_eq!(put(INSTANCE, "another").await, 403);
        assert_eq!(put("default", INSTANCE).await, 403);
        cluster.api::<Lease>(INSTANCE).get(INSTANCE).await.expect("the Lease exists");
        assert_eq!(put(INSTANCE, INSTANCE).await, 422, "and never writes over it without its version");
    });
}
