//! Grants: which identity serves which registry of a namespace, and with which restriction. An annotation only
//! ever chooses among what is granted, and narrows it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::identity::{Assignment, CONTROLLER, Identity, IdentityName, Restriction, TokenKey};
use super::pattern::Pattern;
use super::policy::{self, scope, session_policy};
use super::problem::{Problem, REGISTRIES, REPOSITORIES, ROLE, SERVICE_ACCOUNTS, no_region};
use super::quote;
use super::registry::{Endpoint, Region};
use super::request::{Request, Target};

/// How many registries are named in one message.
const MOST_NAMED: usize = 3;

/// Who may use which identity.
#[derive(Clone, Debug)]
pub struct Grants {
    /// The identities of the configuration, in its order.
    pub identities: Vec<Identity>,
    /// The identity that serves what no other one does; `None` when the configuration closes it.
    pub default_identity: Option<Identity>,
    /// The region in which [`Target::Own`] asks for its token.
    pub home: Option<Region>,
    /// Whether namespaces may have the secret added to service accounts.
    pub service_accounts: bool,
}

/// A request as far as it is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The request, with those registries only that are granted; at least one.
    pub request: Arc<Request>,
    /// The token of each of its registries, in their order.
    pub assignments: Vec<Assignment>,
}

/// Why one registry is not served.
enum Refusal {
    /// No identity that is granted has it among its registries.
    NotServed,
    /// The identity lives in another partition.
    Partition(IdentityName),
    /// The patterns of the annotation lie outside of what the identity grants.
    Outside(IdentityName),
    /// The identity cannot be narrowed.
    Whole,
    /// It needs a region, and there is none.
    NoRegion,
    /// The session policy is too long.
    TooLong(usize),
}

impl Grants {
    /// Finds the token of every registry of `request` for a namespace. Registries that are not granted are left out
    /// and named in the problems; an error says that nothing can be served.
    pub fn assign(
        &self,
        namespace: &str,
        request: &Request,
    ) -> Result<(Granted, Vec<Problem>), Vec<Problem>> {
        let all = self.candidates(namespace, &request.role).map_err(|problem| vec![problem])?;
        let narrowed = narrowed(namespace, request, &all).map_err(|problem| vec![problem])?;
        if !request.service_accounts.is_empty() && !self.service_accounts {
            let message = "service accounts are not enabled in the controller's configuration: remove the \
                           annotation, and name the secret in imagePullSecrets";
            return Err(vec![Problem::invalid(SERVICE_ACCOUNTS, message)]);
        }
        let (mut assignments, mut refused) = (vec![], vec![]);
        for target in &request.registries {
            match self.choose(namespace, target, &all, &narrowed) {
                Ok(assignment) => assignments.push(assignment),
                Err(refusal) => refused.push((target, refusal)),
            }
        }
        let problems = explain(&refused);
        if assignments.is_empty() {
            return Err(problems);
        }
        let registries = assignments.iter().map(|assignment| assignment.target.clone()).collect();
        let request = Arc::new(Request { registries, ..request.clone() });
        Ok((Granted { request, assignments }, problems))
    }

