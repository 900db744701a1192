//! What the proxy does with which request.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::Method;
use hyper::http::request::Parts;
use tokio::sync::watch;

/// What happens to a request that a rule matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The request is not sent and not answered. When the rule is removed, its connection is closed.
    Hang,
    /// The request is sent later. A client that gives up before cancels it.
    DelayRequest(Duration),
    /// The request is sent later, also if the client gave up: a late commit.
    CommitLate(Duration),
    /// The request is sent at once, and the reply is passed on later.
    DelayReply(Duration),
    /// The request is sent at once. Then the connection is closed without a reply.
    DropReply,
    /// The proxy replies itself.
    Answer(Answer),
    /// Requests are sent one after another, at most this many in a second.
    PerSecond(u32),
    /// Watches that are open when the rule is added become silent, without an end. When the rule is removed, their
    /// connections are closed.
    FreezeOpenWatches,
    /// As [`Action::FreezeOpenWatches`], and watches that begin later as well: they get a head and no event.
    FreezeWatches,
    /// The request goes to the second API server.
    ToSecond,
}

/// A reply of the proxy's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The header `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
    /// The body, as JSON.
    pub body: String,
}

impl Answer {
    /// A `Status` object of the Kubernetes API.
    pub fn status(status: u16, retry_after: Option<u64>) -> Self {
        let body = format!(
            r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","message":"injected","code":{status}}}"#
        );
        Self { status, retry_after, body }
    }
}

/// An [`Action`] and the requests that it is for: all of them, unless the rule is narrowed.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(super) action: Action,
    method: Option<Method>,
    path: Vec<String>,
    agent: String,
    times: usize,
}

impl Rule {
    /// A rule for every request.
    pub fn new(action: Action) -> Self {
        Self { action, method: None, path: vec![], agent: String::new(), times: usize::MAX }
    }

    /// Only requests with this method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.parse().expect("a method of HTTP"));
        self
    }

    /// Only requests whose path and query contain this text; `*` is any text in between.
    #[must_use]
    pub fn path(mut self, glob: &str) -> Self {
        self.path = glob.split('*').map(str::to_owned).collect();
        self
    }

    /// Only requests whose `User-Agent` contains this text.
    #[must_use]
    pub fn agent(mut self, text: &str) -> Self {
        text.clone_into(&mut self.agent);
        self
    }

    /// Only so many requests; later ones are passed on.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// Whether the rule is for requests with this method, path and agent.
    pub(super) fn matches(&self, method: &Method, path: &str, agent: &str) -> bool {
        self.method.as_ref().is_none_or(|wanted| wanted == method)
            && agent.contains(&self.agent)
            && contains_in_order(path, &self.path)
    }
}

fn contains_in_order(text: &str, pieces: &[String]) -> bool {
    let mut rest = text;
    pieces.iter().all(|piece| match rest.find(piece.as_str()) {
        Some(at) => {
            rest = &rest[at + piece.len()..];
            true
        }
        None => false,
    })
}

/// Path and query, and the `User-Agent`.
pub(super) fn described(head: &Parts) -> (String, String) {
    let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let agent = head.headers.get("user-agent").and_then(|agent| agent.to_str().ok());
    (path, agent.unwrap_or_default().to_owned())
}

/// A rule that was added to a proxy, and what it did so far.
#[derive(Clone, Debug)]
pub struct ActiveRule(pub(super) Arc<Active>);

#[derive(Debug)]
pub(super) struct Active {
    pub(super) rule: Rule,
    pub(super) added: Instant,
    hits: AtomicUsize,
    commits: AtomicUsize,
    pub(super) removed: watch::Sender<bool>,
    next_turn: Mutex<Instant>,
}

impl ActiveRule {
    pub(super) fn new(rule: Rule) -> Self {
        let now = Instant::now();
        Self(Arc::new(Active {
            rule,
            added: now,
            hits: AtomicUsize::new(0),
            commits: AtomicUsize::new(0),
            removed: watch::Sender::new(false),
            next_turn: Mutex::new(now),
        }))
    }

    /// How many requests it was applied to.
    pub fn hits(&self) -> usize {
        self.0.hits.load(Ordering::SeqCst)
    }

    /// How many of those the API server has answered.
    pub fn commits(&self) -> usize {
        self.0.commits.load(Ordering::SeqCst)
    }

    /// Ends the rule: requests that it holds end with their connections.
    pub fn remove(&self) {
        self.0.removed.send_replace(true);
    }

    pub(super) fn is_removed(&self) -> bool {
        *self.0.removed.borrow()
    }

    /// Counts a request, unless the rule had its number of them.
    pub(super) fn claim(&self) -> bool {
        let below = |hits| (hits < self.0.rule.times).then_some(hits + 1);
        self.0.hits.fetch_update(Ordering::SeqCst, Ordering::SeqCst, below).is_ok()
    }

    pub(super) fn committed(&self) {
        self.0.commits.fetch_add(1, Ordering::SeqCst);
    }

    /// When the next of so many requests a second may be sent.
    pub(super) fn turn(&self, per_second: u32) -> Instant {
        let mut next = self.0.next_turn.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = (*next).max(Instant::now());
        *next = turn + Duration::from_secs(1) / per_second;
        turn
    }

    /// Returns when the rule is removed.
    pub(super) async fn until_removed(&self) {
        // The sender is in `self`.
        let _ = self.0.removed.subscribe().wait_for(|removed| *removed).await;
    }
}
