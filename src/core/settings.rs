//! The configuration, in the form that decisions use.

use super::Jitter;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::aws::{Endpoint, Region};
use super::grants::{Grants, NamespaceSelector, RegistryPattern};
use super::leader_election::ElectionTiming;
use super::request::applied::RecordLengths;
use super::request::{DefaultRegistry, OwnedNames, RequestRules};
use super::secret::{RefreshPolicy, SecretTemplate, StaticGrant, static_registries};

/// The validated configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    pub names: OwnedNames,
    /// The namespaces that opt in without an annotation.
    pub namespace_selector: NamespaceSelector,
    /// The registries that `default` refers to; if empty, [`Target::Default`](super::request::Target::Default).
    pub default_registries: Vec<DefaultRegistry>,
    /// The controller's region, for account IDs and [`Target::Default`](super::request::Target::Default).
    pub region: Option<Region>,
    pub grants: Grants,
    /// The labels and annotations of every Secret.
    pub secret_template: SecretTemplate,
    /// The Secrets of other tools that may be adopted.
    pub adopt: Vec<AdoptionRule>,
    /// The entries of other registries.
    pub static_grants: Vec<StaticGrant>,
    pub refresh: RefreshPolicy,
    pub election: ElectionTiming,
    /// The randomness of this process.
    pub jitter: Jitter,
}

/// Secrets of other tools that may be adopted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptionRule {
    /// One of the allowed names.
    pub name: Arc<str>,
    /// Labels that the Secret has; it may have others.
    pub labels: BTreeMap<String, String>,
}

impl AdoptionRule {
    pub fn matches(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        *self.name == *name && self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

impl Settings {
    /// Settings that grant nothing, which is enough to remove what this installation created.
    pub fn without_grants(names: OwnedNames, election: ElectionTiming, jitter: Jitter) -> Self {
        Self {
            names,
            namespace_selector: NamespaceSelector::default(),
            default_registries: vec![],
            region: None,
            grants: Grants::default(),
            secret_template: SecretTemplate::default(),
            adopt: vec![],
            static_grants: vec![],
            refresh: RefreshPolicy { at: 1.0, jitter: 0.0, writes_per_second: 1, tokens_per_second: 1 },
            election,
            jitter,
        }
    }

    /// The endpoints that the configuration names: of the controller's region, of the default registries, and of identities
    /// with fixed regions.
    pub fn endpoints(&self) -> BTreeSet<Endpoint> {
        let own = self.region.iter().cloned().map(Endpoint::Private);
        let region = self.region.as_ref();
        let defaults = self.default_registries.iter().filter_map(|registry| registry.in_region(region));
        let defaults = defaults.map(|registry| registry.endpoint());
        let identities = self.grants.identities.iter().flat_map(|identity| &identity.registries);
        let fixed = identities.filter_map(RegistryPattern::region).map(Endpoint::Private);
        own.chain(defaults).chain(fixed).chain([Endpoint::Public]).collect()
    }

    /// The part that determines the meaning of a request.
    pub fn request_rules(&self) -> RequestRules<'_> {
        let Self { names, default_registries, region, .. } = self;
        let lengths = RecordLengths {
            identity: self.grants.longest_name(),
            static_entries: static_registries::max_len(&self.static_grants),
        };
        RequestRules { names, default_registries, region: region.as_ref(), lengths }
    }
}
