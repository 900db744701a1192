//! Namespaces and their Secrets, read once for a command into the index that the controller uses. Only metadata is read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::{Api, Client};

use super::errors::message;
use super::inventory::list_all;
use super::namespaces::unread;
use super::observe;
use crate::controller::change::{Change, Seen, WatchTarget};
use crate::controller::index::Index;
use crate::core::request::Problem;
use crate::core::settings::Settings;
use crate::core::{MANAGER, one_line};

/// One request, except in clusters with more objects. The metadata of a Namespace or a Secret has a few kilobytes.
const PAGE_SIZE: u32 = 5_000;

/// The namespaces to read.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// One namespace; `None` for all of them.
    pub namespace: Option<String>,
    /// A label selector, as the API server parses it.
    pub selector: Option<String>,
}

/// A Warning of the controller in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub reason: String,
    pub message: String,
    pub at: Option<Timestamp>,
}

/// The namespaces of a cluster.
pub struct Overview {
    /// Without service accounts and static sources.
    pub index: Index,
    /// The namespaces that exist and were selected, with their phase: `true` if it is being deleted.
    pub names: BTreeMap<Arc<str>, bool>,
    /// The namespaces that did not opt in, although their authors meant to.
    pub missed: BTreeMap<Arc<str>, Problem>,
    /// Why no Secret could be read, if RBAC denies it.
    pub secrets_denied: Option<String>,
    /// The namespaces of single-namespace mode whose Secrets RBAC does not allow to read.
    pub denied: BTreeSet<Arc<str>>,
    /// The namespaces of single-namespace mode that RBAC does not allow to read: their annotations do not count.
    pub unread: BTreeSet<Arc<str>>,
    /// The latest Warning of each namespace. Empty if none was read.
    pub warnings: BTreeMap<Arc<str>, Warning>,
    /// Why the Warnings could not be read.
    pub warnings_error: Option<String>,
    /// The lists of watches that are incomplete: of Namespaces, or of the Secrets of a name.
    listing: BTreeSet<Option<Arc<str>>>,
}

#[derive(Debug, thiserror::Error)]
pub enum OverviewError {
    #[error(
        "cannot list the namespaces: {}; allow it as deploy/rbac-status.yaml does, or select one namespace with -n",
        message(_0)
    )]
    Namespaces(kube::Error),
    #[error("cannot read the namespace {name:?}: {}", message(error))]
    Namespace { name: String, error: kube::Error },
    #[error("cannot read the secrets named {name:?}: {}", message(error))]
    Secrets { name: Arc<str>, error: kube::Error },
}

impl OverviewError {
    /// The HTTP status with which the API server refused the request.
    fn code(&self) -> Option<u16> {
        let (Self::Namespaces(error) | Self::Namespace { error, .. } | Self::Secrets { error, .. }) = self;
        let kube::Error::Api(status) = error else { return None };
        Some(status.code)
    }
}

impl Default for Overview {
    fn default() -> Self {
        Self {
            index: Index::new([]),
            names: BTreeMap::new(),
            missed: BTreeMap::new(),
            secrets_denied: None,
            denied: BTreeSet::new(),
            unread: BTreeSet::new(),
            warnings: BTreeMap::new(),
            warnings_error: None,
            listing: BTreeSet::new(),
        }
    }
}

impl Overview {
    /// Lists the selected Namespaces, and the Secrets of each name of the configuration. The latest Warnings are read
    /// too if the Secrets cannot be read, or if `with_warnings` is set.
    pub async fn read(
        client: &Client,
        selection: &Selection,
        settings: &Settings,
        with_warnings: bool,
    ) -> Result<Self, OverviewError> {
        let mut overview = Self::default();
        for meta in namespaces(client, selection).await? {
            overview.add_namespace(&meta, settings);
        }
        overview.read_content(client, selection, settings, with_warnings).await?;
        Ok(overview)
    }

    /// Reads each Namespace of single-namespace mode by its name, with its Secrets and the latest Warnings. As for the
    /// controller, the configuration alone counts where a Namespace cannot be read.
    pub async fn read_single(client: &Client, settings: &Settings) -> Result<Self, OverviewError> {
        let mut overview = Self::default();
        for name in &settings.namespace_selector.only {
            let selection = Selection { namespace: Some(name.to_string()), selector: None };
            let found = match namespaces(client, &selection).await {
                Ok(found) => found,
                Err(error) => match error.code() {
                    Some(404) => continue,
                    Some(403) => {
                        overview.unread.insert((**name).into());
                        vec![unread(name)]
                    }
                    _ => return Err(error),
                },
            };
            for meta in &found {
                overview.add_namespace(meta, settings);
            }
            overview.read_content(client, &selection, settings, true).await?;
            if overview.secrets_denied.take().is_some() {
                overview.denied.insert((**name).into());
            }
        }
        Ok(overview)
    }

    /// Reads the Secrets, and the latest Warnings if they cannot be read or with `with_warnings`.
    async fn read_content(
        &mut self,
        client: &Client,
        selection: &Selection,
        settings: &Settings,
        with_warnings: bool,
    ) -> Result<(), OverviewError> {
        for name in settings.names.all() {
            match secrets(client, selection, name).await {
                Ok(found) => found.iter().for_each(|meta| self.add_secret(name, meta, settings)),
                Err(kube::Error::Api(status)) if status.code == 403 => {
                    self.secrets_denied.get_or_insert(one_line(&status.message));
                }
                Err(error) => return Err(OverviewError::Secrets { name: name.clone(), error }),
            }
        }
        if with_warnings || self.secrets_denied.is_some() {
            match warnings(client, selection, settings).await {
                Ok(found) => self.warnings.extend(found),
                // The overview is complete but for the latest problems.
                Err(error) => self.warnings_error = Some(message(&error)),
            }
        }
        Ok(())
    }

