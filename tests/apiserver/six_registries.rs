//! Several registries in one Secret: three regions, two accounts, two identities and public ECR.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use testing::aws::{Behaviour, Fault, Minted, Stub};
use tokio::time::{Instant, sleep};

use crate::world::{REGISTRIES, World, auths};

const ROLE: &str = "arn:aws:iam::222222222222:role/ecr-pull";
const CONFIG: &str = "\
identities:
  - name: team
    roleArn: arn:aws:iam::222222222222:role/ecr-pull
    namespaces: ['team-*']
    registries: ['222222222222/*']";

/// Host, region, and whether the role serves it.
const HOSTS: [(&str, &str, bool); 6] = [
    ("222222222222.dkr.ecr.eu-central-1.amazonaws.com", "eu-central-1", true),
    ("222222222222.dkr.ecr.us-east-1.amazonaws.com", "us-east-1", true),
    ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", "eu-central-1", false),
    ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "eu-west-1", false),
    ("123456789012.dkr.ecr.us-east-1.amazonaws.com", "us-east-1", false),
    ("public.ecr.aws", "us-east-1", false),
];
const FAILING: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

fn all_hosts() -> String {
    HOSTS.map(|(host, ..)| host).join(" ")
}

/// Who stands behind each entry, as the stub saw it.
fn minted(aws: &Stub, secret: &Secret) -> BTreeMap<String, Minted> {
    let all = aws.minted();
    let of = |(host, entry): (String, serde_json::Value)| {
        let password = entry["password"].as_str().expect("a password").to_owned();
        let minted = all.iter().find(|minted| minted.password == password).expect("a token of AWS's");
        (host, minted.clone())
    };
    auths(secret).into_iter().map(of).collect()
}

fn assert_right(aws: &Stub, secret: &Secret) {
    let minted = minted(aws, secret);
    assert_eq!(minted.len(), HOSTS.len());
    for (host, region, by_role) in HOSTS {
        let token = &minted[host];
        assert_eq!((&*token.region, token.public), (region, host == "public.ecr.aws"), "{host}");
        assert_eq!(token.role.as_deref(), by_role.then_some(ROLE), "{host}");
        let resource = format!("\"arn:aws:ecr:{region}:222222222222:repository/*\"");
        let bounded = token.policy.as_ref().is_some_and(|policy| policy.contains(&resource));
        assert_eq!(bounded, by_role, "{host}: {:?}", token.policy);
    }
}

#[tokio::test]
async fn fifty_namespaces_of_six_registries_cost_one_token_for_each_identity_and_region() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    let config = world.config(CONFIG);
    for n in 0..50 {
        world.annotate(&format!("team-{n}"), &[(REGISTRIES, Some(&all_hosts()))]).await;
    }
    world.run_controller_with(&["--config", &config]).await;
    for n in 0..50 {
        let secret = world.wait_for_secret(&format!("team-{n}")).await;
        assert_right(&world.aws, &secret);
    }
    let count = |operation: &str| world.aws.count(operation);
    assert_eq!(count("GetAuthorizationToken"), 5, "two regions of the role, three of the controller");
    assert_eq!((count("GetPublicAuthorizationToken"), count("AssumeRole")), (1, 2));
    let roles: BTreeSet<_> =
        world.aws.calls().into_iter().filter_map(|call| Some((call.role?, call.duration?))).collect();
    assert_eq!(roles, BTreeSet::from([(ROLE.to_owned(), 900)]));
    assert_eq!(world.requests("patch").len(), 50, "one write each");
    world.finish().await;
}

#[tokio::test]
async fn one_failing_region_keeps_its_last_good_entry_and_delays_no_other_also_across_a_restart() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    let config = world.config(CONFIG);
    world.aws.set(Behaviour::living(Duration::from_secs(20)));
    world.run_controller_with(&["--config", &config]).await;
    world.annotate("team-a", &[(REGISTRIES, Some(&all_hosts()))]).await;
    let all_there =
        async |world: &World| world.secret("team-a").await.filter(|s| auths(s).len() == HOSTS.len());
    let first = world.wait_for("all six entries", all_there).await;
    let good = minted(&world.aws, &first)[FAILING].clone();
    let failing = Behaviour { lifetime: Duration::from_secs(20), ..Behaviour::failing(Fault::ServerError) };
    world.aws.set_for_region("eu-west-1", failing);
    let last = world.secret("team-a").await.expect("it is there");
    let last_good = minted(&world.aws, &last)[FAILING].clone();
    for restart in [false, true] {
        if restart {
            world.kill_controller();
            world.run_controller_with(&["--config", &config]).await;
            sleep(Duration::from_secs(3)).await;
        }
        let end = Instant::now() + Duration::from_secs(30);
        while Instant::now() < end {
            let secret = world.secret("team-a").await.expect("it is there");
            let found = minted(&world.aws, &secret);
            assert_eq!(found.len(), HOSTS.len(), "no entry is lost");
            assert_eq!(found[FAILING], last_good, "the last good one is kept");
            for (host, token) in found.iter().filter(|(host, _)| *host != FAILING) {
                assert!(token.expires_at.expect("an end") > Timestamp::now(), "{host} has expired");
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
    assert!(good.expires_at < Some(Timestamp::now()), "what was kept had expired meanwhile");
    world.aws.reset();
    let fresh = async |world: &World| {
        let secret = world.secret("team-a").await.expect("it is there");
        minted(&world.aws, &secret)[FAILING].expires_at > Some(Timestamp::now())
    };
    world.wait_until("the recovery of the region", fresh).await;
    world.finish().await;
}
