//! The configuration file: its types, its checks, and what the decisions take of it.

mod endpoints;
mod identities;
mod namespaces;
mod statics;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::grants::Grants;
use crate::core::identity::Identity;
use crate::core::quote;
use crate::core::registry::{Region, Registry};
use crate::core::request::MOST_REGISTRIES;
use crate::core::settings::Settings;
use crate::core::token::RefreshPolicy;
use crate::ecr::aws::Endpoints;

pub use self::endpoints::EndpointConfig;
pub use self::identities::IdentityConfig;
pub use self::namespaces::{LabelSelector, NamespacesConfig, Operator, Requirement};
pub use self::statics::StaticRegistryConfig;

/// Configuration of ecr-pull-secrets. Every field may be left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// Name of this installation: a label value. Two installations of different names never touch each other's
    /// secrets.
    pub instance: String,
    /// The only names that a secret can have; the first one is used where a namespace names none. RBAC has to
    /// name them too.
    pub secret_names: Vec<String>,
    /// Names that secrets had before: no longer written, and removed once the namespace has its secret under another
    /// name, or wants none. RBAC has to name them too.
    pub retired_secret_names: Vec<String>,
    /// Which namespaces opt in without an annotation.
    pub namespaces: NamespacesConfig,
    /// What a namespace gets that asks for `default`, and by which identity.
    pub defaults: Defaults,
    /// Roles and their grants, in the order of choice.
    pub identities: Vec<IdentityConfig>,
    /// Endpoints of AWS APIs in place of the documented ones; they come before the `AWS_ENDPOINT_URL` variables.
    pub endpoints: Vec<EndpointConfig>,
    /// Entries of other registries that go beside those of ECR.
    pub static_registries: Vec<StaticRegistryConfig>,
    /// The annotation `service-accounts`.
    pub service_accounts: ServiceAccounts,
    /// When secrets are rewritten.
    pub refresh: Refresh,
}

/// What namespaces may ask for with the annotation `service-accounts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ServiceAccounts {
    /// Whether the secret is added to the imagePullSecrets of service accounts. RBAC has to allow it too.
    pub enabled: bool,
}

/// Defaults for all namespaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Defaults {
    /// Registry hosts that `default` stands for; empty: the registry that the identity's own token names.
    pub registries: Vec<String>,
    /// The identity that serves what no other one does.
    pub identity: DefaultIdentity,
}

/// An identity, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum DefaultIdentity {
    /// The controller's own: every namespace that opts in gets tokens with its whole scope.
    Controller,
    /// None: namespaces only get what is granted to them.
    None,
}

/// When tokens and secrets are replaced, in parts of a token's lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Refresh {
    /// The part of the lifetime after which a token is replaced: 0.1 to 0.8.
    #[schemars(range(min = 0.1, max = 0.8))]
    pub at: f64,
    /// The part of the lifetime over which the secrets that hold it are rewritten after that: 0 to 0.15.
    #[schemars(range(min = 0.0, max = 0.15))]
    pub jitter: f64,
    /// The most refreshes in a second; creations and repairs do not wait for them. 1 to 1000.
    #[schemars(range(min = 1, max = 1000))]
    pub writes_per_second: u32,
    /// The most tokens that are asked for in a second. 1 to 1000.
    #[schemars(range(min = 1, max = 1000))]
    pub mints_per_second: u32,
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

impl Default for Defaults {
    fn default() -> Self {
        Self { registries: vec![], identity: DefaultIdentity::Controller }
    }
}

impl Default for Refresh {
    fn default() -> Self {
        Self { at: 0.5, jitter: 0.1, writes_per_second: 50, mints_per_second: 50 }
    }
}

/// What is wrong with a configuration: the path of the field, the value, and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("--config {path}: {error}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// It is not of the form that the schema describes.
    #[error("--config {path}: {error}")]
    Malformed {
        /// The file.
        path: String,
        /// Where and why.
        error: String,
    },
    /// A value is wrong.
    #[error("configuration: {field}: {problem}")]
    Invalid {
        /// The path of the field.
        field: String,
        /// The value, and what would be right.
        problem: String,
    },
}

fn invalid(field: impl Into<String>, problem: impl Into<String>) -> ConfigError {
    ConfigError::Invalid { field: field.into(), problem: problem.into() }
}

/// Parses the items of a list; an error names the place of the item.
fn parse_each<T>(field: &str, texts: &[String]) -> Result<Vec<T>, ConfigError>
where
    T: FromStr<Err: std::fmt::Display>,
{
    let parse = |(place, text): (usize, &String)| {
        text.parse().map_err(|error: T::Err| invalid(format!("{field}[{place}]"), error.to_string()))
    };
    texts.iter().enumerate().map(parse).collect()
}

