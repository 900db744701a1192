//! Grants: which identity serves which registry of a namespace, and with which restriction.
//!
//! Today there is one identity, the controller's own, which every namespace may use unless the configuration
//! says `defaults.identity: none`.

use std::sync::Arc;

use super::problem::{Problem, REPOSITORIES, ROLE, SERVICE_ACCOUNTS};
use super::quote;
use super::registry::{Endpoint, Region};
use super::request::{Request, Target};

/// The name of the identity that the controller itself runs under.
pub const CONTROLLER: &str = "controller";

/// An identity of the configuration, by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdentityName(Arc<str>);

impl IdentityName {
    /// The identity of this name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a token may do, as the session policy bounds it. Tokens are shared only between equal restrictions.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Restriction {
    /// The identity's whole scope: no session policy.
    Whole,
    /// Pulling from these repositories only; patterns, sorted.
    Repositories(Arc<[String]>),
}

/// What one token is minted for, and shared by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenKey {
    /// Who asks.
    pub identity: IdentityName,
    /// Where.
    pub endpoint: Endpoint,
    /// Bounded to what.
    pub restriction: Restriction,
}

/// One entry of a Secret and the token that it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The entry.
    pub target: Target,
    /// Its token.
    pub key: TokenKey,
}

/// Who may use which identity.
#[derive(Clone, Debug)]
pub struct Grants {
    /// The identity that serves what no other one does; `None` when the configuration closes it.
    pub default_identity: Option<IdentityName>,
    /// The region in which [`Target::Own`] asks for its token.
    pub home: Option<Region>,
}

impl Grants {
    /// Finds the token of every entry of `request`, or what about it is not granted.
    pub fn assign(&self, request: &Request) -> Result<Vec<Assignment>, Problem> {
        let identity = self.choose(request)?;
        let assignment = |target: &Target| {
            let endpoint = match (target, &self.home) {
                (Target::Host(registry), _) => registry.endpoint(),
                (Target::Own, Some(home)) => Endpoint::Private(home.clone()),
                (Target::Own, None) => return Err(Problem::no_region("default")),
            };
            let key = TokenKey { identity: identity.clone(), endpoint, restriction: Restriction::Whole };
            Ok(Assignment { target: target.clone(), key })
        };
        request.registries.iter().map(assignment).collect()
    }

    fn choose(&self, request: &Request) -> Result<&IdentityName, Problem> {
        let granted = self.default_identity.as_ref();
        if let Some(name) = request.role.iter().find(|name| granted.is_none_or(|g| g.as_str() != **name)) {
            let message = format!("identity {} is not granted to this namespace", quote(name));
            return Err(Problem::ungranted(ROLE, &message));
        }
        if !request.repositories.is_empty() {
            let message = "identity \"controller\" carries the controller's whole scope and cannot be narrowed: \
                           remove the annotation";
            return Err(Problem::invalid(REPOSITORIES, message));
        }
        if !request.service_accounts.is_empty() {
            let message = "service accounts are not enabled in the controller's configuration: remove the \
                           annotation, and name the secret in imagePullSecrets";
            return Err(Problem::invalid(SERVICE_ACCOUNTS, message));
        }
        granted.ok_or_else(|| {
            let message = "no identity is granted to this namespace: an administrator grants one in the \
                           controller's configuration";
            Problem::ungranted(ROLE, message)
        })
    }
}
