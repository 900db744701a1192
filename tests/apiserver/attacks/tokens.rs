//! Tenants that name more tokens than they need, or tokens that they are not granted.

use std::time::{Duration, Instant};

use testing::aws::{Behaviour, Call, Fault, Stub};
use testing::credentials::ContainerEndpoint;
use testing::tenants::{HOST, REGISTRIES};

use super::bystanders::{Attack, Bystanders, MAX_WAIT, served_after, short_tokens};
use crate::harness::{TestCluster, cluster_test};

pub const REPOSITORIES: &str = "ecr-pull-secrets.dev/repositories";
const ROLE: &str = "ecr-pull-secrets.dev/role";
const TENANTS: &str = "arn:aws:iam::222222222222:role/ecr-pull";
const OTHERS: &str = "arn:aws:iam::123456789012:role/others";
const OTHER_HOST: &str = "222222222222.dkr.ecr.eu-central-1.amazonaws.com";

/// A role that serves one account to some namespaces. Another one serves the bystanders, each with a token of its own.
fn roles(namespaces: &str, repositories: &str, default_identity: &str) -> String {
    format!(
        "
defaults: {{identity: {default_identity}}}
identities:
  - name: tenants
    roleArn: {TENANTS}
    namespaces: [{namespaces}]
    registries: ['222222222222/*']
    repositories: ['{repositories}']
  - name: others
    roleArn: {OTHERS}
    namespaces: ['bystander-*']
    registries: ['123456789012/*']
    repositories: ['{{namespace}}/*']
"
    )
}

/// The number of sessions of the attacker's role.
fn sessions(cluster: &TestCluster) -> usize {
    cluster.aws.calls().iter().filter(|call| call.role.as_deref() == Some(TENANTS)).count()
}

/// Requests registries for so many namespaces of one tenant.
async fn request_for_all(cluster: &TestCluster, count: usize, registries: &str) {
    for number in 0..count {
        cluster.request(&format!("evil-{number}"), registries).await;
    }
}

/// Requests another token for one of so many namespaces in each turn.
fn change_repositories(cluster: &TestCluster, count: usize, pause: Duration) -> Attack {
    Attack::annotate(cluster, pause, move |turn| {
        let namespace = format!("evil-{}", turn % count);
        let pattern = format!("{namespace}/{turn}");
        (namespace, vec![(REPOSITORIES, Some(pattern))])
    })
}

#[test]
fn thirty_new_keys_a_second_of_one_tenant_delay_no_other_h2() {
    cluster_test(async |cluster| {
        cluster.run_controller_configured(&roles("evil", "*", "controller")).await;
        cluster.aws.set_for_region(Stub::REGION, short_tokens());
        let bystanders = Bystanders::settle(cluster).await;
        cluster.request("evil", OTHER_HOST).await;
        let mut attack = Attack::annotate(cluster, Duration::from_millis(33), |turn| {
            ("evil".to_owned(), vec![(REPOSITORIES, Some(format!("evil/{turn}")))])
        });
        bystanders.wait_for_renewals(cluster).await;
        cluster.wait_until("enough turns for an attack", async || attack.turns() > 50).await;
        bystanders.assert_unharmed(cluster, &mut attack).await;
        let (turns, sessions) = (attack.turns(), sessions(cluster));
        println!("{sessions} sessions for {turns} keys");
        // 64 keys at once, then one in ten seconds, and the renewal of the last one.
        assert!(sessions <= 64 + 10, "{sessions} sessions");
    });
}

#[test]
fn invented_regions_of_one_tenant_delay_no_other_after_a_restart_h1() {
    cluster_test(async |cluster| {
        cluster.aws.set(Behaviour::failing(Fault::Unavailable));
        cluster.aws.set_for_region(Stub::REGION, short_tokens());
        cluster.run_controller().await;
        let bystanders = Bystanders::settle(cluster).await;
        cluster.stop_controller().await;
        // 96 invented regions at any time; the regions of each namespace change every six seconds.
        let mut attack = Attack::annotate(cluster, Duration::from_millis(500), |turn| {
            let region = |n: usize| format!("123456789012.dkr.ecr.zz-made-{}.amazonaws.com", n % 98 + 1);
            let hosts: Vec<_> = (turn * 8..turn * 8 + 8).map(region).collect();
            (format!("evil-{}", turn % 12), vec![(REGISTRIES, Some(hosts.join(",")))])
        });
        cluster.wait_until("the first regions", async || attack.turns() >= 12).await;
        cluster.run_controller().await;
        bystanders.wait_for_renewals(cluster).await;
        let is_invented = |call: &&Call| call.region.as_ref().is_some_and(|it| it.starts_with("zz-"));
        let invented = || cluster.aws.calls().iter().filter(is_invented).count();
        cluster.wait_until("requests for the attacker's regions", async || invented() >= 64).await;
        println!("{} calls to invented regions", invented());
        bystanders.assert_unharmed(cluster, &mut attack).await;
    });
}

