//! `/livez`, `/readyz` and `/metrics`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};

use super::metrics::{Format, Metrics};

/// The controller is stuck if its loop has not run for this long.
const LIVENESS_TIMEOUT: Duration = Duration::from_secs(90);

/// The state that the probes report.
#[derive(Clone, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    synced: bool,
    /// Without it, a controller that cannot read the Lease would report that it is ready.
    lease: LeaseContact,
    /// `None` until the loop starts: a restart does not help while the API server is unavailable.
    beat: Option<Instant>,
}

/// The last successful request for the Lease.
#[derive(Default)]
enum LeaseContact {
    #[default]
    Never,
    /// At this time; it counts for this long.
    At(Instant, Duration),
    /// The controller runs without leader election.
    NotUsed,
}

impl Health {
    /// Forgets everything, because the controller starts again.
    pub fn reset(&self) {
        *self.state() = State::default();
    }

    /// Records that the loop runs.
    pub fn beat(&self) {
        self.state().beat = Some(Instant::now());
    }

    /// Records that every required watch has listed.
    pub fn synced(&self) {
        self.state().synced = true;
    }

    /// Records that the Lease was read or written. That counts for `duration`.
    pub fn lease_reached(&self, duration: Duration) {
        self.state().lease = LeaseContact::At(Instant::now(), duration);
    }

    /// Records that the controller runs without leader election.
    pub fn lease_not_used(&self) {
        self.state().lease = LeaseContact::NotUsed;
    }

    fn is_alive(&self) -> bool {
        self.state().beat.is_none_or(|beat| beat.elapsed() < LIVENESS_TIMEOUT)
    }

    fn is_ready(&self) -> bool {
        let state = self.state();
        let lease = match state.lease {
            LeaseContact::Never => false,
            LeaseContact::At(at, duration) => at.elapsed() <= duration,
            LeaseContact::NotUsed => true,
        };
        state.synced && lease
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pages of the server.
pub fn pages(
    health: Health,
    metrics: Metrics,
) -> impl Fn(&Request<Incoming>) -> Response<Full<Bytes>> + Clone + Send + 'static {
    move |request| respond(request, &health, &metrics)
}

fn respond(request: &Request<Incoming>, health: &Health, metrics: &Metrics) -> Response<Full<Bytes>> {
    let mut content_type = "text/plain; charset=utf-8";
    let (status, body) = match request.uri().path() {
        _ if !matches!(*request.method(), Method::GET | Method::HEAD) => {
            (StatusCode::METHOD_NOT_ALLOWED, "only GET is allowed".into())
        }
        "/livez" if health.is_alive() => (StatusCode::OK, "ok".into()),
        "/readyz" if health.is_ready() => (StatusCode::OK, "ok".into()),
        "/livez" => (StatusCode::SERVICE_UNAVAILABLE, "the main loop of the controller is stuck".into()),
        "/readyz" => (
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: waiting for the first lists of namespaces and secrets, or for the Lease; see the log"
                .into(),
        ),
        "/metrics" => {
            let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
            let format = Format::accepted(accept);
            content_type = format.content_type();
            (StatusCode::OK, metrics.encode(format).into())
        }
        _ => (StatusCode::NOT_FOUND, "not found; use /livez, /readyz or /metrics".into()),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn liveness_fails_only_if_the_loop_has_started_and_is_stuck() {
        let health = Health::default();
        assert!(health.is_alive() && !health.is_ready(), "before the loop started");
        health.beat();
        assert!(health.is_alive());
        if let Some(long_ago) = Instant::now().checked_sub(LIVENESS_TIMEOUT) {
            health.state().beat = Some(long_ago);
            assert!(!health.is_alive());
        }
    }

    /// N46: the first requests of the next start may take longer than the loop may pause.
    #[test]
    fn after_a_reset_the_controller_is_alive_and_not_ready() {
        let health = Health::default();
        health.synced();
        health.lease_not_used();
        health.state().beat = Instant::now().checked_sub(LIVENESS_TIMEOUT);
        assert!(health.is_ready());
        health.reset();
        assert!(health.is_alive() && !health.is_ready());
    }

    #[test]
    fn readiness_needs_the_lists_and_the_lease() {
        let health = Health::default();
        health.synced();
        assert!(!health.is_ready());
        health.lease_reached(Duration::ZERO);
        std::thread::sleep(Duration::from_millis(1));
        assert!(!health.is_ready(), "the last request is too long ago");
        health.lease_reached(Duration::from_mins(1));
        assert!(health.is_ready());
    }
}
