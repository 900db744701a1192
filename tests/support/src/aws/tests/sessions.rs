//! Roles, their sessions, and credentials that expire.

use aws_config::SdkConfig;
use aws_sdk_sts::types::{Credentials, Tag};

use super::*;
use crate::sdk::sdk_as;

const ROLE: &str = "arn:aws:iam::222222222222:role/path/ecr-pull";
const OTHER: &str = "arn:aws:iam::333333333333:role/other";
const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[]}"#;

async fn sts(stub: &Stub) -> aws_sdk_sts::Client {
    aws_sdk_sts::Client::new(&sdk(stub, Stub::REGION).await)
}

async fn session(stub: &Stub, role: &str, policy: Option<&str>) -> Credentials {
    let request = sts(stub).await.assume_role().role_arn(role).role_session_name("test");
    let output = request.set_policy(policy.map(str::to_owned)).send().await.expect("a session");
    output.credentials.expect("credentials")
}

async fn sdk_of(stub: &Stub, given: &Credentials) -> SdkConfig {
    let keys = keys(given.access_key_id(), given.secret_access_key(), Some(given.session_token()));
    sdk_with(&stub.url(), Stub::REGION, keys).await
}

/// The code of what comes of assuming the role by signature.
async fn assume(stub: &Stub, role: &str) -> Result<(), Option<String>> {
    let request = sts(stub).await.assume_role().role_arn(role).role_session_name("test");
    request.send().await.map(drop).map_err(|error| error.code().map(str::to_owned))
}

/// The code and the text of what comes of assuming the role with this token.
async fn assume_with(stub: &Stub, role: &str, token: &str) -> Result<(), (Option<String>, String)> {
    let request = sts(stub).await.assume_role_with_web_identity().role_arn(role).role_session_name("test");
    let output = request.web_identity_token(token).send().await;
    output
        .map(drop)
        .map_err(|error| (error.code().map(str::to_owned), error.message().unwrap_or_default().to_owned()))
}

#[expect(clippy::unnecessary_wraps, reason = "compared with what an error has")]
fn code(code: &str) -> Option<String> {
    Some(code.to_owned())
}

#[tokio::test]
async fn a_token_says_for_whom_it_is_and_under_which_policy() {
    let stub = Stub::start().await;
    token(&sdk(&stub, Stub::REGION).await).await.expect("a token");
    let bound = session(&stub, ROLE, Some(POLICY)).await;
    token(&sdk_of(&stub, &bound).await).await.expect("a token");
    let free = session(&stub, OTHER, None).await;
    let free = sdk_of(&stub, &free).await;
    let free = free.to_builder().region(aws_config::Region::new("us-east-1")).build();
    aws_sdk_ecrpublic::Client::new(&free).get_authorization_token().send().await.expect("a token");

    let minted = stub.minted();
    let who: Vec<_> = minted
        .iter()
        .map(|minted| (minted.principal.as_str(), minted.role.as_deref(), minted.policy.as_deref()))
        .collect();
    assert_eq!(
        who,
        [
            ("arn:aws:iam::123456789012:user/controller", None, None),
            ("arn:aws:sts::222222222222:assumed-role/ecr-pull/test", Some(ROLE), Some(POLICY)),
            ("arn:aws:sts::333333333333:assumed-role/other/test", Some(OTHER), None),
        ]
    );
}

#[tokio::test]
async fn a_call_shows_what_was_asked_for_the_session() {
    let stub = Stub::start().await;
    let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build().expect("a tag");
    let request = sts(&stub).await.assume_role().role_arn(ROLE).role_session_name("ns=a,b@c");
    let request = request.duration_seconds(900).external_id("one of ours");
    let request = request.tags(tag("kubernetes-namespace", "team a & b")).tags(tag("empty", ""));
    request.send().await.expect("a session");
    assume(&stub, OTHER).await.expect("a session");

    let [full, bare] = &stub.calls()[..] else { panic!("two calls") };
    assert_eq!(full.session_name.as_deref(), Some("ns=a,b@c"));
    assert_eq!(full.duration, Some(900));
    assert_eq!(full.external_id.as_deref(), Some("one of ours"));
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(full.tags, [pair("kubernetes-namespace", "team a & b"), pair("empty", "")]);
    assert_eq!((bare.duration, bare.tags.len()), (None, 0));
}

#[tokio::test]
async fn roles_behave_on_their_own() {
    let stub = Stub::start().await;
    stub.set_for(Operation::AssumeRole, Behaviour::failing(Fault::Throttle));
    stub.set_for_role(ROLE, Behaviour::failing(Fault::AccessDenied));
    assert_eq!(assume(&stub, ROLE).await, Err(code("AccessDenied")));
    let (denied, text) = assume_with(&stub, ROLE, "a.b.c").await.expect_err("denied");
    assert_eq!(denied, code("AccessDenied"));
    assert!(text.contains(ROLE), "{text}");
    assert_eq!(assume(&stub, OTHER).await, Err(code("Throttling")));
    assume_with(&stub, OTHER, "a.b.c").await.expect("a session");

    stub.reset();
    stub.set_for_role(ROLE, Behaviour::living(Duration::from_mins(10)));
    let lives =
        async |role| session(&stub, role, None).await.expiration.secs() - Timestamp::now().as_second();
    assert!((540..=600).contains(&lives(ROLE).await));
    assert!((3540..=3600).contains(&lives(OTHER).await));
}

