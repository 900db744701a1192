//! What clients see that believe to talk to AWS.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::aws::Outcome;
use crate::sdk::ask_with_env;

const HOSTS: [&str; 3] = [
    "api.ecr.eu-central-1.amazonaws.com",
    "api.ecr-public.us-east-1.amazonaws.com",
    "sts.eu-central-1.amazonaws.com",
];

#[tokio::test]
async fn the_sdk_calls_aws_by_its_names_and_reaches_the_stub() {
    let stub = Stub::start().await;
    let proxy = Proxy::start(&stub).await;
    assert!(proxy.env().iter().all(|(name, _)| name != "AWS_ENDPOINT_URL"));
    ask_with_env(&proxy.env()).await.expect("the SDK gets along");
    assert_eq!(proxy.targets(), HOSTS);
    assert_eq!(proxy.count(HOSTS[1]), 1);
    let calls: Vec<_> = stub.calls().into_iter().map(|call| (call.operation, call.outcome)).collect();
    let expected = ["GetAuthorizationToken", "GetPublicAuthorizationToken", "GetCallerIdentity"];
    assert_eq!(calls, expected.map(|operation| (operation.to_owned(), Outcome::Status(200))));
}

/// The Kubernetes client would take `HTTPS_PROXY` for itself.
#[tokio::test]
async fn another_variable_does_as_well() {
    let stub = Stub::start().await;
    let proxy = Proxy::start(&stub).await;
    let mut env = proxy.env();
    let (name, _) = env.iter_mut().find(|(name, _)| name == "HTTPS_PROXY").expect("the variable");
    "ALL_PROXY".clone_into(name);
    ask_with_env(&env).await.expect("the SDK gets along");
    assert_eq!(proxy.targets(), HOSTS);
}

#[tokio::test]
async fn a_web_identity_gets_through_unsigned() {
    const ROLE: &str = "arn:aws:iam::222222222222:role/ecr-pull";
    let stub = Stub::start().await;
    let proxy = Proxy::start(&stub).await;
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "a.b.c").expect("a temporary file takes text");
    stub.accept_web_identity("a.b.c");
    let mut env = proxy.env();
    env.retain(|(name, _)| !name.contains("ACCESS_KEY"));
    let path = file.path().to_str().expect("a name that is text");
    let identity = [("AWS_ROLE_ARN", ROLE), ("AWS_WEB_IDENTITY_TOKEN_FILE", path)];
    env.extend(identity.map(|(name, value)| (name.to_owned(), value.to_owned())));
    ask_with_env(&env).await.expect("the SDK gets along");
    assert_eq!(proxy.targets()[..2], [HOSTS[2], HOSTS[0]]);
    let first = stub.calls().remove(0);
    assert_eq!((first.operation.as_str(), first.access_key), ("AssumeRoleWithWebIdentity", None));
    assert!(stub.minted().iter().all(|minted| minted.role.as_deref() == Some(ROLE)));
}

#[tokio::test]
async fn who_does_not_trust_the_authority_does_not_talk() {
    let stub = Stub::start().await;
    let proxy = Proxy::start(&stub).await;
    let mut env = proxy.env();
    let other = Proxy::start(&stub).await;
    env.extend([("SSL_CERT_FILE".to_owned(), other.ca_file().display().to_string())]);
    let log = ask_with_env(&env).await.expect_err("no trust");
    assert!(log.contains("UnknownIssuer") || log.contains("BadSignature"), "{log}");
    assert_eq!(proxy.targets(), HOSTS[..1]);
    assert!(stub.calls().is_empty());
}

#[tokio::test]
async fn it_leads_nowhere_else() {
    let stub = Stub::start().await;
    let proxy = Proxy::start(&stub).await;
    for (request, status) in [
        ("CONNECT api.ecr.eu-central-1.amazonaws.com:80 HTTP/1.1", "403"),
        ("GET http://api.ecr.eu-central-1.amazonaws.com/ HTTP/1.1", "405"),
    ] {
        let mut stream = TcpStream::connect(proxy.server.address).await.expect("the proxy listens");
        let request =
            format!("{request}\r\nhost: api.ecr.eu-central-1.amazonaws.com\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("a request is taken");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.expect("a reply comes");
        assert!(reply.starts_with(&format!("HTTP/1.1 {status}")), "{reply}");
    }
    assert!(proxy.targets().is_empty() && stub.calls().is_empty());
}
