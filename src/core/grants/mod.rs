//! Grants: which identity serves which registry of a namespace, and with which restriction. An annotation only chooses
//! from the grants and narrows them.

mod identity;
mod namespace_selector;
mod pattern;
pub mod session_policy;

use std::collections::BTreeSet;
use std::sync::Arc;

use self::session_policy::{MAX_POLICY_LEN, scope, session_policy};
use super::aws::{Endpoint, Region};
use super::quote;
use super::request::annotations::{REGISTRIES, REPOSITORIES, ROLE};
use super::request::problem::{Problem, no_region};
use super::request::{Request, Target};

pub use self::identity::{
    Assignment, CONTROLLER, CredentialSource, Identity, IdentityName, Restriction, Role, Session, TokenKey,
    TokenRequest,
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
    /// One for each registry of the request, in their order.
    pub assignments: Vec<Assignment>,
}

/// The reason why a registry is not served.
enum NotServed {
    /// No granted identity serves it.
    NoIdentity,
    /// The identity belongs to another partition.
    Partition(IdentityName),
    /// The identity grants none of the annotation's patterns.
    Outside(IdentityName),
    /// The identity cannot be restricted.
    NotRestrictable,
    /// It needs a region, and the region is unknown.
    NoRegion,
    /// The session policy has this length.
    PolicyTooLong(usize),
}

impl Grants {
    /// Assigns a token to every registry of `request`. Registries that are not granted are left out and listed as
    /// problems. Returns an error if no registry can be served.
    pub fn assign(
        &self,
        namespace: &str,
        request: &Request,
    ) -> Result<(Granted, Vec<Problem>), Vec<Problem>> {
        let all = self.candidates(namespace, &request.role).map_err(|problem| vec![problem])?;
        let requested = requested_patterns(namespace, request, &all).map_err(|problem| vec![problem])?;
        let (mut assignments, mut not_served) = (vec![], vec![]);
        for target in &request.registries {
            match self.choose(namespace, target, &all, &requested) {
                Ok(assignment) => assignments.push(assignment),
                Err(problem) => not_served.push((target, problem)),
            }
        }
        let problems = problems(&not_served);
        if assignments.is_empty() {
            return Err(problems);
        }
        let registries = assignments.iter().map(|assignment| assignment.target.clone()).collect();
        let request = Arc::new(Request { registries, ..request.clone() });
        Ok((Granted { request, assignments }, problems))
    }

    /// The identities that a namespace may use, in order of preference.
    fn candidates(&self, namespace: &str, roles: &[String]) -> Result<Vec<&Identity>, Problem> {
        let granted = || self.identities.iter().filter(|identity| identity.is_granted_to(namespace));
        let mut all: Vec<&Identity> = if roles.is_empty() {
            granted().collect()
        } else {
            let find = |text: &String| {
                granted().chain(&self.default_identity).find(|identity| identity.is_called(text)).ok_or_else(|| {
                    let message = format!(
                        "{} is unknown or not granted to this namespace: an administrator can grant an identity under \
                         identities[].namespaces of the controller's configuration",
                        quote(text)
                    );
                    Problem::ungranted(ROLE, &message)
                })
            };
            roles.iter().map(find).collect::<Result<_, _>>()?
        };
        all.extend(&self.default_identity);
        if all.is_empty() {
            let message = "no identity is granted to this namespace: an administrator can grant one under \
                           identities[].namespaces of the controller's configuration";
            return Err(Problem::ungranted(REGISTRIES, message));
        }
        Ok(all)
    }

    fn choose(
        &self,
        namespace: &str,
        target: &Target,
        candidates: &[&Identity],
        requested: &[Pattern],
    ) -> Result<Assignment, NotServed> {
        let default_region = self.default_region.as_ref();
        let endpoint = match (target.endpoint(), default_region) {
            (Some(endpoint), _) => endpoint,
            (None, Some(default_region)) => Endpoint::Private(default_region.clone()),
            (None, None) => return Err(NotServed::NoRegion),
        };
        let mut problem = NotServed::NoIdentity;
        for identity in candidates.iter().filter(|identity| identity.serves(target, default_region)) {
            let partition = match target {
                Target::Host(registry) => Some(registry.partition()),
                Target::Default => default_region.map(Region::partition),
            };
            if identity.partition().is_some_and(|own| Some(own) != partition) {
                problem = NotServed::Partition(identity.name.clone());
                continue;
            }
            match restrict(identity, namespace, &endpoint, requested) {
                Ok(restriction) => return assignment(identity, target, endpoint, restriction),
                Err(why) => problem = why,
            }
        }
        Err(problem)
    }
}