    /// Adds a Namespace, as the watch of the controller would.
    pub fn add_namespace(&mut self, meta: &ObjectMeta, settings: &Settings) {
        let Some(name) = meta.name.as_deref() else { return };
        let namespace: Arc<str> = name.into();
        let terminating = meta.deletion_timestamp.is_some();
        let record = observe::namespace(meta, settings);
        self.missed.remove(&namespace);
        if record.is_none()
            && let Some(missed) = observe::missed_opt_in(meta, settings)
        {
            self.missed.insert(namespace.clone(), missed.problem);
        }
        self.names.insert(namespace.clone(), terminating);
        self.index.apply(Change::Namespace { namespace, record, terminating });
    }

    /// Removes a Namespace that was deleted, or is no longer selected.
    pub fn remove_namespace(&mut self, meta: &ObjectMeta) {
        let Some(namespace) = meta.name.as_deref().map(Arc::from) else { return };
        self.missed.remove(&namespace);
        self.names.remove(&namespace);
        self.index.apply(Change::Namespace { namespace, record: None, terminating: false });
    }

    /// Adds a Secret. A watch may report it before its Namespace, so that it is kept in any case.
    pub fn add_secret(&mut self, name: &Arc<str>, meta: &ObjectMeta, settings: &Settings) {
        let Some(namespace) = meta.namespace.as_deref().map(Arc::from) else { return };
        let seen = Seen::Present(observe::secret(meta, settings));
        self.index.apply(Change::Secret { namespace, name: name.clone(), seen });
    }

    pub fn remove_secret(&mut self, name: &Arc<str>, meta: &ObjectMeta) {
        let Some(namespace) = meta.namespace.as_deref().map(Arc::from) else { return };
        let seen = Seen::Deleted(observe::resource_version(meta));
        self.index.apply(Change::Secret { namespace, name: name.clone(), seen });
    }

    /// A watch begins to list the Namespaces, or the Secrets of a name.
    pub fn list_started(&mut self, secrets: Option<Arc<str>>) {
        self.listing.insert(secrets.clone());
        self.index.apply(Change::ListStarted(target(secrets)));
    }

    /// The list is complete: what it did not contain does not exist.
    pub fn list_done(&mut self, secrets: Option<Arc<str>>) {
        self.listing.remove(&secrets);
        self.index.apply(Change::ListDone(target(secrets)));
    }

    /// Whether a list is incomplete.
    pub fn is_listing(&self) -> bool {
        !self.listing.is_empty()
    }
}

fn target(secrets: Option<Arc<str>>) -> WatchTarget {
    secrets.map_or(WatchTarget::Namespaces, WatchTarget::Secrets)
}

async fn namespaces(client: &Client, selection: &Selection) -> Result<Vec<ObjectMeta>, OverviewError> {
    if let Some(name) = &selection.namespace {
        let found = Api::<Namespace>::all(client.clone()).get_metadata(name).await;
        let found = found.map_err(|error| OverviewError::Namespace { name: name.clone(), error })?;
        return Ok(vec![found.metadata]);
    }
    let params = ListParams { label_selector: selection.selector.clone(), ..ListParams::default() };
    let listed = list_all::<Namespace>(&Api::all(client.clone()), params.limit(PAGE_SIZE)).await;
    listed.map_err(OverviewError::Namespaces)
}

async fn secrets(client: &Client, selection: &Selection, name: &str) -> kube::Result<Vec<ObjectMeta>> {
    if let Some(namespace) = &selection.namespace {
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let found = api.get_metadata_opt(name).await?;
        return Ok(found.into_iter().map(|found| found.metadata).collect());
    }
    let params = ListParams::default().fields(&format!("metadata.name={name}")).limit(PAGE_SIZE);
    list_all::<Secret>(&Api::all(client.clone()), params).await
}

/// The latest Warning of this instance in each namespace. The API server deletes Events after an hour.
async fn warnings(
    client: &Client,
    selection: &Selection,
    settings: &Settings,
) -> kube::Result<BTreeMap<Arc<str>, Warning>> {
    let api: Api<Event> = match &selection.namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let fields = format!("reportingComponent={MANAGER},type=Warning");
    let mut params = ListParams::default().fields(&fields).limit(PAGE_SIZE);
    let mut latest: BTreeMap<Arc<str>, Warning> = BTreeMap::new();
    loop {
        let listed = api.list(&params).await?;
        for event in listed.items {
            if event.reporting_instance.as_deref() != Some(&*settings.names.instance) {
                continue;
            }
            let namespace: Arc<str> = event.metadata.namespace.unwrap_or_default().into();
            let warning = Warning {
                reason: one_line(&event.reason.unwrap_or_default()),
                message: one_line(&event.message.unwrap_or_default()),
                at: event.last_timestamp.map(|time| time.0),
            };
            let is_later = latest.get(&namespace).is_none_or(|known| known.at <= warning.at);
            if is_later {
                latest.insert(namespace, warning);
            }
        }
        params.continue_token = listed.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok(latest);
        }
    }
}
