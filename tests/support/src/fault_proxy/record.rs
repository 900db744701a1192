//! What went through the proxy, and what is still open.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use hyper::{Method, Request};

/// A request and what became of it.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// The `User-Agent`.
    pub agent: String,
    /// When the request arrived.
    pub started: Instant,
    /// The status of the reply, once the client has its head.
    pub status: Option<u16>,
    /// The header `Retry-After` of the reply.
    pub retry_after: Option<u64>,
    /// When the client last got bytes of the reply.
    pub heard: Instant,
    /// When the reply was complete, or either side gave up.
    pub ended: Option<Instant>,
}

impl Exchange {
    /// Whether it is a watch.
    pub fn is_watch(&self) -> bool {
        self.path.contains("watch=true")
    }
}

/// All exchanges of a proxy, in the order of arrival.
#[derive(Clone, Debug, Default)]
pub(super) struct Record(Arc<Mutex<Vec<Exchange>>>);

/// The requests that are kept, and the text that their path and query contain; `None` at first.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<Option<(String, Vec<Request<Bytes>>)>>);

impl Kept {
    pub(super) fn begin(&self, text: &str) {
        *self.lock() = Some((text.to_owned(), vec![]));
    }

    pub(super) fn add(&self, request: &Request<Bytes>) {
        if let Some((text, kept)) = self.lock().as_mut()
            && request.uri().to_string().contains(text.as_str())
        {
            kept.push(request.clone());
        }
    }

    pub(super) fn all(&self) -> Vec<Request<Bytes>> {
        self.lock().as_ref().map(|(_, kept)| kept.clone()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Option<(String, Vec<Request<Bytes>>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An exchange that is open until this is dropped.
pub(super) struct Open {
    record: Record,
    number: usize,
}

impl Record {
    pub(super) fn all(&self) -> MutexGuard<'_, Vec<Exchange>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self, method: Method, path: String, agent: String) -> Open {
        let now = Instant::now();
        let exchange = Exchange {
            method,
            path,
            agent,
            started: now,
            status: None,
            retry_after: None,
            heard: now,
            ended: None,
        };
        let mut all = self.all();
        all.push(exchange);
        Open { record: self.clone(), number: all.len() - 1 }
    }

    /// Open exchanges with a reply that is late, and open watches that were silent, for longer than this.
    pub(super) fn overdue(&self, unanswered: Duration, silent: Duration) -> Vec<Exchange> {
        let overdue = |exchange: &&Exchange| {
            let streams = exchange.is_watch() && exchange.status.is_some();
            let limit = if streams { silent } else { unanswered };
            let since = if streams { exchange.heard } else { exchange.started };
            exchange.ended.is_none() && since.elapsed() > limit
        };
        self.all().iter().filter(overdue).cloned().collect()
    }
}

impl Open {
    pub(super) fn change(&self, change: impl FnOnce(&mut Exchange)) {
        change(&mut self.record.all()[self.number]);
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&Exchange) -> T) -> T {
        read(&self.record.all()[self.number])
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.change(|exchange| exchange.ended = Some(Instant::now()));
    }
}
