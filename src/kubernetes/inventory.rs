//! The objects that this instance created or changed in a cluster, from one list of each kind.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{ListParams, ObjectList};
use kube::core::metadata::PartialObjectMeta;
use kube::{Api, Client};

use super::errors::message;
use super::observe;
use crate::core::plan::Owner;
use crate::core::request::OwnedNames;

const PAGE_SIZE: u32 = 500;

/// A Secret that this instance manages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnSecret {
    pub namespace: String,
    pub name: Arc<str>,
    pub uid: Box<str>,
    pub resource_version: u64,
}

/// A service account with a pull secret that this instance added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnReference {
    pub namespace: String,
    pub service_account: String,
}

#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    #[error("cannot list the secrets named {name:?}: {message}")]
    Secrets { name: Arc<str>, message: String },
    #[error("cannot list the service accounts: {0}")]
    ServiceAccounts(String),
}

/// Every Secret that this instance manages, under allowed and retired names. Only metadata is read.
pub async fn secrets(client: &Client, names: &OwnedNames) -> Result<Vec<OwnSecret>, InventoryError> {
    let api: Api<Secret> = Api::all(client.clone());
    let mut found = vec![];
    for name in names.all() {
        let params = ListParams::default().fields(&format!("metadata.name={name}"));
        let listed = list_all(params, async |page| api.list_metadata(page).await).await;
        let listed = listed.map_err(|error| {
            let message = message(&error);
            InventoryError::Secrets { name: name.clone(), message }
        })?;
        found.extend(listed.iter().filter_map(|secret| own_secret(secret, name, &names.instance)));
    }
    Ok(found)
}

fn own_secret(secret: &PartialObjectMeta<Secret>, name: &Arc<str>, instance: &str) -> Option<OwnSecret> {
    let observed = observe::secret(&secret.metadata, instance);
    (observed.owner == Owner::This).then(|| OwnSecret {
        namespace: secret.metadata.namespace.clone().unwrap_or_default(),
        name: name.clone(),
        uid: observed.uid,
        resource_version: observed.resource_version,
    })
}

/// Every service account with a pull secret that this instance added. Returns none if service accounts are not enabled,
/// because the RBAC rules then do not allow the list.
pub async fn references(client: &Client, names: &OwnedNames) -> Result<Vec<OwnReference>, InventoryError> {
    if !names.service_accounts {
        return Ok(vec![]);
    }
    let api: Api<ServiceAccount> = Api::all(client.clone());
    let listed = list_all(ListParams::default(), async |page| api.list(page).await).await;
    let listed = listed.map_err(|error| InventoryError::ServiceAccounts(message(&error)))?;
    let changed =
        listed.into_iter().filter(|account| !observe::service_account(account, names).attached.is_empty());
    let reference = |account: ServiceAccount| OwnReference {
        namespace: account.metadata.namespace.unwrap_or_default(),
        service_account: account.metadata.name.unwrap_or_default(),
    };
    Ok(changed.map(reference).collect())
}

async fn list_all<T: Clone>(
    params: ListParams,
    list: impl AsyncFn(&ListParams) -> Result<ObjectList<T>, kube::Error>,
) -> Result<Vec<T>, kube::Error> {
    let mut page = params.limit(PAGE_SIZE);
    let mut found = vec![];
    loop {
        let mut listed = list(&page).await?;
        found.append(&mut listed.items);
        page.continue_token = listed.metadata.continue_.filter(|token| !token.is_empty());
        if page.continue_token.is_none() {
            return Ok(found);
        }
    }
}
