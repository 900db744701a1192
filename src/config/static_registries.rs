//! `staticRegistries`: credentials of other registries.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::is_object_name;
use super::{ConfigError, FieldPath};
use crate::core::aws::Registry;
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
    let list = FieldPath::new("staticRegistries");
    let count = configs.iter().map(|config| config.registries.len()).sum::<usize>();
    if count > MAX_STATIC_REGISTRIES {
        let problem = format!("{count} registries: expected at most {MAX_STATIC_REGISTRIES} in total");
        return Err(list.invalid(problem));
    }
    configs.iter().enumerate().map(|(index, config)| grant(config, names, &list.index(index))).collect()
}

fn grant(
    config: &StaticRegistryConfig,
    names: &OwnedNames,
    path: &FieldPath,
) -> Result<StaticGrant, ConfigError> {
    if !is_object_name(&config.secret) || names.all().any(|name| **name == *config.secret) {
        let problem = format!(
            "{}: expected the name of a Secret that is not in secretNames or retiredSecretNames",
            quote(&config.secret)
        );
        return Err(path.field("secret").invalid(problem));
    }
    let registries = path.field("registries");
    if config.registries.is_empty() {
        return Err(registries.invalid("empty: list at least one registry"));
    }
    for (index, host) in config.registries.iter().enumerate() {
        check_host(host, || registries.index(index))?;
    }
    Ok(StaticGrant {
        secret: config.secret.as_str().into(),
        hosts: config.registries.clone(),
        namespaces: path.field("namespaces").parse_each(&config.namespaces)?,
    })
}

fn check_host(host: &str, path: impl Fn() -> FieldPath) -> Result<(), ConfigError> {
    if host.is_empty() || host.len() > MAX_HOST_LEN || !host.bytes().all(|b| b.is_ascii_graphic()) {
        let problem = format!("{}: expected a key of auths in the Secret, such as docker.io", quote(host));
        return Err(path().invalid(problem));
    }
    let bare = host.strip_prefix("https://").unwrap_or(host).trim_end_matches('/');
    if bare.parse::<Registry>().is_ok() {
        let problem = format!(
            "{} is an Amazon ECR registry: remove it, the controller fetches its tokens",
            quote(host)
        );
        return Err(path().invalid(problem));
    }
    Ok(())
}
