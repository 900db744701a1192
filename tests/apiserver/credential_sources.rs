//! Where the controller's credentials come from: each source over several rotations, without a gap.

use std::time::Duration;

use jiff::Timestamp;
use tempfile::TempDir;
use testing::aws::{Behaviour, Operation, Stub};
use testing::credentials::{ContainerEndpoint, InstanceMetadata};
use testing::folder;
use testing::moto::Moto;
use testing::proxy::Proxy;
use testing::tenants::{HOST, auths, live_token, token};
use tokio::time::{Instant, interval};

use crate::harness::{TestCluster, cluster_test};

/// A token is fetched about every twelve seconds, and must be in the Secret ten seconds later.
const TOKENS: Duration = Duration::from_secs(24);
/// For tests that do not read the Secret all the time: a token is fetched about every six seconds.
const SHORT_TOKENS: Duration = Duration::from_secs(12);
/// The SDK renews credentials five to ten seconds before they expire. A token is fetched at least five seconds after the
/// one before, so each token has new ones.
pub const CREDENTIALS: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(16);
pub const ROLE: &str = "arn:aws:iam::123456789012:role/ecr-pull";

fn role(more: &str) -> String {
    format!(
        "
defaults: {{identity: none}}
identities:
  - name: a
    roleArn: {ROLE}
    namespaces: ['*']
    registries: ['*']
    repositories: ['*']
{more}"
    )
}

/// Runs the controller for a while, and until it has fetched three tokens, calls `rotate` every four seconds, and reads the
/// Secret every 100 ms: it never holds an expired token. Returns how many tokens it saw.
async fn watch(cluster: &mut TestCluster, config: &str, mut rotate: impl FnMut()) -> usize {
    cluster.aws.set_for(Operation::GetAuthorizationToken, Behaviour::living(TOKENS));
    cluster.run_controller_configured(config).await;
    cluster.opt_in("team-a").await;
    cluster.wait_for_secret("team-a").await;
    let start = Instant::now();
    let mut tick = interval(Duration::from_millis(100));
    let (mut tokens, mut turns) = (std::collections::BTreeSet::new(), 0);
    while start.elapsed() < LONG || tokens.len() < 3 {
        assert!(start.elapsed() < LONG * 6, "{} tokens in {:?}", tokens.len(), LONG * 6);
        tick.tick().await;
        turns += 1;
        if turns % 40 == 0 {
            rotate();
        }
        let now = Timestamp::now();
        let secret = cluster.existing_secret("team-a").await;
        let token = token(&cluster.aws, &secret, HOST).expect("a token of AWS");
        assert!(token.expires_at.is_some_and(|end| end > now), "an expired token");
        tokens.insert(token.password);
    }
    tokens.len()
}

pub fn shorten_tokens(aws: &Stub) {
    aws.set_for(Operation::GetAuthorizationToken, Behaviour::living(SHORT_TOKENS));
}

/// The variables of a stub without its key pair.
pub fn without_keys(aws: &Stub) -> Vec<(String, String)> {
    let keys =
        ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"];
    aws.env().into_iter().filter(|(name, _)| !keys.contains(&name.as_str())).collect()
}

#[test]
fn a_role_that_is_assumed_with_the_controllers_key_pair() {
    cluster_test(async |cluster| {
        let tokens = watch(cluster, &role(""), || {}).await;
        let sessions = cluster.aws.count("AssumeRole");
        assert!((tokens..=tokens + 2).contains(&sessions), "{sessions} sessions for {tokens} tokens");
    });
}

#[test]
fn a_web_identity_whose_token_file_is_rotated() {
    cluster_test(async |cluster| {
        let folder = TempDir::new().expect("a temporary folder");
        let file = folder.path().join("token");
        shorten_tokens(&cluster.aws);
        // Without a key pair, so that the web identity is the only credential.
        cluster.aws_env = without_keys(&cluster.aws);
        cluster.aws_env.push(("AWS_CONFIG_FILE".into(), "/dev/null".into()));
        let rotate = |aws: &Stub, n: u32| {
            let token = format!("web-identity-token-{n}-of-the-test");
            aws.accept_web_identity(&token);
            folder::replace(&file, &token);
        };
        rotate(&cluster.aws, 0);
        let config = role(&format!("    source: webIdentity\n    webIdentityTokenFile: {}", file.display()));
        cluster.run_controller_configured(&config).await;
        cluster.opt_in("team-a").await;
        cluster.wait_for_secret("team-a").await;
        for n in 1..=2 {
            rotate(&cluster.aws, n);
            let seen = cluster.aws.minted().len();
            let fresh = async || {
                let secret = cluster.existing_secret("team-a").await;
                let token = live_token(&cluster.aws, &secret, HOST);
                token.is_some_and(|token| cluster.aws.minted()[seen..].contains(&token))
            };
            cluster.wait_until("a token by the new web identity token", fresh).await;
        }
        let calls = cluster.aws.calls();
        assert_eq!(calls.iter().filter(|call| call.operation == "AssumeRole").count(), 0);
        let policies = calls.iter().filter(|call| call.policy.is_some()).count();
        assert!(policies >= 3, "the policy is in the same call");
    });
}

#[test]
fn the_container_endpoint_of_pod_identity_whose_token_file_is_rotated() {
    cluster_test(async |cluster| {
        let source = ContainerEndpoint::start(&cluster.aws, CREDENTIALS).await;
        cluster.aws_env = source.env();
        watch(cluster, "", || source.rotate_token()).await;
        assert!(source.count() >= 3, "{} times", source.count());
    });
}