#[tokio::test]
async fn faults_of_roles_are_none_of_other_operations() {
    let stub = Stub::start().await;
    let config = sdk(&stub, Stub::REGION).await;
    for (fault, signed, unsigned, sentence) in [
        (Fault::PackedPolicyTooLarge, Some("PackedPolicyTooLarge"), "PackedPolicyTooLarge", "112%"),
        (Fault::RegionDisabled, Some("RegionDisabledException"), "RegionDisabledException", "222222222222"),
        (Fault::ExpiredWebIdentity, None, "ExpiredTokenException", "before the expiration date/time"),
    ] {
        stub.set(Behaviour::failing(fault));
        assert_eq!(assume(&stub, ROLE).await.err().flatten().as_deref(), signed, "{fault:?}");
        let (refused, text) = assume_with(&stub, ROLE, "a.b.c").await.expect_err("a fault");
        assert_eq!(refused.as_deref(), Some(unsigned));
        assert!(text.contains(sentence), "{text}");
        let status = if fault == Fault::RegionDisabled { 403 } else { 400 };
        assert_eq!(stub.calls().pop().expect("a call").outcome, Outcome::Status(status));
        token(&config).await.expect("a token all the same");
        assert_eq!(stub.calls().pop().expect("a call").outcome, Outcome::Status(200));
        aws_sdk_sts::Client::new(&config).get_caller_identity().send().await.expect("an identity");
    }
    assert_eq!("packed-policy-too-large".parse(), Ok(Fault::PackedPolicyTooLarge));
    assert_eq!("Throttle".parse(), Ok(Fault::Throttle));
}

#[tokio::test]
async fn one_web_identity_is_accepted_at_a_time() {
    let stub = Stub::start().await;
    assume_with(&stub, ROLE, "any").await.expect("any token does at first");
    stub.accept_web_identity("first");
    assert_eq!(assume_with(&stub, ROLE, "any").await.expect_err("refused").0, code("InvalidIdentityToken"));
    assume_with(&stub, ROLE, "first").await.expect("the token does");
    stub.accept_web_identity("second");
    assert_eq!(assume_with(&stub, ROLE, "first").await.expect_err("refused").0, code("InvalidIdentityToken"));
    assume_with(&stub, ROLE, "second").await.expect("the token does");
    assert_eq!(assume_with(&stub, ROLE, "").await.expect_err("refused").0, code("ValidationError"));
    for token in ["any", "first", "second"] {
        assert!(stub.secrets().contains(&token.to_owned()), "{token}");
    }
    assert!(stub.secrets().iter().all(|secret| !secret.is_empty()));
}

#[tokio::test]
async fn issued_credentials_are_accepted_until_they_expire() {
    let stub = Stub::start().await;
    let issued = stub.issue(Duration::from_secs(10));
    let shown = format!("{issued:?}");
    for secret in [&issued.secret_key, &issued.session_token] {
        assert!(stub.secrets().contains(secret) && !shown.contains(secret));
    }
    let config = sdk_as(&stub, &issued).await;
    token(&config).await.expect("a token");
    let minted = stub.minted().remove(0);
    assert_eq!(minted.access_key, issued.access_key);
    assert_eq!(minted.principal, "arn:aws:iam::123456789012:user/controller");
    assert_eq!((minted.role, minted.policy), (None, None));
    let sts = aws_sdk_sts::Client::new(&config);
    sts.get_caller_identity().send().await.expect("an identity");

    let left = Duration::try_from(issued.expires.duration_since(Timestamp::now())).unwrap_or_default();
    tokio::time::sleep(left).await;
    assert_eq!(token(&config).await.expect_err("expired").0, code("ExpiredTokenException"));
    let error = sts.assume_role().role_arn(ROLE).role_session_name("test").send().await;
    assert_eq!(error.expect_err("expired").code(), Some("ExpiredToken"));
    token(&sdk_as(&stub, &stub.issue(Duration::from_mins(1))).await).await.expect("others are not concerned");
}

#[tokio::test]
async fn an_expired_session_of_a_role_is_refused_by_sts_too() {
    let stub = Stub::start().await;
    stub.set_for_role(ROLE, Behaviour::living(Duration::from_secs(1)));
    let given = session(&stub, ROLE, None).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let sts = aws_sdk_sts::Client::new(&sdk_of(&stub, &given).await);
    let error = sts.assume_role().role_arn(OTHER).role_session_name("test").send().await;
    assert_eq!(error.expect_err("expired").code(), Some("ExpiredToken"));
    assert_eq!(stub.calls().pop().expect("a call").outcome, Outcome::Status(403));
}
