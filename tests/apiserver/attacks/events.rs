//! Tenants that cause Events and lines of the log.

use std::time::Duration;

use testing::tenants::{HOST, REGISTRIES};
use tokio::time::{Instant, sleep};

use super::bystanders::{Attack, Bystanders, MAX_WAIT, short_tokens};
use super::tokens::REPOSITORIES;
use crate::harness::cluster_test;

#[test]
fn changing_wrong_values_of_one_tenant_displace_no_event_and_fill_no_log_m5() {
    cluster_test(async |cluster| {
        cluster.aws.set(short_tokens());
        cluster.run_controller().await;
        let bystanders = Bystanders::settle(cluster).await;
        let mut attack = Attack::annotate(cluster, Duration::from_millis(50), |turn| {
            let wrong = |key| (key, Some(format!("wrong value {turn}")));
            let values = vec![
                (REGISTRIES, Some(format!("{HOST},wrong-{turn}.example"))),
                wrong("ecr-pull-secrets.dev/secret-name"),
                wrong("ecr-pull-secrets.dev/role"),
                (REPOSITORIES, Some(format!("a/${{{turn}}}"))),
                wrong("ecr-pull-secrets.dev/service-accounts"),
            ];
            ("evil".to_owned(), values)
        });
        sleep(Duration::from_secs(10)).await;
        let start = Instant::now();
        cluster.request("mistaken", "12345").await;
        cluster.wait_for_event("mistaken", "InvalidAnnotation").await;
        let waited = start.elapsed();
        bystanders.wait_for_renewals(cluster).await;
        bystanders.assert_unharmed(cluster, &mut attack).await;
        let log = cluster.log();
        let is_warning = |line: &&str| line.contains("\"WARN\"") && line.contains("\"evil\"");
        let warnings = log.lines().filter(is_warning).count();
        println!("the Event of another tenant took {waited:.1?}; {warnings} warnings about the attacker");
        assert!(waited < MAX_WAIT, "the Event took {waited:?}");
        assert!((1..=64).contains(&warnings), "{warnings} warnings");
    });
}
