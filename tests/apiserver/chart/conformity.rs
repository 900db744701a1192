//! Every file of values: lint, the schemas of Kubernetes, the API server, Pod Security.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};
use testing::tools;

use super::monitors::{MONITORING, serve_monitoring_kinds};
use super::{CHART, RELEASE, all, render, schemas::Schemas, value_files, yaml};
use crate::harness::{TestCluster, cluster_test};

const ADMISSION: &str = "admissionregistration.k8s.io";

#[test]
fn every_value_file_passes_lint_kubeconform_and_the_real_api_server_with_strict_fields() {
    cluster_test(async |cluster| {
        cluster.label(RELEASE, json!({"pod-security.kubernetes.io/enforce": "restricted"})).await;
        serve_monitoring_kinds(cluster).await;
        let schemas = Schemas::of(cluster.admin.clone()).await;
        // Of those that the chart renders, the only kinds that not every supported version serves.
        let unserved = |object: &Value| {
            let kind = object["kind"].as_str().expect("a kind");
            kind.starts_with("MutatingAdmissionPolicy") && !schemas.serve(ADMISSION, "v1", kind)
        };
        for file in value_files() {
            let file = file.display().to_string();
            tools::run("helm", &["lint", "--strict", CHART, "--values", &file], &[])
                .await
                .unwrap_or_else(|said| panic!("{file}: {said}"));
            let mut objects =
                render(&["--values", &file]).await.unwrap_or_else(|said| panic!("{file}: {said}"));
            objects.retain(|object| !unserved(object));
            let pods = pods(&objects);
            // The pod of the chart's own test is one of `pods`.
            let applied: Vec<_> = objects.iter().filter(|object| object["kind"] != "Pod").cloned().collect();
            // The pod of a Job cannot change.
            let jobs: Api<Job> = Api::namespaced(cluster.admin.clone(), RELEASE);
            let deleted = jobs.delete_collection(&DeleteParams::background(), &ListParams::default()).await;
            deleted.unwrap_or_else(|error| panic!("{file}: {error}"));
            cluster.control_plane.apply(&yaml(&applied)).await;
            // kubeconform has the schemas of Kubernetes only.
            objects.retain(|object| object["apiVersion"] != MONITORING);
            schemas.check(&yaml(&objects)).await.unwrap_or_else(|said| panic!("{file}: {said}"));
            assert!(!pods.is_empty(), "{file}");
            for pod in pods {
                let on_node = pod["spec"]["hostNetwork"] == true;
                restricted(cluster, &file, pod, on_node).await;
            }
        }
    });
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

async fn restricted(cluster: &TestCluster, file: &str, mut pod: Value, on_node: bool) {
    let api: Api<Pod> = cluster.api(RELEASE);
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
