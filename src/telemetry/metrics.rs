//! The metrics. Label values come from enums and from the configuration, never from an error message or an annotation.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::controller::tell::{NamespaceCounts, Operation};
use crate::core::grants::TokenKey;

/// The only operation of `aws_requests_total`.
const GET_AUTHORIZATION_TOKEN: &str = "GetAuthorizationToken";

/// A request to the API server. Verb and resource are from fixed lists.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KubernetesRequest {
    pub verb: &'static str,
    pub resource: &'static str,
    /// The HTTP status, or 0 if there was no response.
    pub code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AwsRequestLabels {
    operation: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SecretWriteLabels {
    operation: &'static str,
    reason: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabel {
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    identity: String,
    region: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

/// All metrics; clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Mutex<Registry>,
    secret_expiration: Gauge,
    token_expiration: Family<TokenLabels, Gauge>,
    namespaces: Family<StateLabel, Gauge>,
    secret_write_duration: Family<OperationLabel, Histogram, fn() -> Histogram>,
    secret_writes: Family<SecretWriteLabels, Counter>,
    aws_requests: Family<AwsRequestLabels, Counter>,
    aws_request_duration: Histogram,
    kubernetes_requests: Family<KubernetesRequest, Counter>,
    kubernetes_request_duration: Histogram,
    last_successful_sync: Gauge,
    leader: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("ecr_pull_secrets");
        let inner = Inner {
            registry: Mutex::new(Registry::default()),
            secret_expiration: Gauge::default(),
            token_expiration: Family::default(),
            namespaces: Family::default(),
            secret_write_duration: Family::new_with_constructor(latency_histogram),
            secret_writes: Family::default(),
            aws_requests: Family::default(),
            aws_request_duration: latency_histogram(),
            kubernetes_requests: Family::default(),
            kubernetes_request_duration: latency_histogram(),
            last_successful_sync: Gauge::default(),
            leader: Gauge::default(),
        };
        inner.register(&mut registry);
        *inner.registry.lock().unwrap_or_else(PoisonError::into_inner) = registry;
        Self(Arc::new(inner))
    }
}

/// From 1 ms to 16 s.
fn latency_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

impl Inner {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "secret_expiration_timestamp_seconds",
            "Earliest expiry of all secrets, as a Unix timestamp; 0 if there are no secrets",
            self.secret_expiration.clone(),
        );
        registry.register(
            "token_expiration_timestamp_seconds",
            "Expiry of each token, as a Unix timestamp",
            self.token_expiration.clone(),
        );
        registry.register("namespaces", "Namespaces that opted in, by state", self.namespaces.clone());
        registry.register(
            "secret_writes",
            "Requests that write or delete a secret",
            self.secret_writes.clone(),
        );
        registry.register(
            "secret_write_duration_seconds",
            "Duration of requests that write or delete a secret",
            self.secret_write_duration.clone(),
        );
        registry.register(
            "last_successful_sync_timestamp_seconds",
            "Last time that every namespace was in sync, as a Unix timestamp",
            self.last_successful_sync.clone(),
        );
        registry.register("leader", "1 if this process is the leader, else 0", self.leader.clone());
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Version of this build", build);
        self.register_requests(registry);
    }

    fn register_requests(&self, registry: &mut Registry) {
        registry.register("aws_requests", "Token requests to AWS", self.aws_requests.clone());
        registry.register(
            "aws_request_duration_seconds",
            "Duration of token requests to AWS",
            self.aws_request_duration.clone(),
        );
        registry.register(
            "kubernetes_requests",
            "Requests to the Kubernetes API server; code 0 means that there was no response",
            self.kubernetes_requests.clone(),
        );
        registry.register(
            "kubernetes_request_duration_seconds",
            "Time until the Kubernetes API server begins to respond",
            self.kubernetes_request_duration.clone(),
        );
    }
}

impl Metrics {
    pub fn kubernetes_request(&self, request: &KubernetesRequest, took: Duration) {
        self.0.kubernetes_requests.get_or_create(request).inc();
        self.0.kubernetes_request_duration.observe(took.as_secs_f64());
    }

    pub fn aws_request(&self, result: &'static str, took: Duration) {
        let labels = AwsRequestLabels { operation: GET_AUTHORIZATION_TOKEN, result };
        self.0.aws_requests.get_or_create(&labels).inc();
        self.0.aws_request_duration.observe(took.as_secs_f64());
    }

    pub fn secret_write(
        &self,
        operation: Operation,
        reason: &'static str,
        result: &'static str,
        took: Duration,
    ) {
        let operation = operation.into_str();
        self.0.secret_writes.get_or_create(&SecretWriteLabels { operation, reason, result }).inc();
        let duration = self.0.secret_write_duration.get_or_create(&OperationLabel { operation });
        duration.observe(took.as_secs_f64());
    }

    /// Sets the expiry of a token, as a Unix timestamp.
    pub fn token(&self, key: &TokenKey, expires_at: i64) {
        let identity = key.identity.as_str().to_owned();
        let labels = TokenLabels { identity, region: key.endpoint.to_string() };
        self.0.token_expiration.get_or_create(&labels).set(expires_at);
    }

    /// Sets the counts, and the time if every namespace is in sync.
    pub fn counts(&self, counts: &NamespaceCounts, in_sync_at: Option<Timestamp>) {
        let states = [
            ("ready", counts.ready),
            ("pending", counts.pending),
            ("blocked", counts.blocked),
            ("expired", counts.expired),
        ];
        for (state, count) in states {
            self.0.namespaces.get_or_create(&StateLabel { state }).set(count);
        }
        self.0.secret_expiration.set(counts.earliest_expiry.map_or(0, Timestamp::as_second));
        if let Some(time) = in_sync_at {
            self.0.last_successful_sync.set(time.as_second());
        }
    }

    pub fn leader(&self, leader: bool) {
        self.0.leader.set(leader.into());
    }

    /// Returns all metrics in the `OpenMetrics` text format.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.0.registry.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_have_the_documented_names_and_labels() {
        let metrics = Metrics::default();
        metrics.secret_write(Operation::Create, "Missing", "success", Duration::from_millis(3));
        metrics.aws_request("success", Duration::from_millis(3));
        let second = |second| Timestamp::from_second(second).ok();
        let counts = NamespaceCounts {
            ready: 2,
            blocked: 1,
            earliest_expiry: second(7),
            ..NamespaceCounts::default()
        };
        metrics.counts(&counts, second(5));
        let text = metrics.encode().expect("they encode");
        let write = r#"{operation="create",reason="Missing",result="success"}"#;
        for line in [
            &*format!("ecr_pull_secrets_secret_writes_total{write} 1"),
            r#"ecr_pull_secrets_secret_write_duration_seconds_count{operation="create"} 1"#,
            r#"ecr_pull_secrets_aws_requests_total{operation="GetAuthorizationToken",result="success"} 1"#,
            r#"ecr_pull_secrets_namespaces{state="ready"} 2"#,
            r#"ecr_pull_secrets_namespaces{state="blocked"} 1"#,
            "ecr_pull_secrets_secret_expiration_timestamp_seconds 7",
            "ecr_pull_secrets_last_successful_sync_timestamp_seconds 5",
            "ecr_pull_secrets_build_info{version=",
            "ecr_pull_secrets_leader 0",
        ] {
            assert!(text.lines().any(|actual| actual.starts_with(line)), "{line} is not in\n{text}");
        }
    }
}
