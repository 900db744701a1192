//! Events about Namespaces. Each is written into its namespace, so that `kubectl get events -n NAMESPACE` shows them. A
//! condition that lasts is one Event with a count, even across restarts of the controller, and is updated at growing
//! intervals.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, sleep, sleep_until, timeout};
use tracing::{debug, warn};

use super::errors::{message, retry_after};
use crate::controller::tell::EventRecord;
use crate::core::turns::Turns;
use crate::core::{MANAGER, whole_seconds};

/// The maximum number of Events that wait, in all and of one namespace.
const MAX_QUEUED: usize = 1024;
const MAX_QUEUED_OF_NAMESPACE: usize = 8;
const MAX_SERIES: usize = 8192;
const MAX_PER_SECOND: u64 = 25;
const MIN_REPEAT_INTERVAL: Duration = Duration::from_secs(10);
/// The pause before an Event shows another condition.
const CHANGE_INTERVAL: Duration = Duration::from_secs(5);
const MAX_REPEAT_INTERVAL: Duration = Duration::from_mins(10);
/// The longest pause that an overloaded API server causes with `Retry-After`.
const MAX_PAUSE: Duration = Duration::from_mins(1);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// In characters.
const MAX_MESSAGE_LEN: usize = 1000;

/// Queues Events without waiting, and drops those above the limits: when the queue is half full, Normal ones.
#[derive(Clone)]
pub struct Recorder {
    queue: Arc<Mutex<Queue>>,
    /// Wakes the writer, which ends when all of these are dropped.
    wake: mpsc::Sender<()>,
}

impl Recorder {
    /// Returns a recorder, and the task that writes the Events, which ends when every recorder is dropped and the queue
    /// is empty.
    pub fn start(client: Client, instance: &str) -> (Self, JoinHandle<()>) {
        let (wake, woken) = mpsc::channel(1);
        let queue = Arc::new(Mutex::new(Queue::default()));
        let writer =
            Writer { client, instance: instance.to_owned(), series: HashMap::new(), later: HashMap::new() };
        let task = tokio::spawn(writer.run(queue.clone(), woken));
        (Self { queue, wake }, task)
    }

    pub fn record(&self, record: EventRecord) {
        if !lock(&self.queue).push(record) {
            debug!("dropped an Event: too many wait");
        }
        // A wake-up that is already on its way is enough.
        let _ = self.wake.try_send(());
    }
}

/// The Events that wait, in turn by namespace.
#[derive(Default)]
struct Queue(Turns<EventRecord>);

