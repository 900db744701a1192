//! The kubelet's protocol, without a kubelet; `tests/e2e` has one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use testing::aws::Behaviour;

use crate::harness::{Ended, HOST, Home};

const VERSION: &str = "credentialprovider.kubelet.k8s.io/v1";
const ROLE: &str = "arn:aws:iam::123456789012:role/pods";
const AUDIENCE: &str = "sts.amazonaws.com";

fn token(namespace: &str, account: &str) -> String {
    let claims = json!({"aud": [AUDIENCE], "sub": format!("system:serviceaccount:{namespace}:{account}")});
    format!("eyJhbGciOiJSUzI1NiJ9.{}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

fn request(image: &str, token: &str, annotations: Value) -> Value {
    let mut request = json!({"apiVersion": VERSION, "kind": "CredentialProviderRequest", "image": image});
    if !token.is_empty() {
        request["serviceAccountToken"] = token.into();
        request["serviceAccountAnnotations"] = annotations;
    }
    request
}

fn provide(home: &Home, flags: &[&str], request: &Value) -> Ended {
    home.run_with(&[&["credential-provider"], flags].concat(), &request.to_string())
}

fn image() -> String {
    format!("{HOST}/team-a/app:1")
}

/// Asserts that the response has no credential, as the protocol requires.
fn assert_empty(ended: &Ended) {
    let response: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!((&response["apiVersion"], &response["auth"]), (&json!(VERSION), &Value::Null));
}

#[tokio::test]
async fn without_a_token_the_node_pulls_with_its_own_identity() {
    let home = Home::start().await;
    let response = provide(&home, &[], &request(&image(), "", Value::Null)).json();
    let auth = json!({HOST: {"username": "AWS", "password": home.last_password()}});
    let (kind, key) = ("CredentialProviderResponse", "Registry");
    let duration = response["cacheDuration"].as_str().expect("a duration").trim_end_matches('s').to_owned();
    let expected = json!({"apiVersion": VERSION, "kind": kind, "cacheKeyType": key, "cacheDuration": response["cacheDuration"], "auth": auth});
    assert_eq!(response, expected);
    let seconds: u64 = duration.parse().expect("seconds");
    assert!((21_500..=21_600).contains(&seconds), "half of 12 hours: {seconds}");
    home.aws.set(Behaviour::living(std::time::Duration::ZERO));
    let response = provide(&home, &[], &request(&image(), "", Value::Null)).json();
    assert_eq!(response["cacheDuration"], "0s", "an expired token is not kept");
    let refused = provide(&home, &["--require-role"], &request(&image(), "", Value::Null));
    refused.assert_fails(1, &home.aws, &["the pod has no role", "--require-role"]);
    assert_empty(&refused);
}

#[tokio::test]
async fn a_service_account_with_a_role_pulls_with_it_and_only_from_that_registry() {
    let home = Home::start().await;
    home.aws.trust(ROLE, AUDIENCE, "system:serviceaccount:team-a:app");
    for key in
        ["ecr-pull-secrets.dev/role-arn", "eks.amazonaws.com/ecr-role-arn", "eks.amazonaws.com/role-arn"]
    {
        let request = request(&image(), &token("team-a", "app"), json!({key: ROLE}));
        let response = provide(&home, &["--require-role"], &request).json();
        assert_eq!(response["auth"][HOST]["password"], home.last_password());
        let minted = home.aws.minted().pop().expect("a token");
        assert_eq!(minted.role.as_deref(), Some(ROLE));
        let policy: Value = serde_json::from_str(&minted.policy.expect("a policy")).expect("JSON");
        let resource = json!(["arn:aws:ecr:eu-central-1:123456789012:repository/*"]);
        assert_eq!(policy["Statement"][1]["Resource"], resource);
    }
    let sessions: Vec<_> = home.aws.calls().into_iter().filter_map(|call| call.session_name).collect();
    assert_eq!(sessions, ["ecr-pull-secrets.team-a"; 3]);
    for (namespace, account) in [("team-a", "other"), ("team-b", "app")] {
        let request =
            request(&image(), &token(namespace, account), json!({"ecr-pull-secrets.dev/role-arn": ROLE}));
        let refused = provide(&home, &[], &request);
        refused.assert_fails(1, &home.aws, &[ROLE, "this service account as the subject"]);
        assert_empty(&refused);
    }
    let wrong = request(&image(), &token("team-a", "app"), json!({"ecr-pull-secrets.dev/role-arn": "admin"}));
    let refused = provide(&home, &[], &wrong);
    refused.assert_fails(1, &home.aws, &["annotation ecr-pull-secrets.dev/role-arn", "\"admin\""]);
    let china = "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/app";
    let request = request(china, &token("team-a", "app"), json!({"ecr-pull-secrets.dev/role-arn": ROLE}));
    provide(&home, &[], &request).assert_fails(2, &home.aws, &["another AWS partition"]);
}

#[tokio::test]
async fn a_service_account_without_a_role_pulls_with_the_identity_of_its_namespace_or_of_the_node() {
    let home = Home::start().await;
    home.configure(
        "defaults: {identity: controller}\n\
         identities: [{name: a, roleArn: 'arn:aws:iam::123456789012:role/a', namespaces: [team-a], registries: ['*'], repositories: ['{namespace}/*']}]",
    );
    let role = |namespace: &str, flags: &[&str]| {
        let ended = provide(&home, flags, &request(&image(), &token(namespace, "app"), json!({})));
        let minted = home.aws.minted().pop();
        (ended, minted.and_then(|token| token.policy))
    };
    let (ended, policy) = role("team-a", &["--require-role"]);
    ended.ok();
    assert!(policy.expect("a policy").contains(":repository/team-a/*\""));
    let (ended, policy) = role("team-b", &[]);
    ended.ok();
    assert_eq!(policy, None, "the identity of the node");
    let (ended, _) = role("team-b", &["--require-role"]);
    ended.assert_fails(1, &home.aws, &["service account team-b/app has no role"]);
    home.configure("defaults: {identity: none}");
    let (ended, _) = role("team-b", &[]);
    ended.assert_fails(2, &home.aws, &["no identity of the configuration serves"]);
}

#[tokio::test]
async fn other_requests_are_refused_in_the_form_of_the_protocol() {
    let home = Home::start().await;
    let mut alpha = request(&image(), "", Value::Null);
    alpha["apiVersion"] = "credentialprovider.kubelet.k8s.io/v1beta1".into();
    for (request, text) in [
        (alpha.to_string(), "set this apiVersion for the provider"),
        (request("docker.io/library/nginx", "", Value::Null).to_string(), "correct matchImages"),
        (request("", "", Value::Null).to_string(), "correct matchImages"),
        ("{}".to_owned(), "expected CredentialProviderRequest"),
        (String::new(), "is not a CredentialProviderRequest in JSON"),
        (r#"{"serviceAccountToken": 1}"#.to_owned(), "is not a CredentialProviderRequest in JSON"),
    ] {
        let ended = home.run_with(&["credential-provider"], &request);
        ended.assert_fails(1, &home.aws, &[text]);
        assert_empty(&ended);
    }
    assert!(home.aws.calls().is_empty());
}