#[test]
fn a_hundred_tenants_with_tokens_of_their_own_leave_the_controllers_credentials_in_memory_m1() {
    const NAMESPACES: usize = 100;
    // With a full cache it depends on the hashes of the process which entry leaves it, so there are many more than 64.
    const SESSIONS: usize = 250;
    cluster_test(async |cluster| {
        let source = ContainerEndpoint::start(&cluster.aws, Duration::from_hours(6)).await;
        cluster.aws_env = source.env();
        cluster.aws.set_for_region(Stub::REGION, short_tokens());
        cluster.run_controller_configured(&roles("'evil-*'", "{namespace}/*", "controller")).await;
        let bystanders = Bystanders::settle(cluster).await;
        let loads = source.count();
        // In another region, where tokens live for 12 hours: each change of a key is one more session.
        request_for_all(cluster, NAMESPACES, &OTHER_HOST.replace(Stub::REGION, "us-east-1")).await;
        let mut attack = change_repositories(cluster, NAMESPACES, Duration::from_millis(60));
        cluster.wait_until("the sessions", async || sessions(cluster) >= SESSIONS).await;
        bystanders.wait_for_renewals(cluster).await;
        bystanders.assert_unharmed(cluster, &mut attack).await;
        let sessions = sessions(cluster);
        println!("{sessions} sessions, {} loads of the controller's credentials", source.count());
        assert_eq!(source.count(), loads, "{sessions} sessions loaded the controller's credentials again");
    });
}

#[test]
fn three_hundred_keys_of_a_region_that_hangs_delay_no_other_r9() {
    const NAMESPACES: usize = 300;
    cluster_test(async |cluster| {
        cluster.aws.set(short_tokens());
        cluster.aws.set_for_region("us-east-1", Behaviour::failing(Fault::Hang));
        cluster.run_controller_configured(&roles("'evil-*'", "{namespace}/*", "controller")).await;
        let bystanders = Bystanders::settle(cluster).await;
        let hanging = OTHER_HOST.replace(Stub::REGION, "us-east-1");
        let start = Instant::now();
        request_for_all(cluster, NAMESPACES, &hanging).await;
        let mut attack = change_repositories(cluster, NAMESPACES, Duration::from_millis(100));
        bystanders.wait_for_renewals(cluster).await;
        let waited = served_after(cluster, "bystander-first").await;
        assert!(waited < MAX_WAIT, "{waited:?}");
        bystanders.assert_unharmed(cluster, &mut attack).await;
        let calls = cluster.aws.calls();
        let hung = calls.iter().filter(|call| call.region.as_deref() == Some("us-east-1")).count();
        println!("{hung} calls to the region that hangs");
        // Two at a time, each for at least ten seconds.
        let most = 2 * (1 + start.elapsed().as_secs() / 10);
        assert!(hung >= 2 && hung as u64 <= most, "{hung} calls, of at most {most}");
    });
}

/// Without `defaults.identity: none` there is nothing to attack: see `docs/threat-model.md`, "The token".
#[test]
fn a_role_does_not_open_the_controllers_own_scope_to_ungranted_tenants_h4() {
    cluster_test(async |cluster| {
        let open = roles("team-a", "{namespace}/*", "controller");
        let unsaid = cluster.config(&open.replace("defaults: {identity: controller}", ""));
        let (code, said) = cluster.run_program(&["controller", "--config", &unsaid]).await;
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("defaults.identity: missing, and identities have roles"), "{said}");

        let closed = open.replace("controller", "none");
        cluster.aws.set(short_tokens());
        cluster.run_controller_configured(&closed).await;
        let bystanders = Bystanders::settle(cluster).await;
        cluster.request("team-a", OTHER_HOST).await;
        cluster.wait_for_secret("team-a").await;
        cluster.annotate("dev", &[]).await;
        // Accounts that a token of the controller would open, by a tenant with a grant for another one, and by one without.
        let mut attack = Attack::annotate(cluster, Duration::from_millis(100), |turn| {
            let namespace = ["team-a", "dev"][turn % 2];
            let host = [HOST, "000000000000.dkr.ecr.eu-central-1.amazonaws.com", OTHER_HOST][turn / 2 % 3];
            let role = [None, Some("controller"), Some("others")][turn / 6 % 3];
            let values = vec![(REGISTRIES, Some(host.to_owned())), (ROLE, role.map(str::to_owned))];
            (namespace.to_owned(), values)
        });
        cluster.wait_until("each combination", async || attack.turns() > 36).await;
        bystanders.wait_for_renewals(cluster).await;
        bystanders.assert_unharmed(cluster, &mut attack).await;
        for namespace in ["team-a", "dev"] {
            cluster
                .wait_until("the reason", async || {
                    !cluster.events_of(namespace, "NotGranted").await.is_empty()
                })
                .await;
        }
        assert!(cluster.secret("dev").await.is_none(), "no token without a grant");
        for token in cluster.aws.minted() {
            let policy = token.policy.as_deref().unwrap_or_default();
            let scopes = ["repository/team-a/*", "repository/bystander-"];
            assert!(scopes.iter().any(|scope| policy.contains(scope)), "{:?} {policy}", token.role);
        }
    });
}
