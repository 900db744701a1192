//! Several controllers: one writes, and another one follows it at once.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use testing::control_plane::assert_one_at_a_time;
use tokio::time::{Instant, sleep};

use crate::world::{Controller, World};

const OWN: &str = "ecr-pull-secrets";

async fn lease(world: &World) -> Option<Lease> {
    let api: Api<Lease> = Api::namespaced(world.admin.clone(), OWN);
    api.get_opt(OWN).await.expect("the admin reads leases")
}

async fn holder(world: &World) -> Option<String> {
    lease(world).await?.spec?.holder_identity.filter(|holder| !holder.is_empty())
}

async fn ready(world: &World, candidate: &Controller) {
    let ready = async |_: &World| candidate.probe("/readyz").await.0 == 200;
    world.wait_until(&format!("{} is ready", candidate.name), ready).await;
}

async fn leads(world: &World, candidate: &Controller) {
    world.wait_until(&format!("{} leads", candidate.name), async |_: &World| candidate.leads().await).await;
}

/// Two that are ready, of which the first leads.
async fn two(world: &mut World) -> (Controller, Controller) {
    let first = world.spawn_candidate("first");
    leads(world, &first).await;
    let second = world.spawn_candidate("second");
    ready(world, &first).await;
    ready(world, &second).await;
    assert!(!second.leads().await, "one is enough");
    (first, second)
}

/// Nobody wrote a Secret again once another one had, and so many did.
fn assert_one_writer_at_a_time(world: &World, least: usize) {
    let writers = assert_one_at_a_time(world.requests("patch"));
    assert!(writers >= least, "the writers are told apart: {writers}");
}

/// How long it takes until a namespace that opts in at once has its Secret, twenty times.
async fn twenty_failovers(end: impl Fn(&mut Controller), limit: Duration) {
    let mut world = World::start().await;
    let (mut leader, mut standby) = two(&mut world).await;
    let mut took = vec![];
    for n in 0..20 {
        let before = format!("before-{n}");
        world.opt_in(&before).await;
        end(&mut leader);
        let start = Instant::now();
        let namespace = format!("after-{n}");
        world.opt_in(&namespace).await;
        world.wait_for_secret(&namespace).await;
        took.push(start.elapsed());
        world.wait_for_secret(&before).await;
        leader.process.wait(Duration::from_secs(10)).await.expect("the old leader is gone");
        leader = std::mem::replace(&mut standby, world.spawn_candidate(&format!("standby-{n}")));
        // Not at once: the old one may have written the last Secret while it ended.
        leads(&world, &leader).await;
        ready(&world, &standby).await;
    }
    took.sort();
    println!("failover, 20 times: shortest {:?}, median {:?}, longest {:?}", took[0], took[10], took[19]);
    assert_one_writer_at_a_time(&world, 20);
    assert!(took[19] < limit, "{took:?}");
    world.finish_candidates([leader, standby]).await;
}

#[tokio::test]
async fn within_five_seconds_of_a_crash_another_one_writes_twenty_times() {
    if !testing::real_cluster() {
        return;
    }
    twenty_failovers(|leader| leader.process.kill9(), Duration::from_secs(5)).await;
}

#[tokio::test]
async fn at_once_after_a_clean_end_another_one_writes_twenty_times() {
    if !testing::real_cluster() {
        return;
    }
    twenty_failovers(|leader| leader.process.terminate(), Duration::from_secs(2)).await;
}

#[tokio::test]
async fn a_leader_that_was_frozen_writes_nothing_when_it_wakes() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    let (mut first, second) = two(&mut world).await;
    for n in 0..20 {
        world.opt_in(&format!("team-{n}")).await;
    }
    world.wait_for_secret("team-19").await;
    for n in 20..60 {
        world.opt_in(&format!("team-{n}")).await;
        if n == 40 {
            first.process.signal("STOP");
        }
    }
    world.wait_for_secret("team-59").await;
    assert!(second.leads().await);
    first.process.signal("CONT");
    world.opt_in("later").await;
    world.wait_for_secret("later").await;
    sleep(Duration::from_secs(2)).await;
    assert!(!first.leads().await && second.leads().await);
    assert_eq!(world.all_secrets().await.len(), 61);
    assert_one_writer_at_a_time(&world, 2);
    world.finish_candidates([first, second]).await;
}

