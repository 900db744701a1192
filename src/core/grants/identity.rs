//! Identities: the credentials that tokens are requested with, and the scope of each token.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::SignedDuration;
use serde::Deserialize;
use zeroize::Zeroize as _;

use super::pattern::{Pattern, RegistryPattern, Template};
use crate::core::aws::{Endpoint, Region, Registry, RoleArn};
use crate::core::request::{ScopeFingerprint, Target};

/// The name of the identity with the controller's own credentials.
pub const CONTROLLER: &str = "controller";

/// The name of an identity in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdentityName(Arc<str>);

impl IdentityName {
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The credentials with which a role is assumed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CredentialSource {
    /// The controller's own.
    Controller,
    /// The web identity token in this file.
    WebIdentity(PathBuf),
    /// A web identity token that the kubelet passes on.
    Token(WebIdentityToken),
}

/// A web identity token. It cannot be printed.
#[derive(Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(transparent)]
pub struct WebIdentityToken(String);

impl WebIdentityToken {
    /// The token itself, for the request to STS.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Drop for WebIdentityToken {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for WebIdentityToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebIdentityToken(<redacted>)")
    }
}

/// An IAM role, with the parameters to assume it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Role {
    pub arn: RoleArn,
    pub source: CredentialSource,
    /// The external ID that its trust policy requires.
    pub external_id: Option<String>,
    /// The configured name of its sessions in `CloudTrail`.
    pub session_name: Option<String>,
    /// Session tags. They need `sts:TagSession`, and share the packed size with the policy.
    pub tags: BTreeMap<String, String>,
    /// The maximum time that its tokens are used, if shorter than their lifetime.
    pub max_token_age: Option<SignedDuration>,
}

/// A session of a role with a session policy. A session without a policy cannot be expressed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    pub role: Arc<Role>,
    /// The session policy, as JSON.
    pub policy: String,
    /// Its name in `CloudTrail`.
    pub name: String,
}

/// An identity: its credentials, the namespaces that may use them, and their scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub name: IdentityName,
    /// `None`: the controller's own credentials, or those of the profile, whose tokens cannot be restricted.
    pub role: Option<Arc<Role>>,
    /// The AWS profile whose credentials replace the controller's own. Only on the command line.
    pub profile: Option<Box<str>>,
    /// The namespaces that may use it, by name.
    pub namespaces: Vec<Pattern>,
    /// The registries that it serves.
    pub registries: Vec<RegistryPattern>,
    /// The repositories of its private registries that its tokens can pull from.
    pub repositories: Vec<Template>,
    /// Whether its tokens may fill pull-through caches.
    pub pull_through_cache: bool,
    /// Whether its tokens may list the tags of private repositories.
    pub list_tags: bool,
}

impl Identity {
    /// The default identity: the controller's own credentials, for every namespace and registry.
    pub fn controller() -> Self {
        Self {
            name: IdentityName::new(CONTROLLER),
            role: None,
            profile: None,
            namespaces: vec![Pattern::any()],
            registries: vec![RegistryPattern::AllPrivate, RegistryPattern::Public],
            repositories: vec![],
            pull_through_cache: false,
            list_tags: false,
        }
    }

    /// Whether a namespace may use it. Only the name counts, because users who can edit a namespace can edit its
    /// labels.
    pub fn is_granted_to(&self, namespace: &str) -> bool {
        self.namespaces.iter().any(|pattern| pattern.matches(namespace))
    }

    /// Whether the text is its name or the ARN of its role.
    pub fn is_called(&self, text: &str) -> bool {
        self.name.as_str() == text || self.role.as_ref().is_some_and(|role| role.arn.as_str() == text)
    }

    /// Whether its registries include `target`, in any partition.
    pub fn serves(&self, target: &Target, default_region: Option<&Region>) -> bool {
        self.registries.iter().any(|pattern| match (target, &self.role, default_region) {
            (Target::Host(registry), ..) => pattern.matches(registry),
            // A token of a role names the registry of the role's account.
            (Target::Default, Some(role), Some(region)) => {
                pattern.matches(&Registry::of_account(role.arn.account(), region.clone()))
            }
            // A token of the controller names the registry of the controller's account in this region. Only the reply
            // of AWS contains that account.
            (Target::Default, None, Some(region)) => pattern.account_in(region).is_some(),
            (Target::Default, _, None) => false,
        })
    }

