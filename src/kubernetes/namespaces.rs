//! The Namespaces: as a change of the watch, and, in single-namespace mode, read one by one. A Role in a namespace can allow `get`
//! of that Namespace, but no list and no watch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client};
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep;
use tracing::{info, warn};

use super::errors::message;
use super::observe;
use crate::controller::change::{Change, WatchTarget};
use crate::core::plan::Backoff;
use crate::core::settings::Settings;

/// How often each Namespace is read.
const PERIOD: Duration = Duration::from_mins(1);
/// The pause before a refused read is repeated: the API server may not know a new Role yet.
const REFUSAL_PAUSE: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(15);

/// The change that an object of the watch is; `None` without a name.
pub fn change(meta: &ObjectMeta, deleted: bool, settings: &Settings) -> Option<Change> {
    let namespace = meta.name.as_deref()?.into();
    let record = if deleted { None } else { observe::namespace(meta, settings) };
    if !deleted
        && record.is_none()
        && let Some(missed) = observe::missed_opt_in(meta, settings)
    {
        return Some(Change::MissedOptIn { namespace, missed: Box::new(missed) });
    }
    let terminating = !deleted && meta.deletion_timestamp.is_some();
    Some(Change::Namespace { namespace, record, terminating })
}

/// A Namespace whose annotations cannot be read: the configuration alone opts it in.
pub fn unread(namespace: &str) -> ObjectMeta {
    ObjectMeta { name: Some(namespace.to_owned()), ..ObjectMeta::default() }
}

/// The state of a Namespace, as it was read.
#[derive(Default)]
struct Known {
    answer: Answer,
    /// Whether the last read was refused.
    refused: bool,
}

/// The last answer about a Namespace.
#[derive(Default)]
enum Answer {
    #[default]
    Pending,
    Missing,
    Found(Box<ObjectMeta>),
    /// Its annotations do not count.
    Forbidden,
}

impl Known {
    fn is_pending(&self) -> bool {
        matches!(self.answer, Answer::Pending)
    }
}

/// Reads each Namespace again and again, and reports them as a watch does, until the receiver of `changes` is dropped. Notifies
/// `listed` after each report.
pub async fn poll(
    client: Client,
    settings: Arc<Settings>,
    changes: mpsc::Sender<Change>,
    relist: Arc<Notify>,
    listed: Arc<Notify>,
) {
    let api: Api<Namespace> = Api::all(client);
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    let mut failures = 0;
    loop {
        let only = &settings.namespace_selector.only;
        let reads = join_all(only.iter().map(|namespace| read(&api, namespace))).await;
        for (namespace, result) in only.iter().zip(reads) {
            learn(known.entry(namespace.to_string()).or_default(), namespace, result);
        }
        let is_pending = known.values().any(Known::is_pending);
        let is_doubtful = known.values().any(|known| known.is_pending() && known.refused);
        let pause = if is_pending {
            failures += 1;
            if is_doubtful {
                REFUSAL_PAUSE
            } else {
                Backoff::CALLS.delay(failures, settings.jitter, &"namespaces")
            }
        } else {
            failures = 0;
            let reported = known.iter().filter_map(|(namespace, known)| report(namespace, known, &settings));
            let started = Change::ListStarted(WatchTarget::Namespaces);
            let done = Change::ListDone(WatchTarget::Namespaces);
            for change in [started].into_iter().chain(reported).chain([done]).collect::<Vec<_>>() {
                if changes.send(change).await.is_err() {
                    return;
                }
            }
            listed.notify_one();
            PERIOD
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = relist.notified() => {}
        }
    }
}

async fn read(api: &Api<Namespace>, namespace: &str) -> Result<Option<ObjectMeta>, kube::Error> {
    match tokio::time::timeout(TIMEOUT, api.get_metadata_opt(namespace)).await {
        Ok(result) => result.map(|found| found.map(|found| found.metadata)),
        Err(_) => Err(kube::Error::Service("the API server did not respond in time".into())),
    }
}

/// Takes the answer. A failure changes nothing. A refusal counts once it is repeated: then the annotations do not count.
fn learn(known: &mut Known, namespace: &str, result: Result<Option<ObjectMeta>, kube::Error>) {
    match result {
        Ok(meta) => {
            let answer = meta.map_or(Answer::Missing, |meta| Answer::Found(Box::new(meta)));
            *known = Known { answer, refused: false };
        }
        Err(kube::Error::Api(status)) if status.code == 403 => {
            if known.refused && !matches!(known.answer, Answer::Forbidden) {
                info!(namespace, "no permission to read the Namespace: its annotations do not count");
                known.answer = Answer::Forbidden;
            }
            known.refused = true;
        }
        Err(error) => warn!(namespace, reason = message(&error), "cannot read the Namespace, retrying"),
    }
}

fn report(namespace: &str, known: &Known, settings: &Settings) -> Option<Change> {
    match &known.answer {
        Answer::Pending => None,
        Answer::Found(meta) => change(meta, false, settings),
        Answer::Forbidden => change(&unread(namespace), false, settings),
        Answer::Missing => change(&unread(namespace), true, settings),
    }
}