#[tokio::test]
async fn a_leader_that_cannot_renew_stops_before_the_lease_can_be_taken_and_leads_again() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    let first = world.spawn_candidate("first");
    leads(&world, &first).await;
    world.opt_in("team-a").await;
    world.wait_for_secret("team-a").await;
    // It answers nobody, and refuses nobody either.
    world.cluster.apiserver().expect("it runs").signal("STOP");
    let silent = Instant::now();
    assert!(first.leads().await, "for a moment it still may");
    world.wait_until("it stops", async |_: &World| !first.leads().await).await;
    let took = silent.elapsed();
    println!("stopped {took:?} after the API server fell silent");
    assert!(took < Duration::from_millis(3500), "{took:?}");
    assert_eq!(first.probe("/livez").await.0, 200, "it stands by, and does not end");
    sleep(Duration::from_secs(5)).await;
    assert!(!first.leads().await);
    world.cluster.apiserver().expect("it runs").signal("CONT");
    leads(&world, &first).await;
    world.opt_in("team-b").await;
    world.wait_for_secret("team-b").await;
    world.finish_candidates([first]).await;
}

#[tokio::test]
async fn without_rights_on_the_lease_it_is_not_ready_and_says_what_is_missing() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    let roles: Api<k8s_openapi::api::rbac::v1::RoleBinding> = Api::namespaced(world.admin.clone(), OWN);
    roles.delete(OWN, &kube::api::DeleteParams::default()).await.expect("the role is taken away");
    let first = world.spawn_candidate("first");
    let said = async |_: &World| first.process.log().contains("allow get, create and update on leases");
    world.wait_until("a word in the log", said).await;
    assert_eq!(first.probe("/readyz").await.0, 503);
    assert!(!first.leads().await);
    world.cluster.apply(crate::world::RBAC).await;
    leads(&world, &first).await;
    ready(&world, &first).await;
    world.finish_candidates([first]).await;
}

#[tokio::test]
async fn its_credential_writes_no_lease_of_another_name_and_creates_its_own_by_name_only() {
    if !testing::real_cluster() {
        return;
    }
    let world = World::start().await;
    let kubeconfig = world.cluster.kubeconfig_for(OWN, OWN).await;
    let client = world.cluster.client_for(&kubeconfig).await;
    let put = async |namespace: &str, name: &str| {
        let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
        let lease = serde_json::from_value(json!({"metadata": {"name": name}})).expect("a Lease");
        match api.replace(name, &PostParams::default(), &lease).await {
            Ok(_) => 200,
            Err(kube::Error::Api(status)) => status.code,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(put(OWN, "another").await, 403);
    assert_eq!(put("default", OWN).await, 403);
    assert_eq!(put(OWN, OWN).await, 200, "a PUT creates it");
    assert!(lease(&world).await.is_some());
    assert_eq!(put(OWN, OWN).await, 422, "and never writes over it without its version");
}

#[tokio::test]
async fn sync_refuses_while_a_controller_leads_unless_it_is_forced() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    let (mut first, second) = two(&mut world).await;
    let (code, said) = world.run("sync", &[]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("a controller of this instance is running") && said.contains("--force"), "{said}");
    let (code, said) = world.run("sync", &["--force"]).await;
    assert_eq!(code, Some(0), "{said}");
    drop(second);
    first.process.kill9();
    assert!(holder(&world).await.is_some(), "nobody gave it back");
    let start = Timestamp::now();
    let (code, said) = world.run("sync", &[]).await;
    assert_eq!(code, Some(0), "one that does not renew is gone: {said}");
    assert!(Timestamp::now().duration_since(start).as_secs() >= 3, "which takes a moment to tell");
}
