//! The program as a plugin of kubectl, its completions and its man pages.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;
use testing::aws::Stub;
use testing::tenants::HOST;

use crate::harness::cluster_test;
use crate::users::{PLUGIN, User};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ecr-pull-secrets");
const KREW: &str = include_str!("../../deploy/krew/ecr-pull-secrets.yaml");

fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).output().expect("the program runs")
}

#[test]
fn kubectl_runs_the_link_in_path_as_its_plugin() {
    cluster_test(async |cluster| {
        cluster.run_controller().await;
        cluster.opt_in("team-a").await;
        cluster.wait_for_secret("team-a").await;
        let admin = User::admin(cluster);
        let account = Stub::ACCOUNT;
        for (args, expected) in [
            (&["--help"][..], "Usage: kubectl ecr-pull-secrets [OPTIONS] <COMMAND>"),
            (&["status", "--help"], "Usage: kubectl ecr-pull-secrets status [OPTIONS]"),
            (&["status", "-A"], "team-a      Ready"),
            (&["explain", "-n", "team-a"], HOST),
            (&["render", account, "-n", "team-a"], "kubernetes.io/dockerconfigjson"),
            (&["completion", "bash"], "all-namespaces"),
        ] {
            let output = admin.run_by_kubectl(cluster, args).await;
            assert_eq!(output.code, Some(0), "{args:?}: {}", output.text);
            assert!(output.text.contains(expected), "{args:?}: {}", output.text);
        }
        let output = admin.run_by_kubectl(cluster, &["check", "-o", "json"]).await;
        assert_eq!(
            (output.code, &output.json()["kind"]),
            (Some(1), &json!("CheckResult")),
            "{}",
            output.text
        );
        let output = admin.run_by_kubectl(cluster, &["stauts"]).await;
        assert_eq!(output.code, Some(2), "{}", output.text);
    });
}

#[test]
fn completions_exist_for_each_shell_and_bash_accepts_its_own() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = run(PROGRAM, &["completion", shell]);
        let script = String::from_utf8(output.stdout).expect("text");
        for word in ["status", "explain", "all-namespaces", "controller"] {
            assert!(output.status.success() && script.contains(word), "{shell}: {word}");
        }
        if shell == "bash" {
            let parsed = run("bash", &["-n", "-c", &script]);
            assert!(parsed.status.success(), "{}", String::from_utf8_lossy(&parsed.stderr));
        }
    }
}

#[test]
fn each_command_has_a_man_page() {
    let folder = TempDir::new().expect("a temporary folder");
    let output = run(PROGRAM, &["man", folder.path().to_str().expect("a path")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let pages = std::fs::read_dir(folder.path()).expect("pages");
    let pages: BTreeSet<_> =
        pages.map(|page| page.expect("a page").file_name().into_string().expect("text")).collect();
    for page in ["", "-controller", "-status", "-explain", "-render", "-completion"] {
        assert!(pages.contains(&format!("ecr-pull-secrets{page}.1")), "{page}: {pages:?}");
    }
    assert!(!pages.contains("ecr-pull-secrets-man.1"), "hidden commands have none: {pages:?}");
    let status = std::fs::read_to_string(folder.path().join("ecr-pull-secrets-status.1")).expect("a page");
    assert!(status.contains(r"\-\-all\-namespaces"), "{status}");
}

/// The fields of <https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest/>.
#[test]
fn the_krew_manifest_has_the_documented_fields() {
    let manifest: Value = serde_saphyr::from_str(KREW).expect("YAML");
    let keys =
        |value: &Value| -> BTreeSet<String> { value.as_object().expect("a map").keys().cloned().collect() };
    let set = |keys: &[&str]| -> BTreeSet<String> { keys.iter().map(ToString::to_string).collect() };
    assert_eq!(keys(&manifest), set(&["apiVersion", "kind", "metadata", "spec"]));
    assert_eq!(manifest["apiVersion"], "krew.googlecontainertools.github.com/v1alpha2");
    assert_eq!(manifest["kind"], "Plugin");
    assert_eq!(manifest["metadata"]["name"], "ecr-pull-secrets");
    let spec = &manifest["spec"];
    let fields = ["caveats", "description", "homepage", "platforms", "shortDescription", "version"];
    assert_eq!(keys(spec), set(&fields));
    assert_eq!(spec["version"], concat!("v", env!("CARGO_PKG_VERSION")));
    assert!(spec["shortDescription"].as_str().is_some_and(|text| text.len() <= 50 && !text.ends_with('.')));
    let platforms = spec["platforms"].as_array().expect("a list");
    assert_eq!(platforms.len(), 2);
    for platform in platforms {
        assert_eq!(keys(platform), set(&["bin", "files", "selector", "sha256", "uri"]));
        assert_eq!(platform["bin"], PLUGIN);
        assert_eq!(platform["selector"]["matchLabels"]["os"], "linux");
        let digest = platform["sha256"].as_str().expect("text");
        assert!(digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit()), "{digest}");
        assert!(
            platform["uri"]
                .as_str()
                .is_some_and(|uri| uri.starts_with("https://") && uri.ends_with(".tar.gz"))
        );
        let files = platform["files"].as_array().expect("a list");
        assert!(files.iter().any(|file| file["to"] == PLUGIN), "{files:?}");
    }
}
