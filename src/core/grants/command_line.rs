//! The choice of an identity without a request of a namespace: on the command line, and for the kubelet.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::identity::{CredentialSource, Identity, IdentityName, Role, TokenRequest, WebIdentityToken};
use super::pattern::{Pattern, RegistryPattern};
use super::session_policy::{MAX_POLICY_LEN, scope};
use super::{Grants, token_request};
use crate::core::aws::{Endpoint, Partition, Region, Registry, RoleArn};
use crate::core::quote;
use crate::core::request::ScopeFingerprint;

/// The name of the identity of a role that a service account names.
const SERVICE_ACCOUNT: &str = "service-account";

/// The registry that a token is for.
#[derive(Clone, Debug, PartialEq, Eq, strum::Display)]
pub enum Wanted {
    #[strum(to_string = "{0}")]
    Registry(Registry),
    /// The registry of the identity's own account in this region.
    #[strum(to_string = "region {0}")]
    Region(Region),
}

impl Wanted {
    pub fn endpoint(&self) -> Endpoint {
        match self {
            Self::Registry(registry) => registry.endpoint(),
            Self::Region(region) => Endpoint::Private(region.clone()),
        }
    }

    fn partition(&self) -> Partition {
        match self {
            Self::Registry(registry) => registry.partition(),
            Self::Region(region) => region.partition(),
        }
    }

    fn is_served_by(&self, identity: &Identity) -> bool {
        let serves = |pattern: &RegistryPattern| match self {
            Self::Registry(registry) => pattern.matches(registry),
            Self::Region(region) => pattern.account_in(region).is_some(),
        };
        identity.registries.iter().any(serves)
    }
}

/// A request for a token, and the credentials that sign it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The AWS profile; `None`: the SDK's default chain.
    pub profile: Option<Box<str>>,
    pub request: TokenRequest,
    /// The permissions of the token.
    pub scope: ScopeFingerprint,
}

/// No identity serves a registry, or the one that serves it cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    #[error(
        "no identity of the configuration serves {0}: add one whose registries include it, or set defaults.identity to \
         \"controller\""
    )]
    NotServed(Wanted),
    #[error(
        "{0} is not the name of an identity: use a name under identities of the configuration, or \"controller\""
    )]
    Unknown(String),
    #[error(
        "identity {name:?} does not serve {wanted}: use another identity, or add the registry to its registries"
    )]
    OtherRegistry { name: String, wanted: Wanted },
    #[error(
        "{wanted} is in another AWS partition than the role {role}, whose credentials are unknown there: use a role in \
         that partition"
    )]
    OtherPartition { role: RoleArn, wanted: Wanted },
    #[error("identity {0:?} restricts its tokens to repositories with {{namespace}}: set --namespace")]
    NoNamespace(String),
    #[error("{0} is not the name of a namespace: expected at most 63 characters of a-z, 0-9 and -")]
    Namespace(String),
    #[error(
        "the session policy of identity {name:?} for {wanted} has {length} of at most {MAX_POLICY_LEN} characters: \
         configure fewer or shorter patterns"
    )]
    PolicyTooLong { name: String, wanted: Wanted, length: usize },
}

impl Grants {
    /// Chooses the identity of this name, or else the first one that serves the registry, then the default identity. A
    /// region does not identify a registry, so without a name only the default identity serves it.
    ///
    /// There is no namespace on the command line, so `namespaces` of an identity do not count; `namespace` only replaces
    /// `{namespace}`.
    pub fn choose(
        &self,
        wanted: &Wanted,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> Result<Choice, ChoiceError> {
        let mut all = self.identities.iter().chain(&self.default_identity);
        if let Some(name) = name {
            let identity = all.find(|identity| identity.is_called(name));
            let identity = identity.ok_or_else(|| ChoiceError::Unknown(quote(name)))?;
            if !wanted.is_served_by(identity) {
                return Err(ChoiceError::OtherRegistry { name: name.to_owned(), wanted: wanted.clone() });
            }
            return choice(identity, wanted, namespace);
        }
        let candidates = if matches!(wanted, Wanted::Region(_)) { &[] } else { self.identities.as_slice() };
        first(candidates.iter().chain(&self.default_identity), wanted, namespace)
    }

    /// Chooses the first identity that serves the registry and is granted to the namespace of a pod, then the default
    /// identity. Without a namespace, only the default identity is left.
    pub fn choose_for_pod(
        &self,
        registry: &Registry,
        namespace: Option<&str>,
    ) -> Result<Choice, ChoiceError> {
        let is_granted = |identity: &&Identity| namespace.is_some_and(|name| identity.is_granted_to(name));
        let candidates = self.identities.iter().filter(is_granted).chain(&self.default_identity);
        first(candidates, &Wanted::Registry(registry.clone()), namespace)
    }
}

/// The first candidate that serves `wanted` and whose role is in its partition.
fn first<'a>(
    candidates: impl Iterator<Item = &'a Identity>,
    wanted: &Wanted,
    namespace: Option<&str>,
) -> Result<Choice, ChoiceError> {
    let mut error = ChoiceError::NotServed(wanted.clone());
    for identity in candidates.filter(|identity| wanted.is_served_by(identity)) {
        match choice(identity, wanted, namespace) {
            Err(other @ ChoiceError::OtherPartition { .. }) => error = other,
            chosen => return chosen,
        }
    }
    Err(error)
}

