//! The metrics. Label values come from enums and from the configuration, never from an error's text or an
//! annotation.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::core::identity::TokenKey;

/// A request to the API server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KubernetesRequest {
    /// Verb of a fixed list.
    pub verb: &'static str,
    /// Resource of a fixed list.
    pub resource: &'static str,
    /// HTTP status; 0 when there was no answer.
    pub code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationResult {
    operation: &'static str,
    result: &'static str,
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

/// The numbers that are counted over the whole index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Opted in, with a valid Secret.
    pub ready: i64,
    /// Opted in, without one so far.
    pub pending: i64,
    /// Opted in, and in the way stands a Secret of somebody else, or an annotation that cannot be used.
    pub refused: i64,
    /// Opted in, with a Secret whose token has expired.
    pub expired: i64,
    /// The earliest expiry of all Secrets of ours, in seconds since 1970.
    pub earliest_expiry: Option<i64>,
}

/// All metrics; a clone counts into the same ones.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Mutex<Registry>,
    secret_expiration: Gauge,
    token_expiration: Family<TokenLabels, Gauge>,
    namespaces: Family<StateLabel, Gauge>,
    reconcile_duration: Histogram,
    secret_writes: Family<OperationResult, Counter>,
    aws_requests: Family<OperationResult, Counter>,
    aws_request_duration: Histogram,
    kubernetes_requests: Family<KubernetesRequest, Counter>,
    kubernetes_request_duration: Histogram,
    last_successful_sync: Gauge,
    leader: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("ecr_pull_secrets");
        let buckets = || exponential_buckets(0.001, 2.0, 15);
        let inner = Inner {
            registry: Mutex::new(Registry::default()),
            secret_expiration: Gauge::default(),
            token_expiration: Family::default(),
            namespaces: Family::default(),
            reconcile_duration: Histogram::new(buckets()),
            secret_writes: Family::default(),
            aws_requests: Family::default(),
            aws_request_duration: Histogram::new(buckets()),
            kubernetes_requests: Family::default(),
            kubernetes_request_duration: Histogram::new(buckets()),
            last_successful_sync: Gauge::default(),
            leader: Gauge::default(),
        };
        inner.register(&mut registry);
        *inner.registry.lock().unwrap_or_else(PoisonError::into_inner) = registry;
        Self(Arc::new(inner))
    }
}

impl Inner {
    fn register(&self, registry: &mut Registry) {
        let expiry = "Earliest expiry of all secrets, in seconds since 1970; 0 while there is none";
        registry.register("secret_expiration_timestamp_seconds", expiry, self.secret_expiration.clone());
        let token = "Expiry of each token in use, in seconds since 1970";
        registry.register("token_expiration_timestamp_seconds", token, self.token_expiration.clone());
        let namespaces = "Namespaces that opted in, by state";
        registry.register("namespaces", namespaces, self.namespaces.clone());
        let reconcile = "Time from the start of a write to its end, in seconds";
        registry.register("reconcile_duration_seconds", reconcile, self.reconcile_duration.clone());
        registry.register("secret_writes", "Writes of secrets", self.secret_writes.clone());
        registry.register("aws_requests", "Requests for a token to AWS", self.aws_requests.clone());
        let aws = "Time that AWS took to answer, in seconds";
        registry.register("aws_request_duration_seconds", aws, self.aws_request_duration.clone());
        let kubernetes = "Requests to the Kubernetes API server; code 0 is no answer";
        registry.register("kubernetes_requests", kubernetes, self.kubernetes_requests.clone());
        let took = "Time that the Kubernetes API server took to begin its answer, in seconds";
        registry.register(
            "kubernetes_request_duration_seconds",
            took,
            self.kubernetes_request_duration.clone(),
        );
        let sync = "Last time that every namespace was as it should be, in seconds since 1970";
        registry.register("last_successful_sync_timestamp_seconds", sync, self.last_successful_sync.clone());
        registry.register("leader", "1 while this process writes, else 0", self.leader.clone());
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The build that is running", build);
    }
}

impl Metrics {
    /// Counts a request to the API server.
    pub fn kubernetes_request(&self, request: &KubernetesRequest, took: Duration) {
        self.0.kubernetes_requests.get_or_create(request).inc();
        self.0.kubernetes_request_duration.observe(took.as_secs_f64());
    }

    /// Counts a request for a token.
    pub fn aws_request(&self, result: &'static str, took: Duration) {
        let labels = OperationResult { operation: "GetAuthorizationToken", result };
        self.0.aws_requests.get_or_create(&labels).inc();
        self.0.aws_request_duration.observe(took.as_secs_f64());
    }

    /// Counts a write of a Secret.
    pub fn secret_write(&self, operation: &'static str, result: &'static str, took: Duration) {
        self.0.secret_writes.get_or_create(&OperationResult { operation, result }).inc();
        self.0.reconcile_duration.observe(took.as_secs_f64());
    }

    /// Sets the expiry of a token in use.
    pub fn token(&self, key: &TokenKey, expires_at: i64) {
        let identity = key.identity.as_str().to_owned();
        let labels = TokenLabels { identity, region: key.endpoint.to_string() };
        self.0.token_expiration.get_or_create(&labels).set(expires_at);
    }

    /// Sets what was counted over the index; `synced` is the time, when all is as it should be.
    pub fn census(&self, census: &Census, synced: Option<i64>) {
        let states = [
            ("ready", census.ready),
            ("pending", census.pending),
            ("refused", census.refused),
            ("expired", census.expired),
        ];
        for (state, count) in states {
            self.0.namespaces.get_or_create(&StateLabel { state }).set(count);
        }
        self.0.secret_expiration.set(census.earliest_expiry.unwrap_or(0));
        if let Some(time) = synced {
            self.0.last_successful_sync.set(time);
        }
    }

    /// Sets whether this process writes.
    pub fn leader(&self, leads: bool) {
        self.0.leader.set(leads.into());
    }

    /// All of them, in the `OpenMetrics` text format.
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
    fn names_are_those_of_the_contract() {
        let metrics = Metrics::default();
        metrics.secret_write("create", "ok", Duration::from_millis(3));
        metrics.aws_request("ok", Duration::from_millis(3));
        metrics.census(&Census { ready: 2, earliest_expiry: Some(7), ..Census::default() }, Some(5));
        let text = metrics.encode().expect("they encode");
        for line in [
            "ecr_pull_secrets_secret_writes_total{operation=\"create\",result=\"ok\"} 1",
            "ecr_pull_secrets_aws_requests_total{operation=\"GetAuthorizationToken\",result=\"ok\"} 1",
            "ecr_pull_secrets_namespaces{state=\"ready\"} 2",
            "ecr_pull_secrets_secret_expiration_timestamp_seconds 7",
            "ecr_pull_secrets_last_successful_sync_timestamp_seconds 5",
            "ecr_pull_secrets_build_info{version=",
            "ecr_pull_secrets_leader 0",
        ] {
            assert!(text.lines().any(|have| have.starts_with(line)), "{line} is not in\n{text}");
        }
    }
}
