//! A Prometheus scrapes the controller's pods at the addresses of the chart's Service.

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use testing::prometheus::Prometheus;

use crate::harness::{E2e, RELEASE};

const DASHBOARD: &str = include_str!("../../charts/ecr-pull-secrets/files/dashboard.json");

impl E2e {
    /// Starts a Prometheus that scrapes each address of the Service, with the labels that a `ServiceMonitor` of the chart
    /// gives them, and waits for the first scrape.
    pub async fn start_prometheus(&self) -> Prometheus {
        let mut prometheus = Prometheus::start(&json!({"groups": []})).await;
        let targets = self.targets().await;
        prometheus.scrape(&targets);
        #[expect(clippy::cast_precision_loss, reason = "a few targets")]
        let all = [targets.len() as f64];
        let scraped = async || prometheus.query("count(ecr_pull_secrets_build_info)").await == all;
        self.wait_until("a scrape of each target", scraped).await;
        self.log("Prometheus scrapes the address of the metrics Service");
        prometheus
    }

    async fn targets(&self) -> Vec<(String, Value)> {
        let api: Api<EndpointSlice> = self.api(RELEASE);
        let of_service = format!("kubernetes.io/service-name={RELEASE}-metrics");
        let slices = api.list(&ListParams::default().labels(&of_service)).await;
        let slices = slices.expect("the admin lists endpoints").items;
        let of_slice = |slice: EndpointSlice| {
            let ports = slice.ports.unwrap_or_default();
            let port = ports.iter().find(|port| port.name.as_deref() == Some("http"));
            let port = port.and_then(|port| port.port).expect("the port http");
            slice.endpoints.into_iter().map(move |endpoint| {
                let pod = endpoint.target_ref.and_then(|pod| pod.name);
                let labels = json!({"namespace": RELEASE, "job": RELEASE, "pod": pod});
                (format!("{}:{port}", endpoint.addresses[0]), labels)
            })
        };
        let targets: Vec<_> = slices.into_iter().flat_map(of_slice).collect();
        assert!(!targets.is_empty(), "the Service has no endpoint");
        targets
    }

    /// Asserts that the last scrape of the pod succeeded, and waits until no panel of the dashboard is empty.
    pub async fn test_dashboard(&self, prometheus: &Prometheus) {
        let is_up = async || prometheus.query("up").await == [1.0];
        self.wait_until("a scrape of the pod", is_up).await;
        prometheus.wait_until_complete(DASHBOARD, RELEASE).await;
        self.log("Prometheus: up is 1, and each query of the dashboard returns a number");
    }
}
