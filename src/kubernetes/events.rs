//! Events about Namespaces. Each is written into its namespace, so that `kubectl get events -n NAMESPACE` shows them. A
//! condition that lasts is one Event with a count, even across restarts of the controller, and is updated at growing
//! intervals.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{debug, warn};

use super::errors::message;
use crate::controller::tell::EventRecord;
use crate::core::{MANAGER, whole_seconds};

const MAX_QUEUED: usize = 1024;
const MAX_SERIES: usize = 8192;
const MAX_PER_SECOND: u64 = 25;
const MIN_REPEAT_INTERVAL: Duration = Duration::from_secs(10);
const MAX_REPEAT_INTERVAL: Duration = Duration::from_mins(10);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// In characters.
const MAX_MESSAGE_LEN: usize = 1000;

/// Queues Events without waiting. When the queue is half full, it drops Normal Events; when it is full, it drops all.
#[derive(Clone)]
pub struct Recorder(mpsc::Sender<EventRecord>);

impl Recorder {
    /// Returns a recorder, and the task that writes the Events, which ends when every recorder is dropped and the queue
    /// is empty.
    pub fn start(client: Client, instance: &str) -> (Self, JoinHandle<()>) {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED);
        let writer = Writer { client, instance: instance.to_owned(), series: HashMap::new() };
        (Self(sender), tokio::spawn(writer.run(receiver)))
    }

    pub fn record(&self, record: EventRecord) {
        let accepted = record.reason.is_warning() || self.0.capacity() > MAX_QUEUED / 2;
        if accepted && self.0.try_send(record).is_err() {
            debug!("dropped an Event: the queue is full");
        }
    }
}

/// The Event of a condition that lasts.
struct Series {
    /// Includes the records that were not written yet. `None` if the Event was never written.
    count: Option<i32>,
    next_write: Instant,
    interval: Duration,
}

struct Writer {
    client: Client,
    instance: String,
    /// By the name of the Event.
    series: HashMap<String, Series>,
}

impl Writer {
    async fn run(mut self, mut records: mpsc::Receiver<EventRecord>) {
        let mut pace = tokio::time::interval(Duration::from_millis(1000 / MAX_PER_SECOND));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while let Some(record) = records.recv().await {
            let name = self.name(&record);
            if !self.is_due(&name) {
                continue;
            }
            pace.tick().await;
            let before = self.series.remove(&name);
            let count = before.as_ref().and_then(|series| series.count);
            let written = match tokio::time::timeout(CALL_TIMEOUT, self.write(&name, &record, count)).await {
                Ok(Ok(count)) => Ok(count),
                Ok(Err(error)) => Err(message(&error)),
                Err(_) => Err("the API server did not respond in time".to_owned()),
            };
            let is_repeated = written.as_ref().is_ok_and(|count| *count > 1) || written.is_err();
            let longer = |series: Series| (series.interval * 2).min(MAX_REPEAT_INTERVAL);
            let interval = before.filter(|_| is_repeated).map_or(MIN_REPEAT_INTERVAL, longer);
            let next_write = Instant::now() + interval;
            let series = Series { count: written.as_ref().ok().copied().or(count), next_write, interval };
            self.series.insert(name, series);
            if let Err(reason) = written {
                let (namespace, event) = (&*record.namespace, record.reason.into_str());
                warn!(namespace, event, reason, "cannot write an Event");
            }
        }
    }

    /// Counts the record, and returns whether to write it now.
    fn is_due(&mut self, name: &str) -> bool {
        let now = Instant::now();
        if let Some(series) = self.series.get_mut(name) {
            series.count = series.count.map(|count| count.saturating_add(1));
            return series.next_write <= now;
        }
        if self.series.len() >= MAX_SERIES {
            self.series.retain(|_, series| series.next_write > now);
        }
        if self.series.len() >= MAX_SERIES {
            self.series.clear();
        }
        true
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
                "namespace": namespace, "uid": &*record.uid,
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
