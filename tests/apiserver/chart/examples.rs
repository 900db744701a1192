//! The files of `examples/`. Their values of the chart are among [`super::value_files`], so the tests render each of them, apply
//! it to a real API server, and run the program with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;
use testing::tools;

use crate::harness::cluster_test;

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
/// The kinds of other projects, and where they have values of the chart.
const FOREIGN: [(&str, &str); 6] = [
    ("Application", "/spec/source/helm/valuesObject"),
    ("AppProject", ""),
    ("HelmRelease", "/spec/values"),
    ("ImageRepository", ""),
    ("Kustomization", ""),
    ("OCIRepository", ""),
];

fn find(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the examples") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            find(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// The documents of every YAML file that is not a file of values.
fn manifests() -> Vec<(PathBuf, Value)> {
    let mut files = vec![];
    find(Path::new(EXAMPLES), &mut files);
    let mut found = vec![];
    for path in files {
        if path.extension().is_some_and(|extension| extension == "yaml") && !path.ends_with("values.yaml") {
            let text = fs::read_to_string(&path).expect("an example");
            let documents: Vec<Value> = serde_saphyr::from_multiple(&text)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            found.extend(documents.into_iter().map(|document| (path.clone(), document)));
        }
    }
    assert!(found.len() >= 8, "{} manifests", found.len());
    found
}

/// The values that a manifest has for the chart, as YAML.
fn embedded(document: &Value) -> Option<String> {
    if document["kind"] == "HelmChart" {
        return Some(document["spec"]["valuesContent"].as_str().expect("values").to_owned());
    }
    let (_, place) = FOREIGN.iter().find(|(kind, _)| document["kind"] == *kind)?;
    let values = document.pointer(place).filter(|values| *values != document)?;
    Some(values.to_string())
}

/// Every file of values in the examples, and one for the values in each manifest.
pub fn values() -> Vec<PathBuf> {
    static FILES: LazyLock<Vec<PathBuf>> = LazyLock::new(|| {
        let mut files = vec![];
        find(Path::new(EXAMPLES), &mut files);
        files.retain(|path| path.ends_with("values.yaml"));
        for (path, document) in manifests() {
            let Some(values) = embedded(&document) else { continue };
            let folder =
                path.parent().and_then(Path::file_name).expect("a folder").to_string_lossy().into_owned();
            let name = format!("example-{folder}.yaml");
            let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
            fs::write(&file, values).expect("the folder of the tests accepts files");
            files.push(file);
        }
        assert!(files.len() >= 6, "{files:?}");
        files
    });
    FILES.clone()
}

#[test]
fn every_manifest_of_kubernetes_itself_is_accepted_and_the_others_are_known() {
    cluster_test(async |cluster| {
        let mut applied = 0;
        for (path, document) in manifests() {
            let kind = document["kind"].as_str().unwrap_or_else(|| panic!("{}: no kind", path.display()));
            if kind == "HelmChart" || FOREIGN.iter().any(|(known, _)| *known == kind) {
                continue;
            }
            cluster.control_plane.apply(&document.to_string()).await;
            applied += 1;
        }
        assert!(applied >= 2, "{applied} manifests were applied");
    });
}

#[test]
fn the_scripts_are_valid_bash() {
    let mut files = vec![];
    find(Path::new(EXAMPLES), &mut files);
    files.retain(|path| path.extension().is_some_and(|extension| extension == "sh"));
    assert!(!files.is_empty());
    for path in files {
        let checked = Command::new("bash").arg("-n").arg(&path).status().expect("bash starts");
        assert!(checked.success(), "{}", path.display());
    }
}

#[tokio::test]
async fn the_terraform_files_are_valid() {
    let python = tools::folder("hcl2").await.join("bin/python");
    let script = "import hcl2, sys; print(sorted(key for block in hcl2.load(open(sys.argv[1]))['resource'] for key in block))";
    let parsed = Command::new(python).args(["-c", script, &format!("{EXAMPLES}/terraform/main.tf")]).output();
    let parsed = parsed.expect("Python starts");
    let said = String::from_utf8_lossy(&parsed.stderr).into_owned();
    let found = String::from_utf8_lossy(&parsed.stdout).into_owned();
    assert!(parsed.status.success() && found.contains("aws_eks_pod_identity_association"), "{found}{said}");
}
