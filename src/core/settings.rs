//! What the configuration says, in the form that the decisions take.

use std::sync::Arc;

use super::grants::Grants;
use super::opt_in::OptIn;
use super::registry::{Region, Registry};
use super::statics::StaticGrant;
use super::token::RefreshPolicy;

/// What the configuration says of requests, in the form that the decisions take.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This installation, as the label and the applied request name it.
    pub instance: String,
    /// The names that a Secret may have; at least one, the first being the default.
    pub secret_names: Vec<Arc<str>>,
    /// Names that are no longer written, only cleaned up.
    pub retired_names: Vec<Arc<str>>,
    /// Who opts in without an annotation.
    pub opt_in: OptIn,
    /// What `default` stands for; empty: [`Target::Own`](super::request::Target::Own).
    pub default_registries: Vec<Registry>,
    /// The controller's region, for account IDs and [`Target::Own`](super::request::Target::Own).
    pub region: Option<Region>,
    /// Who may use which identity.
    pub grants: Grants,
    /// What namespaces get beside the entries of ECR.
    pub statics: Vec<StaticGrant>,
    /// When tokens are replaced.
    pub refresh: RefreshPolicy,
}

impl Settings {
    /// The names that a Secret of ours may have, also from before.
    pub fn all_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.secret_names.iter().chain(&self.retired_names)
    }
}
