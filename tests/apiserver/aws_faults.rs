//! AWS fails in every way that it can: the last good secret is kept, and renewed when AWS recovers.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use testing::aws::{Behaviour, ExpiresAt, Fault};
use testing::moto::Moto;
use testing::tenants::{auths, hosts, password, time, uid, version};
use tokio::time::sleep;

use crate::harness::{TestCluster, cluster_test};

const LIFETIME: Duration = Duration::from_secs(12);

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

/// Whether the fault of the region is in the end of its tokens.
fn mints_expired(region: &str) -> bool {
    faults().iter().any(|(other, behaviour)| *other == region && behaviour.fault.is_none())
}

fn host(region: &str) -> String {
    format!("123456789012.dkr.ecr.{region}.amazonaws.com")
}

async fn opt_in(cluster: &TestCluster, region: &str) -> Secret {
    cluster.request(region, &host(region)).await;
    cluster.wait_for_secret(region).await
}

fn calls(cluster: &TestCluster, region: &str) -> usize {
    cluster.aws.calls().iter().filter(|call| call.region.as_deref() == Some(region)).count()
}

/// A Secret for each fault, with the number of calls so far, before AWS begins to fail.
async fn begin_to_fail(cluster: &mut TestCluster) -> BTreeMap<&'static str, (Secret, usize)> {
    cluster.aws.set(Behaviour::living(LIFETIME));
    cluster.run_controller().await;
    opt_in(cluster, "eu-central-1").await;
    let mut before = BTreeMap::new();
    for (region, _) in faults() {
        before.insert(region, (opt_in(cluster, region).await, 0));
    }
    for (region, behaviour) in faults() {
        cluster.aws.set_for_region(region, behaviour);
    }
    for (region, (secret, count)) in &mut before {
        if !mints_expired(region) {
            // A renewal may be under way.
            let last = cluster.aws.minted().into_iter().rfind(|token| token.region == *region);
            let last = last.map(|token| token.password);
            let settled =
                async || cluster.secret(region).await.filter(|now| password(now, &host(region)) == last);
            *secret = cluster.wait_for(&format!("the last token of {region}"), settled).await;
        }
        *count = calls(cluster, region);
    }
    before
}

/// Long enough for a second failure of each kind. `controller::tests` has longer failures and their backoff.
#[test]
fn every_failure_keeps_the_last_good_secret_is_one_event_and_is_recovered_from() {
    cluster_test(async |cluster| {
        let before = begin_to_fail(cluster).await;
        sleep(Duration::from_secs(15)).await;
        for (region, (good, count)) in &before {
            let now = cluster.existing_secret(region).await;
            assert_eq!(uid(&now), uid(good), "{region}");
            if !mints_expired(region) {
                assert_eq!(auths(&now), auths(good), "{region}: the last good entry is kept");
            }
            let tries = calls(cluster, region) - count;
            assert!((1..=6).contains(&tries), "{region}: {tries} calls in 15 s");
            let counted = async || {
                let event = cluster.wait_for_event(region, "TokenFailed").await;
                event.count.is_some_and(|count| count >= 2).then_some(event)
            };
            let event = cluster.wait_for(&format!("one counted Event in {region}"), counted).await;
            assert_eq!(event.type_.as_deref(), Some("Warning"));
        }
        let denied = cluster.wait_for_message("us-west-2", "TokenFailed").await;
        assert!(
            denied.contains("AccessDeniedException") && denied.contains("ecr:GetAuthorizationToken"),
            "{denied}"
        );
        let healthy =
            async || time(&cluster.existing_secret("eu-central-1").await, "expires-at") > Timestamp::now();
        cluster.wait_until("a live token of the healthy region, which no other holds up", healthy).await;

        cluster.aws.reset();
        for (region, (good, _)) in &before {
            let recovered = async || {
                let now = cluster.existing_secret(region).await;
                let left = time(&now, "expires-at").duration_since(Timestamp::now());
                (version(&now) != version(good) && left > SignedDuration::from_hours(11)).then_some(now)
            };
            let now = cluster.wait_for(&format!("the recovery of {region}"), recovered).await;
            assert_eq!(uid(&now), uid(good), "{region}");
            cluster.wait_for_event(region, "SecretRecovered").await;
        }
    });
}

#[test]
fn a_namespace_created_while_aws_fails_is_served_when_it_recovers() {
    cluster_test(async |cluster| {
        cluster.aws.set(Behaviour::failing(Fault::ServerError));
        cluster.run_controller().await;
        cluster.opt_in("team-a").await;
        let message = cluster.wait_for_message("team-a", "TokenFailed").await;
        assert!(message.contains("ServerException"), "{message}");
        assert!(cluster.secret("team-a").await.is_none());
        cluster.aws.reset();
        cluster.wait_for_secret("team-a").await;
        cluster.wait_for_event("team-a", "SecretRecovered").await;
    });
}