    /// The repository patterns that it grants to a namespace.
    pub fn repository_patterns(&self, namespace: &str) -> impl Iterator<Item = Pattern> {
        self.repositories.iter().filter_map(|template| template.expand(namespace).ok())
    }

    /// Whether it grants a pattern of repositories to a namespace.
    pub fn grants(&self, namespace: &str, wanted: &Pattern) -> bool {
        self.repository_patterns(namespace).any(|own| own.contains(wanted))
    }

    /// How its tokens for a namespace are requested; `None` if they cannot be restricted to any of the `wanted` patterns.
    pub fn access(&self, namespace: &str, endpoint: &Endpoint, wanted: &[Pattern]) -> Option<Access> {
        let Some(role) = &self.role else { return wanted.is_empty().then_some(Access::Own) };
        let mut patterns: BTreeSet<Pattern> = if *endpoint == Endpoint::Public {
            // Public images need no restriction.
            BTreeSet::from([Pattern::any()])
        } else if wanted.is_empty() {
            self.repository_patterns(namespace).collect()
        } else {
            wanted.iter().filter(|pattern| self.grants(namespace, pattern)).cloned().collect()
        };
        if patterns.contains(&Pattern::any()) {
            patterns = BTreeSet::from([Pattern::any()]);
        }
        (!patterns.is_empty()).then(|| Access::Role(role.clone(), patterns.into_iter().collect()))
    }

    /// Whether no other namespace can have a token with these patterns.
    pub fn is_exclusive(&self, namespace: &str, patterns: &[Pattern]) -> bool {
        let named = |pattern: &Pattern| *pattern.to_string() == *namespace;
        let for_others = |pattern: &Pattern| {
            let mut templates = self.repositories.iter();
            templates.any(|template| template.owners(pattern).any(|owner| owner != Some(namespace)))
        };
        self.namespaces.iter().all(named) || patterns.iter().any(|pattern| !for_others(pattern))
    }
}

/// How tokens are requested. The whole scope of a role cannot be expressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// With the controller's own credentials and their whole scope.
    Own,
    /// In sessions of a role that can only pull, from repositories of these patterns: sorted, without duplicates, at least
    /// one.
    Role(Arc<Role>, Arc<[Pattern]>),
}

impl Access {
    pub fn restriction(&self) -> Restriction {
        match self {
            Self::Own => Restriction::Unrestricted,
            Self::Role(_, patterns) => Restriction::Pull(patterns.clone()),
        }
    }
}

/// The permissions of a token. Tokens are shared only between equal restrictions.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Restriction {
    /// The identity's whole scope, without a session policy. Only the controller's own identity has such tokens.
    Unrestricted,
    /// Pulling only, from repositories of these patterns: sorted, without duplicates, at least one.
    Pull(Arc<[Pattern]>),
}

/// The key of a token in the cache. One token serves all requests with its key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenKey {
    pub identity: IdentityName,
    pub endpoint: Endpoint,
    pub restriction: Restriction,
}

/// A request for a token, with everything that the call needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenRequest {
    pub key: TokenKey,
    /// Whether the call uses the endpoint's dual-stack name; the token is the same.
    pub dual_stack: bool,
    /// The session that makes the call; `None`: the controller's own credentials.
    pub session: Option<Arc<Session>>,
}

/// One entry of a Secret, and the token that it needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Assignment {
    pub target: Target,
    pub request: TokenRequest,
    pub scope: ScopeFingerprint,
    /// The registries that [`Target::Default`] may turn out to be, if only a token names that registry.
    pub served: Arc<[RegistryPattern]>,
}

impl Assignment {
    /// Whether the entry may have this host.
    pub fn may_be(&self, host: &Registry) -> bool {
        match &self.target {
            Target::Host(registry) => registry == host,
            Target::Default => self.served.iter().any(|pattern| pattern.matches(host)),
        }
    }
}
