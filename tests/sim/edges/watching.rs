//! Lists by pages, and watches: streamed lists, events, bookmarks, and the end of a watch after its time.

use std::convert::Infallible;
use std::time::Duration;

use futures::stream;
use http::Response;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until};

use super::call::Call;
use super::objects::shown;
use super::server::{Guard, Reply, Server, State, failure, reply};
use crate::store::{Event, Key, Kind, Object};

/// How often a watch without events gets a bookmark.
const BOOKMARK: Duration = Duration::from_mins(1);

/// What is sent to a watch.
enum Line {
    Event(Instant, Value),
    /// Nothing follows, and the watch stays open: its connection is dead.
    Silence,
    /// The API server ends the watch.
    End,
}

pub struct Subscription {
    kind: Kind,
    name: Option<String>,
    lines: UnboundedSender<Line>,
}

impl Subscription {
    fn covers(&self, key: &Key) -> bool {
        key.kind == self.kind && self.name.as_ref().is_none_or(|name| **name == *key.name)
    }

    pub fn send(&self, event: &Event, at: Instant, instance: &str) {
        if self.covers(&event.key) {
            let _ = self.lines.send(Line::Event(at, as_event(event, instance)));
        }
    }
}

fn as_event(event: &Event, instance: &str) -> Value {
    let (name, object) = match (&event.before, &event.after) {
        (None, Some(after)) => ("ADDED", after),
        (Some(_), Some(after)) => ("MODIFIED", after),
        (Some(before), None) => ("DELETED", before),
        (None, None) => unreachable!("a change has an object"),
    };
    let mut object = shown(&event.key, object, instance);
    object["metadata"]["resourceVersion"] = event.version.to_string().into();
    json!({"type": name, "object": object})
}

fn types(kind: &Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::ServiceAccount => ("v1", "ServiceAccount"),
        _ => ("meta.k8s.io/v1", "PartialObjectMetadata"),
    }
}

fn bookmark(kind: &Kind, version: u64, ends_list: bool) -> Value {
    let (api, kind) = types(kind);
    let annotations = ends_list.then(|| json!({"k8s.io/initial-events-end": "true"}));
    let metadata =
        json!({"resourceVersion": version.to_string(), "annotations": annotations.unwrap_or(json!({}))});
    json!({"type": "BOOKMARK", "object": {"apiVersion": api, "kind": kind, "metadata": metadata}})
}

impl State {
    /// One page of a list. Its continuation names the version of the first page and the offset.
    pub fn page(&self, call: &Call) -> Response<Reply> {
        let (kind, name) = call.collection().expect("the shape is a collection");
        let namespace = call.names().0;
        let (version, offset) = match call.query.get("continue").map(|text| text.split_once('-')) {
            None => (self.store.version, 0),
            Some(at) => {
                let (version, offset) = at.expect("a continuation of the service");
                (version.parse().expect("a version"), offset.parse::<usize>().expect("an offset"))
            }
        };
        if version < self.oldest {
            return failure(410, "Expired", "the continuation is too old");
        }
        let objects = self.store.at(version);
        let is_within = |key: &Key| namespace.is_empty() || *namespace == *key.namespace;
        let is_named = |key: &Key| name.is_none_or(|name| *name == *key.name);
        let covered = objects.iter().filter(|(key, _)| key.kind == kind && is_within(key) && is_named(key));
        let all: Vec<(&Key, &Object)> = covered.map(|(key, object)| (key, &**object)).collect();
        let limit = call.number("limit").map_or(usize::MAX, |limit| usize::try_from(limit).expect("a page"));
        let end = offset.saturating_add(limit).min(all.len());
        let instance = &self.settings.names.instance;
        let items: Vec<_> =
            all[offset..end].iter().map(|(key, object)| shown(key, object, instance)).collect();
        let rest = (end < all.len()).then(|| format!("{version}-{end}"));
        let (api, kind) = types(&kind);
        let metadata = json!({"resourceVersion": version.to_string(), "continue": rest});
        reply(
            200,
            &json!({"apiVersion": api, "kind": format!("{kind}List"), "metadata": metadata, "items": items}),
        )
    }

