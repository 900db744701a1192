//! The protocols by hand, and as the real AWS SDK speaks them.

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::*;
use crate::aws::{Outcome, Stub};
use crate::sdk::{ask_with_env, keys, sdk_with, token};

const LONG: Duration = Duration::from_hours(1);
const DOCUMENT: &str = "/latest/meta-data/iam/security-credentials/";

/// Status and body of what comes of a request.
async fn ask(method: &str, url: &str, header: Option<(&str, &str)>) -> (u16, String) {
    let uri: Uri = url.parse().expect("a URL");
    let address = uri.authority().expect("an address").as_str();
    let stream = TcpStream::connect(address).await.expect("the server listens");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("the server speaks HTTP");
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(uri.path()).header("host", address);
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let request = request.body(Empty::<Bytes>::new()).expect("a header value");
    let response = sender.send_request(request).await.expect("the server answers");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a whole answer").to_bytes();
    (status, String::from_utf8(body.to_vec()).expect("text"))
}

fn variable(env: &[(String, String)], name: &str) -> Option<String> {
    env.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone())
}

/// Uses credentials as both protocols write them, and returns the code of a refusal.
async fn use_json(stub: &Stub, body: &str) -> Result<(), Option<String>> {
    let body: Value = serde_json::from_str(body).expect("JSON");
    let [access_key, secret_key, session_token] =
        ["AccessKeyId", "SecretAccessKey", "Token"].map(|field| body[field].as_str().expect("a text"));
    for secret in [secret_key, session_token] {
        assert!(stub.secrets().contains(&secret.to_owned()));
    }
    let keys = keys(access_key, secret_key, Some(session_token));
    token(&sdk_with(&stub.url(), Stub::REGION, keys).await).await.map(drop).map_err(|(code, _)| code)
}

#[tokio::test]
async fn a_container_gets_credentials_for_the_token_that_its_file_holds() {
    let stub = Stub::start().await;
    let life = Duration::from_secs(10);
    let agent = ContainerEndpoint::start(&stub, life).await;
    let url = variable(&agent.env(), "AWS_CONTAINER_CREDENTIALS_FULL_URI").expect("a URL");
    let held = || std::fs::read_to_string(agent.token_file()).expect("a token");
    let get = async |token: &str| ask("GET", &url, Some(("authorization", token))).await;
    assert_eq!(ask("GET", &url, None).await.0, 401);
    assert_eq!(get("another").await.0, 401);
    let old = held();
    let (status, first) = get(&old).await;
    assert_eq!(status, 200);
    use_json(&stub, &first).await.expect("credentials that are good");
    agent.rotate_token();
    assert_ne!(held(), old);
    assert_eq!(get(&old).await.0, 401);
    let (status, second) = get(&held()).await;
    assert_eq!(status, 200);
    assert_ne!(first, second);
    assert_eq!(agent.count(), 2);
    for token in [old, held()] {
        assert!(stub.secrets().contains(&token));
    }
    std::fs::write(agent.token_file(), "").expect("the file can be emptied");
    assert_eq!(get("").await.0, 401);
    tokio::time::sleep(life).await;
    assert_eq!(use_json(&stub, &first).await, Err(Some("ExpiredTokenException".to_owned())));
}

#[tokio::test]
async fn the_sdk_finds_the_container_endpoint() {
    let stub = Stub::start().await;
    let agent = ContainerEndpoint::start(&stub, LONG).await;
    assert_eq!(variable(&agent.env(), "AWS_ACCESS_KEY_ID"), None);
    ask_with_env(&agent.env()).await.expect("the SDK gets along");
    // The SDK repeats a request that is not answered within a second.
    assert!(agent.count() >= 1);
    assert_eq!(stub.minted().len(), 2);
    assert!(stub.calls().iter().all(|call| call.outcome == Outcome::Status(200)));
    // What was there when the program started need not be there later.
    std::fs::remove_file(agent.token_file()).expect("the file can go");
    ask_with_env(&agent.env()).await.expect_err("no token");
}

#[tokio::test]
async fn metadata_wants_a_session_token() {
    let stub = Stub::start().await;
    let metadata = InstanceMetadata::start(&stub, LONG).await;
    let at = |path: &str| format!("{}{path}", metadata.url());
    let shake = async |ttl: &str| {
        ask("PUT", &at("/latest/api/token"), Some(("x-aws-ec2-metadata-token-ttl-seconds", ttl))).await
    };
    let get = async |path: &str, token: &str| {
        ask("GET", &at(path), Some(("x-aws-ec2-metadata-token", token))).await
    };
    assert_eq!(ask("GET", &at(DOCUMENT), None).await.0, 401, "version 1 of the protocol");
    assert_eq!(get(DOCUMENT, "made up").await.0, 401);
    for ttl in ["0", "21601", "soon"] {
        assert_eq!(shake(ttl).await.0, 400, "{ttl}");
    }
    assert_eq!(ask("PUT", &at("/latest/api/token"), None).await.0, 400);

    let (status, session) = shake("60").await;
    assert_eq!(status, 200);
    assert!(stub.secrets().contains(&session));
    assert_eq!(get(DOCUMENT, &session).await, (200, InstanceMetadata::ROLE.to_owned()));
    assert_eq!(get("/latest/meta-data/placement/region", &session).await, (200, Stub::REGION.to_owned()));
    assert_eq!(get("/latest/meta-data/iam/security-credentials-extended/", &session).await.0, 404);
    assert_eq!(get(&format!("{DOCUMENT}another"), &session).await.0, 404);
    assert_eq!(metadata.count(), 0);
    let (status, body) = get(&format!("{DOCUMENT}{}", InstanceMetadata::ROLE), &session).await;
    assert_eq!((status, metadata.count()), (200, 1));
    use_json(&stub, &body).await.expect("credentials that are good");

    metadata.forget_sessions();
    assert_eq!(get(DOCUMENT, &session).await.0, 401);
    let (_, session) = shake("10").await;
    assert_eq!(get(DOCUMENT, &session).await.0, 200);
    tokio::time::sleep(Duration::from_millis(10_100)).await;
    assert_eq!(get(DOCUMENT, &session).await.0, 401, "it has expired");
    assert_eq!(metadata.handshakes(), 2);
}

#[tokio::test]
async fn the_sdk_finds_the_metadata() {
    let stub = Stub::start().await;
    let metadata = InstanceMetadata::start(&stub, LONG).await;
    for name in ["AWS_ACCESS_KEY_ID", "AWS_EC2_METADATA_DISABLED"] {
        assert_eq!(variable(&metadata.env(), name), None);
    }
    ask_with_env(&metadata.env()).await.expect("the SDK gets along");
    // The SDK repeats a request that is not answered within a second.
    assert!(metadata.count() >= 1 && metadata.handshakes() >= 1);
    assert_eq!(stub.minted().len(), 2);
}
