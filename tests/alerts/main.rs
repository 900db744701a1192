//! The alert rules and the dashboard: promtool accepts the rules, each has a test and a section of the runbook, and the metrics
//! are documented.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

const RULES: &str = include_str!("../../deploy/alerts/rules.yaml");
const TESTS: &str = include_str!("../../deploy/alerts/tests.yaml");
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/ecr-pull-secrets");
const DASHBOARD: &str = include_str!("../../charts/ecr-pull-secrets/files/dashboard.json");
const OPERATIONS: &str = include_str!("../../docs/operations.md");

const PREFIX: &str = "ecr_pull_secrets_";

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

/// Checks rules with promtool, and runs their tests.
async fn check(rules: &str, tests: &str) {
    let promtool = testing::tools::folder("promtool").await.join("promtool");
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in [("rules.yaml", rules), ("tests.yaml", tests)] {
        fs::write(folder.path().join(name), text).expect("a copy");
    }
    for arguments in
        [["check", "rules", "--lint-fatal", "rules.yaml"].as_slice(), &["test", "rules", "tests.yaml"]]
    {
        // promtool stores the series of the tests in a temporary folder.
        let output = Command::new(&promtool)
            .args(arguments)
            .current_dir(folder.path())
            .env("TMPDIR", folder.path())
            .output()
            .expect("promtool runs");
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "promtool {arguments:?}:\n{text}\n{rules}");
    }
}

#[tokio::test]
async fn promtool_accepts_the_rules_and_their_tests_pass() {
    check(RULES, TESTS).await;
}

/// The object of the chart with these values: its groups, and its name.
async fn rendered(values: &[&str]) -> Value {
    let args = [
        "template",
        "ecr",
        CHART,
        "--show-only",
        "templates/prometheusrule.yaml",
        "--set",
        "prometheusRule.enabled=true",
    ];
    let text = testing::tools::run("helm", &[&args[..], values].concat(), &[])
        .await
        .unwrap_or_else(|said| panic!("{said}"));
    let rule: Value = serde_saphyr::from_str(&text).expect("YAML");
    rule["spec"].clone()
}

fn rules(spec: &Value) -> Vec<&Value> {
    list(spec, "groups").iter().flat_map(|group| list(group, "rules")).collect()
}

/// The chart adds matchers to each selector, so its rules are others.
#[tokio::test]
async fn the_tests_of_the_rules_pass_with_those_of_the_chart_too() {
    let matchers = r#"prometheusRule.matchers=namespace="ecr"\,job="metrics""#;
    let rendering = rendered(&["--set", matchers]).await.to_string();
    // `absent` has the labels of its matchers.
    let absent = "exp_labels: {severity: critical}\n";
    assert!(TESTS.contains(absent));
    check(
        &rendering,
        &TESTS.replace(absent, "exp_labels: {severity: critical, namespace: ecr, job: metrics}\n"),
    )
    .await;
    let spec = rendered(&["--namespace", "own"]).await;
    let own: Vec<_> = rules(&spec);
    assert_eq!(own.len(), rules(&serde_saphyr::from_str(RULES).expect("YAML")).len());
    for rule in own {
        let expression = rule["expr"].as_str().expect("an expression");
        let matched = r#"{namespace="own",job="ecr-pull-secrets""#;
        assert_eq!(expression.matches(PREFIX).count(), expression.matches(matched).count(), "{expression}");
    }
}

