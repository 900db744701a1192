//! Events about Namespaces, written into the very namespace, so that `kubectl get events -n NS` shows them.
//! A condition that lasts is one Event with a count, and costs ever fewer writes.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
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

use super::write::message;
use crate::core::{MANAGER, whole_seconds};

const WAITING: usize = 1024;
const REMEMBERED: usize = 8192;
const PER_SECOND: u64 = 25;
const FIRST_REPEAT: Duration = Duration::from_secs(10);
const LAST_REPEAT: Duration = Duration::from_mins(10);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const LONGEST_MESSAGE: usize = 1000;

/// What happened, by the names that the documentation lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A Secret was created.
    SecretCreated,
    /// A Secret that somebody edited was put right.
    SecretRepaired,
    /// A Secret was deleted.
    SecretDeleted,
    /// What had failed works again.
    SecretRecovered,
    /// An annotation is wrong.
    InvalidAnnotation,
    /// The Secret's name is taken, or the Secret cannot be changed.
    SecretNotOwned,
    /// An annotation asks for what is not granted.
    IdentityNotGranted,
    /// AWS gave no (better) token.
    TokenFailed,
    /// The API server refused a write.
    WriteFailed,
}

impl Reason {
    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SecretCreated => "SecretCreated",
            Self::SecretRepaired => "SecretRepaired",
            Self::SecretDeleted => "SecretDeleted",
            Self::SecretRecovered => "SecretRecovered",
            Self::InvalidAnnotation => "InvalidAnnotation",
            Self::SecretNotOwned => "SecretNotOwned",
            Self::IdentityNotGranted => "IdentityNotGranted",
            Self::TokenFailed => "TokenFailed",
            Self::WriteFailed => "WriteFailed",
        }
    }

    /// Whether it is a Warning.
    pub fn is_warning(self) -> bool {
        !matches!(
            self,
            Self::SecretCreated | Self::SecretRepaired | Self::SecretDeleted | Self::SecretRecovered
        )
    }
}

/// Something to tell about a namespace.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Where.
    pub namespace: Arc<str>,
    /// The Namespace's UID, if known.
    pub uid: Box<str>,
    /// What.
    pub reason: Reason,
    /// In words. Notices of one namespace and reason about one subject are one Event.
    pub message: String,
    /// What it is about, where one namespace can have several of a reason.
    pub subject: String,
}

/// Takes notices without ever waiting; what is too much is dropped, warnings last.
#[derive(Clone)]
pub struct Recorder(mpsc::Sender<Notice>);

impl Recorder {
    /// A recorder, and the task that writes what it takes; it ends when every recorder is gone and all is written.
    pub fn start(client: Client, instance: &str) -> (Self, JoinHandle<()>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let writer = Writer { client, instance: instance.to_owned(), known: HashMap::new() };
        (Self(sender), tokio::spawn(writer.run(receiver)))
    }

    /// Hands a notice over.
    pub fn record(&self, notice: Notice) {
        let room = self.0.capacity();
        if (notice.reason.is_warning() || room > WAITING / 2) && self.0.try_send(notice).is_err() {
            debug!("an Event was dropped: too many are waiting");
        }
    }
}

struct Known {
    name: String,
    count: i32,
    pending: i32,
    next: Instant,
    interval: Duration,
}

struct Writer {
    client: Client,
    instance: String,
    known: HashMap<u64, Known>,
}

impl Writer {
    async fn run(mut self, mut notices: mpsc::Receiver<Notice>) {
        let mut pace = tokio::time::interval(Duration::from_millis(1000 / PER_SECOND));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while let Some(notice) = notices.recv().await {
            let Some((key, known)) = self.due(&notice) else { continue };
            pace.tick().await;
            let written = tokio::time::timeout(CALL_TIMEOUT, self.write(&notice, known)).await;
            match written {
                Ok(Ok(known)) => {
                    self.known.insert(key, known);
                }
                Ok(Err(error)) => {
                    let (namespace, reason) = (&notice.namespace, message(&error));
                    warn!(%namespace, event = notice.reason.as_str(), reason, "Event not written");
                }
                Err(_) => warn!(namespace = %notice.namespace, "Event not written: no answer in time"),
            }
        }
    }