#[test]
fn a_region_that_hangs_holds_up_no_entry_of_the_same_secret() {
    cluster_test(async |cluster| {
        cluster.aws.set_for_region("us-east-1", Behaviour::failing(Fault::Hang));
        cluster.run_controller().await;
        let both = format!("{} {}", host("us-east-1"), host("eu-central-1"));
        cluster.request("team-a", &both).await;
        let secret = cluster.wait_for_secret("team-a").await;
        let write = async || cluster.log().find("secret written");
        let written = cluster.wait_for("the log of the write", write).await;
        let failed = cluster.log().find("could not fetch an authorization token");
        assert!(failed.is_none_or(|failed| written < failed), "the write waited for the call that hangs");
        assert_eq!(hosts(&secret), [host("eu-central-1")]);
        cluster.aws.reset();
        let whole = async || {
            let secret = cluster.existing_secret("team-a").await;
            (auths(&secret).len() == 2).then_some(secret)
        };
        assert_eq!(uid(&cluster.wait_for("both entries", whole).await), uid(&secret));
    });
}

#[test]
fn a_failing_region_keeps_its_last_good_entry_across_a_restart() {
    cluster_test(async |cluster| {
        cluster.aws.set(Behaviour::living(LIFETIME));
        cluster.run_controller().await;
        let both = format!("{} {}", host("us-east-1"), host("eu-central-1"));
        cluster.request("team-a", &both).await;
        let whole = async || cluster.secret("team-a").await.filter(|secret| auths(secret).len() == 2);
        let first = cluster.wait_for("both entries", whole).await;
        cluster.aws.set_for_region(
            "us-east-1",
            Behaviour { lifetime: LIFETIME, ..Behaviour::failing(Fault::Throttle) },
        );
        cluster.stop_controller().await;
        let good = cluster.existing_secret("team-a").await;
        cluster.run_controller().await;
        let renewed = async || {
            let now = cluster.existing_secret("team-a").await;
            (auths(&now)[&host("eu-central-1")] != auths(&good)[&host("eu-central-1")]).then_some(now)
        };
        // Before and after the kept entry expired.
        for wait in [Duration::ZERO, LIFETIME] {
            sleep(wait).await;
            let now = cluster.wait_for("a renewal of the good region", renewed).await;
            let [kept, good] = [&now, &good].map(|secret| auths(secret).remove(&host("us-east-1")));
            assert_eq!(kept, good, "the last good entry");
            assert_eq!(uid(&now), uid(&first));
        }
        assert_eq!(cluster.requests("get").iter().filter(|get| get.code != 200).count(), 0);
    });
}

#[test]
fn lifetimes_count_from_the_clock_of_aws_when_the_local_one_is_off() {
    cluster_test(async |cluster| {
        cluster.aws.set(Behaviour { date_skew: -7_200, ..Behaviour::living(Duration::from_hours(1)) });
        cluster.run_controller().await;
        cluster.opt_in("team-a").await;
        let secret = cluster.wait_for_secret("team-a").await;
        let left = time(&secret, "expires-at").duration_since(Timestamp::now());
        assert!(left > SignedDuration::from_mins(58) && left <= SignedDuration::from_mins(60), "{left}");
        cluster.wait_until("the log", async || cluster.log().contains("the local clock")).await;
        assert_eq!(cluster.aws.calls_for_tokens().len(), 1);
    });
}

/// AWS rejects the signatures of such a clock, so only rejected requests show it.
#[test]
fn a_clock_for_which_aws_rejects_each_request_is_logged() {
    cluster_test(async |cluster| {
        cluster.aws.set(Behaviour { date_skew: 1_000, ..Behaviour::failing(Fault::SignatureExpired) });
        cluster.run_controller().await;
        cluster.opt_in("team-a").await;
        let message = cluster.wait_for_message("team-a", "TokenFailed").await;
        assert!(message.contains("InvalidSignatureException"), "{message}");
        cluster.wait_until("the log", async || cluster.log().contains("the local clock")).await;
    });
}

/// All of moto's tokens expired on 2015-01-01. Twenty seconds have one retry; `controller::tests` has the backoff.
#[test]
fn against_moto_expired_tokens_are_retried_with_backoff() {
    cluster_test(async |cluster| {
        let moto = Moto::start().await;
        cluster.aws_env = moto.env();
        cluster.run_controller().await;
        for namespace in ["team-a", "team-b", "team-c"] {
            cluster.request(namespace, "default").await;
            let secret = cluster.wait_for_secret(namespace).await;
            assert!(time(&secret, "expires-at") < Timestamp::now(), "nothing better lives");
        }
        sleep(Duration::from_secs(20)).await;
        let metrics = cluster.probe("/metrics").await.1;
        let calls = metrics.lines().filter(|line| line.starts_with("ecr_pull_secrets_aws_requests_total"));
        let calls: u64 = calls.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
        assert!((2..=3).contains(&calls), "{calls} calls in 20 s");
        let message = cluster.wait_for_message("team-a", "TokenFailed").await;
        assert!(message.contains("2015-01-01"), "{message}");
        assert!(cluster.requests("patch").len() <= 6, "{} writes", cluster.requests("patch").len());
    });
}
