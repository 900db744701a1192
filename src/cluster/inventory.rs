//! What this instance has made in a cluster, found by one listing of each kind.

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{ListParams, ObjectList};
use kube::core::metadata::PartialObjectMeta;
use kube::{Api, Client};

use super::observe;
use super::write::message;
use crate::core::facts::Owner;
use crate::core::settings::Settings;

const PAGE: u32 = 500;

/// A Secret of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnSecret {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its resource version.
    pub version: u64,
}

/// A service account that refers to a Secret of ours, by our doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnReference {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub account: String,
}

/// Every Secret of ours, metadata only, under the names of the configuration and under retired ones.
pub async fn secrets(client: &Client, settings: &Settings) -> Result<Vec<OwnSecret>, String> {
    let api: Api<Secret> = Api::all(client.clone());
    let mut found = vec![];
    for name in settings.all_names() {
        let selected = ListParams::default().fields(&format!("metadata.name={name}"));
        let all = pages(selected, async |page| api.list_metadata(page).await).await;
        let all = all.map_err(|error| format!("secrets named {name:?} cannot be listed: {error}"))?;
        found.extend(all.iter().filter_map(|secret| own_secret(secret, settings)));
    }
    Ok(found)
}

fn own_secret(secret: &PartialObjectMeta<Secret>, settings: &Settings) -> Option<OwnSecret> {
    let observed = observe::secret(&secret.metadata, &settings.instance);
    (observed.owner == Owner::Ours).then(|| OwnSecret {
        namespace: secret.metadata.namespace.clone().unwrap_or_default(),
        name: secret.metadata.name.clone().unwrap_or_default(),
        uid: observed.uid.into(),
        version: observed.resource_version,
    })
}

/// Every service account that refers to a Secret of ours, by our doing; none where the option is off, for then there is
/// no right to look either.
pub async fn references(client: &Client, settings: &Settings) -> Result<Vec<OwnReference>, String> {
    if !settings.grants.service_accounts {
        return Ok(vec![]);
    }
    let api: Api<ServiceAccount> = Api::all(client.clone());
    let all = pages(ListParams::default(), async |page| api.list(page).await).await;
    let all = all.map_err(|error| format!("service accounts cannot be listed: {error}"))?;
    let ours = all.into_iter().filter(|account| !observe::account(account, settings).attached.is_empty());
    let reference = |account: ServiceAccount| OwnReference {
        namespace: account.metadata.namespace.unwrap_or_default(),
        account: account.metadata.name.unwrap_or_default(),
    };
    Ok(ours.map(reference).collect())
}

/// All that a selection has, page by page.
async fn pages<T: Clone>(
    selected: ListParams,
    list: impl AsyncFn(&ListParams) -> Result<ObjectList<T>, kube::Error>,
) -> Result<Vec<T>, String> {
    let mut page = selected.limit(PAGE);
    let mut found = vec![];
    loop {
        let mut list = list(&page).await.map_err(|error| message(&error))?;
        found.append(&mut list.items);
        page.continue_token = list.metadata.continue_.filter(|token| !token.is_empty());
        if page.continue_token.is_none() {
            return Ok(found);
        }
    }
}
