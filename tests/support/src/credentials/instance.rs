//! The instance metadata service of EC2, in its second version.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::http::request::Parts;
use hyper::{Method, Response};
use jiff::Timestamp;
use serde_json::json;

use super::{TEXT, refusal};
use crate::aws::{self, Issuer, Stub};
use crate::random;
use crate::server::{Server, answer_heads, response};

const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN: &str = "x-aws-ec2-metadata-token";
const HANDSHAKE: &str = "/latest/api/token";
const CREDENTIALS: &str = "/latest/meta-data/iam/security-credentials/";
const REGION: &str = "/latest/meta-data/placement/region";

/// The metadata service of a machine; gone when this is dropped.
///
/// Whoever asks has to shake hands first (`PUT`), and to show the session token that this gives: a `GET`
/// without one, as version 1 of the protocol has it, gets 401. Credentials are new each time.
#[derive(Debug)]
pub struct InstanceMetadata {
    server: Server,
    service: Arc<Service>,
    stub_url: String,
}

#[derive(Debug)]
struct Service {
    issuer: Issuer,
    lifetime: Duration,
    /// Until when each session token is good.
    sessions: Mutex<HashMap<String, Instant>>,
    count: AtomicUsize,
    handshakes: AtomicUsize,
}

impl InstanceMetadata {
    /// The name of the machine's role.
    pub const ROLE: &'static str = "node";

    /// Starts one that hands out credentials of this stub that live for `lifetime`.
    #[expect(clippy::unused_async, reason = "starts as everything else in this crate does")]
    pub async fn start(stub: &Stub, lifetime: Duration) -> Self {
        let service = Arc::new(Service {
            issuer: stub.issuer(),
            lifetime,
            sessions: Mutex::default(),
            count: AtomicUsize::new(0),
            handshakes: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&service);
        let server = Server::start("imds", (Ipv4Addr::LOCALHOST, 0).into(), move |stream| {
            let service = Arc::clone(&shared);
            answer_heads(stream, move |request| service.answer(request))
        });
        Self { server, service, stub_url: stub.url() }
    }

    /// Its URL, for `AWS_EC2_METADATA_SERVICE_ENDPOINT`.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Refuses every session token given so far, so that whoever asks has to shake hands again.
    ///
    /// The AWS SDK for Rust (aws-config 1.13) does so only when its token is about to expire by itself, after
    /// hours. Until then it repeats what gets 401, and goes on with the credentials that it has.
    pub fn forget_sessions(&self) {
        self.service.sessions().clear();
    }

    /// How many times it has handed out credentials.
    pub fn count(&self) -> usize {
        self.service.count.load(Ordering::SeqCst)
    }

    /// How many session tokens it has handed out.
    pub fn handshakes(&self) -> usize {
        self.service.handshakes.load(Ordering::SeqCst)
    }

    /// The environment that makes an AWS SDK use the stub with credentials from here, and nobody's own
    /// settings.
    pub fn env(&self) -> Vec<(String, String)> {
        aws::environment(&[
            ("AWS_ENDPOINT_URL", &self.stub_url),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &self.url()),
        ])
    }
}

impl Service {
    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: &Parts) -> Response<String> {
        match (&request.method, request.uri.path()) {
            (&Method::PUT, HANDSHAKE) => self.shake_hands(request),
            (&Method::GET, path) if self.knows(request) => self.document(path),
            (&Method::GET, _) => refusal(401, "no session token that is good"),
            _ => refusal(405, "not what one does here"),
        }
    }

    fn shake_hands(&self, request: &Parts) -> Response<String> {
        let ttl = request.headers.get(TTL).and_then(|ttl| ttl.to_str().ok()?.parse().ok());
        let Some(ttl @ 1..=21_600) = ttl else {
            return refusal(400, "a session token lives from 1 second to 6 hours");
        };
        let token = random::url_safe::<40>();
        self.issuer.keep_secret(&token);
        self.sessions().insert(token.clone(), Instant::now() + Duration::from_secs(ttl));
        self.handshakes.fetch_add(1, Ordering::SeqCst);
        response(200, (TTL, &ttl.to_string()), token)
    }

    fn knows(&self, request: &Parts) -> bool {
        let token = request.headers.get(TOKEN).and_then(|token| token.to_str().ok());
        let until = token.and_then(|token| self.sessions().get(token).copied());
        until.is_some_and(|until| Instant::now() < until)
    }

    fn document(&self, path: &str) -> Response<String> {
        let text = match path {
            REGION => Stub::REGION.to_owned(),
            // SDKs ask with the slash and without.
            _ if path == CREDENTIALS || path == CREDENTIALS.trim_end_matches('/') => {
                InstanceMetadata::ROLE.to_owned()
            }
            _ if path.strip_prefix(CREDENTIALS) == Some(InstanceMetadata::ROLE) => self.credentials(),
            // Among others `security-credentials-extended`, which not every machine has.
            _ => return refusal(404, "there is no such document"),
        };
        response(200, TEXT, text)
    }

    fn credentials(&self) -> String {
        self.count.fetch_add(1, Ordering::SeqCst);
        let issued = self.issuer.issue(self.lifetime);
        let body = json!({
            "Code": "Success",
            "Type": "AWS-HMAC",
            "LastUpdated": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "AccessKeyId": issued.access_key,
            "SecretAccessKey": issued.secret_key,
            "Token": issued.session_token,
            "Expiration": issued.expiration(),
        });
        body.to_string()
    }
}
