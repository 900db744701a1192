//! Credentials of the controller itself that another program rotates in a file.

use std::time::Duration;

use tempfile::TempDir;
use testing::aws::{Behaviour, Stub};
use testing::credentials::InstanceMetadata;
use testing::folder;
use testing::proxy::Proxy;
use testing::tenants::{HOST, live_token};

use crate::credential_sources::{CREDENTIALS, ROLE, shorten_tokens, without_keys};
use crate::harness::{TestCluster, cluster_test};

/// A profile with new credentials of this principal.
fn profile(aws: &Stub, arn: &str) -> (String, String) {
    let keys = aws.issue_as(arn, Duration::from_hours(1));
    let profile = format!(
        "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\naws_session_token = {}\n",
        keys.access_key, keys.secret_key, keys.session_token
    );
    (keys.access_key, profile)
}

/// How many lines of the log contain a text.
fn lines(cluster: &TestCluster, text: &str) -> usize {
    cluster.log().lines().filter(|line| line.contains(text)).count()
}

const CALLER: &str = "calling AWS as this principal";

#[test]
fn a_profile_is_read_again_when_it_changes_and_an_invalid_one_replaces_nothing() {
    cluster_test(async |cluster| {
        let folder = TempDir::new().expect("a temporary folder");
        let file = folder.path().join("credentials");
        let write = |text: &str| folder::replace(&file, text);
        let (old, new) = ("arn:aws:iam::123456789012:user/old", "arn:aws:iam::123456789012:user/new");
        shorten_tokens(&cluster.aws);
        write(&profile(&cluster.aws, old).1);
        cluster.aws_env = without_keys(&cluster.aws);
        cluster.aws_env.push(("AWS_CONFIG_FILE".into(), "/dev/null".into()));
        cluster.aws_env.push(("AWS_SHARED_CREDENTIALS_FILE".into(), file.display().to_string()));
        let node = InstanceMetadata::start(&cluster.aws, CREDENTIALS).await;
        cluster.aws_env.retain(|(name, _)| name != "AWS_EC2_METADATA_DISABLED");
        cluster
            .aws_env
            .extend(node.env().into_iter().filter(|(name, _)| name == "AWS_EC2_METADATA_SERVICE_ENDPOINT"));
        cluster.run_controller().await;
        cluster.opt_in("team-a").await;
        cluster.wait_for_secret("team-a").await;

        write("[default]\naws_access_key_id = half");
        let warning = "the changed AWS profile files give no credentials";
        cluster.wait_until("a warning", async || lines(cluster, warning) > 0).await;
        let seen = cluster.aws.minted().len();
        cluster.wait_until("more tokens", async || cluster.aws.minted().len() > seen + 1).await;
        assert!(cluster.aws.minted().iter().all(|token| token.principal == old));

        // The SDK would skip such a profile, and use the credentials of the node.
        for (n, text) in ["", "[other]\naws_access_key_id = half", "[default]\nregion = eu-central-1"]
            .into_iter()
            .enumerate()
        {
            write(text);
            cluster.wait_until("a warning", async || lines(cluster, warning) > n + 1).await;
            let seen = cluster.aws.minted().len();
            cluster.wait_until("more tokens", async || cluster.aws.minted().len() > seen + 1).await;
            assert!(cluster.aws.minted().iter().all(|token| token.principal == old), "{text:?}");
        }

        // The old key remains valid.
        let (key, text) = profile(&cluster.aws, new);
        write(&text);
        let served = async || cluster.aws.minted().iter().any(|token| token.access_key == key);
        cluster.wait_until("a token by the new key", served).await;
        let live = async || live_token(&cluster.aws, &cluster.existing_secret("team-a").await, HOST);
        cluster.wait_for("a live token", live).await;
        cluster.wait_until("the new principal is logged", async || lines(cluster, CALLER) == 2).await;
        assert_eq!((lines(cluster, warning), lines(cluster, old), lines(cluster, new)), (4, 1, 1));
        assert_eq!(cluster.aws.count("GetCallerIdentity"), 2);
        for event in cluster.events("team-a").await {
            assert!(!event.message.unwrap_or_default().contains("arn:"), "the ARN is in the log only");
        }
    });
}

/// The file is that of `SSL_CERT_FILE`, as for a proxy that ends TLS.
#[test]
fn ca_certificates_are_read_again_when_their_file_changes() {
    cluster_test(async |cluster| {
        let proxy = Proxy::start(&cluster.aws).await;
        shorten_tokens(&cluster.aws);
        cluster.aws_env = proxy.env();
        cluster.run_controller().await;
        cluster.opt_in("team-a").await;
        cluster.wait_for_secret("team-a").await;
        proxy.change_authority();
        let seen = cluster.aws.minted().len();
        cluster.wait_until("more tokens", async || cluster.aws.minted().len() > seen + 1).await;
    });
}

#[test]
fn the_web_identity_of_the_controller_itself_whose_token_file_is_rotated() {
    cluster_test(async |cluster| {
        let folder = TempDir::new().expect("a temporary folder");
        let file = folder.path().join("token");
        shorten_tokens(&cluster.aws);
        // Shorter than STS allows, so that the SDK asks for new credentials within the test.
        cluster.aws.set_for_role(ROLE, Behaviour::living(CREDENTIALS));
        let mut n = 0;
        let mut rotate = |aws: &Stub| {
            n += 1;
            let token = format!("web-identity-token-{n}-of-the-test");
            folder::replace(&file, &token);
            aws.accept_web_identity(&token);
        };
        rotate(&cluster.aws);
        cluster.aws_env = without_keys(&cluster.aws);
        for (name, value) in [
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
            ("AWS_ROLE_ARN", ROLE),
        ] {
            cluster.aws_env.push((name.into(), value.into()));
        }
        cluster.aws_env.push(("AWS_WEB_IDENTITY_TOKEN_FILE".into(), file.display().to_string()));
        cluster.run_controller().await;
        cluster.opt_in("team-a").await;
        cluster.wait_for_secret("team-a").await;
        for _ in 0..2 {
            rotate(&cluster.aws);
            let sessions = cluster.aws.count("AssumeRoleWithWebIdentity");
            let more = async || cluster.aws.count("AssumeRoleWithWebIdentity") > sessions;
            cluster.wait_until("a session by the new token", more).await;
            let seen = cluster.aws.minted().len();
            cluster.wait_until("a token", async || cluster.aws.minted().len() > seen).await;
            let live = async || live_token(&cluster.aws, &cluster.existing_secret("team-a").await, HOST);
            cluster.wait_for("a live token", live).await;
        }
    });
}
