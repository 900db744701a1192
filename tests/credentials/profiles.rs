//! Identities with profiles: each registry has its own credentials.

use std::fmt::Write as _;

use testing::aws::Stub;

use crate::harness::{HOST, Home, LONG, OTHER_HOST, THIRD_HOST};

pub const DEV: &str = "arn:aws:iam::123456789012:user/dev";
pub const PROD: &str = "arn:aws:iam::222222222222:user/prod";
pub const ROLE: &str = "arn:aws:iam::333333333333:role/pull";
/// Two registries by two profiles, and every other one by a role that one of them assumes.
pub const CONFIG: &str = "
defaults: {identity: none}
identities:
  - {name: dev, source: {profile: dev}, registries: ['123456789012/*']}
  - {name: prod, source: {profile: prod}, registries: ['222222222222/us-*']}
  - name: third
    source: {profile: dev}
    roleArn: arn:aws:iam::333333333333:role/pull
    externalId: laptop
    registries: ['333333333333/*']
    repositories: ['team-a/*']
";

/// A home without credentials in the environment, with the profiles dev and prod.
pub fn with_profiles(aws: Stub) -> Home {
    let env = aws.env();
    let mut home = Home::with_env(aws, env);
    for name in
        ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"]
    {
        home.unset(name);
    }
    home.unset("AWS_REGION");
    let mut credentials = String::new();
    for (name, arn) in [("dev", DEV), ("prod", PROD)] {
        let issued = home.aws.issue_as(arn, LONG);
        let (id, key, token) = (&issued.access_key, &issued.secret_key, &issued.session_token);
        let keys =
            format!("aws_access_key_id = {id}\naws_secret_access_key = {key}\naws_session_token = {token}");
        writeln!(credentials, "[{name}]\n{keys}").expect("a string");
    }
    home.write(".aws/credentials", &credentials);
    home.write(".aws/config", "[profile prod]\nregion = eu-west-1\n");
    home
}

#[tokio::test]
async fn each_registry_has_its_own_profile_or_role() {
    let home = with_profiles(Stub::start().await);
    home.configure(CONFIG);
    for (host, principal) in [(HOST, DEV), (OTHER_HOST, PROD)] {
        home.run(&["login-password", "--registry", host]).ok();
        let token = home.aws.minted().pop().expect("a token");
        assert_eq!((&*token.principal, token.role), (principal, None), "{host}");
    }
    home.run(&["login-password", "--registry", THIRD_HOST]).ok();
    let token = home.aws.minted().pop().expect("a token");
    assert_eq!(token.role.as_deref(), Some(ROLE));
    let policy = token.policy.expect("a session policy");
    assert!(policy.contains("arn:aws:ecr:eu-west-3:333333333333:repository/team-a/*"), "{policy}");
    let assumed =
        home.aws.calls().into_iter().find(|call| call.operation == "AssumeRole").expect("a session");
    assert_eq!(assumed.external_id.as_deref(), Some("laptop"));

    let refused = home.run(&["login-password", "--registry", "222222222222.dkr.ecr.eu-west-1.amazonaws.com"]);
    refused.assert_fails(2, &home.aws, &["no identity of the configuration serves"]);
    let refused = home.run(&["login-password", "--registry", HOST, "--identity", "prod"]);
    refused.assert_fails(2, &home.aws, &["\"prod\" does not serve"]);
    home.run(&["token", "--region", "us-east-2", "--identity", "prod"]).ok();
    assert_eq!(home.aws.minted().pop().expect("a token").principal, PROD);
    let refused = home.run(&["login-password", "--identity", "prod"]);
    refused.assert_fails(2, &home.aws, &["\"prod\" does not serve region eu-west-1"]);
}

#[tokio::test]
async fn a_profile_of_the_environment_is_the_default() {
    let mut home = with_profiles(Stub::start().await);
    home.set("AWS_PROFILE", "prod");
    home.run(&["login-password"]).ok();
    let token = home.aws.minted().pop().expect("a token");
    assert_eq!((&*token.principal, &*token.region), (PROD, "eu-west-1"), "user and region of the profile");
}

#[tokio::test]
async fn a_profile_that_does_not_exist_is_named() {
    let mut home = with_profiles(Stub::start().await);
    home.configure("identities: [{name: x, source: {profile: stage}, registries: ['*']}]");
    let texts = ["AWS profile \"stage\" does not exist", "source.profile"];
    home.run(&["login-password", "--registry", HOST]).assert_fails(1, &home.aws, &texts);
    let ended = home.helper("get", HOST);
    ended.assert_fails(1, &home.aws, &texts);
    assert!(ended.stdout.contains(texts[0]), "the protocol's form: {}", ended.stdout);
    home.configure("");
    home.set("AWS_PROFILE", "nowhere");
    let texts = ["AWS profile \"nowhere\" does not exist", "AWS_PROFILE"];
    home.run(&["login-password", "--registry", HOST]).assert_fails(1, &home.aws, &texts);
    assert!(home.aws.calls().is_empty());
}

#[tokio::test]
async fn without_any_credentials_the_message_names_the_ways_to_configure_them() {
    let home = with_profiles(Stub::start().await);
    let ended = home.run(&["login-password", "--registry", HOST]);
    ended.assert_fails(1, &home.aws, &["no AWS credentials could be loaded", "set AWS_PROFILE"]);
}

/// In both forms of a profile, and with a token that is missing.
#[tokio::test]
async fn an_expired_session_of_identity_center_names_the_command_that_renews_it() {
    let mut home = with_profiles(Stub::start().await);
    let account = "sso_account_id = 123456789012\nsso_role_name = pull\nregion = eu-central-1\n";
    let url = "https://example.awsapps.com/start";
    let config = format!(
        "[profile new]\nsso_session = corp\n{account}[profile never]\nsso_session = other\n{account}\
         [profile old]\nsso_start_url = {url}\nsso_region = eu-central-1\n{account}\
         [sso-session corp]\nsso_region = eu-central-1\nsso_start_url = {url}\n\
         [sso-session other]\nsso_region = eu-central-1\nsso_start_url = {url}\n"
    );
    home.write(".aws/config", &config);
    std::fs::create_dir_all(home.path(".aws/sso/cache")).expect("a folder");
    let token = r#"{"accessToken": "secret-of-the-user", "expiresAt": "2020-01-01T00:00:00Z", "region": "eu-central-1"}"#;
    // The name is the SHA-1 of "corp".
    home.write(".aws/sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json", token);
    for profile in ["new", "never", "old"] {
        home.set("AWS_PROFILE", profile);
        let ended = home.run(&["login-password", "--registry", HOST]);
        ended.assert_fails(1, &home.aws, &[&format!("run aws sso login --profile {profile}")]);
        assert!(!ended.stderr.contains("secret-of-the-user"));
    }
}
