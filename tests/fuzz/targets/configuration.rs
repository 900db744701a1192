//! The configuration file. An administrator writes it, so the question is not trust: what is accepted must mean the same
//! when it is written down again, and keep its bounds.

use std::path::Path;

use ecr_pull_secrets::config::{Config, ConfigError};
use ecr_pull_secrets::simulation::core::grants::Restriction;
use ecr_pull_secrets::simulation::core::grants::session_policy::{MAX_POLICY_LEN, session_policy};
use ecr_pull_secrets::simulation::core::settings::Settings;
use ecr_pull_secrets::simulation::core::testing::{JITTER, request};

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(config) = Config::parse(text) else { return };
    let region = || Some("eu-central-1".parse().expect("a region"));
    let token_file = Some(Path::new("/var/run/token"));
    let with_region = config.settings(region(), token_file, JITTER);
    for error in [
        with_region.as_ref().err(),
        config.settings(None, None, JITTER).err().as_ref(),
        config.endpoints().err().as_ref(),
    ] {
        error.into_iter().for_each(check_error);
    }
    let Ok(settings) = with_region else { return };
    check_settings(&settings);

    let written = serde_json::to_string(&config).expect("a valid configuration serializes");
    let again = Config::parse(&written).unwrap_or_else(|error| panic!("{written}: {error}"));
    assert_eq!(again, config, "{written}");
    let again = again.settings(region(), token_file, JITTER).expect("the same configuration");
    assert_eq!(format!("{again:?}"), format!("{settings:?}"));
}

/// A message is one short sentence about one field.
fn check_error(error: &ConfigError) {
    let message = error.to_string();
    assert!(message.starts_with("configuration: "), "{message}");
    assert!(message.len() < 2_500 && !message.contains(char::is_control), "{message:?}");
}

fn check_settings(settings: &Settings) {
    let names = &settings.names;
    assert!(!names.secret_names.is_empty() && (1..=63).contains(&names.instance.len()));
    assert!(names.all().all(|name| (1..=253).contains(&name.len())));
    assert!(settings.default_registries.len() <= 64);
    assert!(settings.static_grants.iter().map(|grant| grant.hosts.len()).sum::<usize>() <= 16);
    assert!(settings.refresh.at + settings.refresh.jitter <= 0.95);

    // Whatever is granted to the namespace with the longest name is a token that AWS can issue.
    let namespace = "n".repeat(63);
    let wanted = request(&["123456789012.dkr.ecr.eu-central-1.amazonaws.com", "public.ecr.aws", "default"]);
    let Ok((granted, _)) = settings.grants.assign(&namespace, &wanted) else { return };
    assert_eq!(granted.assignments.len(), granted.request.registries.len());
    for assignment in &granted.assignments {
        let key = &assignment.request.key;
        let known = settings.grants.identities.iter().chain(&settings.grants.default_identity);
        let identity = { known }.find(|identity| identity.name == key.identity).expect("a known identity");
        match (&identity.role, &key.restriction) {
            (Some(role), Restriction::Pull(patterns)) => {
                let policy = session_policy(identity, role, &key.endpoint, patterns);
                assert!(policy.len() <= MAX_POLICY_LEN);
                let session = assignment.request.session.as_ref().expect("a session");
                assert_eq!(session.policy, policy);
                assert!((2..=64).contains(&session.name.len()), "{}", session.name);
            }
            (None, Restriction::Unrestricted) => assert_eq!(assignment.request.session, None),
            other => panic!("{other:?}"),
        }
    }
}
