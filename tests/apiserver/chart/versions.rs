//! The versions of Kubernetes: those of the tests, of the chart and of the documents are the same.

use std::path::Path;

use super::CHART;

fn read(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The version of a module that `tests/tools/build` builds, without the `v`.
fn tested(tool: &str, module: &str) -> String {
    let text = read(&format!("tests/tools/{tool}/go.mod"));
    let required = text.lines().find_map(|line| line.trim().strip_prefix(module)?.trim().strip_prefix('v'));
    let version = required.and_then(|rest| rest.split_whitespace().next());
    version.unwrap_or_else(|| panic!("{tool} requires no {module}")).to_owned()
}

#[test]
fn the_chart_and_the_documents_name_those_that_the_tests_run_on() {
    let of = |tool| tested(tool, "k8s.io/kubernetes ");
    let (oldest, usual, newest) = (of("kubernetes-oldest"), of("kubernetes"), of("kubernetes-newest"));
    let kine = tested("kine", "github.com/k3s-io/kine ");
    let document = read("docs/operations.md");
    for row in [
        format!("| {oldest} | etcd |"),
        format!("| {usual} | etcd |"),
        format!("| {newest} | etcd |"),
        format!("| {usual} | kine {kine} with SQLite"),
    ] {
        assert!(document.contains(&row), "docs/operations.md has no row {row}");
    }
    let minor = oldest.rsplit_once('.').expect("a patch version").0;
    let chart = read(&format!("{CHART}/Chart.yaml"));
    assert!(chart.contains(&format!("kubeVersion: \">={minor}.0-0\"")), "{chart}");
}
