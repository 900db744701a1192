//! Reads and writes of one Secret.

use http::HeaderValue;
use http::header::ACCEPT;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, PartialObjectMeta, Patch, PatchParams, Preconditions};
use kube::core::Request;
use kube::{Api, Resource as _};
use zeroize::Zeroize as _;

use super::cluster::Cluster;
use super::observe;
use crate::controller::error::RequestError;
use crate::core::plan::{Deletion, Observed};
use crate::core::secret::{DockerConfig, Manifest};
use crate::core::{MANAGER, ObjectVersion, SECRET_KEY};

/// Only the metadata of the object, or a Status
/// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#alternate-representations-of-resources>).
pub(super) const METADATA: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");

impl Cluster {
    /// Applies `manifest` and returns the Secret as the API server stored it. The response contains only metadata, so no
    /// token is sent back. See the table in `docs/decisions/0003-server-side-apply.md`: with a version in the manifest the
    /// apply is forced and changes only that version; without one it only creates.
    pub async fn apply(
        &self,
        namespace: &str,
        name: &str,
        manifest: &Manifest,
        force: bool,
    ) -> Result<Observed, RequestError> {
        let params = PatchParams { force, ..PatchParams::apply(MANAGER) };
        let patch = Patch::Apply(manifest);
        let stored = self.write(self.secrets(namespace).patch_metadata(name, &params, &patch)).await?;
        Ok(observe::secret(&stored.metadata, &self.settings))
    }

    /// Deletes the Secret at exactly the observed UID and version. Returns the Secret if a finalizer holds it. A Secret that no
    /// longer exists is a success. The response contains only metadata, which kube does not request for a deletion.
    pub async fn delete(
        &self,
        namespace: &str,
        deletion: &Deletion,
    ) -> Result<Option<Observed>, RequestError> {
        let preconditions = Preconditions {
            uid: Some(deletion.version.uid.to_string()),
            resource_version: Some(deletion.version.resource_version.to_string()),
        };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let request = Request::new(Secret::url_path(&(), Some(namespace))).delete(&deletion.name, &params);
        let reply = async {
            let mut request = request.map_err(kube::Error::BuildRequest)?;
            request.headers_mut().insert(ACCEPT, METADATA);
            self.client.request_status::<PartialObjectMeta<Secret>>(request).await
        };
        match self.write(reply).await {
            // Without a finalizer the API server returns a Status.
            Ok(reply) => {
                let secret = reply.left().filter(|secret| secret.metadata.deletion_timestamp.is_some());
                Ok(secret.map(|secret| observe::secret(&secret.metadata, &self.settings)))
            }
            Err(RequestError::NamespaceGone) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The record of a Secret, as it is now; `None` if it does not exist.
    pub async fn read_secret(&self, namespace: &str, name: &str) -> Result<Option<Observed>, RequestError> {
        let current = self.read(self.secrets(namespace).get_metadata_opt(name)).await?;
        Ok(current.map(|current| observe::secret(&current.metadata, &self.settings)))
    }

    /// Returns the entries of this version of a Secret, to keep those that cannot be renewed. Another version may hold
    /// what another client wrote.
    pub async fn entries(
        &self,
        namespace: &str,
        name: &str,
        version: &ObjectVersion,
    ) -> Result<DockerConfig, RequestError> {
        let secret = self.read(self.secrets(namespace).get_opt(name)).await?;
        let is_same = |secret: &Secret| observe::version(&secret.metadata) == *version;
        let secret = secret.filter(is_same).ok_or_else(|| {
            RequestError::Conflict("another client changed it before its entries were read".to_owned())
        })?;
        let data = secret.data.and_then(|mut data| data.remove(SECRET_KEY));
        let Some(mut data) = data else { return Ok(DockerConfig::default()) };
        let entries = DockerConfig::parse(&data.0);
        data.0.zeroize();
        Ok(entries)
    }

    fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }
}
