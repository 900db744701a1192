//! The watches against an API server whose connection is slow or broken, on a paused clock.

use std::convert::Infallible;
use std::sync::Mutex;

use futures::stream;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::core::testing;
use crate::kubernetes::client::with_layers;
use crate::telemetry::logs::testing::Log;
use crate::telemetry::metrics::Metrics;

const NAMESPACES: usize = 1_000;

/// How an API server responds.
#[derive(Clone, Copy)]
enum Behaviour {
    /// Each namespace of a streamed list takes this long.
    Slow(Duration),
    /// Each watch, including one that streams a list, ends at once.
    Ends,
    /// As `Ends`, and every tenth list request is refused.
    Refuses,
    /// No watch starts.
    Unavailable,
}

/// Counts the lists and the starts of watches.
#[derive(Clone, Default)]
struct Requests(Arc<Mutex<(u32, u32)>>);

impl Requests {
    fn counted(&self) -> (u32, u32) {
        *self.0.lock().expect("no panic")
    }

    fn respond(&self, behaviour: Behaviour, query: &str) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
        let is_watch = query.contains("watch=true");
        {
            let mut count = self.0.lock().expect("no panic");
            if is_watch {
                count.1 += 1;
            } else {
                count.0 += 1;
            }
            // Without a pause between them, the paused clock would stop.
            assert!(count.0 + count.1 < 10_000, "requests without end");
        }
        if matches!(behaviour, Behaviour::Refuses) && !is_watch && self.counted().0.is_multiple_of(10) {
            let refusal = Response::builder().status(429).header("Retry-After", "1");
            return refusal.body(http_body_util::Empty::new().boxed_unsync()).expect("a response");
        }
        if matches!(behaviour, Behaviour::Unavailable) && is_watch {
            let refusal = Response::builder().status(503);
            return refusal.body(http_body_util::Empty::new().boxed_unsync()).expect("a response");
        }
        if !is_watch {
            return Response::new(http_body_util::Full::new(page(query).to_string().into()).boxed_unsync());
        }
        let Behaviour::Slow(pause) = behaviour else {
            return Response::new(http_body_util::Empty::new().boxed_unsync());
        };
        let seconds = query.split('&').find_map(|pair| pair.strip_prefix("timeoutSeconds=")?.parse().ok());
        let end = Instant::now() + Duration::from_secs(seconds.expect("a limit"));
        let is_list = query.contains("sendInitialEvents=true");
        let lines = stream::unfold(0, move |sent| async move {
            let line = match sent {
                0..NAMESPACES if is_list => json!({"type": "ADDED", "object": namespace(sent)}),
                NAMESPACES if is_list => bookmark(),
                _ => {
                    tokio::time::sleep_until(end).await;
                    return None;
                }
            };
            let next = Instant::now() + pause;
            tokio::time::sleep_until(next.min(end)).await;
            (next <= end).then(|| (Ok(Frame::data(Bytes::from(format!("{line}\n")))), sent + 1))
        });
        Response::new(StreamBody::new(lines).boxed_unsync())
    }
}

fn namespace(number: usize) -> Value {
    let metadata =
        json!({"name": format!("team-{number}"), "uid": number.to_string(), "resourceVersion": "7"});
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata})
}

/// The end of a streamed list.
fn bookmark() -> Value {
    let annotations = json!({"k8s.io/initial-events-end": "true"});
    let metadata = json!({"resourceVersion": "7", "annotations": annotations});
    let object =
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata});
    json!({"type": "BOOKMARK", "object": object})
}

fn page(query: &str) -> Value {
    let value = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)?.parse::<usize>().ok());
    let start = value("continue=").unwrap_or(0);
    let end = (start + value("limit=").unwrap_or(NAMESPACES)).min(NAMESPACES);
    let rest = (end < NAMESPACES).then(|| end.to_string());
    let items: Vec<_> = (start..end).map(namespace).collect();
    let metadata = json!({"resourceVersion": "7", "continue": rest});
    json!({
        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": metadata, "items": items,
    })
}

