//! The stub against the real AWS SDK, which signs what it sends.

mod sessions;

use std::time::{Duration, Instant};

use aws_config::timeout::TimeoutConfig;
use aws_sdk_ecr::error::ProvideErrorMetadata as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::moto::Moto;
use crate::sdk::{keys, sdk, sdk_with, token};

#[tokio::test]
async fn a_signed_request_gets_a_token_of_its_own() {
    let stub = Stub::start().await;
    let config = sdk(&stub, "eu-central-1").await;
    let (first, expires, endpoint) = token(&config).await.expect("a token");
    let (second, ..) = token(&config).await.expect("a token");
    assert_ne!(first[..72], second[..72], "bcrypt could not tell them apart");
    assert!((1700..2000).contains(&first.len()), "{}", first.len());
    assert_eq!(endpoint, "https://123456789012.dkr.ecr.eu-central-1.amazonaws.com");
    let lifetime = expires.expect("an expiry") - Timestamp::now().as_second();
    assert!((12 * 3600 - 60..=12 * 3600).contains(&lifetime), "{lifetime}");
    let (.., endpoint) = token(&sdk(&stub, "cn-north-1").await).await.expect("a token");
    assert_eq!(endpoint, "https://123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn");
    assert_eq!(stub.count("GetAuthorizationToken"), 3);
    let [call, ..] = &stub.calls()[..] else { panic!("no call") };
    assert_eq!(call.region.as_deref(), Some("eu-central-1"));
    assert_eq!(call.outcome, Outcome::Status(200));
    assert_eq!(stub.minted()[0].password, first);
    let token = STANDARD.encode(format!("AWS:{first}"));
    for secret in [first, token, Stub::SECRET_KEY.to_owned()] {
        assert!(stub.secrets().contains(&secret));
    }
}

#[tokio::test]
async fn wrong_keys_are_refused() {
    let stub = Stub::start().await;
    let code = async |credentials| {
        token(&sdk_with(&stub.url(), "eu-central-1", credentials).await).await.expect_err("refused").0
    };
    let wrong_secret = keys(Stub::ACCESS_KEY, "another secret", None);
    assert_eq!(code(wrong_secret).await.as_deref(), Some("InvalidSignatureException"));
    let unknown = keys("AKIAUNKNOWN", Stub::SECRET_KEY, None);
    assert_eq!(code(unknown).await.as_deref(), Some("UnrecognizedClientException"));
    let surplus = keys(Stub::ACCESS_KEY, Stub::SECRET_KEY, Some("a session token"));
    assert_eq!(code(surplus).await.as_deref(), Some("UnrecognizedClientException"));
    assert!(stub.minted().is_empty());
    assert!(stub.calls().iter().all(|call| call.outcome == Outcome::Status(400)));
}

/// Sent by hand: no SDK leaves the signature out.
#[tokio::test]
async fn an_unsigned_request_is_refused() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let stub = Stub::start().await;
    let mut stream = tokio::net::TcpStream::connect(stub.server.address).await.expect("the stub listens");
    let request = "POST / HTTP/1.1\r\nhost: ecr\r\ncontent-length: 2\r\nconnection: close\r\n\
                   x-amz-target: AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken\r\n\r\n{}";
    stream.write_all(request.as_bytes()).await.expect("a request is taken");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.expect("a reply comes");
    assert!(reply.starts_with("HTTP/1.1 400"), "{reply}");
    assert!(reply.contains("MissingAuthenticationTokenException"), "{reply}");
    assert!(reply.contains("date: ") && reply.contains(" GMT\r\n"), "{reply}");
}

#[tokio::test]
async fn public_tokens_come_from_one_region() {
    let stub = Stub::start().await;
    let client = aws_sdk_ecrpublic::Client::new(&sdk(&stub, "us-east-1").await);
    let output = client.get_authorization_token().send().await.expect("a token");
    assert!(output.authorization_data().expect("data").authorization_token().is_some());
    assert!(stub.minted()[0].public);
    let client = aws_sdk_ecrpublic::Client::new(&sdk(&stub, "eu-central-1").await);
    client.get_authorization_token().send().await.expect_err("no endpoint there");
    assert_eq!(stub.count("GetPublicAuthorizationToken"), 2);
    assert_eq!(stub.count("GetAuthorizationToken"), 0);
}

