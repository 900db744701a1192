//! The chart: what it renders, and that Kubernetes takes it.

mod arguments;
mod cleanup_hook;
mod conformity;
mod coverage;
mod examples;
mod installations;
mod invalid_values;
mod monitors;
mod notes;
mod rights;
mod schemas;
mod templates;
mod versions;

use std::path::{Path, PathBuf};

use serde_json::Value;
pub use testing::tenants::INSTANCE as RELEASE;
use testing::tools;

use crate::harness::TestCluster;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/ecr-pull-secrets");

/// All objects of the release `ecr-pull-secrets` in the namespace of that name. `values` are flags of Helm.
pub async fn render(values: &[&str]) -> Result<Vec<Value>, String> {
    let mut args = vec!["template", RELEASE, CHART, "--namespace", RELEASE];
    args.extend(values);
    let text = tools::run("helm", &args, &[]).await?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).map_err(|error| error.to_string())?;
    Ok(objects.into_iter().filter(|object| !object.is_null()).collect())
}

/// The files of values in `ci`, and those of the examples.
fn value_files() -> Vec<PathBuf> {
    let folder = std::fs::read_dir(Path::new(CHART).join("ci")).expect("the folder of value files");
    let mut files: Vec<_> = folder.map(|file| file.expect("a file").path()).collect();
    assert!(files.len() >= 4);
    files.extend(examples::values());
    files
}

fn all(objects: &[Value], kind: &str) -> Vec<Value> {
    objects.iter().filter(|object| object["kind"] == kind).cloned().collect()
}

fn one(objects: &[Value], kind: &str) -> Value {
    let found = all(objects, kind);
    assert_eq!(found.len(), 1, "{kind}");
    found[0].clone()
}

fn yaml(objects: &[Value]) -> String {
    // JSON is YAML.
    let documents: Vec<_> = objects.iter().map(|object| format!("---\n{object}\n")).collect();
    documents.concat()
}

/// Applies what an installation consists of, but for what only pods run.
pub async fn install(cluster: &TestCluster, values: &[&str]) {
    cluster.control_plane.apply(&installation(values).await).await;
}

/// What [`install`] applies.
pub async fn installation(values: &[&str]) -> String {
    let mut objects = render(values).await.expect("the chart renders");
    objects.retain(|object| !["Pod", "Job"].contains(&object["kind"].as_str().unwrap_or_default()));
    yaml(&objects)
}

/// The configuration file that its pods have.
pub async fn configuration(values: &[&str]) -> String {
    let objects = render(values).await.expect("the chart renders");
    let map = objects.iter().find(|o| o["kind"] == "ConfigMap" && o["data"]["config.yaml"].is_string());
    map.expect("a ConfigMap")["data"]["config.yaml"].as_str().expect("a file").to_owned()
}
