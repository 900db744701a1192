//! AWS fails in every way that it can: the last good secret stays, and all is well again when AWS is.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use testing::aws::{Behaviour, ExpiresAt, Fault, Stub};
use testing::moto::Moto;
use tokio::time::sleep;

use crate::world::{REGISTRIES, World, auths, time, uid, version};

const LIFETIME: Duration = Duration::from_secs(20);

/// One region for each fault, so that all are seen at once, and none holds up another.
fn faults() -> Vec<(&'static str, Behaviour)> {
    let failing = |fault| Behaviour { lifetime: LIFETIME, ..Behaviour::failing(fault) };
    let expiring = |expires_at| Behaviour { expires_at, ..Behaviour::living(LIFETIME) };
    vec![
        ("us-east-1", failing(Fault::Throttle)),
        ("us-east-2", failing(Fault::ServerError)),
        ("us-west-1", failing(Fault::Unavailable)),
        ("us-west-2", failing(Fault::AccessDenied)),
        ("eu-west-1", failing(Fault::Hang)),
        ("eu-west-2", failing(Fault::Garbage)),
        ("eu-west-3", failing(Fault::BadToken)),
        ("eu-north-1", failing(Fault::EmptyData)),
        ("eu-south-1", failing(Fault::Reset)),
        ("sa-east-1", expiring(ExpiresAt::At(1_420_070_400))),
        ("ca-central-1", expiring(ExpiresAt::Missing)),
    ]
}

fn host(region: &str) -> String {
    format!("123456789012.dkr.ecr.{region}.amazonaws.com")
}

async fn opt_in(world: &World, region: &str) -> Secret {
    world.annotate(region, &[(REGISTRIES, Some(&host(region)))]).await;
    world.wait_for_secret(region).await
}

fn calls(world: &World, region: &str) -> usize {
    world.aws.calls().iter().filter(|call| call.region.as_deref() == Some(region)).count()
}

async fn begin() -> (World, BTreeMap<&'static str, (Secret, usize)>) {
    let mut world = World::start().await;
    world.aws.set(Behaviour::living(LIFETIME));
    world.run_controller().await;
    opt_in(&world, "eu-central-1").await;
    let mut before = BTreeMap::new();
    for (region, _) in faults() {
        before.insert(region, (opt_in(&world, region).await, 0));
    }
    for (region, behaviour) in faults() {
        world.aws.set_for_region(region, behaviour);
    }
    for (region, (secret, count)) in &mut before {
        *secret = world.secret(region).await.expect("it is there");
        *count = calls(&world, region);
    }
    (world, before)
}

#[tokio::test]
async fn every_failure_keeps_the_last_good_secret_is_one_event_and_is_recovered_from() {
    if !testing::real_cluster() {
        return;
    }
    let (world, before) = begin().await;
    sleep(Duration::from_secs(40)).await;
    for (region, (good, count)) in &before {
        let now = world.secret(region).await.unwrap_or_else(|| panic!("{region}: the secret is gone"));
        assert_eq!(uid(&now), uid(good), "{region}");
        if *region != "ca-central-1" && *region != "sa-east-1" {
            assert_eq!(auths(&now), auths(good), "{region}: the last good entry is kept");
        }
        let tries = calls(&world, region) - count;
        assert!((2..=7).contains(&tries), "{region}: {tries} calls in 40 s");
        let counted = async |world: &World| {
            let event = world.wait_for_event(region, "TokenFailed").await;
            event.count.is_some_and(|count| count >= 2).then_some(event)
        };
        let event = world.wait_for(&format!("one counted Event in {region}"), counted).await;
        assert_eq!(event.type_.as_deref(), Some("Warning"));
    }
    let denied = world.wait_for_event("us-west-2", "TokenFailed").await.message.expect("a message");
    assert!(
        denied.contains("AccessDeniedException") && denied.contains("ecr:GetAuthorizationToken"),
        "{denied}"
    );
    let healthy = world.secret("eu-central-1").await.expect("it is there");
    assert!(time(&healthy, "expires-at") > Timestamp::now(), "the healthy region is held up by no other");

    world.aws.reset();
    for (region, (good, _)) in &before {
        let recovered = async |world: &World| {
            let now = world.secret(region).await.expect("it is there");
            let left = time(&now, "expires-at").duration_since(Timestamp::now());
            (version(&now) != version(good) && left > SignedDuration::from_hours(11)).then_some(now)
        };
        let now = world.wait_for(&format!("the recovery of {region}"), recovered).await;
        assert_eq!(uid(&now), uid(good), "{region}");
        world.wait_for_event(region, "SecretRecovered").await;
    }
    world.finish().await;
}