    /// The Event that the notice belongs to, if it is to be written now; else it is only counted.
    fn due(&mut self, notice: &Notice) -> Option<(u64, Option<Known>)> {
        let mut hasher = DefaultHasher::new();
        (&notice.namespace, &notice.uid, notice.reason, &notice.subject).hash(&mut hasher);
        let key = hasher.finish();
        let now = Instant::now();
        if let Some(known) = self.known.get_mut(&key) {
            known.pending = known.pending.saturating_add(1);
            if known.next > now {
                return None;
            }
        } else if self.known.len() >= REMEMBERED {
            self.known.retain(|_, known| known.next > now);
            if self.known.len() >= REMEMBERED {
                self.known.clear();
            }
        }
        Some((key, self.known.remove(&key)))
    }

    async fn write(&self, notice: &Notice, known: Option<Known>) -> Result<Known, kube::Error> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &notice.namespace);
        if let Some(mut known) = known {
            let interval = (known.interval * 2).min(LAST_REPEAT);
            known.count = known.count.saturating_add(known.pending);
            match count(&api, &known.name, Some(known.count), notice).await {
                Ok(_) => {
                    return Ok(Known { pending: 0, next: Instant::now() + interval, interval, ..known });
                }
                // Events live an hour; one that is gone begins anew.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        let name = self.name(notice);
        let begun = match api.create(&PostParams::default(), &self.event(notice, &name)).await {
            Ok(_) => 1,
            // Ours from before a restart: the reply tells its count.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let before = count(&api, &name, None, notice).await?;
                count(&api, &name, Some(before.saturating_add(1)), notice).await?
            }
            Err(error) => return Err(error),
        };
        let next = Instant::now() + FIRST_REPEAT;
        Ok(Known { name, count: begun, pending: 0, next, interval: FIRST_REPEAT })
    }

    /// One name for one lasting condition, also after a restart.
    fn name(&self, notice: &Notice) -> String {
        let mut hasher = DefaultHasher::new();
        (&self.instance, &notice.uid, notice.reason, &notice.subject).hash(&mut hasher);
        format!("{MANAGER}.{:016x}", hasher.finish())
    }

    /// An Event in the namespace that it is about. Without `involvedObject.namespace` the API server refuses
    /// it there, for a Namespace has none.
    fn event(&self, notice: &Notice, name: &str) -> Event {
        let now = whole_seconds(Timestamp::now()).to_string();
        let kind = if notice.reason.is_warning() { "Warning" } else { "Normal" };
        let event = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": { "name": name, "namespace": &*notice.namespace },
            "involvedObject": {
                "apiVersion": "v1", "kind": "Namespace", "name": &*notice.namespace,
                "namespace": &*notice.namespace, "uid": &*notice.uid,
            },
            "reason": notice.reason.as_str(), "message": shortened(&notice.message), "type": kind,
            "count": 1, "firstTimestamp": now, "lastTimestamp": now,
            "source": { "component": MANAGER },
            "reportingComponent": MANAGER, "reportingInstance": self.instance,
        });
        serde_json::from_value(event).expect("an Event of this form")
    }
}

async fn count(
    api: &Api<Event>,
    name: &str,
    count: Option<i32>,
    notice: &Notice,
) -> Result<i32, kube::Error> {
    let mut patch = json!({ "lastTimestamp": whole_seconds(Timestamp::now()).to_string(), "message": shortened(&notice.message) });
    if let Some(count) = count {
        patch["count"] = count.into();
    }
    let event = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(event.count.unwrap_or(1))
}

fn shortened(message: &str) -> String {
    message.chars().take(LONGEST_MESSAGE).collect()
}