    /// The identities that a namespace may use, in the order of choice.
    fn candidates(&self, namespace: &str, roles: &[String]) -> Result<Vec<&Identity>, Problem> {
        let granted = || self.identities.iter().filter(|identity| identity.is_granted_to(namespace));
        let mut all: Vec<&Identity> = if roles.is_empty() {
            granted().collect()
        } else {
            let find = |text: &String| {
                granted().chain(&self.default_identity).find(|identity| identity.is_called(text)).ok_or_else(|| {
                    let message = format!(
                        "{} is unknown or not granted to this namespace: an administrator grants an identity to it \
                         under identities[].namespaces of the controller's configuration",
                        quote(text)
                    );
                    Problem::ungranted(ROLE, &message)
                })
            };
            roles.iter().map(find).collect::<Result<_, _>>()?
        };
        all.extend(&self.default_identity);
        if all.is_empty() {
            let message = "no identity is granted to this namespace: an administrator grants one under \
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
        narrowed: &[Pattern],
    ) -> Result<Assignment, Refusal> {
        let home = self.home.as_ref();
        let endpoint = match (target.endpoint(), home) {
            (Some(endpoint), _) => endpoint,
            (None, Some(home)) => Endpoint::Private(home.clone()),
            (None, None) => return Err(Refusal::NoRegion),
        };
        let mut refusal = Refusal::NotServed;
        for identity in candidates.iter().filter(|identity| identity.serves(target, home)) {
            let partition = match target {
                Target::Host(registry) => Some(registry.partition()),
                Target::Own => home.map(Region::partition),
            };
            if identity.partition().is_some_and(|own| Some(own) != partition) {
                refusal = Refusal::Partition(identity.name.clone());
                continue;
            }
            match restrict(identity, namespace, &endpoint, narrowed) {
                Ok(restriction) => return assignment(identity, target, endpoint, restriction),
                Err(why) => refusal = why,
            }
        }
        Err(refusal)
    }
}

fn assignment(
    identity: &Identity,
    target: &Target,
    endpoint: Endpoint,
    restriction: Restriction,
) -> Result<Assignment, Refusal> {
    let key = TokenKey { identity: identity.name.clone(), endpoint, restriction };
    let policy = session_policy(identity, &key);
    let length = policy.as_ref().map_or(0, String::len);
    if length > policy::LONGEST {
        return Err(Refusal::TooLong(length));
    }
    Ok(Assignment { target: target.clone(), key, scope: scope(identity, policy.as_deref()) })
}

/// The patterns of the annotation. Each has to lie within what some identity grants.
fn narrowed(namespace: &str, request: &Request, all: &[&Identity]) -> Result<Vec<Pattern>, Problem> {
    let parse = |text: &String| {
        let pattern: Pattern =
            text.parse().map_err(|error| Problem::invalid(REPOSITORIES, &format!("{error}")))?;
        let bounded = || all.iter().filter(|identity| identity.role.is_some());
        if bounded().any(|identity| within(identity, namespace, &pattern)) {
            return Ok(pattern);
        }
        if bounded().next().is_none() {
            return Err(whole());
        }
        let message = format!(
            "{} is not within the repositories that are granted to this namespace: an annotation can only narrow them",
            quote(text)
        );
        Err(Problem::ungranted(REPOSITORIES, &message))
    };
    request.repositories.iter().map(parse).collect()
}

fn whole() -> Problem {
    let message = "identity \"controller\" carries the controller's whole scope and cannot be narrowed: remove the \
                   annotation, or have an identity with a role granted to this namespace";
    Problem::invalid(REPOSITORIES, message)
}

fn within(identity: &Identity, namespace: &str, pattern: &Pattern) -> bool {
    identity.repositories.is_empty() || identity.bounds(namespace).any(|bound| bound.contains(pattern))
}

/// How far the tokens of an identity reach for a namespace.
fn restrict(
    identity: &Identity,
    namespace: &str,
    endpoint: &Endpoint,
    narrowed: &[Pattern],
) -> Result<Restriction, Refusal> {
    if identity.role.is_none() {
        return if narrowed.is_empty() { Ok(Restriction::Whole) } else { Err(Refusal::Whole) };
    }
    // Public images are everyone's: there is nothing to bound.
    let open = narrowed.is_empty() && identity.repositories.is_empty();
    let patterns: BTreeSet<Pattern> = if *endpoint == Endpoint::Public || open {
        BTreeSet::from([Pattern::any()])
    } else if narrowed.is_empty() {
        identity.bounds(namespace).collect()
    } else {
        narrowed.iter().filter(|pattern| within(identity, namespace, pattern)).cloned().collect()
    };
    if patterns.is_empty() {
        return Err(Refusal::Outside(identity.name.clone()));
    }
    Ok(Restriction::Pull(patterns.into_iter().collect()))
}

/// A problem for each of the first few registries, and one that counts the others.
fn explain(refused: &[(&Target, Refusal)]) -> Vec<Problem> {
    let said = |(target, refusal): &(&Target, Refusal)| match refusal {
        Refusal::NotServed => Problem::ungranted(
            REGISTRIES,
            &format!("no identity that this namespace may use serves {target}"),
        ),
        Refusal::Partition(identity) => {
            let (host, name) = (target, identity.as_str());
            let message = format!(
                "{host} is in another partition of AWS than identity {name:?}, whose credentials are unknown there: an \
                 administrator adds an identity with a role of that partition"
            );
            Problem::ungranted(REGISTRIES, &message)
        }
        Refusal::Outside(identity) => {
            let message = format!(
                "no pattern is within what identity {:?} grants to this namespace, which serves {target}",
                identity.as_str()
            );
            Problem::ungranted(REPOSITORIES, &message)
        }
        Refusal::Whole => {
            let message = format!(
                "{target} is served by identity {CONTROLLER:?}, which carries the controller's whole scope and cannot be \
                 narrowed: take the registry out, or remove the annotation"
            );
            Problem::invalid(REPOSITORIES, &message)
        }
        Refusal::NoRegion => Problem::invalid(REGISTRIES, &no_region(&target.to_string())),
        Refusal::TooLong(length) => {
            let message = format!(
                "the session policy for {target} has {length} of at most {} characters: name fewer or shorter \
                 patterns",
                policy::LONGEST
            );
            Problem::invalid(REPOSITORIES, &message)
        }
    };
    let mut problems: Vec<Problem> = refused.iter().take(MOST_NAMED).map(said).collect();
    if refused.len() > problems.len() {
        let more = format!("and {} more registries are not granted", refused.len() - problems.len());
        problems.push(Problem::ungranted(REGISTRIES, &more));
    }
    problems
}
