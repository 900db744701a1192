//! The registries of the configuration's defaults.

use crate::core::aws::{AccountId, Region, Registry};

/// A registry that `default` refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultRegistry {
    Host(Registry),
    /// The registry of this account in the controller's region.
    Account(AccountId),
}

impl DefaultRegistry {
    /// The registry, if the controller's region is known or does not matter.
    pub fn in_region(&self, region: Option<&Region>) -> Option<Registry> {
        match self {
            Self::Host(registry) => Some(registry.clone()),
            Self::Account(account) => Some(Registry::of_account(*account, region?.clone())),
        }
    }
}
