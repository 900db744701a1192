//! A proxy in front of an API server that delays, holds, drops and refuses requests by rules.
//!
//! ```no_run
//! # fn example(cluster: &testing::control_plane::ControlPlane, kubeconfig: &std::path::Path) {
//! use std::time::Duration;
//! use testing::fault_proxy::{Action, FaultProxy, Rule};
//!
//! let proxy = FaultProxy::start(cluster);
//! let kubeconfig = proxy.kubeconfig(kubeconfig);
//! let slow = Action::DelayRequest(Duration::from_secs(4));
//! let rule = proxy.add(Rule::new(slow).method("PATCH").path("/secrets/"));
//! // … run a controller with the kubeconfig …
//! println!("{} requests were delayed", rule.hits());
//! rule.remove();
//! # }
//! ```
//!
//! Clients connect without TLS. The token in `Authorization` is passed on, so the API server applies the rights of the
//! client. The first rule that matches a request, in the order in which the rules were added, is applied.

mod record;
mod rules;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::sync::watch;

use crate::control_plane::ControlPlane;
use crate::folder::Folder;
use crate::server::Server;
use crate::upstream::Upstream;

pub use record::Exchange;
use record::{Kept, Open, Record};
pub use rules::{Action, ActiveRule, Answer, Rule};

type Content = UnsyncBoxBody<Bytes, std::io::Error>;
type Reply = Result<Response<Content>, std::io::Error>;

/// The running proxy; its connections are closed when this is dropped.
pub struct FaultProxy {
    server: Server,
    shared: Arc<Shared>,
    folder: Folder,
}

struct Shared {
    first: Arc<Upstream>,
    second: Option<Arc<Upstream>>,
    rules: Mutex<Vec<ActiveRule>>,
    record: Record,
    latency: Mutex<Duration>,
    kept: Kept,
    /// Counts how often the open watches were closed.
    closed: watch::Sender<usize>,
}

impl FaultProxy {
    /// Starts one in front of the API servers of a control plane, without rules.
    pub fn start(cluster: &ControlPlane) -> Self {
        let upstream = |url: &str| Arc::new(Upstream::new(url, &cluster.ca_file()));
        let shared = Arc::new(Shared {
            first: upstream(&cluster.url()),
            second: cluster.second_url().map(|url| upstream(&url)),
            rules: Mutex::default(),
            record: Record::default(),
            latency: Mutex::default(),
            kept: Kept::default(),
            closed: watch::Sender::new(0),
        });
        let handler = Arc::clone(&shared);
        let server = Server::start("fault-proxy", (Ipv4Addr::LOCALHOST, 0).into(), move |stream| {
            let shared = Arc::clone(&handler);
            async move {
                // Delays come from rules only.
                let _ = stream.set_nodelay(true);
                let service = hyper::service::service_fn(|request| Arc::clone(&shared).handle(request));
                // A connection may end in any way.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            }
        });
        Self { server, shared, folder: Folder::new() }
    }

    /// A copy of a kubeconfig that leads through the proxy.
    pub fn kubeconfig(&self, original: &Path) -> PathBuf {
        let text = std::fs::read_to_string(original).expect("a kubeconfig");
        let mut value: Value = serde_json::from_str(&text).expect("kubeconfigs of this crate are JSON");
        value["clusters"][0]["cluster"] = serde_json::json!({ "server": self.server.url() });
        let path = self.folder.path().join(original.file_name().expect("a file has a name"));
        std::fs::write(&path, value.to_string()).expect("a temporary folder accepts files");
        path
    }

    /// Adds a rule after those that are there.
    pub fn add(&self, rule: Rule) -> ActiveRule {
        let rule = ActiveRule::new(rule);
        self.shared.rules().push(rule.clone());
        rule
    }

    /// How long every request takes, in addition to what rules do.
    pub fn set_latency(&self, latency: Duration) {
        *self.shared.latency.lock().unwrap_or_else(PoisonError::into_inner) = latency;
    }

    /// Removes every rule and the latency.
    pub fn clear(&self) {
        self.set_latency(Duration::ZERO);
        for rule in self.shared.rules().drain(..) {
            rule.remove();
        }
    }

    /// Closes the connections of all open watches.
    pub fn close_watches(&self) {
        self.shared.closed.send_modify(|count| *count += 1);
    }

    /// Every request so far, in the order of arrival.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.shared.record.all().clone()
    }

    /// From now on, keeps a copy of each request whose path and query contain this text; see [`FaultProxy::kept`].
    pub fn keep(&self, text: &str) {
        self.shared.kept.begin(text);
    }

    /// The requests that were kept, as the client sent them.
    pub fn kept(&self) -> Vec<Request<Bytes>> {
        self.shared.kept.all()
    }

    /// Open requests without a complete reply for longer than `unanswered`, and open watches without a byte for longer
    /// than `silent`.
    pub fn overdue(&self, unanswered: Duration, silent: Duration) -> Vec<Exchange> {
        self.shared.record.overdue(unanswered, silent)
    }
}

impl Shared {
    fn rules(&self) -> MutexGuard<'_, Vec<ActiveRule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rule to apply to this request, which it counts.
    fn claim(&self, open: &Open) -> Option<ActiveRule> {
        let mut rules = self.rules();
        rules.retain(|rule| !rule.is_removed());
        let matches = |rule: &&ActiveRule| {
            let matched = open.read(|it| rule.0.rule.matches(&it.method, &it.path, &it.agent));
            matched && rule.0.rule.action != Action::FreezeOpenWatches && rule.claim()
        };
        rules.iter().find(matches).cloned()
    }