fn choice(identity: &Identity, wanted: &Wanted, namespace: Option<&str>) -> Result<Choice, ChoiceError> {
    if let Some(role) = identity.role.as_ref().filter(|role| role.arn.partition() != wanted.partition()) {
        return Err(ChoiceError::OtherPartition { role: role.arn.clone(), wanted: wanted.clone() });
    }
    let name = || identity.name.as_str().to_owned();
    let endpoint = wanted.endpoint();
    if namespace.is_none()
        && endpoint != Endpoint::Public
        && identity.repositories.iter().any(super::Template::has_namespace)
    {
        return Err(ChoiceError::NoNamespace(name()));
    }
    if let Some(namespace) = namespace.filter(|name| !is_namespace(name)) {
        return Err(ChoiceError::Namespace(quote(namespace)));
    }
    let access = identity.access(namespace.unwrap_or_default(), &endpoint, &[]);
    let access = access.ok_or_else(|| ChoiceError::NotServed(wanted.clone()))?;
    let dual_stack = matches!(wanted, Wanted::Registry(registry) if registry.is_dual_stack());
    let request = token_request(identity, namespace, endpoint, dual_stack, &access)
        .map_err(|length| ChoiceError::PolicyTooLong { name: name(), wanted: wanted.clone(), length })?;
    let scope = scope(identity, request.session.as_ref().map(|session| &*session.policy));
    Ok(Choice { profile: identity.profile.clone(), request, scope })
}

/// Whether the text can be the name of a namespace. Other texts could widen the patterns that contain it.
fn is_namespace(text: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(is_inner)
}