#[tokio::test]
async fn a_namespace_created_while_aws_fails_is_served_when_it_recovers() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    world.aws.set(Behaviour::failing(Fault::ServerError));
    world.run_controller().await;
    world.opt_in("team-a").await;
    let event = world.wait_for_event("team-a", "TokenFailed").await;
    assert!(event.message.expect("a message").contains("ServerException"));
    assert!(world.secret("team-a").await.is_none());
    world.aws.reset();
    world.wait_for_secret("team-a").await;
    world.wait_for_event("team-a", "SecretRecovered").await;
    world.finish().await;
}

#[tokio::test]
async fn a_region_that_hangs_holds_up_no_entry_of_the_same_secret() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    world.aws.set_for_region("us-east-1", Behaviour::failing(Fault::Hang));
    world.run_controller().await;
    let both = format!("{} {}", host("us-east-1"), host("eu-central-1"));
    world.annotate("team-a", &[(REGISTRIES, Some(&both))]).await;
    let start = tokio::time::Instant::now();
    let secret = world.wait_for_secret("team-a").await;
    assert!(start.elapsed() < Duration::from_secs(6), "it took {:?}", start.elapsed());
    assert_eq!(auths(&secret).into_keys().collect::<Vec<_>>(), [host("eu-central-1")]);
    world.aws.reset();
    let whole = async |world: &World| {
        let secret = world.secret("team-a").await.expect("it is there");
        (auths(&secret).len() == 2).then_some(secret)
    };
    assert_eq!(uid(&world.wait_for("both entries", whole).await), uid(&secret));
    world.finish().await;
}

#[tokio::test]
async fn a_failing_region_keeps_its_last_good_entry_across_a_restart() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    world.aws.set(Behaviour::living(LIFETIME));
    world.run_controller().await;
    let both = format!("{} {}", host("us-east-1"), host("eu-central-1"));
    world.annotate("team-a", &[(REGISTRIES, Some(&both))]).await;
    let first = world.wait_for_secret("team-a").await;
    world
        .aws
        .set_for_region("us-east-1", Behaviour { lifetime: LIFETIME, ..Behaviour::failing(Fault::Throttle) });
    let good = world.secret("team-a").await.expect("it is there");
    world.stop_controller().await;
    world.run_controller().await;
    let renewed = async |world: &World| {
        let now = world.secret("team-a").await.expect("it is there");
        (auths(&now)[&host("eu-central-1")] != auths(&good)[&host("eu-central-1")]).then_some(now)
    };
    for _ in 0..2 {
        let now = world.wait_for("a refresh of the good region", renewed).await;
        assert_eq!(
            auths(&now).get(&host("us-east-1")),
            auths(&good).get(&host("us-east-1")),
            "the last good entry"
        );
        assert_eq!(uid(&now), uid(&first));
        sleep(LIFETIME).await;
    }
    assert_eq!(world.requests("get").iter().filter(|get| get.code != 200).count(), 0);
    world.finish().await;
}

#[tokio::test]
async fn tokens_count_from_awss_clock_when_ours_is_off() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    world.aws.set(Behaviour { date_skew: -7_200, ..Behaviour::living(Duration::from_hours(1)) });
    world.run_controller().await;
    world.opt_in("team-a").await;
    let secret = world.wait_for_secret("team-a").await;
    let left = time(&secret, "expires-at").duration_since(Timestamp::now());
    assert!(left > SignedDuration::from_mins(58) && left <= SignedDuration::from_mins(60), "{left}");
    assert!(world.controller().log().contains("the local clock is off"));
    assert_eq!(world.aws.calls().len(), 1);
    world.finish().await;
}

/// moto's tokens expired on 2015-01-01, all of them.
#[tokio::test]
async fn against_moto_two_minutes_make_a_handful_of_calls() {
    if !testing::real_cluster() {
        return;
    }
    let moto = Moto::start().await;
    let mut world = World::with_aws(Stub::start().await, moto.env()).await;
    world.run_controller().await;
    for namespace in ["team-a", "team-b", "team-c"] {
        world.annotate(namespace, &[(REGISTRIES, Some("default"))]).await;
        let secret = world.wait_for_secret(namespace).await;
        assert!(time(&secret, "expires-at") < Timestamp::now(), "nothing better lives");
    }
    sleep(Duration::from_mins(2)).await;
    let metrics = world.probe("/metrics").await.1;
    let calls = metrics.lines().filter(|line| line.starts_with("ecr_pull_secrets_aws_requests_total"));
    let calls: u64 = calls.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
    assert!((2..=6).contains(&calls), "{calls} calls in two minutes");
    let event = world.wait_for_event("team-a", "TokenFailed").await;
    assert!(event.message.expect("a message").contains("expired at 2015-01-01"));
    assert!(world.requests("patch").len() <= 6, "{} writes", world.requests("patch").len());
    world.finish().await;
}
