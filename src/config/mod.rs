//! The configuration file: its types, and their conversion to [`Settings`].

mod defaults;
mod endpoints;
mod error;
mod identities;
mod names;
mod namespaces;
mod refresh;
mod scope;
mod static_registries;
#[cfg(test)]
mod tests;

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::Jitter;
use crate::core::aws::Region;
use crate::core::grants::Grants;
use crate::core::request::OwnedNames;
use crate::core::settings::Settings;
use crate::ecr::aws::Endpoints;

pub use self::defaults::{DefaultIdentity, Defaults};
pub use self::endpoints::EndpointConfig;
pub use self::error::{ConfigError, FieldPath};
pub use self::identities::{IdentityConfig, SourceConfig};
pub use self::namespaces::{LabelSelector, NamespacesConfig, Operator, Requirement};
pub use self::refresh::Refresh;
pub use self::static_registries::StaticRegistryConfig;

/// Configuration of ecr-pull-secrets. Every field is optional.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// Name of this installation and value of the label `app.kubernetes.io/instance` of its secrets: at most 63
    /// characters. Installations with different names never change each other's secrets. Default: `ecr-pull-secrets`.
    pub instance: String,
    /// The names that a secret can have; at least one. A namespace without the annotation `secret-name` gets the first.
    /// The controller's RBAC rules must list them too. Default: `ecr-pull`.
    pub secret_names: Vec<String>,
    /// Former names of secrets. The controller deletes a secret of such a name once the namespace has its secret under
    /// another name or has opted out. The controller's RBAC rules must list them too. Default: none.
    pub retired_secret_names: Vec<String>,
    /// The namespaces that opt in without an annotation.
    pub namespaces: NamespacesConfig,
    /// Registries and identity of namespaces that do not choose.
    pub defaults: Defaults,
    /// IAM roles that the controller assumes, and the namespaces that they are granted to. The first granted identity
    /// that serves a registry is used. Default: none.
    pub identities: Vec<IdentityConfig>,
    /// Custom endpoints of AWS APIs. They take precedence over the `AWS_ENDPOINT_URL` variables. Default: none.
    pub endpoints: Vec<EndpointConfig>,
    /// Credentials of other registries, which are added to the secrets. At most 16 registries in total. Default: none.
    pub static_registries: Vec<StaticRegistryConfig>,
    /// Support for the annotation `service-accounts`.
    pub service_accounts: ServiceAccounts,
    /// When the controller renews tokens and secrets, and how fast.
    pub refresh: Refresh,
}

/// Support for the annotation `service-accounts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ServiceAccounts {
    /// Whether the controller adds the secret to `imagePullSecrets` of the service accounts that the annotation lists.
    /// The controller's RBAC rules must allow it too. Default: false.
    pub enabled: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            instance: "ecr-pull-secrets".into(),
            secret_names: vec!["ecr-pull".into()],
            retired_secret_names: vec![],
            namespaces: NamespacesConfig::default(),
            defaults: Defaults::default(),
            identities: vec![],
            endpoints: vec![],
            static_registries: vec![],
            service_accounts: ServiceAccounts::default(),
            refresh: Refresh::default(),
        }
    }
}

impl Config {
    /// Reads the file. Without a path, returns the defaults.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })
    }

    fn parse(text: &str) -> Result<Self, serde_saphyr::Error> {
        let is_blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
        if text.lines().all(is_blank) {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text)
    }

    /// Validates the configuration, without its endpoints. `region` is the controller's; `web_identity_token_file` is
    /// the value of `AWS_WEB_IDENTITY_TOKEN_FILE`.
    pub fn settings(
        &self,
        region: Option<Region>,
        web_identity_token_file: Option<&Path>,
        jitter: Jitter,
    ) -> Result<Settings, ConfigError> {
        let names = self.owned_names()?;
        let refresh = self.refresh.build()?;
        let namespace_selector = namespaces::build(&self.namespaces)?;
        let default_registries = self.defaults.build_registries(region.as_ref())?;
        let grants = Grants {
            identities: identities::build(&self.identities, web_identity_token_file)?,
            default_identity: self.defaults.build_identity(),
            default_region: region.clone(),
        };
        let static_grants = static_registries::build(&self.static_registries, &names)?;
        Ok(Settings {
            names,
            namespace_selector,
            default_registries,
            region,
            grants,
            static_grants,
            refresh,
            jitter,
        })
    }

    /// Validates only the names that the installation owns.
    pub fn owned_names(&self) -> Result<OwnedNames, ConfigError> {
        names::build(self)
    }

    /// Validates the endpoints.
    pub fn endpoints(&self) -> Result<Endpoints, ConfigError> {
        endpoints::build(&self.endpoints)
    }
}
