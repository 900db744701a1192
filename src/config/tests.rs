//! Which configurations are accepted, and the errors of the others.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::*;
use crate::core::grants::CredentialSource;
use crate::core::request::Target;
use crate::core::testing::{JITTER, request_for};

const HOME: &str = "eu-central-1";
const CLOSED: &str = "defaults: {identity: none}\n";
const TWO: &str = "222222222222.dkr.ecr.eu-central-1.amazonaws.com";

fn settings(config: &Config, region: Option<&str>) -> Result<Settings, ConfigError> {
    config.settings(region.map(|region| region.parse().expect("a region")), None, JITTER)
}

fn error(yaml: &str) -> String {
    match Config::parse(yaml) {
        Ok(config) => settings(&config, None).expect_err("an invalid configuration").to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn an_empty_file_is_the_defaults() {
    for text in ["", "# nothing\n\n", "{}"] {
        assert_eq!(Config::parse(text).expect(text), Config::default());
    }
}

#[test]
fn a_bad_field_is_named_with_its_value() {
    for (yaml, expected) in [
        ("instance: A_b", "instance: \"A_b\": expected"),
        ("secretNames: []", "secretNames: empty"),
        ("secretNames: [a, -b]", "secretNames[1]: \"-b\""),
        ("secretNames: [a, a]", "secretNames[1]: duplicate name \"a\""),
        ("secretNames: [a]\nretiredSecretNames: [b, a]", "retiredSecretNames[1]: duplicate name \"a\""),
        ("retiredSecretNames: [A]", "retiredSecretNames[0]: \"A\": expected the name"),
        (
            "secretTemplate: {labels: {ecr-pull-secrets.dev/x: a}}",
            "secretTemplate.labels: \"ecr-pull-secrets.dev/x\" is reserved",
        ),
        (
            "secretTemplate: {annotations: {app.kubernetes.io/name: a}}",
            "secretTemplate.annotations: \"app.kubernetes.io/name\" is reserved",
        ),
        ("secretTemplate: {labels: {kubernetes.io/x: a}}", "\"kubernetes.io/x\" is reserved"),
        ("secretTemplate: {labels: {x.k8s.io/x: a}}", "\"x.k8s.io/x\" is reserved"),
        ("secretTemplate: {labels: {-a: b}}", "secretTemplate.labels: \"-a\": expected a label key"),
        ("secretTemplate: {labels: {a: b c}}", "secretTemplate.labels.a: \"b c\": expected a label value"),
        ("secretTemplate: {label: {a: b}}", "label"),
        ("adopt: [{name: other, labels: {}}]", "adopt[0].name: \"other\": expected one of secretNames"),
        ("adopt: [{labels: {}}]", "name"),
        ("adopt: [{name: ecr-pull}]", "adopt[0].labels: missing: list the labels"),
        ("adopt: [{name: ecr-pull, labels: {-a: b}}]", "adopt[0].labels: \"-a\": expected a label key"),
        ("adopt: [{name: ecr-pull, labels: {a: b c}}]", "adopt[0].labels.a: \"b c\": expected a label value"),
        ("retiredSecretNames: [old]\nadopt: [{name: old, labels: {}}]", "adopt[0].name: \"old\""),
        ("namespaces: {include: ['a*b']}", "namespaces.include[0]: \"a*b\": expected"),
        ("namespaces: {exclude: ['']}", "namespaces.exclude[0]"),
        (
            "namespaces: {only: [a], include: [b]}",
            "namespaces.only: not valid with selector, include or exclude",
        ),
        (
            "namespaces: {only: [a], selector: {matchLabels: {a: b}}}",
            "namespaces.only: not valid with selector",
        ),
        ("namespaces: {only: [a, 'b*']}", "namespaces.only[1]: \"b*\": expected the name of a namespace"),
        ("namespaces: {only: [a.b]}", "namespaces.only[0]: \"a.b\": expected the name"),
        ("namespaces: {only: [a, a]}", "namespaces.only[1]: duplicate name \"a\""),
        (
            "namespaces: {selector: {matchLabels: {'-a': b}}}",
            "namespaces.selector.matchLabels: \"-a\": expected",
        ),
        (
            "namespaces: {selector: {matchExpressions: [{key: a, operator: In}]}}",
            "matchExpressions[0].values: empty",
        ),
        (
            "namespaces: {selector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}",
            "matchExpressions[0].values: not empty",
        ),
        ("namespaces: {selector: {team: a}}", "team"),
        ("refresh: {at: 0.95}", "refresh.at: 0.95: expected 0.1 to 0.8"),
        ("refresh: {at: .nan}", "refresh.at"),
        ("refresh: {jitter: 1}", "refresh.jitter: 1"),
        ("refresh: {writesPerSecond: 0}", "refresh.writesPerSecond: 0"),
        (
            "defaults: {registries: [evil.example]}",
            "defaults.registries[0]: \"evil.example\" is not an Amazon ECR",
        ),
        ("secretName: a", "secretName"),
        ("refresh: {at: often}", "at"),
    ] {
        let message = error(yaml);
        assert!(message.contains(expected), "{yaml}: {message}");
    }
}

/// Another reader of the file, such as a policy engine, may understand it differently.
#[test]
fn ambiguous_yaml_is_rejected() {
    for yaml in [
        "instance: a\ninstance: b",
        "secretNames: [a]\nsecretNames: [b]",
        "refresh: {at: 0.5, at: 0.6}",
        "instance: null",
        "secretNames: ~",
        "instance: a\n---\ninstance: b",
        "refresh: &r {at: 0.5}\ndefaults: {<<: *r}",
        "[instance, a]",
        "instance",
    ] {
        assert!(Config::parse(yaml).is_err(), "{yaml:?} was accepted: {:?}", Config::parse(yaml));
    }
}

/// A valid configuration with one identity, except for `change`.
fn one(change: &str) -> String {
    let mut fields = BTreeMap::from([
        ("name", "name: a".to_owned()),
        ("roleArn", "roleArn: arn:aws:iam::222222222222:role/a".to_owned()),
        ("namespaces", "namespaces: [dev]".to_owned()),
        ("registries", "registries: [222222222222/*]".to_owned()),
        ("repositories", "repositories: [a/*]".to_owned()),
    ]);
    for part in change.split("; ").filter(|part| !part.is_empty()) {
        let (field, value) = part.split_once(':').expect("a field");
        if value.trim() == "-" {
            fields.remove(field)
        } else {
            fields.insert(field, part.to_owned())
        };
    }
    format!("{CLOSED}identities: [{{{}}}]", fields.into_values().collect::<Vec<_>>().join(", "))
}

fn rejection(yaml: &str) -> Option<String> {
    let config: Config = match serde_saphyr::from_str(yaml) {
        Ok(config) => config,
        Err(error) => return Some(error.to_string()),
    };
    let error = settings(&config, Some(HOME)).err();
    error.or_else(|| config.endpoints().err()).map(|error| error.to_string())
}

fn expect_rejections(rows: &[(String, &str)]) {
    let mut wrong = vec![];
    for (yaml, expected) in rows {
        match rejection(yaml) {
            Some(message) if message.contains(expected) => {}
            other => wrong.push(format!("{yaml}: {other:?} instead of {expected:?}")),
        }
    }
    assert_eq!(wrong, [""; 0], "{wrong:#?}");
}

#[test]
fn a_valid_configuration_is_accepted() {
    for change in [
        "",
        "source: webIdentity; webIdentityTokenFile: /token",
        "maxTokenAge: 12h; externalId: x-1; sessionName: me; pullThroughCache: true; listTags: true",
        "repositories: ['*', '{namespace}', '{namespace}/*', 'a/{namespace}/b*']",
        "name: controller; roleArn: -; repositories: -",
        "registries: [public.ecr.aws]; repositories: -",
        "roleArn: arn:aws-cn:iam::222222222222:role/p/a; registries: [222222222222/cn-north-1, '*']",
        "registries: [222222222222/eu-*, public.ecr.aws]; namespaces: []",
    ] {
        assert_eq!(rejection(&one(change)), None, "{change}");
    }
}

#[test]
fn each_bad_value_of_an_identity_is_named_with_its_field() {
    let rows = [
        (
            "roleArn: arn:aws:iam::22222222222:role/a",
            r#"identities[0].roleArn: "arn:aws:iam::22222222222:role/a""#,
        ),
        (
            "roleArn: arn:aws:iam::222222222222:user/a",
            r#"identities[0].roleArn: "arn:aws:iam::222222222222:user/a""#,
        ),
        ("roleArn: arn:aws-xx:iam::222222222222:role/a", r#"identities[0].roleArn: "arn:aws-xx:"#),
        ("roleArn: -", "identities[0].roleArn: missing"),
        ("name: controller", "identities[0].roleArn: \"controller\" is the controller's own identity"),
        (
            "name: controller; roleArn: -; repositories: ['a/*']",
            "identities[0].repositories: identity \"controller\"",
        ),
        ("name: controller; roleArn: -; repositories: -; listTags: true", "identities[0].listTags: identity"),
        (
            "name: controller; roleArn: -; repositories: -; pullThroughCache: true",
            "identities[0].pullThroughCache: identity",
        ),
        (
            "name: controller; roleArn: -; repositories: -; source: webIdentity",
            "identities[0].source: identity",
        ),
        (
            "name: controller; roleArn: -; repositories: -; webIdentityTokenFile: /x",
            "identities[0].webIdentityTokenFile: identity",
        ),
        (
            "name: controller; roleArn: -; repositories: -; maxTokenAge: 1h",
            "identities[0].maxTokenAge: identity",
        ),
        ("repositories: -", "identities[0].repositories: missing: list the repositories"),
        ("repositories: []", "identities[0].repositories: missing: list the repositories"),
        ("registries: [public.ecr.aws, '*']; repositories: -", "identities[0].repositories: missing"),
        ("name: A", r#"identities[0].name: "A""#),
        ("name: ''", r#"identities[0].name: """#),
        ("name: 'a,b'", r#"identities[0].name: "a,b""#),
        ("name: -", r#"identities[0].name: """#),
        ("repositories: [a, '{namespace}*']", r#"identities[0].repositories[1]: "{namespace}*""#),
        ("repositories: ['{namespace}-x/*']", r#"identities[0].repositories[0]: "{namespace}-x/*""#),
        ("repositories: ['a*b']", r#"identities[0].repositories[0]: "a*b""#),
        ("repositories: ['*/{namespace}']", r#"identities[0].repositories[0]: "*/{namespace}""#),
        ("repositories: ['a?']", r#"identities[0].repositories[0]: "a?""#),
        ("repositories: ['${aws:username}/*']", r#"identities[0].repositories[0]: "${aws:username}/*""#),
        ("repositories: ['{Namespace}/*']", r#"identities[0].repositories[0]: "{Namespace}/*""#),
        ("repositories: ['']", r#"identities[0].repositories[0]: """#),
        ("namespaces: ['']", r#"identities[0].namespaces[0]: """#),
        ("namespaces: ['*-prod']", r#"identities[0].namespaces[0]: "*-prod""#),
        ("namespaces: [dev, Dev]", r#"identities[0].namespaces[1]: "Dev""#),
        ("namespaces: [a/b]", r#"identities[0].namespaces[0]: "a/b""#),
        ("registries: []", "identities[0].registries: empty"),
        ("registries: -", "identities[0].registries: empty"),
        ("registries: ['2222*']", r#"identities[0].registries[0]: "2222*""#),
        ("registries: ['2222*/eu-central-1']", r#"identities[0].registries[0]: "2222*/eu-central-1""#),
        ("registries: ['*/eu-central-1']", r#"identities[0].registries[0]: "*/eu-central-1""#),
        ("registries: ['222222222222/e*-1']", r#"identities[0].registries[0]: "222222222222/e*-1""#),
        ("registries: ['222222222222']", r#"identities[0].registries[0]: "222222222222""#),
        ("registries: [evil.example]", r#"identities[0].registries[0]: "evil.example""#),
        (
            "registries: ['*', 222222222222/cn-north-1]",
            r#"identities[0].registries[1]: "222222222222/cn-north-1""#,
        ),
        ("maxTokenAge: 1s", r#"identities[0].maxTokenAge: "1s""#),
        ("maxTokenAge: 13h", r#"identities[0].maxTokenAge: "13h""#),
        ("maxTokenAge: -1h", r#"identities[0].maxTokenAge: "-1h""#),
        ("maxTokenAge: often", r#"identities[0].maxTokenAge: "often""#),
        (
            "source: webIdentity; webIdentityTokenFile: /t; externalId: xyz",
            "identities[0].externalId: AssumeRoleWithWebIdentity",
        ),
        (
            "source: webIdentity; webIdentityTokenFile: /t; sessionTags: {a: b}",
            "identities[0].sessionTags: AssumeRole",
        ),
        (
            "webIdentityTokenFile: /t",
            "identities[0].webIdentityTokenFile: only valid with source: webIdentity",
        ),
        ("externalId: 'a b'", r#"identities[0].externalId: "a b""#),
        ("sessionName: x", r#"identities[0].sessionName: "x""#),
        ("role: a", "role"),
        ("source: profile", "profile"),
    ];
    expect_rejections(&rows.map(|(change, expected)| (one(change), expected)));
}

#[test]
fn a_web_identity_requires_a_token_file_of_the_configuration_or_the_environment() {
    let yaml = one("source: webIdentity");
    expect_rejections(&[(yaml.clone(), "identities[0].source: webIdentity requires a token file")]);
    let source = |yaml: &str| {
        let config: Config = serde_saphyr::from_str(yaml).expect("YAML");
        let settings = config.settings(None, Some(Path::new("/env")), JITTER).expect("a configuration");
        settings.grants.identities[0].role.as_ref().map(|role| role.source.clone())
    };
    assert_eq!(source(&yaml), Some(CredentialSource::WebIdentity("/env".into())));
    let both = one("source: webIdentity; webIdentityTokenFile: /field");
    assert_eq!(source(&both), Some(CredentialSource::WebIdentity("/field".into())));
    assert_eq!(source(&one("")), Some(CredentialSource::Controller));
}

#[test]
fn each_bad_value_beside_the_identities_is_named_with_its_field() {
    let twice = |first: &str, second: &str| format!("{CLOSED}identities: [{{{first}}}, {{{second}}}]");
    let a = "name: a, roleArn: 'arn:aws:iam::222222222222:role/a', registries: ['*'], repositories: ['*']";
    let same_arn = "name: b, roleArn: 'arn:aws:iam::222222222222:role/a', registries: [public.ecr.aws]";
    let same_name =
        "name: a, roleArn: 'arn:aws:iam::222222222222:role/b', registries: ['*'], repositories: ['*']";
    let own = "name: controller, registries: ['*']";
    let endpoint = |url: &str| format!("endpoints: [{{service: ecr, url: '{url}'}}]");
    let rows = [
        (
            twice(a, same_arn),
            "identities[1].roleArn: arn:aws:iam::222222222222:role/a is already the role of identity \"a\"",
        ),
        (twice(a, same_name), "identities[1].name: duplicate name \"a\""),
        (twice(own, own), "identities[1].name: duplicate name \"controller\""),
        ("identity: []".to_owned(), "identity"),
        ("defaults: {identity: team-a}".to_owned(), "team-a"),
        (endpoint("http://ecr.example"), r#"endpoints[0].url: "http://ecr.example""#),
        (endpoint("http://10.0.0.1:80"), r#"endpoints[0].url: "http://10.0.0.1:80""#),
        (endpoint("http://localhost.evil.example"), "endpoints[0].url: \"http://localhost.evil"),
        (endpoint("http://127.0.0.1@evil.example"), "endpoints[0].url: a URL of host \"evil.example\""),
        (endpoint("http://127.0.0.1.evil.example"), "endpoints[0].url: \"http://127.0.0.1.evil"),
        (endpoint("https://a:b@ecr.example"), "endpoints[0].url"),
        (endpoint("https://ecr.example/?x=y"), "endpoints[0].url"),
        (endpoint("ftp://ecr.example"), "endpoints[0].url: \"ftp://ecr.example\""),
        (endpoint("ecr.example"), "endpoints[0].url: \"ecr.example\""),
        (endpoint("https://"), "endpoints[0].url: \"https://\""),
        (
            "endpoints: [{service: ecr, region: eu, url: 'https://a'}]".to_owned(),
            "endpoints[0].region: \"eu\"",
        ),
        (
            "endpoints: [{service: ecr, url: 'https://a'}, {service: ecr, url: 'https://b'}]".to_owned(),
            "endpoints[1].region: duplicate endpoint",
        ),
        ("endpoints: [{service: s3, url: 'https://a'}]".to_owned(), "s3"),
        ("endpoints: [{service: ecr, url: 'https://a', uri: b}]".to_owned(), "uri"),
    ];
    expect_rejections(&rows);
    for url in ["http://127.0.0.1:4566", "http://[::1]:4566", "http://localhost:1", "https://vpce.example/x"]
    {
        assert_eq!(rejection(&endpoint(url)), None, "{url}");
    }
}

/// Twenty patterns that exceed a session policy.
fn too_many(head: &str) -> String {
    (10..30).map(|n| format!("'{}/{n}{head}'", "x".repeat(100))).collect::<Vec<_>>().join(", ")
}

#[test]
fn a_grant_that_exceeds_a_session_policy_is_rejected_at_the_start() {
    for registries in ["'*'", "222222222222/*", "222222222222/eu-central-1"] {
        let yaml = one(&format!("registries: [{registries}]; repositories: [{}]", too_many("/*")));
        expect_rejections(&[(
            yaml,
            "identities[0].repositories: the session policy for these registries and repositories",
        )]);
    }
}

#[test]
fn a_grant_for_a_prefix_of_regions_that_exceeds_a_session_policy_is_rejected_at_the_start() {
    for registries in ["222222222222/eu-*", "222222222222/us-e*", "222222222222/eu-central-*"] {
        let yaml = one(&format!("registries: [{registries}]; repositories: [{}]", too_many("/*")));
        expect_rejections(&[(
            yaml,
            "identities[0].repositories: the session policy for these registries and repositories",
        )]);
    }
    let accounts: Vec<_> =
        (10..50).map(|n| format!("2222222222{n}/{}", if n % 2 == 0 { "*" } else { "eu-*" })).collect();
    let yaml = one(&format!("registries: [{}]; repositories: ['*']", accounts.join(", ")));
    expect_rejections(&[(
        yaml,
        "identities[0].repositories: the session policy for these registries and repositories",
    )]);
}

#[test]
fn a_repository_that_is_too_long_for_a_long_namespace_is_rejected_at_the_start() {
    let template = format!("'{}/{{namespace}}/*'", "x".repeat(220));
    let longest = "n".repeat(63);
    let yaml = one(&format!("repositories: [{template}]"));
    if rejection(&yaml).is_none() {
        let config: Config = serde_saphyr::from_str(&yaml.replace("[dev]", "['*']")).expect("YAML");
        let settings = settings(&config, Some(HOME)).expect("a configuration");
        let request = request_for(vec![Target::Host(TWO.parse().expect("a host"))]);
        let answer = settings.grants.assign(&longest, &request);
        let served = answer
            .as_ref()
            .is_ok_and(|(granted, _)| granted.assignments[0].request.key.identity.as_str() == "a");
        assert!(served, "accepted at the start, and rejected for a namespace: {answer:?}");
    }
}

#[test]
fn with_roles_the_default_identity_must_be_written() {
    let open = one("").replace(CLOSED, "");
    let missing = "defaults.identity: missing, and identities have roles: set \"none\"";
    expect_rejections(&[
        (open.clone(), missing),
        (format!("defaults: {{registries: [public.ecr.aws]}}\n{open}"), missing),
    ]);
    let default = |yaml: &str| {
        let config = Config::parse(yaml).expect("YAML");
        let settings = settings(&config, Some(HOME)).expect("a configuration");
        settings.grants.default_identity.is_some()
    };
    assert!(default(&format!("defaults: {{identity: controller}}\n{open}")));
    assert!(!default(&one("")));
    // Without roles, nothing is kept apart.
    assert!(default(""));
    assert!(default("identities: [{name: controller, namespaces: [a], registries: ['*']}]"));
}

#[test]
fn a_duration_is_parsed() {
    let age = |text: &str| {
        let config: Config = serde_saphyr::from_str(&one(&format!("maxTokenAge: {text}"))).expect("YAML");
        let settings = settings(&config, None).expect("a configuration");
        settings.grants.identities[0].role.as_ref().and_then(|role| role.max_token_age)
    };
    assert_eq!(age("15m"), Some(SignedDuration::from_mins(15)));
    assert_eq!(age("12h"), Some(SignedDuration::from_hours(12)));
}

#[test]
fn the_owned_names_do_not_depend_on_other_fields() {
    let config: Config = serde_saphyr::from_str(
        "secretNames: [a]\nretiredSecretNames: [b]\nserviceAccounts: {enabled: true}\nidentities: [{name: a}]\n\
         defaults: {registries: ['123456789012']}",
    )
    .expect("YAML");
    assert!(settings(&config, None).is_err());
    let names = config.owned_names().expect("names");
    let all: Vec<_> = names.all().map(|name| &**name).collect();
    assert_eq!((&*names.instance, all, names.service_accounts), ("ecr-pull-secrets", vec!["a", "b"], true));
    let wrong: Config = serde_saphyr::from_str("secretNames: [a, a]").expect("YAML");
    assert!(wrong.owned_names().is_err());
}

#[test]
fn a_template_has_labels_and_annotations_of_other_domains() {
    let yaml = "secretTemplate: {labels: {team: '', example.com/x: A_b}, annotations: {notkubernetes.io/a: 'any text'}}";
    let settings = settings(&Config::parse(yaml).expect("it parses"), None).expect("a valid configuration");
    let template = settings.secret_template;
    assert_eq!(template.labels().keys().collect::<Vec<_>>(), ["example.com/x", "team"]);
    assert_eq!(template.annotations()["notkubernetes.io/a"], "any text");
    let many: Vec<_> = (0..33).map(|n| format!("a{n}: b")).collect();
    let message = error(&format!("secretTemplate: {{labels: {{{}}}}}", many.join(", ")));
    assert!(message.contains("secretTemplate.labels: 33 keys: expected at most 32"), "{message}");
    let message = error(&format!("secretTemplate: {{annotations: {{a: {}}}}}", "x".repeat(4_097)));
    assert!(message.contains("secretTemplate.annotations.a: 4097 bytes"), "{message}");
}