    /// The rule that keeps this watch silent.
    fn freezes(&self, open: &Open) -> Option<ActiveRule> {
        let freezes = |rule: &&ActiveRule| {
            open.read(|it| {
                let concerned = match rule.0.rule.action {
                    Action::FreezeWatches => true,
                    Action::FreezeOpenWatches => it.started < rule.0.added,
                    _ => false,
                };
                concerned && rule.0.rule.matches(&it.method, &it.path, &it.agent)
            })
        };
        let found = self.rules().iter().find(freezes).cloned();
        if let Some(rule) = &found {
            // Counts the events that are kept back.
            let _ = rule.claim();
        }
        found
    }

    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Reply {
        let (head, body) = request.into_parts();
        let (path, agent) = rules::described(&head);
        let open = self.record.open(head.method.clone(), path, agent);
        let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        let request = Request::from_parts(head, body);
        self.kept.add(&request);
        let request = request.map(Full::new);
        let latency = *self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let Some(rule) = self.claim(&open) else {
            return self.forward(&self.first, request, open).await;
        };
        match rule.0.rule.action.clone() {
            Action::Hang => {
                rule.until_removed().await;
                Err(closed())
            }
            Action::DelayRequest(by) => {
                tokio::time::sleep(by).await;
                self.forward_for(&rule, request, open).await
            }
            Action::CommitLate(by) => {
                // A task survives a client that gives up.
                detached(async move {
                    tokio::time::sleep(by).await;
                    self.forward_for(&rule, request, open).await
                })
                .await
            }
            Action::DelayReply(by) => {
                detached(async move {
                    let reply = self.forward_for(&rule, request, open).await;
                    tokio::select! {
                        () = tokio::time::sleep(by) => reply,
                        () = rule.until_removed() => Err(closed()),
                    }
                })
                .await
            }
            Action::DropReply => {
                let _ = detached(async move { self.forward_for(&rule, request, open).await }).await;
                Err(closed())
            }
            Action::PerSecond(number) => {
                tokio::time::sleep_until(rule.turn(number).into()).await;
                self.forward_for(&rule, request, open).await
            }
            Action::Answer(answer) => Ok(answered(&answer, &open)),
            Action::ToSecond => {
                let second = self.second.clone().expect("the control plane has a second API server");
                self.forward(&second, request, open).await
            }
            Action::FreezeOpenWatches | Action::FreezeWatches => {
                self.forward(&self.first, request, open).await
            }
        }
    }

    async fn forward_for(
        self: &Arc<Self>,
        rule: &ActiveRule,
        request: Request<Full<Bytes>>,
        open: Open,
    ) -> Reply {
        let reply = self.forward(&self.first, request, open).await;
        rule.committed();
        reply
    }

    /// Sends a request to an API server. The body of a watch is passed on as it arrives, any other one as a whole.
    async fn forward(
        self: &Arc<Self>,
        to: &Arc<Upstream>,
        request: Request<Full<Bytes>>,
        open: Open,
    ) -> Reply {
        let (response, connection) = to.send(request).await?;
        let (head, body) = response.into_parts();
        let retry_after = head.headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        open.change(|it| (it.status, it.heard) = (Some(head.status.as_u16()), Instant::now()));
        open.change(|it| it.retry_after = retry_after);
        if open.read(Exchange::is_watch) && head.status.is_success() {
            return Ok(Response::from_parts(head, self.passed_on(body, open)));
        }
        let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        to.keep(connection);
        Ok(Response::from_parts(head, Full::new(body).map_err(|never| match never {}).boxed_unsync()))
    }

    /// The body of a watch, which rules can keep silent and [`FaultProxy::close_watches`] can end.
    fn passed_on(self: &Arc<Self>, body: Incoming, open: Open) -> Content {
        let watched = Watched { shared: Arc::clone(self), body, open, closed: self.closed.subscribe() };
        let frames = stream::try_unfold(watched, |mut watched| async move {
            let frame = tokio::select! {
                frame = watched.body.frame() => frame,
                _ = watched.closed.changed() => return Err(closed()),
            };
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(std::io::Error::other)?;
            if let Some(rule) = watched.shared.freezes(&watched.open) {
                tokio::select! {
                    () = rule.until_removed() => {}
                    _ = watched.closed.changed() => {}
                }
                return Err(closed());
            }
            watched.open.change(|it| it.heard = Instant::now());
            Ok(Some((frame, watched)))
        });
        StreamBody::new(frames).boxed_unsync()
    }
}

struct Watched {
    shared: Arc<Shared>,
    body: Incoming,
    open: Open,
    closed: watch::Receiver<usize>,
}

fn closed() -> std::io::Error {
    std::io::Error::other("closed by a rule")
}

/// Runs a future in a task of its own.
async fn detached(work: impl Future<Output = Reply> + Send + 'static) -> Reply {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

fn answered(answer: &Answer, open: &Open) -> Response<Content> {
    open.change(|it| (it.status, it.retry_after) = (Some(answer.status), answer.retry_after));
    let mut response = Response::builder().status(answer.status).header("content-type", "application/json");
    if let Some(seconds) = answer.retry_after {
        response = response.header("retry-after", seconds);
    }
    let body = Full::new(Bytes::from(answer.body.clone())).map_err(|never| match never {});
    response.body(body.boxed_unsync()).expect("a status and headers of HTTP")
}
