//! Where the controller's credentials come from: each source over several rotations, without a gap.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use tempfile::TempDir;
use testing::aws::{Behaviour, Stub};
use testing::credentials::{ContainerEndpoint, InstanceMetadata};
use testing::moto::Moto;
use testing::proxy::Proxy;
use tokio::time::{Instant, interval};

use crate::world::{HOST, REGISTRIES, World, auths};

/// Tokens are asked for about every ten seconds.
const TOKENS: Duration = Duration::from_secs(20);
/// The SDK renews credentials ten seconds before they end.
const CREDENTIALS: Duration = Duration::from_secs(25);
const LONG: Duration = Duration::from_secs(50);
const ROLE: &str = "arn:aws:iam::123456789012:role/ecr-pull";

fn role(more: &str) -> String {
    format!(
        "
defaults: {{identity: none}}
identities:
  - name: a
    roleArn: {ROLE}
    namespaces: ['*']
    registries: ['*']
{more}"
    )
}

/// Runs the controller for a while, calls `rotate` every ten seconds, and reads the Secret every 100 ms: it never
/// holds an expired token. Returns how many tokens it saw.
async fn watch(world: &mut World, config: &str, mut rotate: impl FnMut()) -> usize {
    let file = world.config(config);
    world.run_controller_with(&["--config", &file]).await;
    world.opt_in("team-a").await;
    world.wait_for_secret("team-a").await;
    let end = Instant::now() + LONG;
    let mut tick = interval(Duration::from_millis(100));
    let (mut tokens, mut turns) = (std::collections::BTreeSet::new(), 0);
    while Instant::now() < end {
        tick.tick().await;
        turns += 1;
        if turns % 100 == 0 {
            rotate();
        }
        let secret = world.secret("team-a").await.expect("it is never missing");
        let password = auths(&secret)[HOST]["password"].as_str().expect("a password").to_owned();
        let minted = world.aws.minted();
        let issued = minted.iter().find(|minted| minted.password == password).expect("a token of AWS's");
        assert!(issued.expires_at.expect("an end") > Timestamp::now(), "an expired token");
        tokens.insert(password);
    }
    assert!(tokens.len() >= 4, "{} tokens in {LONG:?}", tokens.len());
    tokens.len()
}

async fn begin() -> Stub {
    let aws = Stub::start().await;
    aws.set_for(testing::aws::Operation::GetAuthorizationToken, Behaviour::living(TOKENS));
    aws
}

/// The variables of a stub without its key pair.
fn without_keys(aws: &Stub) -> Vec<(String, String)> {
    let keys =
        ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"];
    aws.env().into_iter().filter(|(name, _)| !keys.contains(&name.as_str())).collect()
}

#[tokio::test]
async fn a_role_that_is_assumed_with_the_controllers_key_pair() {
    if !testing::real_cluster() {
        return;
    }
    let aws = begin().await;
    let env = aws.env();
    let mut world = World::with_aws(aws, env).await;
    let tokens = watch(&mut world, &role(""), || {}).await;
    let sessions = world.aws.count("AssumeRole");
    assert!((tokens..=tokens + 2).contains(&sessions), "{sessions} sessions for {tokens} tokens");
    world.finish().await;
}

#[tokio::test]
async fn a_web_identity_whose_token_file_is_rotated() {
    if !testing::real_cluster() {
        return;
    }
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("token");
    let aws = begin().await;
    // No key pair at all: there is no hop.
    let mut env = without_keys(&aws);
    env.push(("AWS_CONFIG_FILE".into(), "/dev/null".into()));
    let rotate = |aws: &Stub, n: u32| {
        let token = format!("web-identity-token-{n}-of-the-test");
        aws.accept_web_identity(&token);
        std::fs::write(file.with_extension("new"), &token).expect("the token is written");
        std::fs::rename(file.with_extension("new"), &file).expect("the token is put in place");
    };
    rotate(&aws, 0);
    let mut world = World::with_aws(aws, env).await;
    let config = role(&format!("    source: webIdentity\n    tokenFile: {}", file.display()));
    let config_file = world.config(&config);
    world.run_controller_with(&["--config", &config_file]).await;
    world.opt_in("team-a").await;
    world.wait_for_secret("team-a").await;
    for n in 1..=5 {
        rotate(&world.aws, n);
        let seen = world.aws.minted().len();
        let fresh = async |world: &World| {
            let secret = world.secret("team-a").await.expect("it is never missing");
            let password = auths(&secret)[HOST]["password"].as_str().expect("a password").to_owned();
            let minted = world.aws.minted();
            let place = minted.iter().position(|minted| minted.password == password).expect("AWS's");
            assert!(minted[place].expires_at.expect("an end") > Timestamp::now(), "an expired token");
            place >= seen
        };
        world.wait_until("a token by the new web identity token", fresh).await;
    }
    let calls = world.aws.calls();
    assert_eq!(calls.iter().filter(|call| call.operation == "AssumeRole").count(), 0);
    let policies = calls.iter().filter(|call| call.policy.is_some()).count();
    assert!(policies >= 6, "the policy is in the same call");
    world.finish().await;
}

#[tokio::test]
async fn the_container_endpoint_of_pod_identity_whose_token_file_is_rotated() {
    if !testing::real_cluster() {
        return;
    }
    let aws = begin().await;
    let source = ContainerEndpoint::start(&aws, CREDENTIALS).await;
    let mut world = World::with_aws(aws, source.env()).await;
    watch(&mut world, "", || source.rotate_token()).await;
    assert!(source.count() >= 3, "{} times", source.count());
    world.finish().await;
}

