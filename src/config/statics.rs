//! `staticRegistries`: credentials of other registries, beside those of ECR.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, invalid, is_name, parse_each};
use crate::core::quote;
use crate::core::registry::Registry;
use crate::core::statics::StaticGrant;

const MOST: usize = 16;

/// Entries of a Secret of type kubernetes.io/dockerconfigjson in the controller's own namespace that are copied into
/// the secrets of namespaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StaticRegistryConfig {
    /// The Secret, in the controller's own namespace. RBAC has to allow to read it there.
    pub secret: String,
    /// The entries, by their keys under `auths`, such as docker.io or <https://index.docker.io/v1/>.
    pub registries: Vec<String>,
    /// The namespaces that get them: names, or prefixes that end in *. Empty: none.
    #[serde(default)]
    pub namespaces: Vec<String>,
}

/// Checks every one.
pub(super) fn check(config: &Config) -> Result<Vec<StaticGrant>, ConfigError> {
    let all = &config.static_registries;
    if all.iter().map(|entry| entry.registries.len()).sum::<usize>() > MOST {
        return Err(invalid("staticRegistries", format!("more than {MOST} registries in all")));
    }
    all.iter().enumerate().map(|(place, entry)| grant(config, place, entry)).collect()
}

fn grant(config: &Config, place: usize, entry: &StaticRegistryConfig) -> Result<StaticGrant, ConfigError> {
    let field = |name: &str| format!("staticRegistries[{place}].{name}");
    if entry.secret.len() > 253
        || !is_name(&entry.secret)
        || config.all_names().any(|name| *name == entry.secret)
    {
        let problem = format!(
            "{}: expected the name of a Secret that is none of secretNames and retiredSecretNames",
            quote(&entry.secret)
        );
        return Err(invalid(field("secret"), problem));
    }
    if entry.registries.is_empty() {
        return Err(invalid(field("registries"), "empty: name at least one"));
    }
    for (place, host) in entry.registries.iter().enumerate() {
        let field = || field(&format!("registries[{place}]"));
        if host.is_empty() || host.len() > 253 || !host.bytes().all(|b| b.is_ascii_graphic()) {
            let problem =
                format!("{}: expected a key as it stands under auths, such as docker.io", quote(host));
            return Err(invalid(field(), problem));
        }
        let bare = host.strip_prefix("https://").unwrap_or(host).trim_end_matches('/');
        if bare.parse::<Registry>().is_ok() {
            let problem = format!("{} is a registry of Amazon ECR: its tokens are fetched", quote(host));
            return Err(invalid(field(), problem));
        }
    }
    Ok(StaticGrant {
        secret: entry.secret.as_str().into(),
        hosts: entry.registries.clone(),
        namespaces: parse_each(&field("namespaces"), &entry.namespaces)?,
    })
}
