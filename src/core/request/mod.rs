//! The request of a namespace, and the applied state of its Secret.

pub mod annotations;
pub mod applied;
mod default_registry;
mod names;
pub mod problem;
pub mod unknown_keys;

use serde::{Deserialize, Serialize};

use super::aws::{Endpoint, NameError, Registry};

pub use self::annotations::{OptIn, ParsedAnnotations, RequestRules};
pub use self::applied::{AppliedState, ScopeFingerprint, TemplateFingerprint, Times};
pub use self::default_registry::DefaultRegistry;
pub use self::names::OwnedNames;
pub use self::problem::Problem;

/// The maximum number of registries in one Secret. A Secret holds 1 MiB, and 180 entries did not fit.
pub const MAX_REGISTRIES: usize = 64;
/// The maximum number of regions in one Secret.
pub const MAX_REGIONS: usize = 8;

/// A registry that the Secret has an entry for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, strum::Display)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// A registry by its host.
    #[strum(to_string = "{0}")]
    Host(Registry),
    /// The registry that the identity's own token names (`proxyEndpoint`).
    #[strum(to_string = "default")]
    Default,
}

impl Target {
    /// The endpoint that issues its tokens; `None` for [`Target::Default`], where the identity decides.
    pub fn endpoint(&self) -> Option<Endpoint> {
        match self {
            Self::Host(registry) => Some(registry.endpoint()),
            Self::Default => None,
        }
    }
}

impl TryFrom<String> for Target {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        if text == "default" { Ok(Self::Default) } else { text.parse().map(Self::Host) }
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

/// A valid request. It stays in force until another valid request replaces it.
///
/// A list whose order has no meaning is sorted and has no duplicates, so that equal requests are equal values.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// The registries that the Secret has entries for; at least one.
    pub registries: Vec<Target>,
    /// Repository patterns that narrow the tokens; if empty, the identity's own patterns apply.
    #[serde(default)]
    pub repositories: Vec<String>,
    /// Identities by name or role ARN, in order of preference; if empty, every granted identity.
    #[serde(default)]
    pub role: Vec<String>,
    /// One of the allowed names.
    pub secret_name: String,
    /// Service accounts whose `imagePullSecrets` get the Secret.
    #[serde(default)]
    pub service_accounts: Vec<String>,
    /// Whether the configuration opted the namespace in, not an annotation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_default: bool,
}