#[tokio::test]
async fn instance_metadata_of_version_2() {
    if !testing::real_cluster() {
        return;
    }
    let aws = begin().await;
    let source = InstanceMetadata::start(&aws, CREDENTIALS).await;
    let mut world = World::with_aws(aws, source.env()).await;
    watch(&mut world, &role(""), || {}).await;
    assert!(source.count() >= 3 && source.handshakes() >= 1, "{} times", source.count());
    world.finish().await;
}

/// One token by way of a profile.
async fn smoke(config: &str, credentials: &str, folder: &Path) {
    let aws = begin().await;
    let mut env = without_keys(&aws);
    for (name, text) in [("AWS_CONFIG_FILE", config), ("AWS_SHARED_CREDENTIALS_FILE", credentials)] {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("a profile");
        env.push((name.to_owned(), path.display().to_string()));
    }
    let mut world = World::with_aws(aws, env).await;
    world.run_controller().await;
    world.opt_in("team-a").await;
    world.wait_for_secret("team-a").await;
    world.finish().await;
}

#[tokio::test]
async fn profile_files_and_a_credential_process() {
    if !testing::real_cluster() {
        return;
    }
    let folder = TempDir::new().expect("a temporary folder");
    let (key, secret) = (Stub::ACCESS_KEY, Stub::SECRET_KEY);
    let profile = format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n");
    smoke("", &profile, folder.path()).await;
    let answer = folder.path().join("answer.json");
    let json = format!(r#"{{"Version": 1, "AccessKeyId": "{key}", "SecretAccessKey": "{secret}"}}"#);
    std::fs::write(&answer, json).expect("an answer");
    let process = format!("[default]\ncredential_process = cat {}\n", answer.display());
    smoke(&process, "", folder.path()).await;
}

#[tokio::test]
async fn moto_answers_both_ways_to_a_role() {
    if !testing::real_cluster() {
        return;
    }
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("token");
    std::fs::write(&file, "a-web-identity-token").expect("a token");
    let moto = Moto::start().await;
    let mut world = World::with_aws(Stub::start().await, moto.env()).await;
    let config = format!(
        "
defaults: {{identity: none}}
identities:
  - {{name: hop, roleArn: 'arn:aws:iam::222222222222:role/a', namespaces: ['*'], registries: ['222222222222/*']}}
  - name: web
    roleArn: arn:aws:iam::333333333333:role/b
    source: webIdentity
    tokenFile: {}
    namespaces: ['*']
    registries: ['333333333333/*']",
        file.display()
    );
    let config = world.config(&config);
    world.run_controller_with(&["--config", &config]).await;
    let hosts = ["222222222222", "333333333333"].map(|a| format!("{a}.dkr.ecr.eu-central-1.amazonaws.com"));
    world.annotate("team-a", &[(REGISTRIES, Some(&hosts.join(",")))]).await;
    let both =
        async |world: &World| world.secret("team-a").await.map(|s| auths(&s)).filter(|all| all.len() == 2);
    let entries = world.wait_for("an entry by each way", both).await;
    for host in hosts {
        let password = entries[&host]["password"].as_str().expect("a password");
        assert_eq!(password, format!("{}-auth-token", &host[..12]), "the token is of the role's account");
    }
    world.finish().await;
}

#[tokio::test]
async fn each_host_asks_the_endpoint_that_aws_documents_through_the_proxy() {
    if !testing::real_cluster() {
        return;
    }
    let aws = Stub::start().await;
    let proxy = Proxy::start(&aws).await;
    let mut world = World::with_aws(aws, proxy.env()).await;
    world.run_controller().await;
    let cases = [
        ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", "api.ecr.eu-central-1.amazonaws.com"),
        ("123456789012.dkr.ecr-fips.us-east-1.amazonaws.com", "api.ecr-fips.us-east-1.amazonaws.com"),
        ("123456789012.dkr-ecr.eu-west-1.on.aws", "ecr.eu-west-1.api.aws"),
        ("123456789012.dkr-ecr-fips.us-east-2.on.aws", "ecr-fips.us-east-2.api.aws"),
        ("123456789012.dkr.ecr.us-gov-west-1.amazonaws.com", "api.ecr.us-gov-west-1.amazonaws.com"),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "api.ecr.cn-north-1.amazonaws.com.cn"),
        ("123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu", "api.ecr.eusc-de-east-1.amazonaws.eu"),
        ("123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov", "api.ecr.us-iso-east-1.c2s.ic.gov"),
        ("123456789012.dkr.ecr.us-isob-east-1.sc2s.sgov.gov", "api.ecr.us-isob-east-1.sc2s.sgov.gov"),
        ("123456789012.dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk", "api.ecr.eu-isoe-west-1.cloud.adc-e.uk"),
        ("123456789012.dkr.ecr.us-isof-south-1.csp.hci.ic.gov", "api.ecr.us-isof-south-1.csp.hci.ic.gov"),
        ("public.ecr.aws", "api.ecr-public.us-east-1.amazonaws.com"),
    ];
    for (n, (host, _)) in cases.iter().enumerate() {
        world.annotate(&format!("team-{n}"), &[(REGISTRIES, Some(host))]).await;
    }
    let mut asked = vec![];
    for (n, (host, _)) in cases.iter().enumerate() {
        let secret = world.wait_for_secret(&format!("team-{n}")).await;
        assert!(auths(&secret).contains_key(*host), "{host}");
    }
    for (host, endpoint) in cases {
        asked.push((host, endpoint, proxy.count(endpoint)));
    }
    let wrong: Vec<_> = asked.iter().filter(|(.., count)| *count == 0).collect();
    assert!(wrong.is_empty(), "{wrong:?}; asked were {:?}", proxy.targets());
    world.finish().await;
}
