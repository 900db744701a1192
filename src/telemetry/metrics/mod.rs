//! The metrics. Label values come from enums and from the configuration, never from an error message or an annotation.
//!
//! Every counter whose labels are known exists from the start, with 0: otherwise `rate()` does not see the first failure.

mod exposition;
mod initial;
#[cfg(target_os = "linux")]
mod process;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::controller::tell::{Counted, Operation};

use self::tokens::TokenExpirations;

pub use self::exposition::Format;

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
type Labels<const N: usize> = [(&'static str, &'static str); N];

type LatencyFamily<L> = Family<L, Histogram, fn() -> Histogram>;

/// Declares the metrics and registers each of them.
macro_rules! metrics {
    ($($field:ident: $metric:ty = $new:expr, $name:literal, $help:literal;)*) => {
        struct Inner {
            registry: Registry,
            tokens: TokenExpirations,
            $($field: $metric,)*
        }

        impl Default for Inner {
            fn default() -> Self {
                let mut registry = Registry::default();
                // These have the names that every client library of Prometheus uses.
                #[cfg(target_os = "linux")]
                registry.register_collector(Box::new(process::ProcessCollector));
                let own = registry.sub_registry_with_prefix("ecr_pull_secrets");
                $(
                    let $field: $metric = $new;
                    own.register($name, $help, $field.clone());
                )*
                let tokens = TokenExpirations::default();
                own.register_collector(Box::new(tokens.clone()));
                let inner = Self { registry, tokens, $($field,)* };
                inner.create_initial_series();
                inner
            }
        }
    };
}

metrics! {
    build_info: Family<Labels<1>, Gauge> = Family::default(), "build_info", "Version of this build";
    secret_expiration: Gauge = Gauge::default(), "secret_expiration_timestamp_seconds",
        "Earliest expiry of all secrets, as a Unix timestamp; 0 if there are no secrets";
    secret_refresh: Gauge = Gauge::default(), "secret_refresh_timestamp_seconds",
        "Earliest time at which a secret is due for renewal, as a Unix timestamp; 0 if there are no secrets";
    namespaces: Family<Labels<1>, Gauge> = Family::default(), "namespaces",
        "Namespaces that opted in, by state";
    held_removals: Family<Labels<1>, Gauge> = Family::default(), "held_removals",
        "Secrets that the configuration would remove, and whose removal waits for a confirmation";
    queue_length: Family<Labels<1>, Gauge> = Family::default(), "queue_length",
        "Namespaces with a planned step, by priority";
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

    /// Sets what the controller counts now and then.
    pub fn counted(&self, counted: Counted) {
        let Counted { namespaces: counts, tokens, queued, in_sync_at } = counted;
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
            ("secret_names", counts.held.secret_names),
        ];
        for (cause, count) in held {
            self.0.held_removals.get_or_create(&[("cause", cause)]).set(count);
        }
        for (priority, length) in queued {
            let length = i64::try_from(length).unwrap_or(i64::MAX);
            self.0.queue_length.get_or_create(&[("priority", priority)]).set(length);
        }
        let seconds = |time: Option<Timestamp>| time.map_or(0, Timestamp::as_second);
        self.0.secret_expiration.set(seconds(counts.earliest_expiry));
        self.0.secret_refresh.set(seconds(counts.earliest_refresh));
        self.0.tokens.set(tokens);
        if let Some(time) = in_sync_at {
            self.0.last_successful_sync.set(time.as_second());
        }
    }

    pub fn leader(&self, leader: bool) {
        self.0.leader.set(leader.into());
    }

    /// Returns all metrics as text.
    pub fn encode(&self, format: Format) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.0.registry).expect("a string accepts every write");
        match format {
            Format::OpenMetrics => out,
            Format::Text => exposition::text(&out),
        }
    }
}

#[cfg(test)]
mod tests;