#[test]
fn instance_metadata_of_version_2() {
    cluster_test(async |cluster| {
        let source = InstanceMetadata::start(&cluster.aws, CREDENTIALS).await;
        cluster.aws_env = source.env();
        watch(cluster, &role(""), || {}).await;
        assert!(source.count() >= 3 && source.handshakes() >= 1, "{} times", source.count());
    });
}

/// One token by way of a profile.
async fn assert_served(cluster: &mut TestCluster, namespace: &str, config: &str, credentials: &str) {
    let folder = TempDir::new().expect("a temporary folder");
    cluster.aws_env = without_keys(&cluster.aws);
    for (name, text) in [("AWS_CONFIG_FILE", config), ("AWS_SHARED_CREDENTIALS_FILE", credentials)] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a profile");
        cluster.aws_env.push((name.to_owned(), path.display().to_string()));
    }
    cluster.run_controller().await;
    cluster.opt_in(namespace).await;
    cluster.wait_for_secret(namespace).await;
    cluster.stop_controller().await;
}

#[test]
fn profile_files_and_a_credential_process() {
    cluster_test(async |cluster| {
        let folder = TempDir::new().expect("a temporary folder");
        let (key, secret) = (Stub::ACCESS_KEY, Stub::SECRET_KEY);
        let profile = format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n");
        assert_served(cluster, "by-profile", "", &profile).await;
        let answer = folder.path().join("answer.json");
        let json = format!(r#"{{"Version": 1, "AccessKeyId": "{key}", "SecretAccessKey": "{secret}"}}"#);
        std::fs::write(&answer, json).expect("an answer");
        let process = format!("[default]\ncredential_process = cat {}\n", answer.display());
        assert_served(cluster, "by-process", &process, "").await;
    });
}

#[test]
fn missing_credentials_are_reported_as_such() {
    cluster_test(async |cluster| {
        cluster.aws_env = without_keys(&cluster.aws);
        cluster.aws_env.push(("AWS_CONFIG_FILE".into(), "/dev/null".into()));
        cluster.aws_env.push(("AWS_SHARED_CREDENTIALS_FILE".into(), "/dev/null".into()));
        cluster.run_controller().await;
        cluster.opt_in("team-a").await;
        let message = cluster.wait_for_message("team-a", "TokenFailed").await;
        for text in ["no AWS credentials could be loaded: Ec2InstanceMetadata: ", "set the AWS_* variables"] {
            assert!(message.contains(text), "{message}");
        }
        let metrics = cluster.probe("/metrics").await.1;
        let counted = metrics.lines().any(|line| {
            line.starts_with("ecr_pull_secrets_aws_requests_total{")
                && line.contains("result=\"credentials\"")
        });
        assert!(counted, "{metrics}");
    });
}

const MOTO_CONFIG: &str = "
defaults: {identity: none}
identities:
  - {name: hop, roleArn: 'arn:aws:iam::222222222222:role/a', namespaces: ['*'], registries: ['222222222222/*'], repositories: ['*']}
  - name: web
    roleArn: arn:aws:iam::333333333333:role/b
    source: webIdentity
    webIdentityTokenFile: FILE
    namespaces: ['*']
    registries: ['333333333333/*']
    repositories: ['*']";

#[test]
fn moto_accepts_both_ways_to_a_role() {
    cluster_test(async |cluster| {
        let folder = TempDir::new().expect("a temporary folder");
        let file = folder.path().join("token");
        std::fs::write(&file, "a-web-identity-token").expect("a token");
        let moto = Moto::start().await;
        cluster.aws_env = moto.env();
        let config = MOTO_CONFIG.replace("FILE", &file.display().to_string());
        cluster.run_controller_configured(&config).await;
        let hosts =
            ["222222222222", "333333333333"].map(|a| format!("{a}.dkr.ecr.eu-central-1.amazonaws.com"));
        cluster.request("team-a", &hosts.join(",")).await;
        let both = async || cluster.secret("team-a").await.map(|s| auths(&s)).filter(|all| all.len() == 2);
        let entries = cluster.wait_for("an entry by each way", both).await;
        for host in hosts {
            let password = entries[&host]["password"].as_str().expect("a password");
            assert_eq!(password, format!("{}-auth-token", &host[..12]), "the token is of the role's account");
        }
    });
}

#[test]
fn the_token_of_each_host_is_fetched_from_the_endpoint_that_aws_documents_through_the_proxy() {
    cluster_test(async |cluster| {
        let proxy = Proxy::start(&cluster.aws).await;
        cluster.aws_env = proxy.env();
        cluster.run_controller().await;
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
            cluster.request(&format!("team-{n}"), host).await;
        }
        let mut asked = vec![];
        for (n, (host, _)) in cases.iter().enumerate() {
            let secret = cluster.wait_for_secret(&format!("team-{n}")).await;
            assert!(auths(&secret).contains_key(*host), "{host}");
        }
        for (host, endpoint) in cases {
            asked.push((host, endpoint, proxy.count(endpoint)));
        }
        let wrong: Vec<_> = asked.iter().filter(|(.., count)| *count == 0).collect();
        assert!(wrong.is_empty(), "{wrong:?}; asked were {:?}", proxy.targets());
    });
}

#[test]
fn an_endpoint_of_the_configuration_takes_precedence_over_the_variables() {
    cluster_test(async |cluster| {
        let unreachable = "http://127.0.0.1:1";
        for name in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_ECR"] {
            cluster.aws_env.retain(|(other, _)| other != name);
            cluster.aws_env.push((name.into(), unreachable.into()));
        }
        let config = format!("endpoints: [{{service: ecr, url: '{}'}}]", cluster.aws.url());
        cluster.run_controller_configured(&config).await;
        cluster.opt_in("team-a").await;
        let secret = cluster.wait_for_secret("team-a").await;
        live_token(&cluster.aws, &secret, HOST).expect("a live token");
    });
}