impl Config {
    /// Reads the file, or takes the defaults where none is named.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let shown = || path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Unreadable { path: shown(), error })?;
        Self::parse(&text).map_err(|error| ConfigError::Malformed { path: shown(), error })
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    /// Checks every field, and makes of them what the decisions take. `region` is the controller's.
    pub fn settings(&self, region: Option<Region>) -> Result<Settings, ConfigError> {
        self.check_names()?;
        self.check_refresh()?;
        let default_identity = match self.defaults.identity {
            DefaultIdentity::Controller => Some(Identity::controller()),
            DefaultIdentity::None => None,
        };
        let Refresh { at, jitter, .. } = self.refresh;
        Ok(Settings {
            instance: self.instance.clone(),
            secret_names: self.secret_names.iter().map(|name| name.as_str().into()).collect(),
            retired_names: self.retired_secret_names.iter().map(|name| name.as_str().into()).collect(),
            opt_in: namespaces::check(&self.namespaces)?,
            default_registries: self.default_registries(region.as_ref())?,
            grants: Grants {
                identities: self.identities()?,
                default_identity,
                home: region.clone(),
                service_accounts: self.service_accounts.enabled,
            },
            region,
            statics: statics::check(self)?,
            refresh: RefreshPolicy { at, jitter },
        })
    }

    /// What removing takes: names and whether service accounts were written, without a region or a grant.
    pub fn names(&self) -> Result<Settings, ConfigError> {
        let defaults = Defaults { registries: vec![], ..self.defaults.clone() };
        Self { defaults, identities: vec![], static_registries: vec![], ..self.clone() }.settings(None)
    }

    fn identities(&self) -> Result<Vec<Identity>, ConfigError> {
        let token_file = std::env::var_os("AWS_WEB_IDENTITY_TOKEN_FILE").map(PathBuf::from);
        identities::check(&self.identities, token_file.as_deref())
    }

    /// Checks the endpoints.
    pub fn endpoints(&self) -> Result<Endpoints, ConfigError> {
        endpoints::check(&self.endpoints)
    }

    fn check_names(&self) -> Result<(), ConfigError> {
        let label = |text: &str| text.len() <= 63 && is_name(text);
        if !label(&self.instance) {
            let problem = format!("{}: expected up to 63 of a-z, 0-9, - and .", quote(&self.instance));
            return Err(invalid("instance", problem));
        }
        if self.secret_names.is_empty() {
            return Err(invalid("secretNames", "empty: name at least one"));
        }
        let wanted = self.secret_names.iter().enumerate().map(|(place, _)| format!("secretNames[{place}]"));
        let retired = self.retired_secret_names.iter().enumerate();
        let fields = wanted.chain(retired.map(|(place, _)| format!("retiredSecretNames[{place}]")));
        for (place, (name, field)) in self.all_names().zip(fields).enumerate() {
            if name.len() > 253 || !is_name(name) {
                let problem = format!("{}: expected a name of a Secret: a-z, 0-9, - and .", quote(name));
                return Err(invalid(field, problem));
            }
            if self.all_names().take(place).any(|before| before == name) {
                return Err(invalid(field, format!("{} stands there twice, or in both lists", quote(name))));
            }
        }
        Ok(())
    }

    fn all_names(&self) -> impl Iterator<Item = &String> {
        self.secret_names.iter().chain(&self.retired_secret_names)
    }

    fn check_refresh(&self) -> Result<(), ConfigError> {
        let Refresh { at, jitter, writes_per_second, mints_per_second } = self.refresh;
        if !(0.1..=0.8).contains(&at) {
            return Err(invalid("refresh.at", format!("{at}: expected 0.1 to 0.8")));
        }
        if !(0.0..=0.15).contains(&jitter) {
            return Err(invalid("refresh.jitter", format!("{jitter}: expected 0 to 0.15")));
        }
        for (field, rate) in [("writesPerSecond", writes_per_second), ("mintsPerSecond", mints_per_second)] {
            if !(1..=1000).contains(&rate) {
                return Err(invalid(format!("refresh.{field}"), format!("{rate}: expected 1 to 1000")));
            }
        }
        Ok(())
    }

    fn default_registries(&self, region: Option<&Region>) -> Result<Vec<Registry>, ConfigError> {
        let all = &self.defaults.registries;
        if all.len() > MOST_REGISTRIES {
            let problem = format!("{} registries: a secret holds at most {MOST_REGISTRIES}", all.len());
            return Err(invalid("defaults.registries", problem));
        }
        let parse = |(place, text): (usize, &String)| {
            let field = format!("defaults.registries[{place}]");
            match (text.parse(), region) {
                (Ok(account), Some(region)) => return Ok(Registry::of_account(account, region.clone())),
                (Ok(_), None) => {
                    return Err(invalid(field, format!("{text:?} needs a region: set AWS_REGION")));
                }
                (Err(_), _) => {}
            }
            text.parse::<Registry>().map_err(|error| invalid(field, error.to_string()))
        };
        all.iter().enumerate().map(parse).collect()
    }
}

/// A DNS subdomain as Kubernetes names objects
/// (<https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names>).
fn is_name(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.split('.').all(|part| {
        let bytes = part.as_bytes();
        bytes.iter().all(|b| alphanumeric(*b) || *b == b'-')
            && bytes.first().is_some_and(|b| alphanumeric(*b))
            && bytes.last().is_some_and(|b| alphanumeric(*b))
    })
}

#[cfg(test)]
mod tests;
