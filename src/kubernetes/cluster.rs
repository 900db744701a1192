//! Reads and writes of single objects. Each has a timeout, and none starts after this process lost the Lease.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};

use super::client::WRITE_TIMEOUT;
use super::leader_election::WritePermit;
use super::{errors, namespaces, observe};
use crate::controller::error::RequestError;
use crate::core::plan::NamespaceRecord;
use crate::core::planted::call_limit;
use crate::core::settings::Settings;

const READ_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Clone)]
pub struct Cluster {
    pub(super) client: Client,
    pub settings: Arc<Settings>,
    permit: WritePermit,
}

impl Cluster {
    pub fn new(client: Client, settings: Arc<Settings>, permit: WritePermit) -> Self {
        Self { client, settings, permit }
    }

    /// Reads the Namespace from the API server, which may be newer than the last watch event. `None` if it did not opt
    /// in; [`RequestError::NamespaceGone`] if it does not exist or is being deleted.
    pub async fn namespace_record(&self, namespace: &str) -> Result<Option<NamespaceRecord>, RequestError> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let selector = &self.settings.namespace_selector;
        let current = match self.read(api.get_metadata_opt(namespace)).await {
            // Without the permission, only the configuration counts.
            Err(RequestError::Forbidden(_)) if selector.is_single() => {
                return Ok(observe::namespace(&namespaces::unread(namespace), &self.settings));
            }
            current => current?,
        };
        let meta = current.map(|current| current.metadata).filter(|meta| meta.deletion_timestamp.is_none());
        let meta = meta.ok_or(RequestError::NamespaceGone)?;
        Ok(observe::namespace(&meta, &self.settings))
    }

    /// Waits for a read, as [`Cluster::write`] does.
    pub(super) async fn read<T>(
        &self,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, RequestError> {
        self.bounded(READ_TIMEOUT, request).await
    }

    /// Waits for a write, as long as this process is the leader. A slow request does not end with the term in which it began
    /// if the Lease is renewed.
    pub(super) async fn write<T>(
        &self,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, RequestError> {
        self.bounded(WRITE_TIMEOUT, request).await
    }

    async fn bounded<T>(
        &self,
        limit: Duration,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, RequestError> {
        if self.permit.left().is_none() {
            return Err(RequestError::NotLeader);
        }
        tokio::select! {
            biased;
            result = request => result.map_err(|error| errors::classify(&error)),
            () = self.permit.clone().lost() => Err(RequestError::NotLeader),
            () = tokio::time::sleep(call_limit(limit)) => {
                Err(RequestError::unavailable("the API server did not respond in time"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;

    use http::header::ACCEPT;
    use http::{Method, Request, Response};
    use http_body_util::Full;
    use hyper::body::Bytes;
    use kube::client::Body;
    use serde_json::json;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::clock::Clock;
    use crate::core::ObjectVersion;
    use crate::core::plan::{DeleteReason, Deletion, Observed};
    use crate::core::request::Times;
    use crate::core::secret::{DockerConfig, Manifest, SecretTemplate};
    use crate::core::testing::{HOST, HOUR, applied, request, settings, wall};
    use crate::kubernetes::client::with_layers;
    use crate::kubernetes::secrets::METADATA;
    use crate::telemetry::metrics::Metrics;

    /// Objects of an API server that takes this long for each response.
    fn cluster(delay: Duration) -> Cluster {
        let service = tower::service_fn(move |request: Request<Body>| async move {
            sleep(delay).await;
            let meta = json!({"name": "ecr-pull", "uid": "1", "resourceVersion": "1"});
            let kind = if *request.method() == Method::DELETE { "Status" } else { "PartialObjectMetadata" };
            let body = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1", "metadata": meta});
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(body.to_string()))))
        });
        cluster_of(Client::new(with_layers(service, Metrics::default()), "default"))
    }

    fn cluster_of(client: Client) -> Cluster {
        Cluster::new(client, Arc::new(settings()), WritePermit::unopposed(Clock::start()))
    }

    async fn delete(cluster: &Cluster) -> Result<Option<Observed>, RequestError> {
        let version = ObjectVersion { uid: "1".into(), resource_version: 1 };
        let deletion = Deletion { name: "ecr-pull".into(), version, reason: DeleteReason::OptedOut };
        cluster.delete("team-a", &deletion).await
    }

    /// A deletion that a finalizer holds returns the object.
    #[tokio::test]
    async fn the_response_to_a_deletion_is_requested_without_the_data() {
        let accepted = Arc::new(Mutex::new(vec![]));
        let seen = accepted.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            seen.lock().expect("no panic").push(request.headers()[ACCEPT].clone());
            let meta = json!({"name": "ecr-pull", "uid": "1", "deletionTimestamp": "2026-01-01T00:00:00Z"});
            let body =
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta});
            async move { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(body.to_string())))) }
        });
        let held = delete(&cluster_of(Client::new(service, "default"))).await.expect("an answer");
        assert!(held.is_some_and(|secret| secret.is_deleting));
        assert_eq!(*accepted.lock().expect("no panic"), [METADATA]);
    }

    /// Mutating webhooks that do not respond delay a write one after the other, each by up to its timeout.
    #[tokio::test(start_paused = true)]
    async fn a_write_may_take_as_long_as_the_api_server_works_on_it() {
        let slow = cluster(Duration::from_secs(34));
        delete(&slow).await.expect("a deletion");
        let (request, expires_at) = (request(&[HOST]), wall(HOUR));
        let (applied, times) = (applied(&request, &[HOUR]), Times { expires_at, refresh_after: expires_at });
        let data = DockerConfig::default();
        let manifest = Manifest::new("test", &SecretTemplate::default(), &applied, times, &data, None);
        slow.apply("team-a", "ecr-pull", &manifest, false).await.expect("an apply");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_without_a_response_ends_within_its_limit() {
        let silent = cluster(Duration::from_hours(1));
        for (is_write, limit) in [(false, 15), (true, 40)] {
            let start = Instant::now();
            let result = if is_write {
                delete(&silent).await.map(drop)
            } else {
                silent.read_secret("team-a", "ecr-pull").await.map(drop)
            };
            let error = result.expect_err("no response");
            assert_eq!(error.to_string(), "the API server did not respond in time");
            assert_eq!(start.elapsed().as_secs(), limit);
        }
    }

    /// Priority and fairness refuse with a header and a text, not with a Status.
    #[tokio::test(start_paused = true)]
    async fn a_refusal_has_the_message_and_the_pause_that_the_api_server_demands() {
        let status =
            r#"{"kind": "Status", "code": 503, "message": "leader changed", "details": {"name": "a"}}"#;
        for (code, body, expected) in [
            (429, "Too many requests", "Too many requests"),
            (503, status, "leader changed"),
            (502, "<html>", "<html>"),
        ] {
            let service = tower::service_fn(move |_: Request<Body>| async move {
                let response = Response::builder().status(code).header("retry-after", "30");
                Ok::<_, Infallible>(response.body(Full::new(Bytes::from(body))).expect("a response"))
            });
            let refused = cluster_of(Client::new(with_layers(service, Metrics::default()), "default"));
            for error in [
                delete(&refused).await.expect_err("a refusal"),
                refused.read_secret("team-a", "ecr-pull").await.expect_err("a refusal"),
            ] {
                assert_eq!(
                    (error.retry_after(), error.to_string()),
                    (Some(Duration::from_secs(30)), expected.to_owned())
                );
            }
        }
    }
}
