//! The objects of the Prometheus Operator.

use std::fs;

use serde_json::{Value, json};
use testing::helm;

use super::{CHART, all, one, render};
use crate::harness::TestCluster;

/// The API of the operator.
pub const MONITORING: &str = "monitoring.coreos.com/v1";

/// Makes the API server serve the operator's kinds, with their schemas.
pub async fn serve_monitoring_kinds(cluster: &TestCluster) {
    let folder = testing::tools::folder("prometheus-operator").await;
    for kind in ["servicemonitors", "podmonitors", "prometheusrules"] {
        let definition = fs::read_to_string(folder.join(format!("{kind}.yaml"))).expect("a definition");
        cluster.control_plane.apply(&definition).await;
        let served = async || {
            let request = http::Request::get(format!("/apis/{MONITORING}/{kind}")).body(vec![]);
            cluster.admin.request::<Value>(request.expect("a request")).await.is_ok()
        };
        cluster.wait_until("the kind is served", served).await;
    }
}

async fn with(values: &str) -> Vec<Value> {
    render(&["--set-json", values]).await.unwrap_or_else(|said| panic!("{values}: {said}"))
}

/// The value of each field of a monitor, the field, and its content.
#[tokio::test]
async fn each_value_of_a_monitor_sets_its_field() {
    for (name, kind, endpoints, targets) in [
        ("serviceMonitor", "ServiceMonitor", "endpoints", "targetLabels"),
        ("podMonitor", "PodMonitor", "podMetricsEndpoints", "podTargetLabels"),
    ] {
        let field = |path: &str| path.replace("ENDPOINT", &format!("/spec/{endpoints}/0"));
        let plain = one(&with(&format!(r#"{name}={{"enabled":true}}"#)).await, kind);
        assert_eq!(plain.pointer(&field("ENDPOINT/interval")), Some(&json!("60s")));
        assert_eq!(plain["spec"]["jobLabel"], "app.kubernetes.io/name");
        for (value, path, expected) in [
            (json!({"namespace": "monitoring"}), "/metadata/namespace", json!("monitoring")),
            (
                json!({"namespace": "monitoring"}),
                "/spec/namespaceSelector",
                json!({"matchNames": ["ecr-pull-secrets"]}),
            ),
            (json!({"labels": {"release": "p"}}), "/metadata/labels/release", json!("p")),
            (json!({"annotations": {"a": "b"}}), "/metadata/annotations/a", json!("b")),
            (json!({"jobLabel": "team"}), "/spec/jobLabel", json!("team")),
            (json!({targets: ["team"]}), &format!("/spec/{targets}"), json!(["team"])),
            (json!({"interval": ""}), "ENDPOINT/interval", Value::Null),
            (json!({"scrapeTimeout": "5s"}), "ENDPOINT/scrapeTimeout", json!("5s")),
            (json!({"honorLabels": true}), "ENDPOINT/honorLabels", json!(true)),
            (json!({"relabelings": [{"action": "drop"}]}), "ENDPOINT/relabelings/0/action", json!("drop")),
            (
                json!({"metricRelabelings": [{"action": "keep"}]}),
                "ENDPOINT/metricRelabelings/0/action",
                json!("keep"),
            ),
            (json!({"endpointAdditionalProperties": {"scheme": "https"}}), "ENDPOINT/scheme", json!("https")),
        ] {
            let mut values = value.clone();
            values["enabled"] = json!(true);
            let monitor = one(&with(&format!("{name}={values}")).await, kind);
            assert_eq!(
                monitor.pointer(&field(path)).cloned().unwrap_or_default(),
                expected,
                "{name} {value}"
            );
            if !path.ends_with("interval") {
                let without = plain.pointer(&field(path)).cloned().unwrap_or_default();
                assert_ne!(without, expected, "{name} {path} without the value");
            }
        }
    }
}

/// `helm template` knows no cluster, so by default the objects are rendered without looking.
#[tokio::test]
async fn an_object_whose_kind_is_missing_is_rendered_left_out_or_an_error() {
    const API: &str = "--api-versions=monitoring.coreos.com/v1/ServiceMonitor";
    let count = async |mode: &str, args: &[&str]| {
        let set = format!("serviceMonitor.enabled=true,serviceMonitor.renderMode={mode}");
        let objects = render(&[&["--set", &set], args].concat()).await?;
        Ok::<_, String>(all(&objects, "ServiceMonitor").len())
    };
    assert_eq!(count("alwaysRender", &[]).await, Ok(1));
    assert_eq!(count("skipIfMissing", &[]).await, Ok(0));
    assert_eq!(count("skipIfMissing", &[API]).await, Ok(1));
    assert_eq!(count("failIfMissing", &[API]).await, Ok(1));
    let error = count("failIfMissing", &[]).await.expect_err("the kind is missing");
    assert!(
        error.contains("serviceMonitor.enabled: the cluster does not serve the kind ServiceMonitor"),
        "{error}"
    );
}

#[tokio::test]
async fn two_monitors_for_the_same_pods_are_an_error() {
    let error =
        render(&["--set", "serviceMonitor.enabled=true,podMonitor.enabled=true"]).await.expect_err("two");
    assert!(error.contains("podMonitor.enabled: with serviceMonitor.enabled"), "{error}");
    let alone = helm::run(&[
        "template",
        "x",
        CHART,
        "--set",
        "podMonitor.enabled=true,metrics.service.enabled=false",
    ]);
    assert!(alone.await.expect("it needs no Service").contains("kind: PodMonitor"));
}
