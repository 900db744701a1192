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
use crate::telemetry::logs::testing::Log;

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
    /// Whether every request is refused because the server is overloaded, and when each of these was sent.
    is_overloaded: bool,
    refused: Vec<Instant>,
    /// How long each request takes.
    delay: Duration,
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
        {
            let mut state = self.0.lock().expect("no panic");
            if state.denied.contains(method) {
                return status(403, "Forbidden");
            }
            if state.is_overloaded {
                state.refused.push(Instant::now());
                let (code, mut body) = status(429, "TooManyRequests");
                body["details"] = json!({"retryAfterSeconds": 30});
                return (code, body);
            }
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
                let delay = server.0.lock().expect("no panic").delay;
                tokio::time::sleep(delay).await;
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

/// N73: each read takes longer than the period between two, so none waits for the next.
#[tokio::test(start_paused = true)]
async fn the_timeout_also_ends_requests_that_take_long() {
    let slow = Duration::from_millis(1_200);
    for delay in [slow, Duration::from_hours(1)] {
        let server = ApiServer::held_by("controller_1");
        server.0.lock().expect("no panic").delay = delay;
        let renewals = server.clone();
        let leader = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                renewals.put(&renewals.lease().expect("a Lease"));
            }
        });
        let acquired = tokio::time::timeout(TIMEOUT * 3, server.acquire()).await;
        let error = acquired.expect("it ends").expect_err("it is held");
        assert_eq!(matches!(error, AcquireError::Held { .. }), delay == slow, "{error}");
        leader.abort();
    }
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

/// Runs a candidate for a minute. Returns its log, and how long ago the Lease last counted as reached.
async fn run_for_a_minute(server: &ApiServer) -> (String, Option<Duration>) {
    let log = Log::default();
    let _guard = log.capture();
    let contact = Arc::new(Mutex::new(None));
    let last = contact.clone();
    let on_contact = move || *last.lock().expect("no panic") = Some(Instant::now());
    let (_election, _permit) = Election::start(server.client(), "me".into(), Clock::start(), on_contact);
    tokio::time::sleep(Duration::from_mins(1)).await;
    let contact = *contact.lock().expect("no panic");
    (log.text(), contact.map(|at: Instant| at.elapsed()))
}

/// As with a Role without `update`, a webhook that fails closed, or an etcd without space.
#[tokio::test(start_paused = true)]
async fn a_lease_that_can_be_read_but_not_written_is_reported_once_and_does_not_count_as_reached() {
    for server in [ApiServer::default(), ApiServer::held_by("crashed")] {
        server.0.lock().expect("no panic").denied = vec![Method::PUT];
        let (log, contact) = run_for_a_minute(&server).await;
        let lines: Vec<_> = log.lines().filter(|line| line.contains("Lease")).collect();
        assert!((1..=3).contains(&lines.len()), "{} lines: {lines:#?}", lines.len());
        assert!(!log.contains("available again"), "{log}");
        assert!(contact.is_none_or(|ago| ago > settings().election.lease_duration), "{contact:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_standby_reaches_the_lease_as_long_as_its_holder_renews_it() {
    let server = ApiServer::held_by("controller_1");
    server.0.lock().expect("no panic").denied = vec![Method::PUT];
    let renewals = server.clone();
    let leader = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            renewals.put(&renewals.lease().expect("a Lease"));
        }
    });
    let (log, contact) = run_for_a_minute(&server).await;
    leader.abort();
    assert!(contact.is_some_and(|ago| ago <= Duration::from_secs(1)), "{contact:?}");
    assert!(!log.contains("cannot read or write"), "{log}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_can_be_written_again_is_reported_as_available() {
    let server = ApiServer::default();
    server.0.lock().expect("no panic").denied = vec![Method::PUT];
    let later = server.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(30)).await;
        later.0.lock().expect("no panic").denied.clear();
    });
    let (log, contact) = run_for_a_minute(&server).await;
    assert_eq!(log.matches("the Lease is available again").count(), 1, "{log}");
    assert!(contact.is_some_and(|ago| ago <= settings().election.retry_period), "{contact:?}");
}

/// A pause of 30 seconds, as the server demands it, would end the term.
#[tokio::test(start_paused = true)]
async fn an_overloaded_server_gets_one_request_in_each_retry_period_and_a_short_overload_ends_no_term() {
    let server = ApiServer::default();
    let (_election, permit) = server.acquire().await.expect("the Lease is free");
    for (overload, is_lost) in [(Duration::from_millis(1_500), false), (Duration::from_mins(1), true)] {
        server.0.lock().expect("no panic").is_overloaded = true;
        assert_eq!(tokio::time::timeout(overload, permit.clone().lost()).await.is_ok(), is_lost);
        tokio::time::sleep(if is_lost { overload } else { Duration::ZERO }).await;
        let refused = {
            let mut state = server.0.lock().expect("no panic");
            state.is_overloaded = false;
            std::mem::take(&mut state.refused)
        };
        assert!(!refused.is_empty());
        let period = settings().election.retry_period;
        assert!(refused.windows(2).all(|pair| pair[1].duration_since(pair[0]) >= period), "{refused:?}");
        tokio::time::sleep(settings().election.lease_duration).await;
        assert!(permit.left().is_some(), "the Lease is held again");
    }
}

#[test]
fn identities_have_a_name_and_a_random_suffix() {
    assert_eq!(leader_election_identity(Some("pod-1"), 0x0123_4567_89ab_cdef), "pod-1_01234567");
    let default = leader_election_identity(None, 0);
    assert!(default.ends_with("_00000000") && default.len() > "_00000000".len(), "{default}");
}
