//! The Lease of an instance on the API server.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};
use tokio::time::timeout;

use crate::core::leader_election::{ElectionTiming, LeaseRecord};
use crate::core::{LABEL_INSTANCE, LABEL_MANAGED_BY, MANAGER, one_line};
use crate::kubernetes::errors::{message, retry_after};

#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// HTTP 409; also 422 if the Lease was created in the meantime.
    #[error("another process changed it at the same time")]
    Conflict,
    #[error(
        "{0}; allow get, create and update on leases named like the instance, as deploy/rbac.yaml does, and delete \
         for the command cleanup"
    )]
    Forbidden(String),
    /// The API server is overloaded, and demands to wait (`Retry-After`).
    #[error("{0}")]
    Overloaded(String),
    /// No response, or another error.
    #[error("{0}")]
    Unavailable(String),
}

/// Reads and writes one Lease: its name is the instance, its namespace the client's default namespace.
#[derive(Clone)]
pub struct LeaseClient {
    api: Api<Lease>,
    namespace: String,
    instance: String,
    pub timing: ElectionTiming,
}

impl fmt::Display for LeaseClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.instance)
    }
}

impl LeaseClient {
    pub fn new(client: Client, instance: &str, timing: ElectionTiming) -> Self {
        let namespace = client.default_namespace().to_owned();
        Self { api: Api::default_namespaced(client), namespace, instance: instance.to_owned(), timing }
    }

    pub async fn get(&self) -> Result<LeaseRecord, LeaseError> {
        let lease = self.bounded(self.api.get_opt(&self.instance)).await?;
        Ok(lease.map(|lease| self.record(lease)).unwrap_or_default())
    }

    /// Deletes the Lease if it still has this resource version.
    pub async fn delete(&self, resource_version: String) -> Result<(), LeaseError> {
        let preconditions = Preconditions { resource_version: Some(resource_version), uid: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        self.bounded(self.api.delete(&self.instance, &params)).await.map(|_| ())
    }

    /// Updates the Lease if it still has this resource version; `None` creates it. Both are a PUT: RBAC cannot bind a
    /// POST to a name.
    pub async fn write(
        &self,
        resource_version: Option<String>,
        holder: &str,
        acquired_at: Option<Timestamp>,
        transitions: i32,
    ) -> Result<LeaseRecord, LeaseError> {
        let labels = [(LABEL_MANAGED_BY, MANAGER), (LABEL_INSTANCE, &self.instance)];
        let metadata = ObjectMeta {
            name: Some(self.instance.clone()),
            resource_version,
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        };
        let spec = LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: i32::try_from(self.timing.lease_duration.as_secs()).ok(),
            acquire_time: acquired_at.map(MicroTime),
            renew_time: Some(MicroTime(Timestamp::now())),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        };
        let lease = Lease { metadata, spec: Some(spec) };
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        Ok(self.record(self.bounded(self.api.replace(&self.instance, &params, &lease)).await?))
    }

    fn record(&self, lease: Lease) -> LeaseRecord {
        let spec = lease.spec.unwrap_or_default();
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        LeaseRecord {
            resource_version: lease.metadata.resource_version,
            holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
            lease_duration: seconds.map_or(self.timing.lease_duration, Duration::from_secs),
            transitions: spec.lease_transitions.unwrap_or_default(),
        }
    }

    /// The response of a request, within the timeout.
    async fn bounded<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, LeaseError> {
        let limit = self.timing.request_timeout();
        let response = timeout(limit, request).await;
        let timed_out =
            |_| LeaseError::Unavailable(format!("the API server did not respond within {limit:?}"));
        response.map_err(timed_out)?.map_err(|error| match error {
            kube::Error::Api(status) if matches!(status.code, 409 | 422) => LeaseError::Conflict,
            kube::Error::Api(status) if matches!(status.code, 401 | 403) => {
                LeaseError::Forbidden(one_line(&status.message))
            }
            error if retry_after(&error).is_some() => LeaseError::Overloaded(message(&error)),
            error => LeaseError::Unavailable(message(&error)),
        })
    }
}