impl Queue {
    /// Returns whether there is room for the Event. It replaces one of the same reason and subject.
    fn push(&mut self, record: EventRecord) -> bool {
        let limit = if record.reason.is_warning() { MAX_QUEUED } else { MAX_QUEUED / 2 };
        let is_same =
            |queued: &EventRecord| (queued.reason, &queued.subject) == (record.reason, &record.subject);
        if let Some(queued) = self.0.find(&record.namespace, is_same) {
            *queued = record;
            return true;
        }
        let is_noisy = self.0.len_of(&record.namespace) >= MAX_QUEUED_OF_NAMESPACE;
        let has_room = self.0.len() < limit && !is_noisy;
        if has_room {
            self.0.push(&record.namespace.clone(), record);
        }
        has_room
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The Event of a condition that lasts.
struct Series {
    /// Includes the records that were not written yet. `None` if the Event was never written.
    count: Option<i32>,
    next_write: Instant,
    interval: Duration,
    written_at: Instant,
    condition: u64,
}

struct Writer {
    client: Client,
    instance: String,
    /// By the name of the Event.
    series: HashMap<String, Series>,
    /// The Events whose condition changed shortly after they were written, by name, and when they are written again.
    later: HashMap<String, (Instant, EventRecord)>,
}

impl Writer {
    async fn run(mut self, queue: Arc<Mutex<Queue>>, mut woken: mpsc::Receiver<()>) {
        let mut pace = tokio::time::interval(Duration::from_millis(1000 / MAX_PER_SECOND));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = self.later.values().map(|(at, _)| *at).min();
            let is_open = tokio::select! {
                wake = woken.recv() => wake.is_some(),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => true,
            };
            loop {
                let Some(record) = lock(&queue).0.pop() else { break };
                let name = self.name(&record);
                match self.due_at(&name, record.condition) {
                    Some(at) if at <= Instant::now() => {
                        pace.tick().await;
                        self.write_or_warn(name, &record).await;
                    }
                    Some(at) => _ = self.later.insert(name, (at, record)),
                    None => {}
                }
            }
            let now = Instant::now();
            let due: Vec<_> = self.later.extract_if(|_, (at, _)| *at <= now || !is_open).collect();
            for (name, (_, record)) in due {
                pace.tick().await;
                self.write_or_warn(name, &record).await;
            }
            if !is_open {
                return;
            }
        }
    }

    async fn write_or_warn(&mut self, name: String, record: &EventRecord) {
        let before = self.series.remove(&name);
        let count = before.as_ref().and_then(|series| series.count);
        let (written, demanded) = match timeout(CALL_TIMEOUT, self.write(&name, record, count)).await {
            Ok(Ok(count)) => (Ok(count), None),
            Ok(Err(error)) => (Err(message(&error)), retry_after(&error)),
            Err(_) => (Err("the API server did not respond in time".to_owned()), None),
        };
        let is_repeated = written.as_ref().is_ok_and(|count| *count > 1) || written.is_err();
        let longer = |series: Series| (series.interval * 2).min(MAX_REPEAT_INTERVAL);
        let interval = before.filter(|_| is_repeated).map_or(MIN_REPEAT_INTERVAL, longer);
        let (count, condition) = (written.as_ref().ok().copied().or(count), record.condition);
        let written_at = Instant::now();
        let next_write = written_at + interval;
        self.series.insert(name, Series { count, next_write, interval, written_at, condition });
        if let Err(reason) = written {
            let (namespace, event) = (&*record.namespace, record.reason.into_str());
            warn!(namespace, event, reason, "cannot write an Event");
        }
        if let Some(demanded) = demanded {
            // The API server is overloaded, so the other Events wait, too.
            sleep(demanded.min(MAX_PAUSE)).await;
        }
    }

    /// Counts a record, and returns when to write it; `None` if the Event shows it already.
    fn due_at(&mut self, name: &str, condition: u64) -> Option<Instant> {
        let now = Instant::now();
        if let Some(series) = self.series.get_mut(name) {
            series.count = series.count.map(|count| count.saturating_add(1));
            let changed = (series.condition != condition).then(|| series.written_at + CHANGE_INTERVAL);
            return Some(changed.map_or(series.next_write, |at| at.min(series.next_write)))
                .filter(|at| changed.is_some() || *at <= now);
        }
        if self.series.len() >= MAX_SERIES {
            self.series.retain(|_, series| series.next_write > now);
        }
        if self.series.len() >= MAX_SERIES {
            self.series.clear();
        }
        Some(now)
    }

    /// Updates the Event to `count`, or creates it, or continues the one from before a restart. Returns its count.
    async fn write(&self, name: &str, record: &EventRecord, count: Option<i32>) -> kube::Result<i32> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &record.namespace);
        if let Some(count) = count {
            match update(&api, name, Some(count), record).await {
                // The API server deletes Events after an hour.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                result => return result,
            }
        }
        match api.create(&PostParams::default(), &self.event(record, name)).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let count = update(&api, name, None, record).await?;
                update(&api, name, Some(count.saturating_add(1)), record).await
            }
            created => created.map(|_| 1),
        }
    }

    /// The name of the Event, which is the same after a restart.
    fn name(&self, record: &EventRecord) -> String {
        let mut hasher = DefaultHasher::new();
        self.instance.hash(&mut hasher);
        (&record.uid, record.reason.into_str(), &record.subject).hash(&mut hasher);
        format!("{MANAGER}.{:016x}", hasher.finish())
    }

    /// `involvedObject.namespace` is set although a Namespace has none: otherwise the API server accepts the Event only in
    /// the namespace `default`.
    fn event(&self, record: &EventRecord, name: &str) -> Event {
        let now = whole_seconds(Timestamp::now()).to_string();
        let namespace = &*record.namespace;
        let kind = if record.reason.is_warning() { "Warning" } else { "Normal" };
        let event = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": { "name": name, "namespace": namespace },
            "involvedObject": {
                "apiVersion": "v1", "kind": "Namespace", "name": namespace,
                "namespace": namespace, "uid": record.uid.to_string(),
            },
            "reason": record.reason.into_str(), "message": shortened(&record.message), "type": kind,
            "count": 1, "firstTimestamp": now, "lastTimestamp": now,
            "source": { "component": MANAGER },
            "reportingComponent": MANAGER, "reportingInstance": self.instance,
        });
        serde_json::from_value(event).expect("an Event of this form")
    }
}

