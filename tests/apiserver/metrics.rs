//! `/metrics`, as scrapers read it.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use testing::tenants::{HOST, REGISTRIES};

use crate::harness::cluster_test;

const RULES: &str = include_str!("../../deploy/alerts/rules.yaml");
const DASHBOARD: &str = include_str!("../../charts/ecr-pull-secrets/files/dashboard.json");

/// What `promtool check metrics` finds in a text of the format 0.0.4.
async fn promtool(text: &str) -> Result<(), String> {
    let program = testing::tools::folder("promtool").await.join("promtool");
    let mut child = Command::new(program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(said) }
}

#[test]
fn promtool_accepts_the_metrics_of_a_controller_with_a_secret() {
    cluster_test(async |cluster| {
        cluster.run_controller().await;
        cluster.opt_in("team-a").await;
        cluster.wait_for_secret("team-a").await;
        let counted = async || cluster.probe("/metrics").await.1.contains("namespaces{state=\"ready\"} 1\n");
        cluster.wait_until("the metrics count the namespace", counted).await;
        let text = cluster.probe("/metrics").await.1;
        promtool(&text).await.unwrap_or_else(|said| panic!("{said}\n{text}"));
        let names: BTreeSet<&str> = text.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
        for file in [RULES, DASHBOARD] {
            let words = file.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let used =
                words.filter(|word| word.starts_with("ecr_pull_secrets_") || word.starts_with("process_"));
            let unknown: BTreeSet<_> = used.filter(|name| !names.contains(name)).collect();
            assert!(unknown.is_empty(), "the program has no {unknown:?}");
        }
        assert!(promtool("# TYPE a info\na_info 1\n").await.is_err(), "it checks types");
    });
}

/// Otherwise the series reports an expired token 12 hours later.
#[test]
fn the_series_of_a_token_ends_with_the_last_namespace_that_needs_it() {
    cluster_test(async |cluster| {
        cluster.run_controller().await;
        let other = HOST.replace("eu-central-1", "us-east-1");
        cluster.opt_in("team-a").await;
        cluster.annotate("team-b", &[(REGISTRIES, Some(&other))]).await;
        let regions = async || {
            let text = cluster.probe("/metrics").await.1;
            let series =
                text.lines().filter(|line| line.starts_with("ecr_pull_secrets_token_expiration_timestamp"));
            let region = |line: &str| line.split("endpoint=\"").nth(1)?.split('"').next().map(str::to_owned);
            series.filter_map(region).collect::<Vec<_>>()
        };
        let both = async || regions().await == ["eu-central-1", "us-east-1"];
        cluster.wait_until("both tokens have a series", both).await;
        cluster.annotate("team-b", &[(REGISTRIES, None)]).await;
        let one = async || regions().await == ["eu-central-1"];
        cluster.wait_until("one series is left", one).await;
    });
}
