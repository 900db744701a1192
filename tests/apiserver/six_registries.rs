//! Several registries in one Secret: three regions, two accounts, two identities and public ECR.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use testing::aws::{Behaviour, Fault, Minted, Stub};
use testing::tenants::{hosts, live_token, token};
use tokio::time::{Instant, sleep};

use crate::harness::cluster_test;

const ROLE: &str = "arn:aws:iam::222222222222:role/ecr-pull";
const CONFIG: &str = "\
defaults: {identity: controller}
identities:
  - name: team
    roleArn: arn:aws:iam::222222222222:role/ecr-pull
    namespaces: ['team-*']
    registries: ['222222222222/*']
    repositories: ['*']";

/// Host, region, and whether the role serves it.
const HOSTS: [(&str, &str, bool); 6] = [
    ("222222222222.dkr.ecr.eu-central-1.amazonaws.com", "eu-central-1", true),
    ("222222222222.dkr.ecr.us-east-1.amazonaws.com", "us-east-1", true),
    ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", "eu-central-1", false),
    ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "eu-west-1", false),
    ("123456789012.dkr.ecr.us-east-1.amazonaws.com", "us-east-1", false),
    ("public.ecr.aws", "us-east-1", false),
];
const LIFETIME: Duration = Duration::from_secs(15);
const FAILING: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

fn all_hosts() -> String {
    HOSTS.map(|(host, ..)| host).join(" ")
}

/// The token in each entry, as the stub issued it.
fn tokens(aws: &Stub, secret: &Secret) -> BTreeMap<String, Minted> {
    let issued = |host: String| {
        let token = token(aws, secret, &host).expect("a token of AWS");
        (host, token)
    };
    hosts(secret).into_iter().map(issued).collect()
}

fn assert_right(aws: &Stub, secret: &Secret) {
    let tokens = tokens(aws, secret);
    assert_eq!(tokens.len(), HOSTS.len());
    for (host, region, by_role) in HOSTS {
        let token = &tokens[host];
        assert_eq!((&*token.region, token.public), (region, host == "public.ecr.aws"), "{host}");
        assert_eq!(token.role.as_deref(), by_role.then_some(ROLE), "{host}");
        let resource = format!("\"arn:aws:ecr:{region}:222222222222:repository/*\"");
        let bounded = token.policy.as_ref().is_some_and(|policy| policy.contains(&resource));
        assert_eq!(bounded, by_role, "{host}: {:?}", token.policy);
    }
}

#[test]
fn fifty_namespaces_of_six_registries_cost_one_token_for_each_identity_and_region() {
    cluster_test(async |cluster| {
        let config = cluster.config(CONFIG);
        for n in 0..50 {
            cluster.request(&format!("team-{n}"), &all_hosts()).await;
        }
        cluster.run_controller_with(&["--config", &config]).await;
        for n in 0..50 {
            let secret = cluster.wait_for_secret(&format!("team-{n}")).await;
            assert_right(&cluster.aws, &secret);
        }
        let count = |operation: &str| cluster.aws.count(operation);
        assert_eq!(count("GetAuthorizationToken"), 5, "two regions of the role, three of the controller");
        assert_eq!((count("GetPublicAuthorizationToken"), count("AssumeRole")), (1, 2));
        let roles: BTreeSet<_> =
            cluster.aws.calls().into_iter().filter_map(|call| Some((call.role?, call.duration?))).collect();
        assert_eq!(roles, BTreeSet::from([(ROLE.to_owned(), 900)]));
        assert_eq!(cluster.requests("patch").len(), 50, "one write each");
    });
}

/// Ten seconds before and after a restart, in which the kept entry expires. `controller::tests` has longer failures.
#[test]
fn one_failing_region_keeps_its_last_good_entry_and_delays_no_other_also_across_a_restart() {
    cluster_test(async |cluster| {
        let config = cluster.config(CONFIG);
        cluster.aws.set(Behaviour::living(LIFETIME));
        cluster.run_controller_with(&["--config", &config]).await;
        cluster.request("team-a", &all_hosts()).await;
        let all_there = async || cluster.secret("team-a").await.filter(|s| hosts(s).len() == HOSTS.len());
        let first = cluster.wait_for("all six entries", all_there).await;
        let good = tokens(&cluster.aws, &first)[FAILING].clone();
        let failing = Behaviour { lifetime: LIFETIME, ..Behaviour::failing(Fault::ServerError) };
        cluster.aws.set_for_region("eu-west-1", failing);
        let last = cluster.existing_secret("team-a").await;
        let last_good = tokens(&cluster.aws, &last)[FAILING].clone();
        for restart in [false, true] {
            if restart {
                cluster.kill_controller();
                cluster.run_controller_with(&["--config", &config]).await;
                sleep(Duration::from_secs(3)).await;
            }
            let end = Instant::now() + Duration::from_secs(10);
            while Instant::now() < end {
                let secret = cluster.existing_secret("team-a").await;
                let found = tokens(&cluster.aws, &secret);
                assert_eq!(found.len(), HOSTS.len(), "no entry is lost");
                assert_eq!(found[FAILING], last_good, "the last good one is kept");
                for (host, token) in found.iter().filter(|(host, _)| *host != FAILING) {
                    assert!(token.expires_at.expect("an end") > Timestamp::now(), "{host} has expired");
                }
                sleep(Duration::from_millis(200)).await;
            }
        }
        assert!(good.expires_at < Some(Timestamp::now()), "what was kept had expired meanwhile");
        cluster.aws.reset();
        let fresh =
            async || live_token(&cluster.aws, &cluster.existing_secret("team-a").await, FAILING).is_some();
        cluster.wait_until("the recovery of the region", fresh).await;
    });
}
