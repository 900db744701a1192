//! Changes to the `imagePullSecrets` of one service account, and the list of those of a namespace.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::observe;
use crate::controller::error::RequestError;
use crate::core::plan::service_accounts::{ATTACHED, MAX_SERVICE_ACCOUNTS, PullSecretRefs, edit};
use crate::core::request::OwnedNames;
use crate::core::{MANAGER, PREFIX};

const MAX_CONFLICTS: u32 = 4;
const FIRST_CONFLICT_DELAY: Duration = Duration::from_millis(20);

/// The number of service accounts in one page of a list of a namespace. A page is held in memory as whole objects, each of
/// up to a megabyte.
const PAGE_SIZE: u32 = 5;

impl Cluster {
    /// Makes a service account refer to `secret`, or, if `None`, to no Secret that we added except `kept`. Returns the service account
    /// afterwards and whether it was changed; `None` if it does not exist.
    ///
    /// `imagePullSecrets` is an atomic list, so the whole list is written, at the version that was read. After repeated
    /// conflicts the caller has to retry.
    pub async fn set_pull_secret(
        &self,
        namespace: &str,
        service_account: &str,
        secret: Option<&str>,
        kept: &[Arc<str>],
    ) -> Result<Option<(PullSecretRefs, bool)>, RequestError> {
        let names = &self.settings.names;
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        let mut conflicts = 0;
        loop {
            let Some(current) = self.read(api.get_opt(service_account)).await? else { return Ok(None) };
            let Some(patch) = patch_for(&current, secret, kept, names) else {
                return Ok(Some((observe::service_account(&current, names), false)));
            };
            match self.write(api.patch(service_account, &params, &Patch::Merge(patch))).await {
                Ok(changed) => return Ok(Some((observe::service_account(&changed, names), true))),
                Err(RequestError::NamespaceGone) => return Ok(None),
                Err(RequestError::Conflict(_)) if conflicts < MAX_CONFLICTS => conflicts += 1,
                Err(error) => return Err(error),
            }
            let version = current.metadata.resource_version;
            let jitter = self.settings.jitter.fraction(&(namespace, service_account, conflicts, version));
            tokio::time::sleep((FIRST_CONFLICT_DELAY * (1 << conflicts)).mul_f64(0.5 + jitter)).await;
        }
    }
}

impl Cluster {
    /// The service accounts of a namespace as they are now, by name, but no more than the controller keeps of one namespace.
    pub async fn list_service_accounts(
        &self,
        namespace: &str,
    ) -> Result<Vec<(Arc<str>, PullSecretRefs)>, RequestError> {
        self.read(self.list_pages(namespace)).await
    }

    async fn list_pages(&self, namespace: &str) -> kube::Result<Vec<(Arc<str>, PullSecretRefs)>> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let mut params = ListParams::default().limit(PAGE_SIZE);
        let mut found = vec![];
        while found.len() < MAX_SERVICE_ACCOUNTS {
            let page = api.list(&params).await?;
            found.extend(page.items.iter().filter_map(|account| {
                let name = account.metadata.name.as_deref()?.into();
                Some((name, observe::service_account(account, &self.settings.names)))
            }));
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                break;
            }
        }
        Ok(found)
    }
}

/// The merge patch with the list, our annotation and the version that they are based on; `None` if nothing changes.
fn patch_for(
    current: &ServiceAccount,
    secret: Option<&str>,
    kept: &[Arc<str>],
    names: &OwnedNames,
) -> Option<Value> {
    let key = format!("{PREFIX}{ATTACHED}");
    let attached = current.metadata.annotations.as_ref().and_then(|annotations| annotations.get(&key));
    let references = current.image_pull_secrets.iter().flatten();
    let references: Vec<Value> = references.map(|reference| json!({ "name": reference.name })).collect();
    let edit = edit(&references, attached.map(String::as_str), secret, kept, names)?;
    Some(json!({
        "metadata": {
            "resourceVersion": current.metadata.resource_version,
            "annotations": { key: edit.attached },
        },
        "imagePullSecrets": edit.references,
    }))
}
