//! The metrics. Label values come from enums and from the configuration, never from an error message or an annotation.

use std::sync::Arc;
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

/// Names and values.
type Labels<const N: usize, V = &'static str> = [(&'static str, V); N];

type LatencyFamily<L> = Family<L, Histogram, fn() -> Histogram>;

/// Declares the metrics and registers each of them.
macro_rules! metrics {
    ($($field:ident: $metric:ty = $new:expr, $name:literal, $help:literal;)*) => {
        struct Inner {
            registry: Registry,
            $($field: $metric,)*
        }

        impl Default for Inner {
            fn default() -> Self {
                let mut registry = Registry::with_prefix("ecr_pull_secrets");
                $(
                    let $field: $metric = $new;
                    registry.register($name, $help, $field.clone());
                )*
                let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
                registry.register("build", "Version of this build", version);
                Self { registry, $($field,)* }
            }
        }
    };
}

metrics! {
    secret_expiration: Gauge = Gauge::default(), "secret_expiration_timestamp_seconds",
        "Earliest expiry of all secrets, as a Unix timestamp; 0 if there are no secrets";
    token_expiration: Family<Labels<2, String>, Gauge> = Family::default(),
        "token_expiration_timestamp_seconds", "Expiry of each token, as a Unix timestamp";
    namespaces: Family<Labels<1>, Gauge> = Family::default(), "namespaces",
        "Namespaces that opted in, by state";
    held_removals: Family<Labels<1>, Gauge> = Family::default(), "held_removals",
        "Secrets that the configuration would remove, and whose removal waits for a confirmation";
    secret_writes: Family<Labels<3>, Counter> = Family::default(), "secret_writes",
        "Requests that write or delete a secret";
    secret_write_duration: LatencyFamily<Labels<1>> = Family::new_with_constructor(latency),
        "secret_write_duration_seconds", "Duration of requests that write or delete a secret";
    last_successful_sync: Gauge = Gauge::default(), "last_successful_sync_timestamp_seconds",
        "Last time that every namespace was in sync, as a Unix timestamp";
    leader: Gauge = Gauge::default(), "leader", "1 if this process is the leader, else 0";
    aws_requests: Family<Labels<2>, Counter> = Family::default(), "aws_requests",
        "Token requests to AWS";
    aws_request_duration: Histogram = latency(), "aws_request_duration_seconds",
        "Duration of token requests to AWS";
    kubernetes_requests: Family<KubernetesRequest, Counter> = Family::default(), "kubernetes_requests",
        "Requests to the Kubernetes API server; code 0 means that there was no response";
    kubernetes_request_duration: Histogram = latency(), "kubernetes_request_duration_seconds",
        "Time until the Kubernetes API server begins to respond";
}

/// From 1 ms to 16 s.
fn latency() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

/// All metrics; clones share them.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Inner>);

impl Metrics {
    pub fn kubernetes_request(&self, request: &KubernetesRequest, took: Duration) {
        self.0.kubernetes_requests.get_or_create(request).inc();
        self.0.kubernetes_request_duration.observe(took.as_secs_f64());
    }

    pub fn aws_request(&self, result: &'static str, took: Duration) {
        let labels = [("operation", GET_AUTHORIZATION_TOKEN), ("result", result)];
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
        let operation = ("operation", operation.into_str());
        self.0.secret_writes.get_or_create(&[operation, ("reason", reason), ("result", result)]).inc();
        self.0.secret_write_duration.get_or_create(&[operation]).observe(took.as_secs_f64());
    }

    /// Sets the expiry of a token, as a Unix timestamp.
    pub fn token(&self, key: &TokenKey, expires_at: i64) {
        let labels = [("identity", key.identity.as_str().to_owned()), ("region", key.endpoint.to_string())];
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
            self.0.namespaces.get_or_create(&[("state", state)]).set(count);
        }
        let held = [
            ("identities", counts.held.identities),
            ("namespaces", counts.held.namespaces),
            ("secretNames", counts.held.secret_names),
        ];
        for (cause, count) in held {
            self.0.held_removals.get_or_create(&[("cause", cause)]).set(count);
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
    pub fn encode(&self) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.0.registry).expect("a string accepts every write");
        out
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
        let text = metrics.encode();
        let write = r#"{operation="create",reason="Missing",result="success"}"#;
        for line in [
            &*format!("ecr_pull_secrets_secret_writes_total{write} 1"),
            r#"ecr_pull_secrets_secret_write_duration_seconds_count{operation="create"} 1"#,
            r#"ecr_pull_secrets_aws_requests_total{operation="GetAuthorizationToken",result="success"} 1"#,
            r#"ecr_pull_secrets_namespaces{state="ready"} 2"#,
            r#"ecr_pull_secrets_held_removals{cause="identities"} 0"#,
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
