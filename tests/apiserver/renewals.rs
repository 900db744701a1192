//! Secrets are renewed before they expire.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use testing::aws::Behaviour;
use testing::tenants::{HOST, password, time, token, uid, version};
use tokio::time::{Instant, interval};

use crate::harness::cluster_test;

const LIFETIME: Duration = Duration::from_secs(28);

/// Until the second renewal of each Secret, on a real clock. `controller::tests` has months of real lifetimes.
#[test]
fn over_several_lifetimes_no_reader_sees_an_expired_token() {
    cluster_test(async |cluster| {
        cluster.aws.set(Behaviour::living(LIFETIME));
        let start = Instant::now();
        cluster.run_controller().await;
        let namespaces: Vec<_> = (0..5).map(|n| format!("team-{n}")).collect();
        let mut uids = BTreeMap::new();
        for namespace in &namespaces {
            cluster.opt_in(namespace).await;
            uids.insert(namespace.clone(), uid(&cluster.wait_for_secret(namespace).await));
        }
        let mut tokens: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut reads = 0;
        let mut tick = interval(Duration::from_millis(100));
        while start.elapsed() < LIFETIME || reads <= 20 || tokens.values().any(|tokens| tokens.len() < 3) {
            tick.tick().await;
            let now = Timestamp::now();
            let secrets = cluster.all_secrets().await;
            assert_eq!(secrets.len(), namespaces.len(), "none is ever missing");
            for (namespace, secret) in &secrets {
                assert_eq!(uid(secret), uids[namespace], "its UID is stable");
                assert!(time(secret, "expires-at") > now, "{namespace}: expired by its annotation");
                let token = token(&cluster.aws, secret, HOST).expect("a token of AWS");
                assert!(token.expires_at.is_some_and(|end| end > now), "{namespace} has an expired token");
                tokens.entry(namespace.clone()).or_default().insert(token.password);
            }
            reads += 1;
        }
        let calls = cluster.aws.count("GetAuthorizationToken");
        let most = 2 + start.elapsed().as_secs() / (LIFETIME.as_secs() / 2);
        assert!(calls as u64 <= most, "{calls} calls are more than one in each half-life");
    });
}

#[test]
fn a_new_token_on_demand_and_a_deleted_secret_with_the_token_at_hand() {
    cluster_test(async |cluster| {
        cluster.run_controller().await;
        cluster.opt_in("team-a").await;
        cluster.opt_in("team-b").await;
        let first = cluster.wait_for_secret("team-a").await;
        let other = cluster.wait_for_secret("team-b").await;
        let calls = cluster.aws.calls().len();

        cluster.delete("team-a").await;
        let again = cluster.wait_for_secret("team-a").await;
        assert_eq!((password(&again, HOST), cluster.aws.calls().len()), (password(&first, HOST), calls));

        // The issue time on the Secret is in whole seconds.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        let time = Timestamp::now().to_string();
        cluster.annotate("team-a", &[("ecr-pull-secrets.dev/renew", Some(&time))]).await;
        let renewed = async || {
            cluster.secret("team-a").await.filter(|now| password(now, HOST) != password(&first, HOST))
        };
        let renewed = cluster.wait_for("a new token", renewed).await;
        assert_eq!(uid(&renewed), uid(&again), "in place");
        cluster.wait_for_event("team-a", "SecretRenewed").await;
        assert_eq!(cluster.aws.calls().len(), calls + 1);
        assert_eq!(version(&cluster.existing_secret("team-b").await), version(&other));

        cluster.annotate("team-a", &[("ecr-pull-secrets.dev/renew", Some("tomorrow"))]).await;
        let message = cluster.wait_for_message("team-a", "InvalidAnnotation").await;
        assert!(message.starts_with("ecr-pull-secrets.dev/renew: \"tomorrow\" is not a time"), "{message}");
    });
}
