//! `staticRegistries`: credentials of other registries.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::validate::{ConfigError, check, invalid, is_object_name, parse_each};
use crate::core::aws::may_match_ecr;
use crate::core::quote;
use crate::core::request::OwnedNames;
use crate::core::secret::StaticGrant;

/// The maximum number of registries, over all entries.
const MAX_STATIC_REGISTRIES: usize = 16;
/// The maximum length of a key of `auths`.
const MAX_HOST_LEN: usize = 253;

/// Credentials from a Secret of type `kubernetes.io/dockerconfigjson` in the controller's namespace, which are copied
/// into the secrets of other namespaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StaticRegistryConfig {
    /// Name of the Secret in the controller's namespace. The controller's RBAC rules must allow it to read the Secret.
    pub secret: String,
    /// Keys of the entries to copy, as in `auths` of the Secret, such as `docker.io` or
    /// `https://index.docker.io/v1/`. At least one.
    pub registries: Vec<String>,
    /// The namespaces that get the entries: names, or prefixes that end in `*`. Default: none.
    #[serde(default)]
    pub namespaces: Vec<String>,
}

pub(super) fn build(
    configs: &[StaticRegistryConfig],
    names: &OwnedNames,
) -> Result<Vec<StaticGrant>, ConfigError> {
    let count = configs.iter().map(|config| config.registries.len()).sum::<usize>();
    check("staticRegistries", count <= MAX_STATIC_REGISTRIES, || {
        format!("{count} registries: expected at most {MAX_STATIC_REGISTRIES} in total")
    })?;
    let grant = |(index, config)| grant(config, names, &format!("staticRegistries[{index}]"));
    configs.iter().enumerate().map(grant).collect()
}

fn grant(config: &StaticRegistryConfig, names: &OwnedNames, path: &str) -> Result<StaticGrant, ConfigError> {
    let StaticRegistryConfig { secret, registries, namespaces } = config;
    let is_owned = names.all().any(|name| **name == **secret);
    check(format!("{path}.secret"), is_object_name(secret) && !is_owned, || {
        format!(
            "{}: expected the name of a Secret that is not in secretNames or retiredSecretNames",
            quote(secret)
        )
    })?;
    let list = format!("{path}.registries");
    check(&list, !registries.is_empty(), || "empty: list at least one registry")?;
    for (index, host) in registries.iter().enumerate() {
        check_host(host, &format!("{list}[{index}]"))?;
    }
    Ok(StaticGrant {
        secret: secret.as_str().into(),
        hosts: registries.clone(),
        namespaces: parse_each(format!("{path}.namespaces"), namespaces)?,
    })
}

fn check_host(host: &str, field: &str) -> Result<(), ConfigError> {
    let is_text = host.len() <= MAX_HOST_LEN && host.bytes().all(|b| b.is_ascii_graphic());
    let matches_ecr = Some(host).filter(|_| is_text).and_then(may_match_ecr);
    let problem = || format!("{}: expected a key of auths in the Secret, such as docker.io", quote(host));
    let matches_ecr = matches_ecr.ok_or_else(|| invalid(field, problem()))?;
    check(field, !matches_ecr, || {
        let remedy = "remove it, the controller fetches the tokens of these registries";
        format!("{} matches registries of Amazon ECR: {remedy}", quote(host))
    })
}
