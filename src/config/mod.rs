//! The configuration file: its types, and their conversion to [`Settings`].

mod adopt;
mod command_line;
mod endpoints;
mod identities;
mod leader_election;
mod namespaces;
mod scope;
mod secret_template;
mod static_registries;
#[cfg(test)]
mod tests;
mod validate;

use std::collections::BTreeSet;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::identities::Program;
use self::validate::{LABEL_EXPECTED, check, invalid, is_label, is_object_name, parse};
use crate::core::aws::Region;
use crate::core::grants::{Grants, Identity, NamespaceSelector};
use crate::core::leader_election::ElectionTiming;
use crate::core::request::{DefaultRegistry, MAX_REGISTRIES, OwnedNames};
use crate::core::secret::RefreshPolicy;
use crate::core::settings::Settings;
use crate::core::{Jitter, quote};
use crate::ecr::aws::Endpoints;

pub use self::adopt::AdoptConfig;
pub use self::command_line::{CommandLine, CommandLineConfig};
pub use self::endpoints::EndpointConfig;
pub use self::identities::{IdentityConfig, SourceConfig};
pub use self::leader_election::LeaderElectionConfig;
pub use self::namespaces::{LabelSelector, NamespacesConfig, Operator, Requirement};
pub use self::secret_template::SecretTemplateConfig;
pub use self::static_registries::StaticRegistryConfig;
pub use self::validate::ConfigError;

const SECRET_NAME_EXPECTED: &str = "expected the name of a Secret: at most 253 characters of a-z, 0-9, - and ., \
                                    beginning and ending with a letter or digit";

/// Configuration of ecr-pull-secrets. Every field is optional.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// Name of this installation and value of the label `ecr-pull-secrets.dev/instance` of its secrets: at most 63
    /// characters. Installations with different names never change each other's secrets. Default: `ecr-pull-secrets`.
    pub instance: String,
    /// The names that a secret can have; at least one. A namespace without the annotation `secret-name` gets the first.
    /// The controller's RBAC rules must list them too. Default: `ecr-pull`.
    pub secret_names: Vec<String>,
    /// Former names of secrets. The controller deletes a secret of such a name once the namespace has its secret under
    /// another name or has opted out. The controller's RBAC rules must list them too. Default: none.
    pub retired_secret_names: Vec<String>,
    /// Labels and annotations of the secrets, in addition to those of the controller.
    pub secret_template: SecretTemplateConfig,
    /// Secrets of other tools that the controller may adopt. Default: none.
    pub adopt: Vec<AdoptConfig>,
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
    /// How replicas of the controller elect the one that writes.
    pub leader_election: LeaderElectionConfig,
    /// Settings of the commands that run without a cluster. The controller ignores them.
    pub command_line: CommandLineConfig,
}

/// Support for the annotation `service-accounts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ServiceAccounts {
    /// Whether the controller adds the secret to `imagePullSecrets` of the service accounts that the annotation lists.
    /// The controller's RBAC rules must allow it too. Default: false.
    pub enabled: bool,
}

/// Defaults for all namespaces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Defaults {
    /// Registries that the value `default` of the annotation `registries` refers to: registry hosts, or account IDs for
    /// the registry in the controller's region. At most 64. Default: empty, which refers to the registry of the
    /// identity's own account in the controller's region.
    pub registries: Vec<String>,
    /// The identity for registries that no other granted identity serves. Required if an identity has a role. Default:
    /// `controller`.
    pub identity: Option<DefaultIdentity>,
}

/// The default identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum DefaultIdentity {
    /// The controller's own identity. Every namespace that opts in can then get tokens with its whole scope.
    Controller,
    /// No default identity. A namespace only gets tokens of the identities that are granted to it.
    None,
}

/// Renewal of tokens and secrets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Refresh {
    /// The fraction of a token's lifetime after which the controller fetches a new token. From 0.1 to 0.8, default 0.5:
    /// 6 hours for a token of 12 hours.
    #[schemars(range(min = 0.1, max = 0.8))]
    pub at: f64,
    /// The additional fraction of the lifetime over which the controller spreads the renewal of the secrets that hold
    /// the token. From 0 to 0.15, default 0.1.
    #[schemars(range(min = 0.0, max = 0.15))]
    pub jitter: f64,
    /// The maximum number of secret renewals per second. Creations and repairs are not limited. From 1 to 1000, default
    /// 50.
    #[schemars(range(min = 1, max = 1000))]
    pub writes_per_second: u32,
    /// The maximum number of token requests to AWS per second. From 1 to 1000, default 50.
    #[schemars(range(min = 1, max = 1000))]
    pub tokens_per_second: u32,
}