/// Updates the message and time of an Event and, if given, its count. Returns the count.
async fn update(api: &Api<Event>, name: &str, count: Option<i32>, record: &EventRecord) -> kube::Result<i32> {
    let now = whole_seconds(Timestamp::now()).to_string();
    let mut patch = json!({ "lastTimestamp": now, "message": shortened(&record.message) });
    if let Some(count) = count {
        patch["count"] = count.into();
    }
    let event = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(event.count.unwrap_or(1))
}

fn shortened(message: &str) -> String {
    message.chars().take(MAX_MESSAGE_LEN).collect()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::Response;
    use http_body_util::Full;
    use hyper::body::Bytes;
    use kube::client::Body;

    use super::*;
    use crate::core::EventReason;
    use crate::kubernetes::client::with_layers;
    use crate::telemetry::metrics::Metrics;

    fn record(namespace: &str, reason: EventReason, subject: &str) -> EventRecord {
        let (namespace, subject) = (namespace.into(), subject.to_owned());
        EventRecord {
            namespace,
            uid: "u".into(),
            reason,
            message: "changed".to_owned(),
            condition: 0,
            subject,
        }
    }

    #[test]
    fn a_noisy_namespace_neither_delays_nor_displaces_the_events_of_another_one() {
        let mut queue = Queue::default();
        for n in 0..2_000 {
            queue.push(record("noisy", EventReason::InvalidAnnotation, &format!("key-{n}")));
        }
        assert_eq!(queue.0.len(), MAX_QUEUED_OF_NAMESPACE);
        assert!(queue.push(record("quiet", EventReason::InvalidAnnotation, "registries")));
        let order: Vec<_> =
            std::iter::from_fn(|| queue.0.pop()).take(2).map(|record| record.namespace).collect();
        assert_eq!(order, ["noisy".into(), Arc::from("quiet")]);
    }

    #[test]
    fn a_condition_that_waits_is_replaced_by_its_newer_message() {
        let mut queue = Queue::default();
        queue.push(record("a", EventReason::InvalidAnnotation, "role"));
        let newer = EventRecord {
            message: "newer".to_owned(),
            ..record("a", EventReason::InvalidAnnotation, "role")
        };
        assert!(queue.push(newer) && queue.0.len() == 1);
        assert_eq!(queue.0.pop().map(|record| record.message).as_deref(), Some("newer"));
        assert!(queue.0.is_empty());
    }

    #[test]
    fn normal_events_leave_room_for_warnings() {
        let mut queue = Queue::default();
        for n in 0..MAX_QUEUED {
            queue.push(record(&format!("team-{n}"), EventReason::SecretCreated, "ecr-pull"));
        }
        assert_eq!(queue.0.len(), MAX_QUEUED / 2);
        assert!(queue.push(record("late", EventReason::TokenFailed, "eu-west-1")));
    }

    /// Records an Event of each of these namespaces every second for `length`, while the API server refuses all of them. Returns
    /// the number of requests.
    async fn refused(namespaces: &[&str], length: Duration, retry_after: Option<u32>) -> usize {
        let requests = Arc::new(Mutex::new(0));
        let count = requests.clone();
        let service = tower::service_fn(move |_: http::Request<Body>| {
            *count.lock().expect("no panic") += 1;
            let mut response = Response::builder().status(if retry_after.is_some() { 429 } else { 403 });
            if let Some(seconds) = retry_after {
                response = response.header("retry-after", seconds);
            }
            // Priority and fairness refuse with a text, not with a Status.
            let body = Full::new(Bytes::from("Too many requests, please try again later."));
            async move { Ok::<_, Infallible>(response.body(body).expect("a response")) }
        });
        let client = Client::new(with_layers(service, Metrics::default()), "default");
        let (recorder, _writer) = Recorder::start(client, "test");
        let start = Instant::now();
        while start.elapsed() < length {
            for namespace in namespaces {
                recorder.record(record(namespace, EventReason::TokenFailed, "eu-west-1"));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        *requests.lock().expect("no panic")
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_is_refused_is_sent_again_at_growing_intervals() {
        let requests = refused(&["team-a"], Duration::from_hours(1), None).await;
        assert!((5..=13).contains(&requests), "{requests} requests in an hour");
    }

    #[tokio::test(start_paused = true)]
    async fn an_overloaded_api_server_gets_no_event_until_it_demands_one() {
        let requests = refused(&["team-a", "team-b", "team-c"], Duration::from_mins(5), Some(30)).await;
        assert!((5..=11).contains(&requests), "{requests} requests in five minutes");
    }
}
