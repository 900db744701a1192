//! Secrets stay valid for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use testing::aws::Behaviour;
use tokio::time::{Instant, interval};

use crate::world::{HOST, World, auths, time, uid};

const LIFETIME: Duration = Duration::from_mins(1);

#[tokio::test]
async fn over_five_lifetimes_no_reader_sees_an_expired_token() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    world.aws.set(Behaviour::living(LIFETIME));
    world.run_controller().await;
    let namespaces: Vec<_> = (0..5).map(|n| format!("team-{n}")).collect();
    let mut uids = BTreeMap::new();
    for namespace in &namespaces {
        world.opt_in(namespace).await;
        uids.insert(namespace.clone(), uid(&world.wait_for_secret(namespace).await));
    }
    let mut tokens: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut reads = 0;
    let end = Instant::now() + 5 * LIFETIME;
    let mut tick = interval(Duration::from_millis(100));
    while Instant::now() < end {
        tick.tick().await;
        let secrets = world.all_secrets().await;
        let now = Timestamp::now();
        assert_eq!(secrets.len(), namespaces.len(), "none is ever missing");
        let minted = world.aws.minted();
        for (namespace, secret) in &secrets {
            assert_eq!(uid(secret), uids[namespace], "its UID is stable");
            assert!(time(secret, "expires-at") > now, "{namespace} says that it has expired");
            let password = auths(secret)[HOST]["password"].as_str().expect("a password").to_owned();
            let issued = minted.iter().find(|minted| minted.password == password).expect("a token of AWS's");
            assert!(issued.expires_at.expect("an expiry") > now, "{namespace} holds an expired token");
            tokens.entry(namespace.clone()).or_default().insert(password);
        }
        reads += 1;
    }
    assert!(reads > 1_500, "{reads} reads are not one every 100 ms");
    for (namespace, tokens) in tokens {
        assert!(
            (8..=12).contains(&tokens.len()),
            "{namespace} saw {} tokens in five lifetimes",
            tokens.len()
        );
    }
    let mints = world.aws.count("GetAuthorizationToken");
    assert!(mints <= 11, "{mints} mints are more than one in each half-life");
    world.finish().await;
}
