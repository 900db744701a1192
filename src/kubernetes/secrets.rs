//! Reads and writes of one Secret.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use zeroize::Zeroize as _;

use super::cluster::Cluster;
use super::observe;
use crate::controller::error::RequestError;
use crate::core::plan::{Deletion, Observed};
use crate::core::secret::{DockerConfig, Manifest};
use crate::core::{MANAGER, SECRET_KEY};

impl Cluster {
    /// Applies `manifest` and returns the Secret as the API server stored it. The response contains only metadata, so no
    /// token is sent back. See the table in `docs/decisions/0003-server-side-apply.md`: with a UID in the manifest the
    /// apply is forced and changes only that object; without one it only creates.
    pub async fn apply(
        &self,
        namespace: &str,
        name: &str,
        manifest: &Manifest,
        force: bool,
    ) -> Result<Observed, RequestError> {
        let params = PatchParams { force, ..PatchParams::apply(MANAGER) };
        let patch = Patch::Apply(manifest);
        let stored = self.call(self.secrets(namespace).patch_metadata(name, &params, &patch)).await?;
        Ok(observe::secret(&stored.metadata, &self.settings.names.instance))
    }

    /// Deletes the Secret at exactly the observed UID and version. A Secret that no longer exists is a success.
    pub async fn delete(&self, namespace: &str, deletion: &Deletion) -> Result<(), RequestError> {
        let preconditions = Preconditions {
            uid: Some(deletion.uid.to_string()),
            resource_version: Some(deletion.resource_version.to_string()),
        };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.call(self.secrets(namespace).delete(&deletion.name, &params)).await {
            Ok(_) | Err(RequestError::NamespaceGone) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Returns the current entries of a Secret, to keep those that cannot be renewed. Returns none if the Secret does
    /// not exist or has another UID.
    pub async fn entries(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> Result<DockerConfig, RequestError> {
        let secret = self.call(self.secrets(namespace).get_opt(name)).await?;
        let secret = secret.filter(|secret| secret.metadata.uid.as_deref() == Some(uid));
        let data = secret.and_then(|secret| secret.data?.remove(SECRET_KEY));
        let Some(mut data) = data else { return Ok(DockerConfig::default()) };
        let entries = DockerConfig::parse(&data.0);
        data.0.zeroize();
        Ok(entries)
    }

    fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }
}
