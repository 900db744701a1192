//! What this instance has made in a cluster, found by one listing of each kind.

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::ListParams;
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
    let mut found = vec![];
    for name in settings.all_names() {
        let api: Api<Secret> = Api::all(client.clone());
        let selected = ListParams::default().fields(&format!("metadata.name={name}")).limit(PAGE);
        let mut next = Some(String::new());
        while let Some(token) = next {
            let list = api
                .list_metadata(&page(&selected, &token))
                .await
                .map_err(|error| format!("secrets named {name:?} cannot be listed: {}", message(&error)))?;
            next = list.metadata.continue_.filter(|token| !token.is_empty());
            found.extend(list.items.iter().filter_map(|secret| own_secret(secret, settings)));
        }
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
    let mut found = vec![];
    if !settings.grants.service_accounts {
        return Ok(found);
    }
    let api: Api<ServiceAccount> = Api::all(client.clone());
    let all = ListParams::default().limit(PAGE);
    let mut next = Some(String::new());
    while let Some(token) = next {
        let list = api.list(&page(&all, &token)).await;
        let list = list.map_err(|error| format!("service accounts cannot be listed: {}", message(&error)))?;
        next = list.metadata.continue_.filter(|token| !token.is_empty());
        let ours =
            list.items.iter().filter(|account| !observe::account(account, settings).attached.is_empty());
        found.extend(ours.map(|account| OwnReference {
            namespace: account.metadata.namespace.clone().unwrap_or_default(),
            account: account.metadata.name.clone().unwrap_or_default(),
        }));
    }
    Ok(found)
}

fn page(list: &ListParams, token: &str) -> ListParams {
    if token.is_empty() { list.clone() } else { list.clone().continue_token(token) }
}