#[tokio::test]
async fn an_assumed_role_signs_with_what_it_was_given_until_that_expires() {
    let stub = Stub::start().await;
    let role = "arn:aws:iam::222222222222:role/path/ecr-pull";
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Sid":"a + b & c=ü"}]}"#;
    let life = Duration::from_secs(10);
    stub.set_for(Operation::AssumeRole, Behaviour::living(life));
    let sts = aws_sdk_sts::Client::new(&sdk(&stub, "eu-central-1").await);
    let output = sts.assume_role().role_arn(role).role_session_name("test").policy(policy).send().await;
    let given = output.expect("credentials").credentials.expect("credentials");
    let call = stub.calls().remove(0);
    assert_eq!((call.role.as_deref(), call.policy.as_deref()), (Some(role), Some(policy)));
    let token_needed = keys(given.access_key_id(), given.secret_access_key(), None);
    let (code, _) =
        token(&sdk_with(&stub.url(), "eu-central-1", token_needed).await).await.expect_err("refused");
    assert_eq!(code.as_deref(), Some("UnrecognizedClientException"));

    let complete = keys(given.access_key_id(), given.secret_access_key(), Some(given.session_token()));
    let config = sdk_with(&stub.url(), "eu-central-1", complete).await;
    let (.., endpoint) = token(&config).await.expect("a token");
    assert_eq!(endpoint, "https://222222222222.dkr.ecr.eu-central-1.amazonaws.com");
    let caller = aws_sdk_sts::Client::new(&config).get_caller_identity().send().await.expect("an identity");
    assert_eq!(caller.arn(), Some("arn:aws:sts::222222222222:assumed-role/ecr-pull/test"));
    assert!(stub.secrets().contains(&given.session_token().to_owned()));

    tokio::time::sleep(life).await;
    assert_eq!(token(&config).await.expect_err("expired").0.as_deref(), Some("ExpiredTokenException"));
}

#[tokio::test]
async fn a_web_identity_needs_no_signature_and_a_policy_has_its_limits() {
    let stub = Stub::start().await;
    let sts = aws_sdk_sts::Client::new(&sdk(&stub, "eu-central-1").await);
    let role = "arn:aws:iam::123456789012:role/ecr-pull";
    let request = sts.assume_role_with_web_identity().role_arn(role).role_session_name("test");
    request.web_identity_token("a.b.c").send().await.expect("credentials");
    assert_eq!(stub.calls()[0].access_key, None);
    let request = sts.assume_role().role_arn(role).role_session_name("test");
    let error = request.policy(" ".repeat(2049)).send().await.expect_err("too long");
    assert_eq!(error.code(), Some("ValidationError"));
}

#[tokio::test]
async fn every_fault_is_one() {
    let stub = Stub::start().await;
    let config = sdk(&stub, "eu-central-1").await;
    let timeouts = TimeoutConfig::builder().operation_timeout(Duration::from_secs(10)).build();
    let impatient = config.to_builder().timeout_config(timeouts).build();
    for fault in Fault::ALL {
        stub.set(Behaviour::failing(fault));
        let config = if fault == Fault::Hang { &impatient } else { &config };
        let (code, text) = token(config).await.expect_err("a fault");
        println!("{fault:?}: {code:?} {text:.200}");
        let expected = match fault {
            Fault::Throttle => Some("ThrottlingException"),
            Fault::ServerError => Some("ServerException"),
            Fault::Unavailable => Some("ServiceUnavailable"),
            Fault::AccessDenied => Some("AccessDeniedException"),
            Fault::SignatureExpired => Some("InvalidSignatureException"),
            _ => None,
        };
        assert_eq!(code.as_deref(), expected, "{fault:?}: {text}");
        let outcome = stub.calls().pop().expect("a call").outcome;
        assert_eq!(matches!(outcome, Outcome::Status(_)), expected.is_some(), "{fault:?}: {outcome:?}");
    }
    stub.reset();
    token(&config).await.expect("a token once the faults are over");
}

#[tokio::test]
async fn behaviours_are_per_region_and_shape_the_reply() {
    let stub = Stub::start().await;
    let (here, there) = (sdk(&stub, "eu-central-1").await, sdk(&stub, "us-east-1").await);
    stub.set_for_region("us-east-1", Behaviour::failing(Fault::AccessDenied));
    token(&here).await.expect("a token");
    let (_, text) = token(&there).await.expect_err("denied");
    assert!(text.contains("arn:aws:iam::123456789012:user/controller"), "{text}");
    assert!(text.contains("ecr:GetAuthorizationToken"), "{text}");

    let fixed = Some("fixed".to_owned());
    let delay = Duration::from_millis(300);
    stub.set(Behaviour { password: fixed, delay, expires_at: ExpiresAt::At(42), ..Behaviour::default() });
    let start = Instant::now();
    let (password, expires, _) = token(&here).await.expect("a token");
    assert!(start.elapsed() >= delay);
    assert_eq!((password.as_str(), expires), ("fixed", Some(42)));
    stub.set(Behaviour { expires_at: ExpiresAt::Missing, ..Behaviour::default() });
    assert_eq!(token(&here).await.expect("a token").1, None);
    stub.set(Behaviour { expires_at: ExpiresAt::Garbage, ..Behaviour::default() });
    token(&here).await.expect_err("no time");
    stub.set(Behaviour { date_skew: -7200, lifetime: Duration::from_hours(1), ..Behaviour::default() });
    let expires = token(&here).await.expect("a token").1.expect("an expiry");
    assert!((3540..=3660).contains(&(Timestamp::now().as_second() - expires)), "{expires}");
}

/// What the SDK reads from the stub, it reads from moto too.
#[tokio::test]
async fn moto_answers_the_same_request() {
    let moto = Moto::start().await;
    let config = sdk_with(&moto.url(), "eu-central-1", keys("testing", "testing", None)).await;
    let (password, expires, endpoint) = token(&config).await.expect("a token");
    assert_eq!(password, "123456789012-auth-token");
    assert_eq!(expires, Some(1_420_070_400));
    assert_eq!(endpoint, "https://123456789012.dkr.ecr.eu-central-1.amazonaws.com");
}
