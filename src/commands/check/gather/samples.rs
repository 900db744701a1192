//! The tokens to request: those that namespaces have, and one of each identity and endpoint of the configuration.

use std::collections::BTreeMap;

use crate::core::aws::Registry;
use crate::core::grants::{Assignment, Grants, Identity, Pattern, RegistryPattern, TokenKey};
use crate::core::plan::{Facts, plan};
use crate::core::request::{Request, Target};
use crate::core::secret::StaticSources;
use crate::core::settings::Settings;
use crate::core::{Now, counted};
use crate::kubernetes::overview::Overview;

/// The maximum number of tokens. A cluster can have one for each namespace.
const MAX_SAMPLES: usize = 32;

#[derive(Default)]
pub struct Samples {
    pub assignments: Vec<Assignment>,
    /// The identities without a sample, each with the reason.
    pub untested: Vec<String>,
}

/// The samples, each with another token.
pub fn samples(settings: &Settings, overview: Option<&Overview>, now: Now) -> Samples {
    let mut samples = Samples::default();
    let mut by_key: BTreeMap<TokenKey, Assignment> = BTreeMap::new();
    let identities = &settings.grants.identities;
    for identity in identities.iter().chain(&settings.grants.default_identity) {
        let found = of_identity(identity, settings);
        if found.is_empty() {
            let name = identity.name.as_str();
            samples.untested.push(format!(
                "identity {name:?}: not tested, because it serves no registry of a known region"
            ));
        }
        by_key.extend(found.into_iter().map(|assignment| (assignment.request.key.clone(), assignment)));
    }
    let of_namespaces = overview.map(|overview| of_namespaces(overview, settings, now)).unwrap_or_default();
    // An identity with `{namespace}` has a token for each namespace: the endpoint and the identity are what is tested.
    for assignment in of_namespaces {
        let key = &assignment.request.key;
        let is_same = |other: &TokenKey| (&other.identity, &other.endpoint) == (&key.identity, &key.endpoint);
        if !by_key.keys().any(is_same) {
            by_key.insert(key.clone(), assignment);
        }
    }
    if by_key.len() > MAX_SAMPLES {
        let more = by_key.len() - MAX_SAMPLES;
        samples.untested.push(format!("{} not tested", counted(more, "more token")));
    }
    samples.assignments = by_key.into_values().take(MAX_SAMPLES).collect();
    samples
}

/// The tokens that the controller would request for the namespaces.
fn of_namespaces(overview: &Overview, settings: &Settings, now: Now) -> Vec<Assignment> {
    let sources = StaticSources::new();
    let facts = overview.names.keys().filter_map(|name| overview.index.facts(name));
    let plans = facts.map(|facts| plan(&Facts { static_sources: &sources, ..facts }, settings, now));
    plans.filter_map(|plan| plan.granted).flat_map(|granted| granted.assignments.clone()).collect()
}

/// One token for each endpoint that the registries of an identity name, as a namespace gets it that may use the identity.
fn of_identity(identity: &Identity, settings: &Settings) -> Vec<Assignment> {
    let is_default = settings.grants.default_identity.as_ref() == Some(identity);
    let region = settings.region.as_ref();
    let mut registries: Vec<Target> = if is_default {
        let hosts = settings.default_registries.iter().filter_map(|registry| registry.in_region(region));
        let hosts = hosts.map(Target::Host);
        let default = settings.default_registries.is_empty().then_some(Target::Default);
        hosts.chain(default.filter(|_| region.is_some())).collect()
    } else {
        let target = |pattern: &RegistryPattern| match pattern {
            RegistryPattern::AllPrivate => region.map(|_| Target::Default),
            RegistryPattern::Public => "public.ecr.aws".parse().ok().map(Target::Host),
            RegistryPattern::Account(account, _) => {
                let own = region.filter(|region| pattern.account_in(region).is_some());
                let region = pattern.region().or(own.cloned())?;
                Some(Target::Host(Registry::of_account(*account, region)))
            }
        };
        identity.registries.iter().filter_map(target).collect()
    };
    registries.sort();
    registries.dedup();
    if registries.is_empty() {
        return vec![];
    }
    let request = Request {
        registries,
        repositories: vec![],
        role: vec![],
        secret_name: settings.names.secret_names[0].to_string(),
        service_accounts: vec![],
        by_default: false,
    };
    let mut alone = identity.clone();
    alone.namespaces = vec![Pattern::any()];
    let grants = Grants {
        identities: if is_default { vec![] } else { vec![alone.clone()] },
        default_identity: is_default.then_some(alone),
        default_region: settings.grants.default_region.clone(),
    };
    let granted = grants.assign(some_namespace(identity), &request);
    granted.map(|(granted, _)| granted.assignments).unwrap_or_default()
}

/// The prefix of the namespaces that may use the identity, as a name. Only the session policy depends on it.
fn some_namespace(identity: &Identity) -> &str {
    let prefix = identity.namespaces.first().map(Pattern::literal).unwrap_or_default();
    if prefix.is_empty() { "default" } else { prefix }
}
