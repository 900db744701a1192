//! Several registries in one Secret: three regions, two accounts, two identities and public ECR.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use testing::aws::{Behaviour, Fault, Minted, Stub};
use testing::tenants::{hosts, live_token, token};
use tokio::time::{Instant, sleep};

use crate::harness::{TestCluster, cluster_test};

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
const LIFETIME: Duration = Duration::from_secs(30);
const FAILING: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
/// That of the tokens of the region that fails.
const SHORT: Duration = Duration::from_secs(15);

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

/// An entry whose token takes long follows.
async fn wait_for_all(cluster: &TestCluster, namespace: &str) -> Secret {
    let all_there = async || cluster.secret(namespace).await.filter(|s| hosts(s).len() == HOSTS.len());
    cluster.wait_for(&format!("all six entries in {namespace}"), all_there).await
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
            let secret = wait_for_all(cluster, &format!("team-{n}")).await;
            assert_right(&cluster.aws, &secret);
        }
        let count = |operation: &str| cluster.aws.count(operation);
        assert_eq!(count("GetAuthorizationToken"), 5, "two regions of the role, three of the controller");
        assert_eq!((count("GetPublicAuthorizationToken"), count("AssumeRole")), (1, 2));
        let roles: BTreeSet<_> =
            cluster.aws.calls().into_iter().filter_map(|call| Some((call.role?, call.duration?))).collect();
        assert_eq!(roles, BTreeSet::from([(ROLE.to_owned(), 900)]));
        let creations = || cluster.requests("patch").iter().filter(|entry| entry.code == 201).count();
        // An entry of the audit log may follow the response.
        cluster.wait_until("the audit log has the creations", async || creations() >= 50).await;
        assert_eq!(creations(), 50);
        let writes = cluster.requests("patch").len();
        assert!(writes <= 100, "{writes} writes are not one each, and one for a token that takes long");
    });
}

/// Ten seconds before and after a restart, in which the kept entry expires and the others are renewed. `controller::tests`
/// has longer failures.
#[test]
fn one_failing_region_keeps_its_last_good_entry_and_delays_no_other_also_across_a_restart() {
    cluster_test(async |cluster| {
        let config = cluster.config(CONFIG);
        cluster.aws.set(Behaviour::living(LIFETIME));
        cluster.aws.set_for_region("eu-west-1", Behaviour::living(SHORT));
        cluster.run_controller_with(&["--config", &config]).await;
        cluster.request("team-a", &all_hosts()).await;
        wait_for_all(cluster, "team-a").await;
        cluster.aws.set_for_region("eu-west-1", Behaviour::failing(Fault::ServerError));
        // A renewal may be under way.
        let last_good = cluster.aws.minted().into_iter().rfind(|token| token.region == "eu-west-1");
        let last_good = last_good.expect("a token of the region");
        let settled = async || {
            let found = tokens(&cluster.aws, &cluster.existing_secret("team-a").await);
            (found[FAILING] == last_good).then_some(found)
        };
        let before = cluster.wait_for("the last token of the region", settled).await;
        let renewed = |found: &BTreeMap<String, Minted>| {
            before.iter().all(|(host, token)| host == FAILING || found[host] != *token)
        };
        for restart in [false, true] {
            if restart {
                cluster.kill_controller();
                cluster.run_controller_with(&["--config", &config]).await;
                sleep(Duration::from_secs(3)).await;
            }
            let end = Instant::now() + Duration::from_secs(10);
            let mut found = before.clone();
            while Instant::now() < end || restart && !renewed(&found) {
                let now = Timestamp::now();
                let secret = cluster.existing_secret("team-a").await;
                found = tokens(&cluster.aws, &secret);
                assert_eq!(found.len(), HOSTS.len(), "no entry is lost");
                assert_eq!(found[FAILING], last_good, "the last good one is kept");
                for (host, token) in found.iter().filter(|(host, _)| *host != FAILING) {
                    assert!(token.expires_at.expect("an end") > now, "{host} has expired");
                }
                sleep(Duration::from_millis(200)).await;
            }
        }
        assert!(last_good.expires_at < Some(Timestamp::now()), "what was kept had expired meanwhile");
        cluster.aws.reset();
        let fresh =
            async || live_token(&cluster.aws, &cluster.existing_secret("team-a").await, FAILING).is_some();
        cluster.wait_until("the recovery of the region", fresh).await;
    });
}
