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

/// The loop that has not turned for this long is stuck.
const STUCK: Duration = Duration::from_secs(90);
const CONNECTIONS: usize = 64;

/// What the probes tell.
#[derive(Clone)]
pub struct Health(Arc<State>);

struct State {
    listed: AtomicBool,
    /// A Lease that nobody can reach would leave everything undone behind a green probe.
    elects: AtomicBool,
    /// None before the loop began: waiting for an API server is no reason to be restarted.
    beat: Mutex<Option<Instant>>,
}

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(State {
            listed: AtomicBool::new(false),
            elects: AtomicBool::new(false),
            beat: Mutex::new(None),
        }))
    }
}

impl Health {
    /// The loop turned.
    pub fn beat(&self) {
        self.beat_at(Instant::now());
    }

    /// The first lists are there.
    pub fn ready(&self) {
        self.0.listed.store(true, Ordering::Relaxed);
    }

    /// The Lease was reached, or there is none to reach.
    pub fn elects(&self) {
        self.0.elects.store(true, Ordering::Relaxed);
    }

    fn beat_at(&self, time: Instant) {
        *self.0.beat.lock().unwrap_or_else(PoisonError::into_inner) = Some(time);
    }

    fn is_alive(&self) -> bool {
        let beat = *self.0.beat.lock().unwrap_or_else(PoisonError::into_inner);
        beat.is_none_or(|beat| beat.elapsed() < STUCK)
    }

    fn is_ready(&self) -> bool {
        self.0.listed.load(Ordering::Relaxed) && self.0.elects.load(Ordering::Relaxed)
    }
}

/// Binds the address that `--listen` names.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address)
        .await
        .map_err(|error| format!("--listen {address}: {error}; choose an address that is free"))
}

/// Serves for ever.
pub async fn serve(listener: TcpListener, health: Health, metrics: Metrics) -> Infallible {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let permit = permits.clone().acquire_owned().await;
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: neither spin nor end.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (health, metrics) = (health.clone(), metrics.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let reply = answer(&request, &health, &metrics);
                async { Ok::<_, Infallible>(reply) }
            });
            let mut server = http1::Builder::new();
            server
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(30))
                .max_buf_size(16 * 1024);
            // A client that goes away in the middle is no event.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
            drop(permit);
        });
    }
}

fn answer(request: &Request<Incoming>, health: &Health, metrics: &Metrics) -> Response<Full<Bytes>> {
    const PLAIN: &str = "text/plain; charset=utf-8";
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return reply(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET".into());
    }
    match request.uri().path() {
        "/livez" if health.is_alive() => reply(StatusCode::OK, PLAIN, "ok".into()),
        "/livez" => reply(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "the controller's loop is stuck".into()),
        "/readyz" if health.is_ready() => reply(StatusCode::OK, PLAIN, "ok".into()),
        "/readyz" => {
            let waiting = "the first lists of namespaces and secrets, or the Lease, are not there yet; the log says why";
            reply(StatusCode::SERVICE_UNAVAILABLE, PLAIN, waiting.into())
        }
        "/metrics" => match metrics.encode() {
            Ok(text) => {
                reply(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", text)
            }
            Err(_) => reply(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, "metrics could not be encoded".into()),
        },
        _ => reply(StatusCode::NOT_FOUND, PLAIN, "try /livez, /readyz or /metrics".into()),
    }
}

fn reply(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_loop_that_began_and_stands_still_is_dead() {
        let health = Health::default();
        assert!(health.is_alive() && !health.is_ready(), "before it began");
        health.beat();
        assert!(health.is_alive());
        if let Some(long_ago) = Instant::now().checked_sub(STUCK) {
            health.beat_at(long_ago);
            assert!(!health.is_alive());
        }
    }
}
