//! The configurations of some worlds.

use std::collections::BTreeMap;

use ecr_pull_secrets::simulation::core::grants::{CredentialSource, Identity, IdentityName, Pattern, Role};
use ecr_pull_secrets::simulation::core::secret::StaticGrant;
use ecr_pull_secrets::simulation::core::settings::Settings;
use ecr_pull_secrets::simulation::core::testing;
use kube::core::Expression;

fn pattern(text: &str) -> Pattern {
    text.parse().expect("a pattern")
}

/// Every namespace gets entries from a Secret in the controller's namespace.
pub fn with_static_entries() -> Settings {
    let hosts = (0..8).map(|n| format!("mirror-{n}.registries.example"));
    let grant = StaticGrant { secret: "hub".into(), hosts: hosts.collect(), namespaces: vec![pattern("*")] };
    Settings { static_grants: vec![grant], ..testing::settings() }
}

/// Every namespace has a token of its own.
pub fn with_own_keys() -> Settings {
    let role = Role {
        arn: "arn:aws:iam::123456789012:role/ecr-pull".parse().expect("an ARN"),
        source: CredentialSource::Controller,
        external_id: None,
        session_name: None,
        tags: BTreeMap::new(),
        max_token_age: None,
    };
    let identity = Identity {
        name: IdentityName::new("team"),
        role: Some(role.into()),
        namespaces: vec![pattern("*")],
        registries: vec!["123456789012/*".parse().expect("a registry pattern")],
        repositories: vec!["{namespace}/*".parse().expect("a template")],
        pull_through_cache: false,
    };
    let mut settings = testing::settings();
    settings.grants.identities = vec![identity];
    settings
}

/// The configuration includes namespaces by a label.
pub fn with_selector() -> Settings {
    let mut settings = testing::settings();
    settings.namespace_selector.selector = Expression::Equal("pull".to_owned(), "ecr".to_owned()).into();
    settings
}
