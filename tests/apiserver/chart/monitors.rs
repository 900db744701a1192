//! The objects of the Prometheus Operator.

use std::fs;

use serde_json::{Value, json};
use testing::tools;

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

/// The monitors: the value, the kind, and the fields of its endpoints and of the labels to copy.
const MONITORS: [(&str, &str, &str, &str); 2] = [
    ("serviceMonitor", "ServiceMonitor", "endpoints", "targetLabels"),
    ("podMonitor", "PodMonitor", "podMetricsEndpoints", "podTargetLabels"),
];

/// The value of each field of a monitor, the field, and its content.
fn fields(targets: &str) -> Vec<(Value, &'static str, Value)> {
    vec![
        (json!({"namespace": "monitoring"}), "/metadata/namespace", json!("monitoring")),
        (
            json!({"namespace": "monitoring"}),
            "/spec/namespaceSelector",
            json!({"matchNames": ["ecr-pull-secrets"]}),
        ),
        (json!({"labels": {"release": "p"}}), "/metadata/labels/release", json!("p")),
        (json!({"annotations": {"a": "b"}}), "/metadata/annotations/a", json!("b")),
        (json!({"jobLabel": "team"}), "/spec/jobLabel", json!("team")),
        (json!({targets: ["team"]}), "TARGETS", json!(["team"])),
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
    ]
}

/// The values that the tests of this file set, each as a map with one path.
pub fn values() -> Vec<(&'static str, Value)> {
    let of_monitors = MONITORS
        .iter()
        .flat_map(|(name, _, _, targets)| fields(targets).into_iter().map(|(value, ..)| (*name, value)));
    let modes =
        MODES.iter().map(|(name, _)| (*name, json!({"enabled": true, "renderMode": "skipIfMissing"})));
    of_monitors.chain(modes).collect()
}

#[tokio::test]
async fn each_value_of_a_monitor_sets_its_field() {
    for (name, kind, endpoints, targets) in MONITORS {
        let field = |path: &str| {
            let path = path.replace("ENDPOINT", &format!("/spec/{endpoints}/0"));
            path.replace("TARGETS", &format!("/spec/{targets}"))
        };
        let plain = one(&with(&format!(r#"{name}={{"enabled":true}}"#)).await, kind);
        assert_eq!(plain.pointer(&field("ENDPOINT/interval")), Some(&json!("60s")));
        assert_eq!(plain["spec"]["jobLabel"], "app.kubernetes.io/name");
        for (value, path, expected) in fields(targets) {
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

/// The objects that depend on the kinds of the cluster: the value, and the kind.
const MODES: [(&str, &str); 3] = [
    ("serviceMonitor", "ServiceMonitor"),
    ("podMonitor", "PodMonitor"),
    ("prometheusRule", "PrometheusRule"),
];

/// `helm template` knows no cluster, so by default the objects are rendered without looking.
#[tokio::test]
async fn an_object_whose_kind_is_missing_is_rendered_left_out_or_an_error() {
    for (name, kind) in MODES {
        let api = format!("--api-versions={MONITORING}/{kind}");
        let count = async |mode: &str, args: &[&str]| {
            let set = format!("{name}.enabled=true,{name}.renderMode={mode}");
            let objects = render(&[&["--set", &set], args].concat()).await?;
            Ok::<_, String>(all(&objects, kind).len())
        };
        assert_eq!(count("alwaysRender", &[]).await, Ok(1), "{kind}");
        assert_eq!(count("skipIfMissing", &[]).await, Ok(0), "{kind}");
        assert_eq!(count("skipIfMissing", &[&api]).await, Ok(1), "{kind}");
        assert_eq!(count("failIfMissing", &[&api]).await, Ok(1), "{kind}");
        let error = count("failIfMissing", &[]).await.expect_err("the kind is missing");
        let expected = format!("{name}.enabled: the cluster does not serve the kind {kind}");
        assert!(error.contains(&expected), "{error}");
    }
}

#[tokio::test]
async fn two_monitors_for_the_same_pods_are_an_error() {
    let error =
        render(&["--set", "serviceMonitor.enabled=true,podMonitor.enabled=true"]).await.expect_err("two");
    assert!(error.contains("podMonitor.enabled: with serviceMonitor.enabled"), "{error}");
    let alone = tools::run(
        "helm",
        &["template", "x", CHART, "--set", "podMonitor.enabled=true,metrics.service.enabled=false"],
        &[],
    );
    assert!(alone.await.expect("it needs no Service").contains("kind: PodMonitor"));
}
