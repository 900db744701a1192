//! Identities: who asks for tokens, and how far each token of theirs reaches.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::SignedDuration;

use super::arn::RoleArn;
use super::pattern::{Pattern, RegistryPattern, Template};
use super::registry::{Endpoint, Partition, Region, Registry};
use super::request::{Scope, Target};

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

/// Where a session of a role comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Assumed with the controller's own credentials.
    Controller,
    /// Assumed with the web identity token in this file, without a hop.
    WebIdentity(PathBuf),
}

/// A role, and how it is assumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Which.
    pub arn: RoleArn,
    /// With what.
    pub source: Source,
    /// The external ID that its trust policy asks for.
    pub external_id: Option<String>,
    /// The name under which its sessions show up in `CloudTrail`.
    pub session_name: String,
    /// Session tags; they need `sts:TagSession`, and take from the size that is left for the policy.
    pub tags: BTreeMap<String, String>,
    /// How long its tokens count at most, whatever AWS says.
    pub max_token_age: Option<SignedDuration>,
}

/// Who may get tokens of whom, for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name.
    pub name: IdentityName,
    /// The role; `None`: the controller's own credentials, whose tokens cannot be restricted.
    pub role: Option<Role>,
    /// The namespaces that may use it, by name.
    pub namespaces: Vec<Pattern>,
    /// The registries that it serves.
    pub registries: Vec<RegistryPattern>,
    /// The repositories that its tokens are bound to; empty: all of those registries.
    pub repositories: Vec<Template>,
    /// Whether its tokens may fill pull-through caches.
    pub pull_through_cache: bool,
}

impl Identity {
    /// The controller's own, for every namespace and registry: the default identity.
    pub fn controller() -> Self {
        Self {
            name: IdentityName::new(CONTROLLER),
            role: None,
            namespaces: vec![Pattern::any()],
            registries: vec![RegistryPattern::AllPrivate, RegistryPattern::Public],
            repositories: vec![],
            pull_through_cache: false,
        }
    }

    /// Whether a namespace may use it. By name only: who may edit a namespace may edit its labels.
    pub fn is_granted_to(&self, namespace: &str) -> bool {
        self.namespaces.iter().any(|pattern| pattern.matches(namespace))
    }

    /// Whether an annotation's text means it: its name, or the ARN of its role.
    pub fn is_called(&self, text: &str) -> bool {
        self.name.as_str() == text || self.role.as_ref().is_some_and(|role| role.arn.as_str() == text)
    }

    /// Whether its registries include what `target` stands for. The partition is another question.
    pub fn serves(&self, target: &Target, home: Option<&Region>) -> bool {
        let registry = match (target, &self.role, home) {
            (Target::Host(registry), _, _) => registry.clone(),
            // A token of a role names the registry of the role's account.
            (Target::Own, Some(role), Some(home)) => Registry::of_account(role.arn.account(), home.clone()),
            // That of the controller names the registry of an account that is only known then, in this region.
            (Target::Own, None, Some(home)) => {
                return self.registries.iter().any(|pattern| pattern.account_in(home).is_some());
            }
            (Target::Own, _, None) => return false,
        };
        self.registries.iter().any(|pattern| pattern.matches(&registry))
    }

    /// The repositories that it grants to a namespace; none: it sets no bound.
    pub fn bounds(&self, namespace: &str) -> impl Iterator<Item = Pattern> {
        self.repositories.iter().filter_map(|bound| bound.expand(namespace).ok())
    }

    /// The partition of its credentials, as far as the configuration tells.
    pub fn partition(&self) -> Option<Partition> {
        self.role.as_ref().map(|role| role.arn.partition())
    }
}

/// What a token may do, as the session policy bounds it. Tokens are shared only between equal restrictions.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Restriction {
    /// The identity's whole scope: no session policy. Only the controller's own identity has such tokens.
    Whole,
    /// Pulling only, from the repositories of these patterns: sorted, none twice, at least one.
    Pull(Arc<[Pattern]>),
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
    /// How far that reaches.
    pub scope: Scope,
}

impl Assignment {
    /// Whether the call for its token goes to the dual-stack name of the endpoint.
    pub fn is_dual_stack(&self) -> bool {
        matches!(&self.target, Target::Host(registry) if registry.is_dual_stack())
    }
}
