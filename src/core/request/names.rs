//! The names that this installation uses for its objects.

use std::sync::Arc;

/// The label value that marks the objects of this installation, and the names of the only Secrets that it changes.
#[derive(Clone, Debug)]
pub struct OwnedNames {
    /// The value of the instance label.
    pub instance: String,
    /// The names that a Secret may have; at least one, the first being the default.
    pub secret_names: Vec<Arc<str>>,
    /// Former names: Secrets of these names are deleted, never written.
    pub retired_names: Vec<Arc<str>>,
    /// Whether the Secret is added to `imagePullSecrets` of service accounts.
    pub service_accounts: bool,
}

impl OwnedNames {
    pub fn is_retired(&self, name: &Arc<str>) -> bool {
        self.retired_names.contains(name)
    }

    /// Allowed and retired names.
    pub fn all(&self) -> impl Iterator<Item = &Arc<str>> {
        self.secret_names.iter().chain(&self.retired_names)
    }
}
