//! kubeconform, with the schemas of the Kubernetes that runs: those of its API server.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use kube::Client;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::harness::cluster_test;

const REFERENCE: &str = "#/definitions/";

/// A folder with a schema for each kind, in which unknown fields are errors.
pub struct Schemas(TempDir);

impl Schemas {
    /// Those of this cluster's API server (`/openapi/v2`).
    pub async fn of(client: Client) -> Self {
        let request = http::Request::get("/openapi/v2").body(vec![]).expect("a request");
        let document: Value = client.request(request).await.expect("the API server has an OpenAPI document");
        let mut definitions: BTreeMap<String, Value> =
            serde_json::from_value(document["definitions"].clone()).expect("definitions by name");
        definitions.values_mut().for_each(strict);
        let quantity = definitions.get_mut("io.k8s.apimachinery.pkg.api.resource.Quantity");
        *quantity.expect("a quantity") = json!({"type": ["string", "number"]});
        let folder = TempDir::new().expect("a temporary folder");
        for (name, definition) in &definitions {
            for kind in definition["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
                let schema =
                    json!({"$ref": format!("{REFERENCE}{name}"), "definitions": closure(name, &definitions)});
                std::fs::write(folder.path().join(file(kind)), schema.to_string())
                    .expect("a temporary folder takes files");
            }
        }
        Self(folder)
    }

    /// Whether the API server serves a kind.
    pub fn serve(&self, group: &str, version: &str, kind: &str) -> bool {
        let kind = json!({"group": group, "version": version, "kind": kind});
        self.0.path().join(file(&kind)).exists()
    }

    /// What kubeconform says of documents: all its results, if one of them is bad.
    pub async fn check(&self, yaml: &str) -> Result<(), String> {
        let program = testing::tools::folder("kubeconform").await.join("kubeconform");
        let location = self.0.path().join("{{.ResourceKind}}{{.KindSuffix}}.json");
        let mut child = Command::new(program)
            .args(["-strict", "-summary", "-schema-location"])
            .arg(location)
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("kubeconform starts");
        child.stdin.take().expect("a pipe").write_all(yaml.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("kubeconform ends");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    }
}

/// As kubeconform asks for it: `deployment-apps-v1.json`, `secret-v1.json`, `role-rbac-v1.json`.
fn file(kind: &Value) -> String {
    let text = |key: &str| kind[key].as_str().expect("a text").to_lowercase();
    let group =
        text("group").split('.').next().map(|group| format!("-{group}")).filter(|group| group.len() > 1);
    format!("{}{}-{}.json", text("kind"), group.unwrap_or_default(), text("version"))
}

/// What a definition refers to, itself included.
fn closure(name: &str, all: &BTreeMap<String, Value>) -> Map<String, Value> {
    let mut found = Map::new();
    let mut open = vec![name.to_owned()];
    while let Some(name) = open.pop() {
        if !found.contains_key(&name) {
            let definition = all[&name].clone();
            references(&definition, &mut open);
            found.insert(name, definition);
        }
    }
    found
}

fn references(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            let name =
                fields.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix(REFERENCE));
            found.extend(name.map(str::to_owned));
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

/// Refuses unknown fields, and takes numbers where Kubernetes does.
fn strict(definition: &mut Value) {
    if definition["properties"].is_object() && definition["additionalProperties"].is_null() {
        definition["additionalProperties"] = json!(false);
    }
    if definition["format"] == "int-or-string" {
        definition["type"] = json!(["string", "integer"]);
    }
}

#[test]
fn unknown_fields_and_wrong_types_do_not_conform() {
    cluster_test(async |cluster| {
        let schemas = Schemas::of(cluster.admin.clone()).await;
        let service = |ports: Value| {
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"ports": [ports]}})
            .to_string()
        };
        schemas.check(&service(json!({"port": 1, "targetPort": "http"}))).await.expect("a Service");
        for (ports, said) in
            [(json!({"port": 1, "prot": 1}), "prot"), (json!({"port": "one"}), "/spec/ports/0/port")]
        {
            let error = schemas.check(&service(ports)).await.expect_err(said);
            assert!(error.contains(said), "{error}");
        }
        let unknown = json!({"apiVersion": "v1", "kind": "Servive", "metadata": {"name": "x"}});
        assert!(schemas.check(&unknown.to_string()).await.is_err());
    });
}
