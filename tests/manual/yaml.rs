//! Blocks of YAML: configurations, values of the chart, specs of pods. The program, Helm and the types of Kubernetes read
//! them.

use std::path::Path;
use std::process::Command;

use k8s_openapi::api::core::v1::PodSpec;
use serde_json::Value;
use tempfile::TempDir;

use crate::blocks::{Block, REPOSITORY, blocks};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ecr-pull-secrets");
/// Blocks for other programs, of which only the syntax is checked.
const FOREIGN: [(&str, &str); 3] = [
    ("docs/identities.md", "apiVersion: image.toolkit.fluxcd.io/v1"),
    ("docs/start-gitops.md", "spec:\n  ignoreDifferences:"),
    ("docs/operations.md", "views:"),
];
const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: team-a, annotations: \
                         {ecr-pull-secrets.dev/registries: default}}\n";

struct Checker {
    folder: TempDir,
    helm: std::path::PathBuf,
    values: Value,
}

impl Checker {
    async fn new() -> Self {
        let values = std::fs::read_to_string(format!("{REPOSITORY}/charts/ecr-pull-secrets/values.yaml"))
            .expect("values");
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            helm: testing::tools::folder("helm").await.join("helm"),
            values: serde_saphyr::from_str(&values).expect("YAML"),
        }
    }

    fn check(&self, block: &Block) -> Result<(), String> {
        let value: Value = serde_saphyr::from_str(&block.text).map_err(|error| error.to_string())?;
        let foreign =
            |(document, start): &(&str, &str)| block.document == *document && block.text.starts_with(start);
        if FOREIGN.iter().any(foreign) {
            return Ok(());
        }
        let fields = value.as_object().ok_or("not a map")?;
        let all = |of: &Value| fields.keys().all(|key| of.get(key).is_some());
        if fields.contains_key("config") && all(&self.values) {
            return self.chart(&block.text);
        }
        if fields.contains_key("containers") {
            return pod(&value);
        }
        if value["spec"]["containers"].is_array() {
            return pod(&value["spec"]);
        }
        self.configuration(&block.text)
    }

    /// The program reads the file, and validates it as the controller does. No request leaves the machine.
    fn configuration(&self, text: &str) -> Result<(), String> {
        let config = self.write("config.yaml", text);
        let namespace = self.write("namespace.yaml", NAMESPACE);
        // A profile is for the commands without a cluster, which have no command that only validates.
        let arguments = if text.contains("source: {profile") || text.contains("commandLine:") {
            let host = "111111111111.dkr.ecr.eu-central-1.amazonaws.com";
            vec!["login-password", "--registry", host, "--config", &config]
        } else {
            vec!["explain", "-f", &namespace, "--config", &config]
        };
        let output = Command::new(PROGRAM)
            .args(&arguments)
            .env_clear()
            .env("HOME", self.folder.path())
            .env("AWS_REGION", "eu-central-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
            .output()
            .expect("the program starts");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.code() {
            Some(0) => Ok(()),
            Some(1) if arguments[0] == "login-password" && errors.contains("credentials") => Ok(()),
            _ => Err(errors),
        }
    }

    fn chart(&self, text: &str) -> Result<(), String> {
        let values = self.write("values.yaml", text);
        let output = Command::new(&self.helm)
            .args([
                "template",
                "ecr-pull-secrets",
                &format!("{REPOSITORY}/charts/ecr-pull-secrets"),
                "--values",
                &values,
            ])
            .args(["--namespace", "team-a", "--show-only", "templates/configmap.yaml"])
            .env("HOME", self.folder.path())
            .output()
            .expect("helm starts");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let map: Value = serde_saphyr::from_str(&String::from_utf8_lossy(&output.stdout))
            .map_err(|error| error.to_string())?;
        self.configuration(map["data"]["config.yaml"].as_str().ok_or("no config.yaml")?)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = Path::new(self.folder.path()).join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    }
}

/// A spec, or a part of one, has known fields only: nothing is lost when it is read and written.
fn pod(spec: &Value) -> Result<(), String> {
    let read: PodSpec = serde_json::from_value(spec.clone()).map_err(|error| error.to_string())?;
    let written = serde_json::to_value(read).expect("JSON");
    if written == *spec {
        Ok(())
    } else {
        Err(format!("a spec with unknown fields: as read, it is {written}"))
    }
}

#[tokio::test]
async fn every_yaml_block_is_a_valid_configuration_values_of_the_chart_a_spec_of_a_pod_or_of_another_program()
{
    let checker = Checker::new().await;
    crate::each("yaml", 20, |block| checker.check(block));
    for (document, start) in FOREIGN {
        let there = |block: &Block| block.document == document && block.text.starts_with(start);
        assert!(blocks().iter().any(there), "{document} has no block {start:?}");
    }
}

#[tokio::test]
async fn a_broken_block_is_found() {
    let checker = Checker::new().await;
    let check = |text: &str| {
        let block = Block {
            document: "x.md".to_owned(),
            line: 1,
            language: "yaml".to_owned(),
            text: text.to_owned(),
        };
        checker.check(&block)
    };
    assert!(check("secretNames: [regcred]").is_ok());
    assert!(check("secretNames: [regcred").is_err());
    assert!(check("secretNamez: [regcred]").is_err_and(|error| error.contains("secretNamez")));
    assert!(check("refresh: {at: 0.9}").is_err_and(|error| error.contains("refresh.at")));
    assert!(check("config: {secretNamez: [regcred]}").is_err_and(|error| error.contains("secretNamez")));
    assert!(check("config: {refresh: {at: 0.9}}").is_err());
    assert!(
        check("spec: {containers: [{name: app, imagee: x}]}")
            .is_err_and(|error| error.contains("unknown fields"))
    );
}
