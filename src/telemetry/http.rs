//! `/livez`, `/readyz` and `/metrics`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::metrics::Metrics;

/// The controller is stuck if its loop has not run for this long.
const LIVENESS_TIMEOUT: Duration = Duration::from_secs(90);
const MAX_CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_HEADER_LEN: usize = 16 * 1024;
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}; choose a free address with --listen")]
pub struct BindError {
    address: SocketAddr,
    error: std::io::Error,
}

/// The state that the probes report.
#[derive(Clone, Default)]
pub struct Health(Arc<State>);

#[derive(Default)]
struct State {
    synced: AtomicBool,
    /// Without it, a controller that can never acquire the Lease would report that it is ready.
    lease_reached: AtomicBool,
    /// `None` until the loop starts: a restart does not help while the API server is unavailable.
    beat: Mutex<Option<Instant>>,
}

impl Health {
    /// Records that the loop runs.
    pub fn beat(&self) {
        self.beat_at(Instant::now());
    }

    /// Records that every required watch has listed.
    pub fn synced(&self) {
        self.0.synced.store(true, Ordering::Relaxed);
    }

    /// Records that the Lease was read, or that none is used.
    pub fn lease_reached(&self) {
        self.0.lease_reached.store(true, Ordering::Relaxed);
    }

    fn beat_at(&self, time: Instant) {
        *self.0.beat.lock().unwrap_or_else(PoisonError::into_inner) = Some(time);
    }

    fn is_alive(&self) -> bool {
        let beat = *self.0.beat.lock().unwrap_or_else(PoisonError::into_inner);
        beat.is_none_or(|beat| beat.elapsed() < LIVENESS_TIMEOUT)
    }

    fn is_ready(&self) -> bool {
        self.0.synced.load(Ordering::Relaxed) && self.0.lease_reached.load(Ordering::Relaxed)
    }
}

/// Binds the address of `--listen`.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|error| BindError { address, error })
}

/// Serves until the task is dropped.
pub async fn serve(listener: TcpListener, health: Health, metrics: Metrics) -> Infallible {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let permit = permits.clone().acquire_owned().await;
        let Ok((stream, _)) = listener.accept().await else {
            // Most likely, the process has run out of file descriptors.
            tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            continue;
        };
        let (health, metrics) = (health.clone(), metrics.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = respond(&request, &health, &metrics);
                async { Ok::<_, Infallible>(response) }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_HEADER_LEN);
            // Clients may disconnect at any time.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
            drop(permit);
        });
    }
}

fn respond(request: &Request<Incoming>, health: &Health, metrics: &Metrics) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is allowed");
    }
    match request.uri().path() {
        "/livez" if health.is_alive() => text(StatusCode::OK, "ok"),
        "/livez" => text(StatusCode::SERVICE_UNAVAILABLE, "the main loop of the controller is stuck"),
        "/readyz" if health.is_ready() => text(StatusCode::OK, "ok"),
        "/readyz" => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: waiting for the first lists of namespaces and secrets, or for the Lease; see the log",
        ),
        "/metrics" => match metrics.encode() {
            Ok(body) => {
                response(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", body)
            }
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "cannot encode the metrics"),
        },
        _ => text(StatusCode::NOT_FOUND, "not found; use /livez, /readyz or /metrics"),
    }
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", body.to_owned())
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
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
            health.beat_at(long_ago);
            assert!(!health.is_alive());
        }
    }

    #[test]
    fn readiness_needs_the_lists_and_the_lease() {
        let health = Health::default();
        health.synced();
        assert!(!health.is_ready());
        health.lease_reached();
        assert!(health.is_ready());
    }
}