fn assignment(
    identity: &Identity,
    target: &Target,
    endpoint: Endpoint,
    restriction: Restriction,
) -> Result<Assignment, NotServed> {
    let key = TokenKey { identity: identity.name.clone(), endpoint, restriction };
    let policy = session_policy(identity, &key);
    let length = policy.as_ref().map_or(0, String::len);
    if length > MAX_POLICY_LEN {
        return Err(NotServed::PolicyTooLong(length));
    }
    let scope = scope(identity, policy.as_deref());
    let session = identity.role.clone().zip(policy).map(|(role, policy)| Arc::new(Session { role, policy }));
    let dual_stack = matches!(target, Target::Host(registry) if registry.is_dual_stack());
    Ok(Assignment { target: target.clone(), request: TokenRequest { key, dual_stack, session }, scope })
}

/// The patterns of the annotation. At least one identity must grant each of them.
fn requested_patterns(
    namespace: &str,
    request: &Request,
    all: &[&Identity],
) -> Result<Vec<Pattern>, Problem> {
    let parse = |text: &String| {
        let pattern: Pattern =
            text.parse().map_err(|error| Problem::invalid(REPOSITORIES, &format!("{error}")))?;
        let restrictable = || all.iter().filter(|identity| identity.role.is_some());
        if restrictable().any(|identity| is_granted(identity, namespace, &pattern)) {
            return Ok(pattern);
        }
        if restrictable().next().is_none() {
            return Err(not_restrictable());
        }
        let message = format!(
            "{} is not within the repositories granted to this namespace: an annotation can only narrow them",
            quote(text)
        );
        Err(Problem::ungranted(REPOSITORIES, &message))
    };
    request.repositories.iter().map(parse).collect()
}

fn not_restrictable() -> Problem {
    let message = "identity \"controller\" has the controller's whole scope and cannot be narrowed: remove the \
                   annotation, or ask an administrator to grant this namespace an identity with a role";
    Problem::invalid(REPOSITORIES, message)
}

fn is_granted(identity: &Identity, namespace: &str, pattern: &Pattern) -> bool {
    identity.repositories.is_empty()
        || identity.repository_patterns(namespace).any(|granted| granted.contains(pattern))
}

/// The restriction of an identity's tokens for a namespace.
fn restrict(
    identity: &Identity,
    namespace: &str,
    endpoint: &Endpoint,
    requested: &[Pattern],
) -> Result<Restriction, NotServed> {
    if identity.role.is_none() {
        return if requested.is_empty() {
            Ok(Restriction::Unrestricted)
        } else {
            Err(NotServed::NotRestrictable)
        };
    }
    // Public images need no restriction.
    let open = requested.is_empty() && identity.repositories.is_empty();
    let patterns: BTreeSet<Pattern> = if *endpoint == Endpoint::Public || open {
        BTreeSet::from([Pattern::any()])
    } else if requested.is_empty() {
        identity.repository_patterns(namespace).collect()
    } else {
        requested.iter().filter(|pattern| is_granted(identity, namespace, pattern)).cloned().collect()
    };
    if patterns.is_empty() {
        return Err(NotServed::Outside(identity.name.clone()));
    }
    Ok(Restriction::Pull(patterns.into_iter().collect()))
}

/// A problem for each of the first few registries, and one that counts the others.
fn problems(not_served: &[(&Target, NotServed)]) -> Vec<Problem> {
    let describe = |(target, problem): &(&Target, NotServed)| match problem {
        NotServed::NoIdentity => Problem::ungranted(
            REGISTRIES,
            &format!("no identity that this namespace may use serves {target}"),
        ),
        NotServed::Partition(identity) => {
            let (host, name) = (target, identity.as_str());
            let message = format!(
                "{host} is in another AWS partition than identity {name:?}, whose credentials are unknown there: an \
                 administrator can add an identity with a role of that partition"
            );
            Problem::ungranted(REGISTRIES, &message)
        }
        NotServed::Outside(identity) => {
            let message = format!(
                "identity {:?}, which serves {target}, grants none of these patterns to this namespace",
                identity.as_str()
            );
            Problem::ungranted(REPOSITORIES, &message)
        }
        NotServed::NotRestrictable => {
            let message = format!(
                "{target} is served by identity {CONTROLLER:?}, which has the controller's whole scope and cannot be narrowed: \
                 remove the registry or this annotation"
            );
            Problem::invalid(REPOSITORIES, &message)
        }
        NotServed::NoRegion => Problem::invalid(REGISTRIES, &no_region(&target.to_string())),
        NotServed::PolicyTooLong(length) => {
            let message = format!(
                "the session policy for {target} has {length} of at most {MAX_POLICY_LEN} characters: list fewer or shorter \
                 patterns"
            );
            Problem::invalid(REPOSITORIES, &message)
        }
    };
    let mut problems: Vec<Problem> = not_served.iter().take(MAX_NAMED).map(describe).collect();
    if not_served.len() > problems.len() {
        let more = format!("and {} more registries are not granted", not_served.len() - problems.len());
        problems.push(Problem::ungranted(REGISTRIES, &more));
    }
    problems
}
