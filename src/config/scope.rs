//! The scope of an identity: whether a session policy can express it for every namespace and registry.

use std::collections::BTreeSet;

use super::IdentityConfig;
use super::validate::{ConfigError, check, invalid};
use crate::core::aws::{Endpoint, Partition};
use crate::core::grants::session_policy::{MAX_POLICY_LEN, session_policy};
use crate::core::grants::{Identity, Pattern, RegistryPattern, Role, Template};
use crate::core::quote;

/// The maximum length of a namespace name.
const MAX_NAMESPACE_LEN: usize = 63;

/// Checks the scope with the longest name that a namespace can have, and the longest name of a region. `config` and
/// `path` are those of `identity`.
pub(super) fn check_scope(
    identity: &Identity,
    role: &Role,
    config: &IdentityConfig,
    path: &str,
) -> Result<(), ConfigError> {
    let is_private = identity.registries.iter().any(|registry| *registry != RegistryPattern::Public);
    check(
        format!("{path}.repositories"),
        !is_private || !identity.repositories.is_empty(),
        || "missing: list the repositories that the identity can pull from, or [\"*\"] for all of its registries",
    )?;
    let patterns: Vec<_> = longest_patterns(identity, config, path)?.into_iter().collect();
    for (index, registry) in identity.registries.iter().enumerate() {
        let is_in_partition = is_in_partition(registry, role.arn.partition());
        check(format!("{path}.registries[{index}]"), is_in_partition, || {
            format!(
                "{} is in another AWS partition than the role {}: add an identity with a role in that partition",
                quote(&config.registries[index]),
                role.arn
            )
        })?;
        let Some(region) = registry.longest_region() else { continue };
        let len = session_policy(identity, role, &Endpoint::Private(region), &patterns).len();
        check(format!("{path}.repositories"), len <= MAX_POLICY_LEN, || {
            format!(
                "the session policy for these registries and repositories has up to {len} of at most {MAX_POLICY_LEN} \
                 characters: list fewer of them, use shorter prefixes, or split the identity"
            )
        })?;
    }
    Ok(())
}

/// The repository patterns of a namespace with the longest name.
fn longest_patterns(
    identity: &Identity,
    config: &IdentityConfig,
    path: &str,
) -> Result<BTreeSet<Pattern>, ConfigError> {
    let namespace = "n".repeat(MAX_NAMESPACE_LEN);
    let expand = |(index, template): (usize, &Template)| {
        template.expand(&namespace).map_err(|_| {
            let quoted = quote(&config.repositories[index]);
            let limit = format!("too long for a namespace with a name of {MAX_NAMESPACE_LEN} characters");
            invalid(format!("{path}.repositories[{index}]"), format!("{quoted}: {limit}: shorten it"))
        })
    };
    identity.repositories.iter().enumerate().map(expand).collect()
}

fn is_in_partition(registry: &RegistryPattern, partition: Partition) -> bool {
    match registry {
        RegistryPattern::Public => partition == Partition::Aws,
        private => private.region().is_none_or(|region| region.partition() == partition),
    }
}
