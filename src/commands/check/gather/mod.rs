//! Gathers the facts. Reads only: the one write is a dry run, which the API server does not store.

mod adoption;
mod aws;
mod cluster;
mod rights;
mod samples;

use std::sync::Arc;

use super::facts::{ConfigurationFacts, Facts, Gathered, NamespacesFacts};
use crate::cli::diagnosis::CheckArgs;
use crate::clock::Clock;
use crate::commands::configuration;
use crate::commands::setup::random;
use crate::config::Config;
use crate::core::aws::Region;
use crate::core::grants::Grants;
use crate::core::settings::Settings;
use crate::ecr::aws::AwsEcr;
use crate::kubernetes::overview::Overview;

/// Everything that can be found out now.
pub async fn gather(args: &CheckArgs) -> Facts {
    let clock = Clock::start();
    let config = Config::load(args.config.as_deref()).map_err(|error| error.to_string());
    let endpoints = config
        .as_ref()
        .map_err(Clone::clone)
        .and_then(|config| config.endpoints().map_err(|error| error.to_string()));
    let aws = match &endpoints {
        Ok(endpoints) => {
            Box::pin(AwsEcr::load_once(endpoints.clone())).await.map_err(|error| error.to_string())
        }
        Err(_) => Err("not checked without a valid configuration".to_owned()),
    };
    let region = aws.as_ref().map(AwsEcr::region).map_err(Clone::clone);
    let settings = config.and_then(|config| settings(&config, region.as_ref().ok().cloned().flatten()));
    let settings = endpoints.and(settings);
    let configuration = settings.as_ref().map(|settings| facts_of(settings, args)).map_err(Clone::clone);
    let mut facts =
        Facts { now: clock.now(), pre: args.pre, configuration, region, cluster: None, aws: None };
    let Ok(settings) = settings else { return facts };
    let (cluster, overview) = cluster::gather(args, &settings, clock).await;
    facts.cluster = Some(cluster);
    if let Ok(aws) = &aws {
        let samples = samples::samples(&settings, overview.as_ref(), clock.now());
        facts.aws = Some(aws::gather(aws, samples, args.repository.as_deref()).await);
    }
    facts.now = clock.now();
    facts
}

fn settings(config: &Config, region: Option<Region>) -> Gathered<Arc<Settings>> {
    configuration::settings(config, region, random()).map_err(|error| error.to_string())
}

fn facts_of(settings: &Settings, args: &CheckArgs) -> ConfigurationFacts {
    let Grants { identities, default_identity, .. } = &settings.grants;
    let unused = identities.iter().filter(|identity| identity.namespaces.is_empty());
    ConfigurationFacts {
        file: args.config.as_ref().map(|path| path.display().to_string()),
        instance: settings.names.instance.clone(),
        secret_names: settings.names.secret_names.iter().map(ToString::to_string).collect(),
        shares_controller: default_identity.is_some(),
        has_identities: !identities.is_empty(),
        unused_identities: unused.map(|identity| identity.name.as_str().to_owned()).collect(),
    }
}

/// The states of the namespaces, as `status` shows them.
fn namespaces(overview: &Overview, settings: &Settings, clock: Clock) -> NamespacesFacts {
    let knowledge = crate::commands::status::Knowledge { configuration: true };
    let only = settings.namespace_selector.only.iter();
    NamespacesFacts {
        absent: only.filter(|name| !overview.names.contains_key(&***name)).map(ToString::to_string).collect(),
        unread: overview.unread.iter().map(ToString::to_string).collect(),
        rows: crate::commands::status::rows(overview, settings, knowledge, clock.now()),
        secrets_denied: overview.secrets_denied.clone(),
    }
}
