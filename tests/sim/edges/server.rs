//! An API server under the real Kubernetes client: a service that answers from the store of the model, with a fault for
//! each request that a rule selects.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use ecr_pull_secrets::simulation::Clock;
use ecr_pull_secrets::simulation::core::settings::Settings;
use ecr_pull_secrets::simulation::kubernetes::client::with_layers;
use ecr_pull_secrets::simulation::telemetry::metrics::Metrics;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use jiff::Timestamp;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::call::{Call, Shape};
use super::oracles::{Broken, Oracles};
use super::rules::{Fault, Rule, fault};
use super::watching::Subscription;
use crate::store::{Event, Key, Object, Store, status};

/// The namespace of the controller.
pub const HOME: &str = "ecr-pull-secrets";
/// The longest time within which a reply counts as an answer: two webhooks that hold a write for ten seconds each.
const ANSWER: Duration = Duration::from_secs(20);

pub type Reply = UnsyncBoxBody<Bytes, Infallible>;

pub struct State {
    pub store: Store,
    pub settings: Arc<Settings>,
    pub clock: Clock,
    pub oracles: Oracles,
    /// The tokens that AWS issued, by password, with their expiry.
    pub tokens: BTreeMap<String, Timestamp>,
    /// Events by path.
    pub events: BTreeMap<String, Value>,
    pub rules: Vec<Rule>,
    pub watches: BTreeMap<u64, Subscription>,
    /// How long each reply and each watch event takes.
    pub latency: Duration,
    /// Watches from an older version are answered with 410.
    pub oldest: u64,
    /// The minor version that `/version` names.
    pub minor: u32,
    pub seen: BTreeSet<Shape>,
    pub requests: u64,
}

/// A handle of the service.
#[derive(Clone)]
pub struct Server(Arc<Mutex<State>>);

impl Server {
    pub fn new(settings: Arc<Settings>, clock: Clock) -> Self {
        Self(Arc::new(Mutex::new(State {
            store: Store::default(),
            settings,
            clock,
            oracles: Oracles::new(),
            tokens: BTreeMap::new(),
            events: BTreeMap::new(),
            rules: vec![],
            watches: BTreeMap::new(),
            latency: Duration::from_millis(2),
            oldest: 0,
            minor: 36,
            seen: BTreeSet::new(),
            requests: 0,
        })))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic")
    }

    /// A client with the layers of the program.
    pub fn client(&self, agent: &str, metrics: Metrics) -> Client {
        let service = Service { server: self.clone(), agent: agent.to_owned() };
        Client::new(with_layers(service, metrics), HOME)
    }

    /// Changes an object as another client does.
    pub fn put(&self, key: &Key, object: Option<Object>) {
        let mut state = self.state();
        let event = state.store.put(key, object);
        state.publish(&event);
    }

    async fn answer(self, call: Call) -> Response<Reply> {
        let open = self.open(&call);
        let Some(shape) = call.shape() else {
            self.state().oracles.report(Broken::UnknownRequest, call.describe());
            return failure(404, "NotFound", &call.describe());
        };
        let (fault, latency) = {
            let mut state = self.state();
            state.seen.insert(shape);
            (fault(&mut state.rules, &call), state.latency)
        };
        sleep(latency / 2).await;
        match fault {
            Some(Fault::Slow(time)) => self.wait(time).await,
            Some(Fault::Hang) => self.hang().await,
            Some(Fault::Refuse { code, retry_after }) => return self.refuse(&call, code, retry_after),
            Some(Fault::LateReply(_) | Fault::ReplyLost) | None => {}
        }
        let mut reply =
            if call.is_watch() { self.watch(&call, open) } else { self.state().carry_out(shape, &call) };
        match fault {
            Some(Fault::LateReply(time)) => self.wait(time).await,
            Some(Fault::ReplyLost) => self.hang().await,
            _ => {}
        }
        sleep(latency / 2).await;
        reply
            .headers_mut()
            .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        reply
    }

    fn open(&self, call: &Call) -> Guard {
        let mut state = self.state();
        state.requests += 1;
        let id = state.requests;
        state.oracles.sent(id, call);
        Guard { server: self.clone(), id }
    }

    async fn wait(&self, time: Duration) {
        if time > ANSWER {
            self.state().oracles.not_answered();
        }
        sleep(time).await;
    }

    async fn hang(&self) {
        self.state().oracles.not_answered();
        std::future::pending::<()>().await;
    }

    fn refuse(&self, call: &Call, code: u16, retry_after: Option<u32>) -> Response<Reply> {
        let mut state = self.state();
        state.oracles.not_answered();
        let mut reply = failure(code, "Refused", "the API server is overloaded");
        if let Some(seconds) = retry_after {
            state.oracles.refuse(call, seconds);
            reply.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        reply
    }
}

/// A request that the client waits for, or a watch that it reads. The client ends it by dropping it.
pub struct Guard {
    pub server: Server,
    pub id: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut state = self.server.state();
        state.oracles.ended(self.id);
        state.watches.remove(&self.id);
    }
}

impl State {
    pub fn publish(&mut self, event: &Event) {
        let at = tokio::time::Instant::now() + self.latency;
        for watch in self.watches.values() {
            watch.send(event, at, &self.settings.names.instance);
        }
    }
}

pub fn reply(code: u16, body: &Value) -> Response<Reply> {
    let body = Full::new(Bytes::from(body.to_string())).boxed_unsync();
    Response::builder().status(code).body(body).expect("a response")
}

pub fn failure(code: u16, reason: &str, message: &str) -> Response<Reply> {
    reply(code, &json!(status(code, reason, message)))
}

/// The service of one client.
#[derive(Clone)]
struct Service {
    server: Server,
    agent: String,
}

impl tower::Service<Request<Body>> for Service {
    type Response = Response<Reply>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self { server, agent } = self.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.expect("the body is in memory").to_bytes();
            Ok(server.answer(Call::new(&agent, &head, &body)).await)
        }
        .boxed()
    }
}