impl Default for Refresh {
    fn default() -> Self {
        Self { at: 0.5, jitter: 0.1, writes_per_second: 50, tokens_per_second: 50 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            instance: "ecr-pull-secrets".into(),
            secret_names: vec!["ecr-pull".into()],
            retired_secret_names: vec![],
            secret_template: SecretTemplateConfig::default(),
            adopt: vec![],
            namespaces: NamespacesConfig::default(),
            defaults: Defaults::default(),
            identities: vec![],
            endpoints: vec![],
            static_registries: vec![],
            service_accounts: ServiceAccounts::default(),
            refresh: Refresh::default(),
            leader_election: LeaderElectionConfig::default(),
            command_line: CommandLineConfig::default(),
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

    /// Parses the text of a file. A text without content is the default.
    pub fn parse(text: &str) -> Result<Self, serde_saphyr::Error> {
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
        Ok(Settings {
            refresh: self.refresh.build()?,
            election: self.election()?,
            secret_template: self.secret_template.build()?,
            adopt: adopt::build(&self.adopt, &names)?,
            namespace_selector: self.namespace_selector()?,
            default_registries: self.default_registries()?,
            grants: Grants {
                identities: identities::build(
                    &self.identities,
                    web_identity_token_file,
                    Program::Controller,
                )?,
                default_identity: self.default_identity()?,
                default_region: region.clone(),
            },
            static_grants: static_registries::build(&self.static_registries, &names)?,
            names,
            region,
            jitter,
        })
    }

    /// Validates only the names that the installation owns.
    pub fn owned_names(&self) -> Result<OwnedNames, ConfigError> {
        check("instance", is_label(&self.instance), || {
            format!("{}: {LABEL_EXPECTED}", quote(&self.instance))
        })?;
        check("secretNames", !self.secret_names.is_empty(), || "empty: list at least one name")?;
        let lists = [("secretNames", &self.secret_names), ("retiredSecretNames", &self.retired_secret_names)];
        let mut seen = BTreeSet::new();
        for (list, names) in lists {
            for (index, name) in names.iter().enumerate() {
                let field = format!("{list}[{index}]");
                check(&field, is_object_name(name), || format!("{}: {SECRET_NAME_EXPECTED}", quote(name)))?;
                let remedy = "list it once, in secretNames or retiredSecretNames";
                check(&field, seen.insert(name), || format!("duplicate name {}: {remedy}", quote(name)))?;
            }
        }
        Ok(OwnedNames {
            instance: self.instance.clone(),
            secret_names: self.secret_names.iter().map(|name| name.as_str().into()).collect(),
            retired_names: self.retired_secret_names.iter().map(|name| name.as_str().into()).collect(),
            service_accounts: self.service_accounts.enabled,
        })
    }

    /// Validates the selection of namespaces.
    pub fn namespace_selector(&self) -> Result<NamespaceSelector, ConfigError> {
        namespaces::build(&self.namespaces)
    }

    /// A token of the controller opens what the roles keep apart, so with roles this choice must be written.
    fn default_identity(&self) -> Result<Option<Identity>, ConfigError> {
        let has_roles = self.identities.iter().any(|identity| identity.role_arn.is_some());
        match self.defaults.identity {
            None if has_roles => {
                let problem = "missing, and identities have roles: set \"none\", so that a namespace only gets tokens of \
                               the identities that are granted to it, or \"controller\", so that every namespace that \
                               opts in can get tokens with the controller's whole scope";
                Err(invalid("defaults.identity", problem))
            }
            None | Some(DefaultIdentity::Controller) => Ok(Some(Identity::controller())),
            Some(DefaultIdentity::None) => Ok(None),
        }
    }

    fn default_registries(&self) -> Result<Vec<DefaultRegistry>, ConfigError> {
        let registries = &self.defaults.registries;
        let count = registries.len();
        check("defaults.registries", count <= MAX_REGISTRIES, || {
            format!("{count} registries: expected at most {MAX_REGISTRIES}")
        })?;
        let build = |(index, text): (usize, &String)| match text.parse() {
            Ok(account) => Ok(DefaultRegistry::Account(account)),
            Err(_) => parse(format!("defaults.registries[{index}]"), text).map(DefaultRegistry::Host),
        };
        registries.iter().enumerate().map(build).collect()
    }

    /// Validates the periods of the leader election.
    pub fn election(&self) -> Result<ElectionTiming, ConfigError> {
        self.leader_election.build()
    }

    /// Validates the endpoints.
    pub fn endpoints(&self) -> Result<Endpoints, ConfigError> {
        endpoints::build(&self.endpoints)
    }
}

impl Refresh {
    fn build(self) -> Result<RefreshPolicy, ConfigError> {
        let Self { at, jitter, writes_per_second, tokens_per_second } = self;
        check("refresh.at", (0.1..=0.8).contains(&at), || format!("{at}: expected 0.1 to 0.8"))?;
        check("refresh.jitter", (0.0..=0.15).contains(&jitter), || format!("{jitter}: expected 0 to 0.15"))?;
        for (field, rate) in [("writesPerSecond", writes_per_second), ("tokensPerSecond", tokens_per_second)]
        {
            let field = format!("refresh.{field}");
            check(field, (1..=1000).contains(&rate), || format!("{rate}: expected 1 to 1000"))?;
        }
        Ok(RefreshPolicy { at, jitter, writes_per_second, tokens_per_second })
    }
}
