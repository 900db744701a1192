//! `token` and `login-password`.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use testing::credentials::{ContainerEndpoint, InstanceMetadata};

use crate::harness::{HOST, Home, LONG, OTHER_HOST};

#[tokio::test]
async fn token_prints_what_the_header_needs_and_as_json_what_aws_returns() {
    let home = Home::start().await;
    let text = home.run(&["token", "--registry", HOST]).ok();
    let expected = STANDARD.encode(format!("AWS:{}", home.last_password()));
    assert_eq!(text, format!("{expected}\n"));
    let json = home.run(&["token", "--registry", OTHER_HOST, "-o", "json"]).json();
    let token = home.aws.minted().pop().expect("a token");
    assert_eq!(token.region, "us-east-1", "the region of the host");
    assert_eq!(json["authorizationToken"], STANDARD.encode(format!("AWS:{}", token.password)));
    assert_eq!(json["proxyEndpoint"], format!("https://{OTHER_HOST}"));
    let expires: Timestamp = json["expiresAt"].as_str().expect("a time").parse().expect("a time");
    let apart = expires.duration_since(token.expires_at.expect("an expiry")).abs();
    assert!(apart < SignedDuration::from_secs(1), "{apart}");
    let own = home.run(&["token", "--region", "eu-west-1", "-o", "json"]).json();
    assert_eq!(own["proxyEndpoint"], "https://123456789012.dkr.ecr.eu-west-1.amazonaws.com");
    let public = home.run(&["token", "--registry", "public.ecr.aws", "-o", "json"]).json();
    assert_eq!(public["proxyEndpoint"], "https://public.ecr.aws");
    assert!(home.aws.minted().pop().expect("a token").public);
}

#[tokio::test]
async fn login_password_prints_the_password_and_nothing_else() {
    let mut home = Home::start().await;
    assert_eq!(home.run(&["login-password"]).ok(), format!("{}\n", home.last_password()));
    assert_eq!(home.aws.minted()[0].region, "eu-central-1", "the region of the environment");
    let ended = home.run(&["login-password", "--registry", &format!("https://{HOST}/v2/")]);
    assert_eq!(ended.stderr, "");
    assert_eq!(ended.ok(), format!("{}\n", home.last_password()));
    home.unset("AWS_REGION");
    let ended = home.run(&["login-password"]);
    ended.assert_fails(1, &home.aws, &["the region is unknown", "--region"]);
}

/// Repeats a command until it succeeds: the SDK waits for the instance or the container for a second only.
fn run_until_ok(home: &Home, args: &[&str]) {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let ended = home.run(args);
        if ended.code == Some(0) || Instant::now() >= deadline {
            ended.ok();
            return;
        }
    }
}

/// AWS rejects a request that was signed with the keys of another source.
#[tokio::test]
async fn the_instance_metadata_service_is_asked_only_if_the_environment_has_no_credentials() {
    let home = Home::start().await;
    let metadata = InstanceMetadata::start(&home.aws, LONG).await;
    let of_instance = metadata.env();
    let mut home = Home::with_env(home.aws, of_instance.clone());
    home.unset("AWS_REGION");
    run_until_ok(&home, &["login-password"]);
    assert!(metadata.count() > 0, "region and credentials of the instance");
    let asked = (metadata.count(), metadata.handshakes());

    for (name, value) in home.aws.env() {
        if name != "AWS_EC2_METADATA_DISABLED" {
            home.set(&name, &value);
        }
    }
    home.run(&["login-password", "--registry", HOST]).ok();
    home.run(&["login-password"]).ok();
    home.unset("AWS_REGION");
    home.run(&["login-password", "--registry", HOST]).ok();
    home.run(&["login-password"]).assert_fails(1, &home.aws, &["the region is unknown"]);
    assert_eq!((metadata.count(), metadata.handshakes()), asked, "requests with keys in the environment");

    let container = ContainerEndpoint::start(&home.aws, LONG).await;
    for (name, _) in home.aws.env() {
        home.unset(&name);
    }
    for (name, value) in container.env() {
        if name != "AWS_EC2_METADATA_DISABLED" {
            home.set(&name, &value);
        }
    }
    home.unset("AWS_REGION");
    run_until_ok(&home, &["login-password", "--registry", HOST]);
    assert!(container.count() > 0, "credentials of the container");
    assert_eq!((metadata.count(), metadata.handshakes()), asked, "requests with a container's credentials");
}