#[tokio::test]
async fn values_of_the_chart_change_the_rules() {
    let spec = rendered(&["--set-json", r#"prometheusRule={"expiresSoonSeconds":600,"alertLabels":{"team":"a"},"disabled":["EcrPullSecretsAbsent"],"additionalRules":[{"alert":"More","expr":"vector(1)"}],"runbookBaseUrl":"https://x.example/"}"#]).await;
    let find = |name: &str| rules(&spec).into_iter().find(|rule| rule["alert"] == name).cloned();
    assert_eq!((find("EcrPullSecretsAbsent"), find("More").is_some()), (None, true));
    let soon = find("EcrPullSecretsExpireSoon").expect("the alert");
    assert!(soon["expr"].as_str().is_some_and(|expression| expression.ends_with("< 600")), "{soon}");
    assert_eq!((&soon["labels"]["team"], &soon["labels"]["severity"]), (&"a".into(), &"warning".into()));
    assert_eq!(
        soon["annotations"]["runbook_url"],
        "https://x.example/docs/operations.md#ecrpullsecretsexpiresoon"
    );
}

/// A section of a runbook begins with the symptom, and not with a heading or a list.
#[test]
fn every_alert_has_a_section_of_the_runbook() {
    let all: Value = serde_saphyr::from_str(RULES).expect("YAML");
    for rule in rules(&all) {
        let alert = rule["alert"].as_str().expect("a name");
        let url = format!("docs/operations.md#{}", alert.to_lowercase());
        assert_eq!(rule["annotations"]["runbook_url"], url);
        let section = OPERATIONS.split_once(&format!("\n### {alert}\n\n")).expect(alert).1;
        let section = section.split("\n#").next().expect("a text");
        assert!(section.starts_with(char::is_uppercase) && section.len() > 100, "{alert}: {section}");
    }
}

#[test]
fn every_alert_has_a_test_in_which_it_fires() {
    let all: Value = serde_saphyr::from_str(RULES).expect("YAML");
    let alerts: BTreeSet<&str> = rules(&all).into_iter().filter_map(|rule| rule["alert"].as_str()).collect();
    assert!(!alerts.is_empty());
    let tests: Value = serde_saphyr::from_str(TESTS).expect("YAML");
    let checks = list(&tests, "tests").iter().flat_map(|test| list(test, "alert_rule_test"));
    let firing = checks.filter(|check| !list(check, "exp_alerts").is_empty());
    assert_eq!(firing.filter_map(|check| check["alertname"].as_str()).collect::<BTreeSet<_>>(), alerts);
}

#[test]
fn every_metric_of_the_rules_and_of_the_dashboard_is_documented() {
    let section =
        OPERATIONS.split("\n## ").find(|section| section.starts_with("Metrics\n")).expect("a section");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<&str> = rows.filter_map(|row| row.split(['{', '`']).next()).collect();
    let words = |text: &'static str| text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    for text in [RULES, DASHBOARD] {
        let used = words(text).filter_map(|word| word.strip_prefix(PREFIX));
        let used: BTreeSet<&str> = used.map(|name| name.trim_end_matches("_bucket")).collect();
        assert!(used.len() > 5);
        let unknown: Vec<_> = used.difference(&documented).collect();
        assert!(unknown.is_empty(), "docs/operations.md does not document {unknown:?}");
    }
}

#[tokio::test]
async fn the_chart_puts_the_dashboard_into_a_config_map_that_the_sidecar_of_grafana_selects() {
    let args = ["template", "ecr", CHART, "--show-only", "templates/dashboard.yaml", "--set-json"];
    let values = r#"grafanaDashboard={"enabled":true,"namespace":"monitoring","annotations":{"grafana_folder":"AWS"},"extraLabels":{"a":"b"}}"#;
    let text = testing::tools::run("helm", &[&args[..], &[values]].concat(), &[])
        .await
        .unwrap_or_else(|said| panic!("{said}"));
    let map: Value = serde_saphyr::from_str(&text).expect("YAML");
    let metadata = &map["metadata"];
    assert_eq!(
        (&metadata["labels"]["grafana_dashboard"], &metadata["labels"]["a"]),
        (&"1".into(), &"b".into())
    );
    assert_eq!(
        (&metadata["namespace"], &metadata["annotations"]["grafana_folder"]),
        (&"monitoring".into(), &"AWS".into())
    );
    let board: Value =
        serde_json::from_str(map["data"]["ecr-pull-secrets.json"].as_str().expect("a file")).expect("JSON");
    assert_eq!(board, serde_json::from_str::<Value>(DASHBOARD).expect("JSON"));
}
