//! Grants: which identity serves which registry of a namespace, and with which restriction. An annotation only chooses
//! from the grants and narrows them.

mod command_line;
mod identity;
mod namespace_selector;
mod pattern;
mod session_name;
pub mod session_policy;

use std::sync::Arc;

use self::session_name::session_name;
use self::session_policy::{MAX_POLICY_LEN, scope, session_policy};
use super::aws::{Endpoint, Region, Registry};
use super::request::annotations::{REGISTRIES, REPOSITORIES, ROLE};
use super::request::problem::Problem;
use super::request::{Request, Target};
use super::{EventReason, quote};

pub use self::command_line::{Choice, ChoiceError, Wanted};
#[cfg(any(test, feature = "simulation"))]
pub use self::identity::Restriction;
pub use self::identity::{
    Access, Assignment, CONTROLLER, CredentialSource, Identity, IdentityName, Role, Session, TokenKey,
    TokenRequest, WebIdentityToken,
};
pub use self::namespace_selector::NamespaceSelector;
pub use self::pattern::{Pattern, RegistryPattern, Template};

/// The maximum number of registries that are reported one by one.
const MAX_NAMED: usize = 3;

/// The identities, and the namespaces that may use them.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    /// In the order of the configuration.
    pub identities: Vec<Identity>,
    /// The identity for registries that no other identity serves; `None` if the configuration disables it.
    pub default_identity: Option<Identity>,
    /// The region of the token for [`Target::Default`].
    pub default_region: Option<Region>,
}

/// The granted part of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Granted {
    /// The request, with only the registries that are granted; at least one.
    pub request: Arc<Request>,
    /// One for each registry of the request, in their order. None if the removal of the Secret is held: then its present
    /// entries are kept.
    pub assignments: Vec<Assignment>,
}

impl Grants {
    /// Assigns a token to every registry of `request`. Registries that are not granted are left out and listed as
    /// problems. Returns an error if no registry can be served.
    pub fn assign(
        &self,
        namespace: &str,
        request: &Request,
    ) -> Result<(Granted, Vec<Problem>), Vec<Problem>> {
        self.assign_again(namespace, request, None)
    }

    /// As [`Grants::assign`]. `default_host` is the host that the Secret has for [`Target::Default`]: it names the region if
    /// that is unknown.
    pub fn assign_again(
        &self,
        namespace: &str,
        request: &Request,
        default_host: Option<&Registry>,
    ) -> Result<(Granted, Vec<Problem>), Vec<Problem>> {
        let all = self.candidates(namespace, &request.role).map_err(|problem| vec![problem])?;
        let wanted = wanted_patterns(namespace, request, &all).map_err(|problem| vec![problem])?;
        let (mut assignments, mut problems) = (vec![], vec![]);
        let region = self.default_region.as_ref().or(default_host.and_then(Registry::region));
        for target in &request.registries {
            match choose(namespace, target, region, &all, &wanted) {
                Ok(assignment) => assignments.push(assignment),
                Err(problem) => problems.push(problem),
            }
        }
        // The planner must see that the region is unknown.
        problems.sort_by_key(|problem| problem.reason != EventReason::RegionUnknown);
        if problems.len() > MAX_NAMED {
            let more = match problems.len() - MAX_NAMED {
                1 => "and 1 more registry is not granted".to_owned(),
                more => format!("and {more} more registries are not granted"),
            };
            problems.truncate(MAX_NAMED);
            problems.push(Problem::ungranted(REGISTRIES, &more));
        }
        if assignments.is_empty() {
            return Err(problems);
        }
        let registries = assignments.iter().map(|assignment| assignment.target.clone()).collect();
        let request = Arc::new(Request { registries, ..request.clone() });
        Ok((Granted { request, assignments }, problems))
    }

    /// Whether a namespace may use the identity of this name.
    pub fn is_granted(&self, namespace: &str, name: &str) -> bool {
        let mut granted = self.identities.iter().filter(|identity| identity.is_granted_to(namespace));
        let is_default =
            self.default_identity.as_ref().is_some_and(|identity| identity.name.as_str() == name);
        is_default || granted.any(|identity| identity.name.as_str() == name)
    }

    /// The length of the longest name of an identity.
    pub fn longest_name(&self) -> usize {
        let all = self.identities.iter().chain(&self.default_identity);
        all.map(|identity| identity.name.as_str().len()).max().unwrap_or(0)
    }

    /// The identities that a namespace may use, in order of preference.
    fn candidates(&self, namespace: &str, roles: &[String]) -> Result<Vec<&Identity>, Problem> {
        let granted = || self.identities.iter().filter(|identity| identity.is_granted_to(namespace));
        let find = |role: &String| {
            let mut known = granted().chain(&self.default_identity);
            known.find(|identity| identity.is_called(role)).ok_or_else(|| {
                let message = format!(
                    "{} is unknown or not granted to this namespace: an administrator can grant an identity under \
                     identities[].namespaces of the controller's configuration",
                    quote(role)
                );
                Problem::ungranted(ROLE, &message)
            })
        };
        let mut all: Vec<&Identity> = roles.iter().map(find).collect::<Result<_, _>>()?;
        if roles.is_empty() {
            all.extend(granted());
        }
        all.extend(&self.default_identity);
        if all.is_empty() {
            let message = "no identity is granted to this namespace: an administrator can grant one under \
                           identities[].namespaces of the controller's configuration";
            return Err(Problem::ungranted(REGISTRIES, message));
        }
        Ok(all)
    }
}