/// Watches namespaces for so long. Returns the changes, and when each arrived.
async fn watched(
    behaviour: Behaviour,
    streaming: bool,
    length: Duration,
    requests: &Requests,
) -> Vec<(Duration, Change)> {
    let requests = requests.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let response = requests.respond(behaviour, request.uri().query().unwrap_or_default());
        async move { Ok::<_, Infallible>(response) }
    });
    let client = Client::new(with_layers(service, Metrics::default()), "default");
    let mut settings = testing::settings();
    (settings.names.secret_names, settings.names.retired_names) = (vec![], vec![]);
    settings.names.service_accounts = false;
    let start = Instant::now();
    let relists_when_lost = matches!(behaviour, Behaviour::Unavailable);
    let mut watches = super::start(&client, &Arc::new(settings), streaming, relists_when_lost);
    let mut changes = vec![];
    while let Ok(Some(change)) = tokio::time::timeout_at(start + length, watches.changes.recv()).await {
        changes.push((start.elapsed(), change));
    }
    changes
}

fn listed(changes: &[(Duration, Change)]) -> Vec<Duration> {
    let done = |change: &Change| matches!(change, Change::ListDone(WatchTarget::Namespaces));
    changes.iter().filter(|(_, change)| done(change)).map(|(at, _)| *at).collect()
}

/// 1,000 namespaces at 50 ms each, and 35 seconds for one watch request.
#[tokio::test(start_paused = true)]
async fn a_list_that_takes_longer_than_a_watch_request_is_completed_by_pages() {
    let (log, requests) = (Log::default(), Requests::default());
    let _guard = log.capture();
    let slow = Behaviour::Slow(Duration::from_millis(50));
    let changes = watched(slow, true, Duration::from_mins(5), &requests).await;
    assert!(
        listed(&changes).first().is_some_and(|at| *at < Duration::from_mins(1)),
        "{:?}",
        listed(&changes)
    );
    assert_eq!(log.text().matches("using paginated lists").count(), 1, "{}", log.text());
}

/// N47: a list has 40 pages here, so one of them is refused each time.
#[tokio::test(start_paused = true)]
async fn a_list_of_many_pages_is_completed_although_some_are_refused() {
    let requests = Requests::default();
    let changes = watched(Behaviour::Refuses, false, Duration::from_mins(5), &requests).await;
    assert!(
        listed(&changes).first().is_some_and(|at| *at < Duration::from_mins(1)),
        "{:?}, {:?}",
        listed(&changes),
        requests.counted()
    );
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_at_once_are_started_again_with_growing_pauses() {
    for streaming in [true, false] {
        let requests = Requests::default();
        let changes = watched(Behaviour::Ends, streaming, Duration::from_mins(10), &requests).await;
        assert!(!listed(&changes).is_empty(), "lists succeed");
        let (lists, watches) = requests.counted();
        assert!(lists <= 2 * 40 && watches < 40, "{lists} lists and {watches} watches in ten minutes");
    }
}

/// N74: behind a proxy, the API server may have been restored from a backup meanwhile.
#[tokio::test(start_paused = true)]
async fn without_leader_election_a_watch_that_a_proxy_refuses_lists_again() {
    let requests = Requests::default();
    let changes = watched(Behaviour::Unavailable, false, Duration::from_mins(5), &requests).await;
    assert!((3..=40).contains(&listed(&changes).len()), "{:?}", listed(&changes));
}

/// A new list corrects everything that a watch missed.
#[tokio::test(start_paused = true)]
async fn a_watch_lists_again_every_few_hours() {
    for streaming in [true, false] {
        let requests = Requests::default();
        let ready = Behaviour::Slow(Duration::from_micros(10));
        let changes = watched(ready, streaming, Duration::from_hours(13), &requests).await;
        let listed = listed(&changes);
        assert!((4..=5).contains(&listed.len()), "{listed:?}");
        let period = Duration::from_hours(3)..=Duration::from_hours(4) + Duration::from_mins(1);
        assert!(
            listed.windows(2).all(|pair| period.contains(&pair[1].saturating_sub(pair[0]))),
            "{listed:?}"
        );
    }
}