    /// What a watch starts with: the present objects and a bookmark for a streamed list, otherwise the changes since the
    /// version, or 410.
    fn first_lines(&self, call: &Call, kind: &Kind, subscription: &Subscription) -> Vec<Value> {
        let instance = &self.settings.names.instance;
        let version = call.number("resourceVersion").unwrap_or(0);
        if call.flag("sendInitialEvents") {
            let covered = self.store.objects.iter().filter(|(key, _)| subscription.covers(key));
            let added = |(key, object): (&Key, &std::sync::Arc<Object>)| json!({"type": "ADDED", "object": shown(key, object, instance)});
            let end = bookmark(kind, self.store.version, true);
            return covered.map(added).chain([end]).collect();
        }
        if version < self.oldest {
            let gone = json!({
                "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 410, "reason": "Expired",
                "message": "too old resource version",
            });
            return vec![json!({"type": "ERROR", "object": gone})];
        }
        let later = self.store.history.iter().filter(|event| event.version > version);
        later.filter(|event| subscription.covers(&event.key)).map(|event| as_event(event, instance)).collect()
    }

    /// Every open watch stays open, and nothing arrives on it any more.
    pub fn silence_watches(&mut self) {
        self.oracles.not_answered();
        self.send_to_all(|| Line::Silence);
    }

    /// The API server ends every open watch.
    pub fn end_watches(&mut self) {
        self.send_to_all(|| Line::End);
    }

    fn send_to_all(&self, line: impl Fn() -> Line) {
        for watch in self.watches.values() {
            let _ = watch.lines.send(line());
        }
    }
}

impl Server {
    pub fn watch(&self, call: &Call, guard: Guard) -> Response<Reply> {
        let (kind, name) = call.collection().expect("the shape is a collection");
        let (sender, lines) = unbounded_channel();
        let subscription = Subscription { kind: kind.clone(), name: name.map(str::to_owned), lines: sender };
        let mut state = self.state();
        let at = Instant::now() + state.latency;
        for line in state.first_lines(call, &kind, &subscription) {
            let _ = subscription.lines.send(Line::Event(at, line));
        }
        state.watches.insert(guard.id, subscription);
        state.oracles.arrived(guard.id);
        let lasts = Duration::from_secs(call.number("timeoutSeconds").unwrap_or(1_800));
        let end = Instant::now() + lasts;
        drop(state);
        let watch = Watch { guard, kind, lines, end, bookmark: Instant::now() + BOOKMARK };
        let body = stream::unfold(watch, async |mut watch| {
            let line = watch.next().await?;
            let text = Bytes::from(format!("{line}\n"));
            Some((Ok::<_, Infallible>(Frame::data(text)), watch))
        });
        Response::new(StreamBody::new(body).boxed_unsync())
    }
}

/// The body of a watch.
struct Watch {
    guard: Guard,
    kind: Kind,
    lines: UnboundedReceiver<Line>,
    end: Instant,
    bookmark: Instant,
}

impl Watch {
    /// The next line; `None` when the time of the watch is over.
    async fn next(&mut self) -> Option<Value> {
        let line = tokio::select! {
            biased;
            line = self.lines.recv() => line?,
            () = sleep_until(self.bookmark) => {
                self.bookmark += BOOKMARK;
                let version = self.guard.server.state().store.version;
                Line::Event(Instant::now(), bookmark(&self.kind, version, false))
            }
            () = sleep_until(self.end) => return None,
        };
        let (at, line) = match line {
            Line::Event(at, line) => (at, line),
            Line::Silence => std::future::pending().await,
            Line::End => return None,
        };
        sleep_until(at).await;
        self.guard.server.state().oracles.arrived(self.guard.id);
        Some(line)
    }
}
