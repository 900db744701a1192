//! The configurations of some worlds.

use ecr_pull_secrets::simulation::core::grants::{Identity, IdentityName, Pattern};
use ecr_pull_secrets::simulation::core::secret::{SecretTemplate, StaticGrant};
use ecr_pull_secrets::simulation::core::settings::Settings;
use ecr_pull_secrets::simulation::core::testing;
use kube::core::Expression;

use crate::store::secret::TEMPLATE_LABEL;

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
    let identity = Identity {
        name: IdentityName::new("team"),
        role: Some(testing::role().into()),
        profile: None,
        namespaces: vec![pattern("*")],
        registries: vec!["123456789012/*".parse().expect("a registry pattern")],
        repositories: vec!["{namespace}/*".parse().expect("a template")],
        pull_through_cache: false,
        list_tags: false,
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

/// Every Secret has a label of the administrator.
pub fn with_template() -> Settings {
    let labels = [(TEMPLATE_LABEL.to_owned(), "blue".to_owned())].into();
    Settings { secret_template: SecretTemplate::new(labels, [].into()), ..testing::settings() }
}
