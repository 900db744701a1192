//! The ways to install the chart without `helm install`: each has policies that restrict the controller's credential.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testing::compromised_credential::{CompromisedCredential, TYPE, secret};
use testing::tenants::{NAME, Tenants};
use testing::tools;

use super::{CHART, RELEASE, all, one, yaml};
use crate::harness::{TestCluster, cluster_test};

/// Applies objects, and shows that the service account of this namespace can write in namespaces that opted in only.
async fn is_restricted(cluster: &TestCluster, namespace: &str, mut objects: Vec<Value>) {
    cluster.annotate(namespace, &[]).await;
    objects.retain(|object| object["kind"] != "Pod");
    cluster.control_plane.apply(&yaml(&objects)).await;
    let kubeconfig = cluster.control_plane.kubeconfig_for(namespace, RELEASE).await;
    let client = cluster.control_plane.client_for(&kubeconfig).await;
    let stolen = CompromisedCredential { client, tenants: Tenants::clone(cluster) };
    cluster.annotate("tenant", &[]).await;
    cluster.opt_in("opted-in").await;
    let write = async |namespace: &str| stolen.apply(namespace, NAME, secret(NAME, TYPE, RELEASE)).await;
    // The API server applies a new policy after some time.
    let refused = async || write("tenant").await.contains("in namespaces that opted in");
    cluster.wait_until("the policy denies the write", refused).await;
    let allowed = async || write("opted-in").await == "allowed";
    cluster.wait_until("the policy allows the write", allowed).await;
}

fn documents(text: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).expect("YAML");
    all.into_iter().filter(|object| !object.is_null()).collect()
}

fn copy(from: &str, to: &Path) {
    let copied = Command::new("cp").arg("-r").arg(from).arg(to).status().expect("cp runs");
    assert!(copied.success());
}

#[test]
fn as_a_rendering_of_helm_template_in_another_namespace() {
    cluster_test(async |cluster| {
        let text = tools::run("helm", &["template", RELEASE, CHART, "--namespace", "elsewhere"], &[]).await;
        is_restricted(cluster, "elsewhere", documents(&text.expect("the chart renders"))).await;
    });
}

/// kustomize sets the namespace of objects. The policies have it in a text.
#[test]
fn with_kustomize_in_another_namespace() {
    const OVERLAY: &str =
        "namespace: pull\nresources: [deploy/kustomize]\ntransformers: [deploy/kustomize/policy]\n";
    cluster_test(async |cluster| {
        let program = testing::tools::folder("kustomize").await.join("kustomize");
        let folder = tempfile::tempdir().expect("a temporary folder");
        copy(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy"), &folder.path().join("deploy"));
        let build = |overlay: &str| {
            std::fs::write(folder.path().join("kustomization.yaml"), overlay).expect("an overlay");
            let output =
                Command::new(&program).arg("build").arg(folder.path()).output().expect("kustomize runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            documents(&String::from_utf8_lossy(&output.stdout))
        };
        let objects = build(OVERLAY);
        let kinds = ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "ClusterRole"];
        for object in kinds.iter().flat_map(|kind| all(&objects, kind)) {
            assert_eq!(object["metadata"]["namespace"], Value::Null, "{object}");
            assert!(!object.to_string().contains("serviceaccount:ecr-pull-secrets:"), "{object}");
        }
        is_restricted(cluster, "pull", objects).await;

        let sorted = |mut objects: Vec<Value>| {
            objects.sort_by_key(ToString::to_string);
            objects
        };
        let installed = documents(include_str!("../../../deploy/install.yaml"));
        let unchanged = build("resources: [deploy/kustomize]\n");
        assert_eq!(sorted(unchanged), sorted(installed), "without a namespace, it is deploy/install.yaml");
    });
}

#[tokio::test]
async fn the_example_with_kustomize_sets_the_region_and_the_credentials() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/kustomize");
    let text = tools::run("kustomize", &["build", folder], &[]).await.unwrap_or_else(|said| panic!("{said}"));
    let objects = documents(&text);
    let container = &one(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    let region = json!({"name": "AWS_REGION", "value": "eu-central-1"});
    assert!(container["env"].as_array().expect("variables").contains(&region), "{container}");
    assert_eq!(container["envFrom"], json!([{"secretRef": {"name": "aws"}}]));
}

#[test]
fn as_an_optional_subchart() {
    cluster_test(async |cluster| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let dependency =
            json!({"name": "ecr-pull-secrets", "version": "0.1.0", "condition": "ecr-pull-secrets.enabled"});
        let parent =
            json!({"apiVersion": "v2", "name": "parent", "version": "1.0.0", "dependencies": [dependency]});
        std::fs::write(folder.path().join("Chart.yaml"), parent.to_string()).expect("a chart");
        std::fs::create_dir(folder.path().join("charts")).expect("a folder");
        copy(CHART, &folder.path().join("charts"));
        let parent = folder.path().display().to_string();
        let template = async |set: &str| {
            let args = ["template", RELEASE, &parent, "--namespace", RELEASE, "--set", set];
            documents(&tools::run("helm", &args, &[]).await.unwrap_or_else(|said| panic!("{set}: {said}")))
        };
        assert!(template("ecr-pull-secrets.enabled=false").await.is_empty());
        let set = "ecr-pull-secrets.enabled=true,global.imageRegistry=mirror.example,ecr-pull-secrets.config.refresh.writesPerSecond=10";
        let objects = template(set).await;
        let pod = &one(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(pod["image"], "mirror.example/ecr-pull-secrets:0.1.0");
        is_restricted(cluster, RELEASE, objects).await;
    });
}