impl Choice {
    /// A session of the role of a service account, which can only pull from the account and region of the registry.
    pub fn of_service_account(
        registry: &Registry,
        arn: RoleArn,
        token: WebIdentityToken,
        namespace: Option<&str>,
    ) -> Result<Self, ChoiceError> {
        let role = Role {
            arn,
            source: CredentialSource::Token(token),
            external_id: None,
            session_name: None,
            tags: BTreeMap::new(),
            max_token_age: None,
        };
        let registries = match registry {
            Registry::Private { account, region, .. } => {
                RegistryPattern::Account(*account, Pattern::exactly(region))
            }
            Registry::Public(_) => RegistryPattern::Public,
        };
        let identity = Identity {
            name: IdentityName::new(SERVICE_ACCOUNT),
            role: Some(Arc::new(role)),
            profile: None,
            // Names the session after the namespace.
            namespaces: vec![],
            registries: vec![registries],
            repositories: vec!["*".parse().expect("a pattern")],
            pull_through_cache: false,
            list_tags: false,
        };
        choice(&identity, &Wanted::Registry(registry.clone()), namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::role;

    const HOST: &str = "222222222222.dkr.ecr.eu-central-1.amazonaws.com";

    fn identity(name: &str, registries: &str, repositories: &str) -> Identity {
        let arn = format!("arn:aws:iam::222222222222:role/{name}").parse().expect("an ARN");
        Identity {
            name: IdentityName::new(name),
            role: Some(Arc::new(Role { arn, ..role() })),
            profile: None,
            namespaces: vec![],
            registries: vec![registries.parse().expect("a pattern")],
            repositories: vec![repositories.parse().expect("a template")],
            pull_through_cache: false,
            list_tags: false,
        }
    }

    fn profile(name: &str, registries: &str) -> Identity {
        let own = identity(name, registries, "*");
        Identity { role: None, profile: Some(name.into()), repositories: vec![], ..own }
    }

    fn grants(identities: Vec<Identity>) -> Grants {
        Grants { identities, default_identity: None, default_region: None }
    }

    fn host(text: &str) -> Wanted {
        Wanted::Registry(text.parse().expect("a host"))
    }

    fn region(text: &str) -> Wanted {
        Wanted::Region(text.parse().expect("a region"))
    }

    fn name_of(chosen: &Result<Choice, ChoiceError>) -> &str {
        chosen.as_ref().expect("an identity").request.key.identity.as_str()
    }

    #[test]
    fn the_first_identity_whose_registries_match_serves_a_host() {
        let mut grants =
            grants(vec![profile("two", "222222222222/eu-*"), profile("three", "333333333333/*")]);
        let chosen = grants.choose(&host(HOST), None, None);
        assert_eq!(name_of(&chosen), "two");
        assert_eq!(chosen.expect("an identity").profile.as_deref(), Some("two"));
        let other = host("444444444444.dkr.ecr.eu-central-1.amazonaws.com");
        assert_eq!(grants.choose(&other, None, None), Err(ChoiceError::NotServed(other.clone())));
        grants.default_identity = Some(Identity::controller());
        assert_eq!(name_of(&grants.choose(&other, None, None)), "controller");
    }

    #[test]
    fn a_region_does_not_choose_among_identities() {
        let grants = grants(vec![profile("two", "222222222222/*")]);
        let wanted = region("eu-central-1");
        assert_eq!(grants.choose(&wanted, None, None), Err(ChoiceError::NotServed(wanted.clone())));
        assert_eq!(name_of(&grants.choose(&wanted, None, Some("two"))), "two");
        assert!(matches!(grants.choose(&wanted, None, Some("x")), Err(ChoiceError::Unknown(_))));
        let wrong = grants.choose(&host("public.ecr.aws"), None, Some("two"));
        assert!(matches!(wrong, Err(ChoiceError::OtherRegistry { .. })), "{wrong:?}");
    }

    #[test]
    fn a_role_is_restricted_to_its_repositories_and_a_namespace_must_be_known_if_they_contain_it() {
        let grants = grants(vec![identity("a", "222222222222/*", "{namespace}/*")]);
        assert_eq!(grants.choose(&host(HOST), None, None), Err(ChoiceError::NoNamespace("a".to_owned())));
        let chosen = grants.choose(&host(HOST), Some("team-a"), None).expect("an identity");
        let session = chosen.request.session.expect("a session");
        assert!(session.policy.contains("repository/team-a/*\""), "{}", session.policy);
        for wider in ["*", "", "a*", "a/b", "A", &"n".repeat(64)] {
            let refused = grants.choose(&host(HOST), Some(wider), None);
            assert!(matches!(refused, Err(ChoiceError::Namespace(_))), "{wider}: {refused:?}");
        }
    }

    #[test]
    fn a_role_of_another_partition_is_skipped_and_reported_if_no_other_serves() {
        let wanted = host("222222222222.dkr.ecr.cn-north-1.amazonaws.com.cn");
        let mut grants = grants(vec![identity("a", "*", "*")]);
        let refused = grants.choose(&wanted, None, None);
        assert!(matches!(refused, Err(ChoiceError::OtherPartition { .. })), "{refused:?}");
        grants.default_identity = Some(Identity::controller());
        assert_eq!(name_of(&grants.choose(&wanted, None, None)), "controller");
    }

    #[test]
    fn a_pod_gets_an_identity_of_its_namespace_and_else_the_default() {
        let granted = Identity {
            namespaces: vec!["team-a".parse().expect("a pattern")],
            ..identity("a", "*", "{namespace}/*")
        };
        let mut grants = grants(vec![granted]);
        let registry: Registry = HOST.parse().expect("a host");
        assert_eq!(name_of(&grants.choose_for_pod(&registry, Some("team-a"))), "a");
        for namespace in [Some("team-b"), None] {
            let refused = grants.choose_for_pod(&registry, namespace);
            assert!(matches!(refused, Err(ChoiceError::NotServed(_))), "{refused:?}");
        }
        grants.default_identity = Some(Identity::controller());
        assert_eq!(name_of(&grants.choose_for_pod(&registry, Some("team-b"))), "controller");
    }

    #[test]
    fn a_role_of_a_service_account_can_only_pull_from_the_account_and_region_of_the_host() {
        let arn: RoleArn = "arn:aws:iam::222222222222:role/pods".parse().expect("an ARN");
        let token = || serde_json::from_str::<WebIdentityToken>("\"eyJ-secret\"").expect("a text");
        let choice = |registry: &str, arn: &RoleArn| {
            let registry = registry.parse().expect("a host");
            Choice::of_service_account(&registry, arn.clone(), token(), Some("team-a"))
        };
        let chosen = choice(HOST, &arn).expect("a choice");
        assert!(!format!("{chosen:?}").contains("eyJ"), "{chosen:?}");
        let session = chosen.request.session.expect("a session");
        assert_eq!(session.name, "ecr-pull-secrets.team-a");
        assert_eq!(
            session.policy.matches("arn:").collect::<Vec<_>>().len(),
            1,
            "one resource: {}",
            session.policy
        );
        assert!(session.policy.contains("arn:aws:ecr:eu-central-1:222222222222:repository/*"));
        assert!(!session.policy.contains("Put"), "{}", session.policy);
        let elsewhere = choice("222222222222.dkr.ecr.cn-north-1.amazonaws.com.cn", &arn);
        assert!(matches!(elsewhere, Err(ChoiceError::OtherPartition { .. })), "{elsewhere:?}");
        let public = choice("public.ecr.aws", &arn).expect("a choice").request.session.expect("a session");
        assert!(public.policy.contains("ecr-public:GetAuthorizationToken"), "{}", public.policy);
    }
}
