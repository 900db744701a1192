//! The chart: what it renders, and that the API server takes it.

use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::world::World;

pub const RELEASE: &str = "ecr-pull-secrets";
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/ecr-pull-secrets");
const POLICY: &str = "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy";

async fn helm(args: &[&str]) -> Result<String, String> {
    let program = testing::tools::folder("helm").await.join("helm");
    let output = Command::new(program).args(args).output().expect("helm starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// All objects of the release `ecr-pull-secrets` in the namespace of that name, as an API server with the policy gets
/// them. `values` are flags of Helm.
pub async fn render(values: &[&str]) -> Result<Vec<Value>, String> {
    let mut args = vec!["template", RELEASE, CHART, "--namespace", RELEASE, "--api-versions", POLICY];
    args.extend(values);
    let text = helm(&args).await?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).map_err(|error| error.to_string())?;
    Ok(objects.into_iter().filter(|object| !object.is_null()).collect())
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
pub async fn install(world: &World, values: &[&str]) {
    let mut objects = render(values).await.expect("the chart renders");
    objects.retain(|object| !["Pod", "Job"].contains(&object["kind"].as_str().unwrap_or_default()));
    world.cluster.apply(&yaml(&objects)).await;
}

/// The configuration file that its pods have.
pub async fn configuration(values: &[&str]) -> String {
    let objects = render(values).await.expect("the chart renders");
    let map = objects.iter().find(|o| o["kind"] == "ConfigMap" && o["data"]["config.yaml"].is_string());
    map.expect("a ConfigMap")["data"]["config.yaml"].as_str().expect("a file").to_owned()
}

fn value_files() -> Vec<PathBuf> {
    let folder = std::fs::read_dir(Path::new(CHART).join("ci")).expect("the folder of value files");
    let files: Vec<_> = folder.map(|file| file.expect("a file").path()).collect();
    assert!(files.len() >= 4);
    files
}

#[tokio::test]
async fn every_value_file_passes_lint_and_the_real_api_server_with_strict_fields() {
    if !testing::real_cluster() {
        return;
    }
    let world = World::start().await;
    let namespaces: Api<Namespace> = Api::all(world.admin.clone());
    let enforce = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    namespaces
        .patch(RELEASE, &PatchParams::default(), &Patch::Merge(&enforce))
        .await
        .expect("it is restricted");
    for file in value_files() {
        let file = file.display().to_string();
        helm(&["lint", "--strict", CHART, "--values", &file])
            .await
            .unwrap_or_else(|said| panic!("{file}: {said}"));
        let mut objects = render(&["--values", &file]).await.unwrap_or_else(|said| panic!("{file}: {said}"));
        let pods = pods(&objects);
        // Its resource is not served here, and a pod of the chart's own test is one of `pods`.
        objects.retain(|object| object["kind"] != "ServiceMonitor" && object["kind"] != "Pod");
        world.cluster.apply(&yaml(&objects)).await;
        assert!(pods.len() >= 2, "{file}");
        for pod in pods {
            let on_node = pod["spec"]["hostNetwork"] == true;
            restricted(&world, &file, pod, on_node).await;
        }
    }
}

/// The pods that controllers make of the objects.
fn pods(objects: &[Value]) -> Vec<Value> {
    let template = |object: &Value| {
        let mut pod = object["spec"]["template"].clone();
        pod["metadata"]["name"] = object["metadata"]["name"].clone();
        pod
    };
    let made = objects.iter().filter(|object| object["spec"]["template"].is_object()).map(template);
    made.chain(all(objects, "Pod")).collect()
}

async fn restricted(world: &World, file: &str, mut pod: Value, on_node: bool) {
    let api: Api<Pod> = Api::namespaced(world.admin.clone(), RELEASE);
    // No controller makes service accounts and priority classes known to admission here.
    pod["spec"]["serviceAccountName"] = json!(RELEASE);
    if let Some(spec) = pod["spec"].as_object_mut() {
        spec.remove("priorityClassName");
    }
    let name = pod["metadata"]["name"].to_string();
    let pod = serde_json::from_value(pod).expect("a pod");
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    match api.create(&dry, &pod).await {
        Ok(_) => assert!(!on_node, "{file}: {name} is on the node's network"),
        Err(error) => {
            let error = error.to_string();
            assert!(on_node && error.contains("violates PodSecurity"), "{file}: {name}: {error}");
            assert!(
                error.contains("host namespaces") && !error.contains("capabilities"),
                "nothing else: {error}"
            );
        }
    }
}

#[tokio::test]
async fn unknown_and_wrong_values_are_refused_with_their_names() {
    for (set, said) in [
        ("replicas=2", "'replicas' not allowed"),
        ("image.name=x", "'name' not allowed"),
        ("config.secretName=x", "'secretName' not allowed"),
        ("config.refresh.att=0.5", "'att' not allowed"),
        ("image.digest=x", "/image/digest"),
        ("metrics.service.port=0", "/metrics/service/port"),
        ("serviceAccount.create=false", "serviceAccount.name: name the service account"),
        ("serviceMonitor.enabled=true,metrics.service.enabled=false", "let metrics.service.enabled be true"),
    ] {
        let error = render(&["--set", set]).await.expect_err(set);
        assert!(error.contains(said), "{set}: {error}");
    }
}

#[test]
fn the_schema_of_the_values_has_that_of_the_configuration() {
    let read = |path: &str| -> Value {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path);
        serde_json::from_str(&text).expect(path)
    };
    let (values, config) =
        (read("charts/ecr-pull-secrets/values.schema.json"), read("docs/config.schema.json"));
    assert_eq!(values["$defs"]["Config"]["properties"], config["properties"]);
    for (name, definition) in config["$defs"].as_object().expect("definitions") {
        assert_eq!(values["$defs"][name], *definition, "{name}");
    }
}

#[tokio::test]
async fn each_conditional_renders_what_it_stands_for_and_nothing_without() {
    let everything = format!("{CHART}/ci/everything-values.yaml");
    let (least, everything) = (format!("{CHART}/ci/least-values.yaml"), everything.as_str());
    let defaults = render(&[]).await.expect("the defaults");
    let least = render(&["--values", &least]).await.expect("the least");
    let monitor = render(&["--set", "serviceMonitor.enabled=true"]).await.expect("with a monitor");
    let full = render(&["--values", everything]).await.expect("everything");

    for (kind, in_least, in_defaults, in_full) in [
        ("ServiceAccount", 0, 1, 2),
        ("ClusterRole", 0, 1, 2),
        ("ClusterRoleBinding", 0, 1, 2),
        ("Role", 0, 1, 2),
        ("ValidatingAdmissionPolicy", 0, 1, 2),
        ("ValidatingAdmissionPolicyBinding", 0, 1, 2),
        ("PodDisruptionBudget", 0, 1, 1),
        ("NetworkPolicy", 0, 0, 1),
        ("Service", 0, 1, 1),
        ("ServiceMonitor", 0, 0, 0),
        ("Job", 0, 0, 1),
        ("ConfigMap", 1, 1, 4),
        ("Deployment", 1, 1, 1),
    ] {
        let counts = [&least, &defaults, &full].map(|objects| all(objects, kind).len());
        assert_eq!(counts, [in_least, in_defaults, in_full], "{kind}");
    }
    assert_eq!(all(&monitor, "ServiceMonitor").len(), 1);

    let spec = |objects: &[Value]| one(objects, "Deployment")["spec"]["template"]["spec"].clone();
    let (plain, full_pod) = (spec(&defaults), spec(&full));
    let container = &plain["containers"][0];
    assert_eq!(container["image"], "localhost/ecr-pull-secrets:0.1.0");
    assert_eq!(
        full_pod["containers"][0]["image"],
        format!("localhost/ecr-pull-secrets@sha256:{}", "0".repeat(64))
    );
    assert!(container["livenessProbe"].is_object() && container["readinessProbe"].is_object());
    let env = |pod: &Value| -> Vec<String> {
        let all = pod["containers"][0]["env"].as_array().expect("variables").clone();
        all.iter().map(|variable| variable["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(env(&plain), ["POD_NAME"]);
    let keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
    let token = ["AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "HTTPS_PROXY"];
    assert_eq!(env(&full_pod), [&["POD_NAME", "AWS_REGION"][..], &keys, &token].concat());
    for key in ["imagePullSecrets", "priorityClassName", "tolerations", "topologySpreadConstraints"] {
        assert_eq!((plain[key].is_null(), full_pod[key].is_null()), (true, false), "{key}");
    }
    assert_eq!(full_pod["volumes"].as_array().expect("volumes").len(), 3);
    assert_eq!(full_pod["containers"].as_array().expect("containers").len(), 2);
    let least_pod = spec(&least);
    assert_eq!(least_pod["serviceAccountName"], "there-already");
    for key in ["livenessProbe", "readinessProbe", "resources"] {
        assert!(least_pod["containers"][0][key].is_null(), "{key}");
    }
    let node = render(&["--set", "hostNetwork=true"]).await.expect("on the node");
    assert_eq!(spec(&node)["dnsPolicy"], "ClusterFirstWithHostNet");
    assert_eq!((&plain["hostNetwork"], &plain["dnsPolicy"]), (&Value::Null, &Value::Null));
    let without = render(&["--set", "admissionPolicy.enabled=false"]).await.expect("without a policy");
    assert!(all(&without, "ValidatingAdmissionPolicy").is_empty());
}

#[tokio::test]
async fn a_change_of_the_configuration_rolls_the_pods_and_nothing_else_does() {
    let sum = async |set: &str| {
        let objects = render(&["--set", set]).await.expect(set);
        one(&objects, "Deployment")["spec"]["template"]["metadata"]["annotations"]["checksum/config"].clone()
    };
    assert_eq!(sum("replicaCount=2").await, sum("replicaCount=3").await);
    assert_ne!(sum("replicaCount=2").await, sum("config.refresh.writesPerSecond=10").await);
}

#[tokio::test]
async fn its_rights_name_the_secrets_of_the_configuration() {
    let rules = async |set: &str| {
        let objects = render(&["--set-json", set]).await.expect(set);
        one(&objects, "ClusterRole")["rules"].as_array().expect("rules").clone()
    };
    let names = |rules: &[Value]| -> Vec<Value> {
        rules.iter().filter(|rule| rule["resources"] == json!(["secrets"])).cloned().collect()
    };
    let secrets = names(&rules(r#"config={"secretNames":["a","b"],"retiredSecretNames":["c"]}"#).await);
    assert_eq!(secrets[0]["resourceNames"], json!(["a", "b"]));
    assert_eq!(
        (&secrets[1]["resourceNames"], &secrets[1]["verbs"]),
        (&json!(["c"]), &json!(["get", "list", "watch", "delete"]))
    );
    let default = rules(r"config={}").await;
    assert_eq!(names(&default)[0]["resourceNames"], json!(["ecr-pull"]), "as the program has it");
    let every = |rule: &Value| rule["resourceNames"].is_null() && rule["resources"] == json!(["secrets"]);
    assert!(!default.iter().any(every));
    let accounts = |rules: &[Value]| rules.iter().any(|rule| rule["resources"] == json!(["serviceaccounts"]));
    assert!(!accounts(&default) && accounts(&rules(r#"config={"serviceAccounts":{"enabled":true}}"#).await));
}
