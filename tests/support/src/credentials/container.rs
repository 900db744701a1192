//! The protocol of EKS Pod Identity, which is that of ECS.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::http::request::Parts;
use hyper::{Method, Response};
use serde_json::json;

use super::{JSON, refusal};
use crate::aws::{self, Issuer, Stub};
use crate::folder::{self, Folder};
use crate::random;
use crate::server::{Server, answer_heads, response};

const PATH: &str = "/v1/credentials";

/// The agent of EKS Pod Identity; gone, with its token file, when this is dropped.
///
/// It answers a `GET` whose `Authorization` header is what its token file holds at that moment, each time
/// with new credentials; every other header, and none, gets 401.
#[derive(Debug)]
pub struct ContainerEndpoint {
    server: Server,
    agent: Arc<Agent>,
    stub_url: String,
    _folder: Folder,
}

#[derive(Debug)]
struct Agent {
    issuer: Issuer,
    lifetime: Duration,
    token_file: PathBuf,
    count: AtomicUsize,
}

impl ContainerEndpoint {
    /// Starts one that hands out credentials of this stub that live for `lifetime`.
    #[expect(clippy::unused_async, reason = "starts as everything else in this crate does")]
    pub async fn start(stub: &Stub, lifetime: Duration) -> Self {
        let folder = Folder::new();
        let token_file = folder.path().join("eks-pod-identity-token");
        let agent =
            Arc::new(Agent { issuer: stub.issuer(), lifetime, token_file, count: AtomicUsize::new(0) });
        agent.rotate_token();
        let shared = Arc::clone(&agent);
        let server = Server::start("pod-identity", (Ipv4Addr::LOCALHOST, 0).into(), move |stream| {
            let agent = Arc::clone(&shared);
            answer_heads(stream, move |request| agent.answer(request))
        });
        Self { server, agent, stub_url: stub.url(), _folder: folder }
    }

    /// Replaces the token in the file, which is never half written; from then on the old one is refused.
    pub fn rotate_token(&self) {
        self.agent.rotate_token();
    }

    /// The file with the token, as in [`ContainerEndpoint::env`].
    pub fn token_file(&self) -> &Path {
        &self.agent.token_file
    }

    /// How many times it has handed out credentials.
    pub fn count(&self) -> usize {
        self.agent.count.load(Ordering::SeqCst)
    }

    /// The environment that makes an AWS SDK use the stub with credentials from here, and nobody's own
    /// settings.
    pub fn env(&self) -> Vec<(String, String)> {
        let token_file = self.token_file().to_str().expect("a temporary folder whose name is text");
        aws::environment(&[
            ("AWS_ENDPOINT_URL", &self.stub_url),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}{PATH}", self.server.url())),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token_file),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ])
    }
}

impl Agent {
    fn rotate_token(&self) {
        // Looks like what Kubernetes projects: three parts, of which the first says what it is.
        let [claims, signature] = [random::url_safe::<300>(), random::url_safe::<256>()];
        let token = format!("eyJhbGciOiJSUzI1NiJ9.{claims}.{signature}");
        self.issuer.keep_secret(&token);
        folder::replace(&self.token_file, token);
    }

    fn answer(&self, request: &Parts) -> Response<String> {
        if request.uri.path() != PATH || request.method != Method::GET {
            return refusal(404, "nothing but credentials is here");
        }
        // Without the file there is no token that would be right.
        let token = std::fs::read(&self.token_file).unwrap_or_default();
        let sent = request.headers.get("authorization");
        if token.is_empty() || sent.is_none_or(|sent| sent.as_bytes() != token) {
            return refusal(401, "the Authorization header is not what the token file holds");
        }
        self.count.fetch_add(1, Ordering::SeqCst);
        let issued = self.issuer.issue(self.lifetime);
        let body = json!({
            "AccessKeyId": issued.access_key,
            "SecretAccessKey": issued.secret_key,
            "Token": issued.session_token,
            "AccountId": Stub::ACCOUNT,
            "Expiration": issued.expiration(),
        });
        response(200, JSON, body.to_string())
    }
}