/// The token of the first candidate that serves the registry, or the problem of the last one.
fn choose(
    namespace: &str,
    target: &Target,
    region: Option<&Region>,
    candidates: &[&Identity],
    wanted: &[Pattern],
) -> Result<Assignment, Problem> {
    let (endpoint, partition) = match (target, region) {
        (Target::Host(registry), _) => (registry.endpoint(), registry.partition()),
        (Target::Default, Some(region)) => (Endpoint::Private(region.clone()), region.partition()),
        (Target::Default, None) => {
            return Err(Problem::no_region(REGISTRIES, &target.to_string()));
        }
    };
    let message = format!("no identity that this namespace may use serves {target}");
    let mut problem = Problem::ungranted(REGISTRIES, &message);
    for identity in candidates.iter().filter(|identity| identity.serves(target, region)) {
        if identity.role.as_ref().is_some_and(|role| role.arn.partition() != partition) {
            let message = format!(
                "{target} is in another AWS partition than identity {:?}, whose credentials are unknown there: an \
                 administrator can add an identity with a role in that partition",
                identity.name.as_str()
            );
            problem = Problem::ungranted(REGISTRIES, &message);
        } else if let Some(access) = identity.access(namespace, &endpoint, wanted) {
            let dual_stack = matches!(target, Target::Host(registry) if registry.is_dual_stack());
            let token = token_request(identity, Some(namespace), endpoint, dual_stack, &access);
            return token.map(|token| assignment(identity, target, token)).map_err(|length| {
                let message = format!(
                    "the session policy for {target} has {length} of at most {MAX_POLICY_LEN} characters: list fewer or \
                     shorter patterns"
                );
                Problem::invalid(REPOSITORIES, &message)
            });
        } else {
            problem = not_restrictable(identity, target);
        }
    }
    Err(problem)
}

fn assignment(identity: &Identity, target: &Target, request: TokenRequest) -> Assignment {
    let scope = scope(identity, request.session.as_ref().map(|session| &*session.policy));
    let served = if *target == Target::Default { identity.registries.as_slice().into() } else { [].into() };
    Assignment { target: target.clone(), request, scope, served }
}

/// The request for a token of an identity. `namespace` is `None` on the command line. Returns the length of the session
/// policy as an error if STS does not accept it.
fn token_request(
    identity: &Identity,
    namespace: Option<&str>,
    endpoint: Endpoint,
    dual_stack: bool,
    access: &Access,
) -> Result<TokenRequest, usize> {
    let session = match access {
        Access::Own => None,
        Access::Role(role, patterns) => {
            let policy = session_policy(identity, role, &endpoint, patterns);
            if policy.len() > MAX_POLICY_LEN {
                return Err(policy.len());
            }
            let is_exclusive =
                |namespace: &&str| endpoint != Endpoint::Public && identity.is_exclusive(namespace, patterns);
            let name = session_name(role, namespace.filter(is_exclusive));
            Some(Arc::new(Session { role: role.clone(), policy, name }))
        }
    };
    let key = TokenKey { identity: identity.name.clone(), endpoint, restriction: access.restriction() };
    Ok(TokenRequest { key, dual_stack, session })
}

/// The problem of a registry whose identity cannot be restricted to a pattern of the annotation.
fn not_restrictable(identity: &Identity, target: &Target) -> Problem {
    let name = identity.name.as_str();
    if identity.role.is_some() {
        let message = format!(
            "identity {name:?}, which serves {target}, grants none of these patterns to this namespace"
        );
        return Problem::ungranted(REPOSITORIES, &message);
    }
    let message = format!(
        "{target} is served by identity {name:?}, which has the controller's whole scope and cannot be narrowed: \
         remove the registry or this annotation"
    );
    Problem::invalid(REPOSITORIES, &message)
}

/// The patterns of the annotation. At least one identity must grant each of them.
fn wanted_patterns(namespace: &str, request: &Request, all: &[&Identity]) -> Result<Vec<Pattern>, Problem> {
    let parse = |text: &String| {
        let pattern = text.parse::<Pattern>();
        let pattern = pattern.map_err(|error| Problem::invalid(REPOSITORIES, &error.to_string()))?;
        let mut restrictable = all.iter().filter(|identity| identity.role.is_some()).peekable();
        if restrictable.peek().is_none() {
            let message = "identity \"controller\" has the controller's whole scope and cannot be narrowed: remove the \
                           annotation, or ask an administrator to grant this namespace an identity with a role";
            return Err(Problem::invalid(REPOSITORIES, message));
        }
        if restrictable.any(|identity| identity.grants(namespace, &pattern)) {
            return Ok(pattern);
        }
        let message = format!(
            "{} is not within the repositories granted to this namespace: an annotation can only narrow them",
            quote(text)
        );
        Err(Problem::ungranted(REPOSITORIES, &message))
    };
    request.repositories.iter().map(parse).collect()
}
