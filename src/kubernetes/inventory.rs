//! The objects that this instance created or changed in a cluster, from one list of each kind. Only metadata is read.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::errors::message;
use super::{observe, scope};
use crate::core::Uid;
use crate::core::plan::Owner;
use crate::core::settings::Settings;

const PAGE_SIZE: u32 = 500;

/// A Secret that this instance manages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnSecret {
    pub namespace: String,
    pub name: Arc<str>,
    pub uid: Uid,
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
    #[error("cannot list the secrets named {name:?}: {}", message(error))]
    Secrets { name: Arc<str>, error: kube::Error },
    #[error("cannot list the service accounts: {}", message(_0))]
    ServiceAccounts(kube::Error),
}

/// Every Secret that this instance manages, under allowed and retired names.
pub async fn secrets(client: &Client, settings: &Settings) -> Result<Vec<OwnSecret>, InventoryError> {
    let mut found = vec![];
    for name in settings.names.all() {
        let params = ListParams::default().fields(&format!("metadata.name={name}")).limit(PAGE_SIZE);
        let listed = list_everywhere(&scope::apis::<Secret>(client, settings), &params).await;
        let listed = listed.map_err(|error| InventoryError::Secrets { name: name.clone(), error })?;
        found.extend(listed.into_iter().filter_map(|meta| own_secret(meta, name, settings)));
    }
    Ok(found)
}

fn own_secret(meta: ObjectMeta, name: &Arc<str>, settings: &Settings) -> Option<OwnSecret> {
    let observed = observe::secret(&meta, settings);
    (observed.owner == Owner::This && observed.is_applied).then(|| OwnSecret {
        namespace: meta.namespace.unwrap_or_default(),
        name: name.clone(),
        uid: observed.uid,
        resource_version: observed.resource_version,
    })
}

/// Every service account with a pull secret that this instance added. Returns none if service accounts are not enabled,
/// because the RBAC rules then do not allow the list.
pub async fn references(client: &Client, settings: &Settings) -> Result<Vec<OwnReference>, InventoryError> {
    let names = &settings.names;
    if !names.service_accounts {
        return Ok(vec![]);
    }
    let params = ListParams::default().limit(PAGE_SIZE);
    let listed = list_everywhere(&scope::apis::<ServiceAccount>(client, settings), &params).await;
    let listed = listed.map_err(InventoryError::ServiceAccounts)?;
    let changed = listed.into_iter().filter(|meta| !observe::attached(meta, names).is_empty());
    let reference = |meta: ObjectMeta| OwnReference {
        namespace: meta.namespace.unwrap_or_default(),
        service_account: meta.name.unwrap_or_default(),
    };
    Ok(changed.map(reference).collect())
}

/// The metadata of every object of all these APIs, in pages of the limit in `page`.
async fn list_everywhere<K>(apis: &[Api<K>], page: &ListParams) -> kube::Result<Vec<ObjectMeta>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let mut found = vec![];
    for api in apis {
        found.extend(list_all(api, page.clone()).await?);
    }
    Ok(found)
}

/// The metadata of every object, in pages of the limit in `page`.
pub(super) async fn list_all<K>(api: &Api<K>, mut page: ListParams) -> kube::Result<Vec<ObjectMeta>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let mut found = vec![];
    loop {
        let listed = api.list_metadata(&page).await?;
        found.extend(listed.items.into_iter().map(|object| object.metadata));
        page.continue_token = listed.metadata.continue_.filter(|token| !token.is_empty());
        if page.continue_token.is_none() {
            return Ok(found);
        }
    }
}
