use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::Bytes;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::elector::AcquireError;
use super::lease::LeaseError;
use super::*;
use crate::clock::Clock;
use crate::core::testing::settings;

const TIMEOUT: Duration = Duration::from_secs(5);

/// An API server with one Lease.
#[derive(Clone, Default)]
struct ApiServer(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    version: u64,
    lease: Option<Value>,
    /// The methods that RBAC denies.
    denied: Vec<Method>,
}

impl ApiServer {
    fn held_by(holder: &str) -> Self {
        let server = Self::default();
        server.put(&json!({"metadata": {}, "spec": {"holderIdentity": holder, "leaseDurationSeconds": 4}}));
        server
    }

    fn put(&self, lease: &Value) -> (u16, Value) {
        let state = &mut *self.0.lock().expect("no panic");
        let version = lease["metadata"]["resourceVersion"].as_str();
        if state.lease.as_ref().map(|current| &current["metadata"]["resourceVersion"])
            != version.map(Value::from).as_ref()
        {
            return status(409, "Conflict");
        }
        state.version += 1;
        let mut lease = lease.clone();
        lease["metadata"]["resourceVersion"] = state.version.to_string().into();
        state.lease = Some(lease.clone());
        (200, lease)
    }

    fn respond(&self, method: &Method, body: &Value) -> (u16, Value) {
        if self.0.lock().expect("no panic").denied.contains(method) {
            return status(403, "Forbidden");
        }
        match *method {
            Method::PUT => self.put(body),
            Method::DELETE => {
                let lease = &mut self.0.lock().expect("no panic").lease;
                let current = lease.as_ref().map(|lease| lease["metadata"]["resourceVersion"].clone());
                assert_eq!(current, Some(body["preconditions"]["resourceVersion"].clone()));
                *lease = None;
                (200, json!({"status": "Success"}))
            }
            _ => self.lease().map_or_else(|| status(404, "NotFound"), |lease| (200, lease)),
        }
    }

    fn lease(&self) -> Option<Value> {
        self.0.lock().expect("no panic").lease.clone()
    }

    fn holder(&self) -> Option<String> {
        self.lease().and_then(|lease| Some(lease["spec"]["holderIdentity"].as_str()?.to_owned()))
    }

    fn client(&self) -> LeaseClient {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let method = request.method().clone();
                let body = request.into_body().collect_bytes().await.expect("a body");
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let (code, body) = server.respond(&method, &body);
                let response = Response::builder().status(code);
                Ok::<_, Infallible>(
                    response.body(Full::new(Bytes::from(body.to_string()))).expect("a response"),
                )
            }
        });
        LeaseClient::new(Client::new(service, "ours"), "instance", settings().election)
    }

    async fn acquire(&self) -> Result<(Election, WritePermit), AcquireError> {
        Election::acquire(self.client(), "me".into(), Clock::start(), TIMEOUT).await
    }
}

fn status(code: u16, reason: &str) -> (u16, Value) {
    let message = format!("leases \"instance\": {reason}");
    (code, json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}))
}

#[tokio::test(start_paused = true)]
async fn a_free_lease_is_acquired_kept_and_released() {
    let server = ApiServer::default();
    let (election, permit) = server.acquire().await.expect("the Lease is free");
    assert_eq!(server.holder().as_deref(), Some("me"));
    tokio::time::sleep(settings().election.lease_duration * 10).await;
    assert!(permit.left().is_some(), "it is renewed");
    election.stop().await;
    assert!(permit.left().is_none());
    assert_eq!(server.holder().as_deref(), Some(""));
    permit.lost().await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_not_renewed_is_acquired_within_the_timeout() {
    let server = ApiServer::held_by("crashed");
    let start = Instant::now();
    let (_election, permit) = server.acquire().await.expect("it expires");
    assert!(
        start.elapsed() <= settings().election.lease_duration + settings().election.read_period(),
        "{:?}",
        start.elapsed()
    );
    assert!(permit.left().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_another_process_renews_is_left_alone() {
    let server = ApiServer::held_by("controller_1");
    let renewals = server.clone();
    let leader = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            renewals.put(&renewals.lease().expect("a Lease"));
        }
    });
    let start = Instant::now();
    let error = server.acquire().await.expect_err("it is held");
    assert!(start.elapsed() >= TIMEOUT && start.elapsed() < TIMEOUT + settings().election.read_period());
    leader.abort();
    let text = error.to_string();
    for part in ["\"controller_1\" holds the Lease ours/instance", "--timeout", "--force"] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    assert_eq!(server.holder().as_deref(), Some("controller_1"));
}

#[tokio::test(start_paused = true)]
async fn missing_permissions_are_reported() {
    let server = ApiServer::default();
    server.0.lock().expect("no panic").denied = vec![Method::PUT];
    let text = server.acquire().await.expect_err("it may not write").to_string();
    for part in ["Forbidden", "allow get, create and update on leases", "--force"] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_released_if_it_cannot_be_deleted() {
    let server = ApiServer::default();
    let (election, _permit) = server.acquire().await.expect("the Lease is free");
    election.delete_lease().await.expect("it is deleted");
    assert_eq!(server.lease(), None);

    let (election, _permit) = server.acquire().await.expect("the Lease is free");
    server.0.lock().expect("no panic").denied = vec![Method::DELETE];
    let error = election.delete_lease().await.expect_err("RBAC denies the deletion");
    assert!(matches!(error, LeaseError::Forbidden(_)), "{error:?}");
    assert_eq!(server.holder().as_deref(), Some(""));
}

#[tokio::test(start_paused = true)]
async fn a_permit_is_lost_when_the_lease_cannot_be_renewed() {
    let server = ApiServer::default();
    let (_election, permit) = server.acquire().await.expect("the Lease is free");
    server.0.lock().expect("no panic").denied = vec![Method::PUT];
    let lost = tokio::time::timeout(settings().election.lease_duration, permit.lost()).await;
    assert!(lost.is_ok(), "before another process can acquire it");
    let unopposed = WritePermit::unopposed(Clock::start());
    assert_eq!(unopposed.left(), Some(Duration::MAX));
    assert!(tokio::time::timeout(settings().election.lease_duration * 10, unopposed.lost()).await.is_err());
}

#[test]
fn identities_have_a_name_and_a_random_suffix() {
    assert_eq!(leader_election_identity(Some("pod-1"), 0x0123_4567_89ab_cdef), "pod-1_01234567");
    let default = leader_election_identity(None, 0);
    assert!(default.ends_with("_00000000") && default.len() > "_00000000".len(), "{default}");
}
