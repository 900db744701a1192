//! Reads and writes of single objects. Each has a timeout, and none starts after this process lost the Lease.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};

use super::leader_election::WritePermit;
use super::{errors, namespaces, observe};
use crate::controller::error::RequestError;
use crate::core::plan::NamespaceRecord;
use crate::core::planted::call_limit;
use crate::core::settings::Settings;

const CALL_TIMEOUT: Duration = Duration::from_secs(15);

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
        let current = match self.call(api.get_metadata_opt(namespace)).await {
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

    /// Waits for a request, as long as this process is the leader. A slow request does not end with the term in which it
    /// began if the Lease is renewed.
    pub(super) async fn call<T>(
        &self,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, RequestError> {
        if self.permit.left().is_none() {
            return Err(RequestError::NotLeader);
        }
        tokio::select! {
            biased;
            result = request => result.map_err(|error| errors::classify(&error)),
            () = self.permit.clone().lost() => Err(RequestError::NotLeader),
            () = tokio::time::sleep(call_limit(CALL_TIMEOUT)) => {
                Err(RequestError::Unavailable("the API server did not respond in time".to_owned()))
            }
        }
    }
}
