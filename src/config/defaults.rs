//! `defaults`: the registries and the identity of namespaces that do not choose.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigError, FieldPath};
use crate::core::aws::{AccountId, Region, Registry};
use crate::core::grants::Identity;
use crate::core::quote;
use crate::core::request::MAX_REGISTRIES;

/// Defaults for all namespaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Defaults {
    /// Registries that the value `default` of the annotation `registries` refers to: registry hosts, or account IDs for
    /// the registry in the controller's region. At most 64. Default: empty, which refers to the registry of the
    /// identity's own account in the controller's region.
    pub registries: Vec<String>,
    /// The identity for registries that no other granted identity serves. Default: `controller`.
    pub identity: DefaultIdentity,
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

impl Default for Defaults {
    fn default() -> Self {
        Self { registries: vec![], identity: DefaultIdentity::Controller }
    }
}

impl Defaults {
    pub(super) fn build_identity(&self) -> Option<Identity> {
        match self.identity {
            DefaultIdentity::Controller => Some(Identity::controller()),
            DefaultIdentity::None => None,
        }
    }

    pub(super) fn build_registries(&self, region: Option<&Region>) -> Result<Vec<Registry>, ConfigError> {
        let list = FieldPath::new("defaults.registries");
        if self.registries.len() > MAX_REGISTRIES {
            let count = self.registries.len();
            return Err(list.invalid(format!("{count} registries: expected at most {MAX_REGISTRIES}")));
        }
        let build = |(index, text): (usize, &String)| match (text.parse::<AccountId>(), region) {
            (Ok(account), Some(region)) => Ok(Registry::of_account(account, region.clone())),
            (Ok(_), None) => {
                let problem =
                    format!("{} needs a region: set AWS_REGION, or use a registry host", quote(text));
                Err(list.index(index).invalid(problem))
            }
            (Err(_), _) => {
                text.parse::<Registry>().map_err(|error| list.index(index).invalid(format!("{error}")))
            }
        };
        self.registries.iter().enumerate().map(build).collect()
    }
}
