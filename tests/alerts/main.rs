//! The alert rules of `deploy/alerts`: promtool accepts them, each has a test, and their metrics are documented.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

const RULES: &str = include_str!("../../deploy/alerts/rules.yaml");
const TESTS: &str = include_str!("../../deploy/alerts/tests.yaml");
const OPERATIONS: &str = include_str!("../../docs/operations.md");

const PREFIX: &str = "ecr_pull_secrets_";

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

#[tokio::test]
async fn promtool_accepts_the_rules_and_their_tests_pass() {
    let promtool = testing::tools::folder("promtool").await.join("promtool");
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in [("rules.yaml", RULES), ("tests.yaml", TESTS)] {
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
        assert!(output.status.success(), "promtool {arguments:?}:\n{text}");
    }
}

#[test]
fn every_alert_has_a_test_in_which_it_fires() {
    let rules: Value = serde_saphyr::from_str(RULES).expect("YAML");
    let alerts =
        list(&rules, "groups").iter().flat_map(|group| list(group, "rules")).map(|rule| &rule["alert"]);
    let alerts: BTreeSet<&str> = alerts.filter_map(Value::as_str).collect();
    assert!(!alerts.is_empty());
    let tests: Value = serde_saphyr::from_str(TESTS).expect("YAML");
    let checks = list(&tests, "tests").iter().flat_map(|test| list(test, "alert_rule_test"));
    let firing = checks.filter(|check| !list(check, "exp_alerts").is_empty());
    assert_eq!(firing.filter_map(|check| check["alertname"].as_str()).collect::<BTreeSet<_>>(), alerts);
}

#[test]
fn every_metric_of_the_rules_is_documented() {
    let section =
        OPERATIONS.split("\n## ").find(|section| section.starts_with("Metrics\n")).expect("a section");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<&str> = rows.filter_map(|row| row.split(['{', '`']).next()).collect();
    let words = RULES.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let used: BTreeSet<&str> = words.filter_map(|word| word.strip_prefix(PREFIX)).collect();
    assert!(!used.is_empty());
    let unknown: Vec<_> = used.difference(&documented).collect();
    assert!(unknown.is_empty(), "docs/operations.md does not document {unknown:?}");
}
