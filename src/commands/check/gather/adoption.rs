//! The Secrets of other tools that a rule under `adopt` describes. Their values are dropped as soon as they were read.

use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::{Api, Client};
use zeroize::Zeroize as _;

use crate::commands::check::facts::{AdoptionFacts, DataKey, ForeignContent, ForeignSecret, Gathered};
use crate::controller::index::NamespaceState;
use crate::core::plan::{Facts, Obstacle, Owner, Refusal, Step, WritePlan, WriteReason, plan, refusal};
use crate::core::secret::static_registries;
use crate::core::secret::{DockerConfig, StaticSources};
use crate::core::settings::Settings;
use crate::core::{Now, SECRET_KEY, SECRET_TYPE};
use crate::kubernetes::errors::message;
use crate::kubernetes::observe;
use crate::kubernetes::overview::Overview;

/// The maximum number of Secrets that are read.
const MAX_SECRETS: usize = 20;

/// Those that the controller adopts next come first. `None` without a rule.
pub async fn gather(
    client: &Client,
    overview: &Overview,
    settings: &Settings,
    now: Now,
) -> Option<Gathered<AdoptionFacts>> {
    if settings.adopt.is_empty() {
        return None;
    }
    if let Some(reason) = &overview.secrets_denied {
        return Some(Err(reason.clone()));
    }
    let sources = match static_sources(client, settings).await {
        Ok(sources) => sources,
        Err(reason) => return Some(Err(reason)),
    };
    let mut found = candidates(overview, settings, &sources, now);
    found.sort_by_key(|secret| secret.assignments.is_none());
    let more = found.len().saturating_sub(MAX_SECRETS);
    found.truncate(MAX_SECRETS);
    let secrets = join_all(found.into_iter().map(|secret| read(client, secret))).await;
    Some(Ok(AdoptionFacts { secrets, more }))
}

/// The Secrets with static entries that exist.
async fn static_sources(client: &Client, settings: &Settings) -> Gathered<StaticSources> {
    let api: Api<Secret> = Api::default_namespaced(client.clone());
    let mut sources = StaticSources::new();
    for grant in &settings.static_grants {
        match api.get_opt(&grant.secret).await {
            Ok(Some(secret)) => drop(sources.insert(grant.secret.clone(), observe::static_source(&secret))),
            Ok(None) => {}
            Err(error) => return Err(format!("{}, with static entries: {}", grant.secret, message(&error))),
        }
    }
    Ok(sources)
}

fn candidates(
    overview: &Overview,
    settings: &Settings,
    sources: &StaticSources,
    now: Now,
) -> Vec<ForeignSecret> {
    let lasting = overview.names.iter().filter(|(_, terminating)| !**terminating);
    let states = lasting.filter_map(|(namespace, _)| Some((&**namespace, overview.index.get(namespace)?)));
    let of_namespace = |(namespace, state): (&str, &NamespaceState)| {
        // The state of a namespace that opted in reports a Secret that cannot be adopted.
        let concerns = |owner: &Owner| match owner {
            Owner::Adoptable => true,
            Owner::NotAdoptable(_) => !state.is_opted_in(),
            _ => false,
        };
        let all = state.secrets.iter().filter(|(_, observed)| concerns(&observed.owner));
        all.map(|(name, observed)| {
            let write = adoption(overview, settings, sources, namespace, name, now);
            let entries = match &write {
                Some(write) => write.static_entries.clone(),
                None => static_registries::entries(&settings.static_grants, namespace, sources, None),
            };
            ForeignSecret {
                namespace: namespace.to_owned(),
                name: name.to_string(),
                assignments: write.map(|write| write.granted.assignments.clone()),
                static_hosts: entries.into_keys().collect(),
                refusal: refusal(namespace, name, &observed.owner),
                content: Err("it was not read".to_owned()),
            }
        })
        .collect::<Vec<_>>()
    };
    states.flat_map(of_namespace).collect()
}

/// The write with which the controller would adopt the Secret now; `None` if the namespace requests no Secret of this name.
fn adoption(
    overview: &Overview,
    settings: &Settings,
    static_sources: &StaticSources,
    namespace: &str,
    name: &str,
    now: Now,
) -> Option<Box<WritePlan>> {
    let facts = Facts { static_sources, ..overview.index.facts(namespace)? };
    let Step::Write(write) = plan(&facts, settings, now).step else { return None };
    let is_adoption = write.reason == WriteReason::Adopted && write.granted.request.secret_name == name;
    is_adoption.then_some(write)
}

/// Adds what the metadata of a list does not show.
async fn read(client: &Client, mut secret: ForeignSecret) -> ForeignSecret {
    if secret.refusal.is_some() {
        return secret;
    }
    let api: Api<Secret> = Api::namespaced(client.clone(), &secret.namespace);
    match api.get(&secret.name).await {
        Ok(found) => {
            secret.refusal = obstacle(&secret, &found);
            secret.content = Ok(content(found));
        }
        Err(error) => secret.content = Err(message(&error)),
    }
    secret
}

fn obstacle(secret: &ForeignSecret, found: &Secret) -> Option<Refusal> {
    let obstacle = match found {
        Secret { type_, .. } if type_.as_deref() != Some(SECRET_TYPE) => Obstacle::Type,
        Secret { immutable: Some(true), .. } => Obstacle::Immutable,
        _ => return None,
    };
    refusal(&secret.namespace, &secret.name, &Owner::NotAdoptable(obstacle))
}

fn content(secret: Secret) -> ForeignContent {
    let Secret { metadata, data, .. } = secret;
    let mut content = ForeignContent { managers: managers(&metadata), registries: vec![], keys: vec![] };
    for (key, mut value) in data.unwrap_or_default() {
        if key == SECRET_KEY {
            content.registries = DockerConfig::foreign_keys(&value.0);
        } else {
            content.keys.push(DataKey { is_removed: observe::is_data_only_ours(&metadata, &key), name: key });
        }
        value.0.zeroize();
    }
    content
}

/// The field managers of the entries, or, if no manager owns them, all of them.
fn managers(meta: &ObjectMeta) -> Vec<String> {
    let of_entries = observe::data_managers(meta, SECRET_KEY);
    let all: Vec<_> = meta.managed_fields.iter().flatten().collect();
    let entries = if of_entries.is_empty() { all } else { of_entries };
    let name = |entry: &ManagedFieldsEntry| entry.manager.clone();
    let mut names: Vec<_> = entries.into_iter().filter_map(name).collect();
    names.sort();
    names.dedup();
    names
}
