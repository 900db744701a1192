//! Tenants that take more than their share, while others use the controller.

use std::fs;
use std::time::Duration;

use testing::aws::{Behaviour, Fault, Stub};
use testing::tenants::{HOST, Tenants};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::harness::{TestCluster, cluster_test};

const REGISTRIES: &str = "ecr-pull-secrets.dev/registries";
const REPOSITORIES: &str = "ecr-pull-secrets.dev/repositories";
/// How long a new namespace of another tenant waits at most.
const SERVED: Duration = Duration::from_secs(10);
const MAX_RESIDENT_KIB: u64 = 64 * 1024;

/// The attacker's changes, one after another until it is dropped.
fn attack(
    cluster: &TestCluster,
    namespace: &'static str,
    pause: Duration,
    annotations: impl Fn(usize) -> Vec<(&'static str, String)> + Send + 'static,
) -> JoinSet<()> {
    let tenant = Tenants::clone(cluster);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        for turn in 0.. {
            let values = annotations(turn);
            let values: Vec<_> = values.iter().map(|(key, value)| (*key, Some(value.as_str()))).collect();
            tenant.annotate(namespace, &values).await;
            sleep(pause).await;
        }
    });
    tasks
}

/// Another tenant opts in and is served in time.
async fn assert_served(cluster: &TestCluster, namespace: &str) {
    let start = Instant::now();
    cluster.opt_in(namespace).await;
    cluster.wait_for_secret(namespace).await;
    let waited = start.elapsed();
    println!("{namespace} was served after {waited:?}");
    assert!(waited < SERVED, "{namespace} waited {waited:?}");
}

/// The resident memory of the controller, in KiB.
fn resident(cluster: &mut TestCluster) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", cluster.controller().pid()));
    let status = status.expect("the status of the controller");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn thirty_new_keys_a_second_of_one_tenant_delay_no_other_h2() {
    const IDENTITIES: &str = "
defaults: {identity: controller}
identities:
  - name: tenants
    roleArn: arn:aws:iam::222222222222:role/ecr-pull
    namespaces: ['evil']
    registries: ['222222222222/*']
    repositories: ['*']";
    cluster_test(async |cluster| {
        cluster.run_controller_configured(IDENTITIES).await;
        assert_served(cluster, "first").await;
        let hosts = "222222222222.dkr.ecr.eu-central-1.amazonaws.com";
        let _attack = attack(cluster, "evil", Duration::from_millis(33), move |turn| {
            vec![(REGISTRIES, hosts.to_owned()), (REPOSITORIES, format!("evil/{turn}"))]
        });
        sleep(Duration::from_secs(10)).await;
        assert_served(cluster, "second").await;
        let calls = cluster.aws.calls().len();
        // A token of a role takes two calls; 64 keys at once, then one in ten seconds.
        assert!(calls < 2 * (64 + 6) + 4, "{calls} calls");
        let resident = resident(cluster);
        assert!(resident < MAX_RESIDENT_KIB, "{resident} KiB");
    });
}

#[test]
fn invented_regions_of_one_tenant_delay_no_new_namespace_after_a_restart_h1() {
    cluster_test(async |cluster| {
        cluster.aws.set(Behaviour::failing(Fault::Unavailable));
        cluster.aws.set_for_region(Stub::REGION, Behaviour::default());
        let _attack = attack(cluster, "evil", Duration::from_millis(200), |turn| {
            let region = |n: usize| format!("123456789012.dkr.ecr.zz-made-{}.amazonaws.com", n % 90 + 1);
            let hosts: Vec<_> = (turn * 8..turn * 8 + 8).map(region).collect();
            vec![(REGISTRIES, hosts.join(","))]
        });
        sleep(Duration::from_secs(3)).await;
        cluster.run_controller().await;
        sleep(Duration::from_secs(4)).await;
        assert_served(cluster, "shop").await;
        let resident = resident(cluster);
        assert!(resident < MAX_RESIDENT_KIB, "{resident} KiB");
    });
}

#[test]
fn changing_wrong_values_of_one_tenant_displace_no_event_and_fill_no_log_m5() {
    cluster_test(async |cluster| {
        cluster.run_controller().await;
        let _attack = attack(cluster, "evil", Duration::from_millis(50), |turn| {
            let wrong = |key| (key, format!("wrong value {turn}"));
            vec![
                (REGISTRIES, format!("{HOST},wrong-{turn}.example")),
                wrong("ecr-pull-secrets.dev/secret-name"),
                wrong("ecr-pull-secrets.dev/role"),
                (REPOSITORIES, format!("a/${{{turn}}}")),
                wrong("ecr-pull-secrets.dev/service-accounts"),
            ]
        });
        sleep(Duration::from_secs(10)).await;
        let start = Instant::now();
        cluster.request("mistaken", "12345").await;
        cluster.wait_for_event("mistaken", "InvalidAnnotation").await;
        assert!(start.elapsed() < SERVED, "the Event took {:?}", start.elapsed());
        let log = cluster.log();
        let is_warning = |line: &&str| line.contains("\"WARN\"") && line.contains("\"evil\"");
        let warnings = log.lines().filter(is_warning).count();
        assert!(warnings <= 64, "{warnings} lines");
        assert!(warnings > 0, "the first wrong values are logged");
        let resident = resident(cluster);
        assert!(resident < MAX_RESIDENT_KIB, "{resident} KiB");
    });
}
