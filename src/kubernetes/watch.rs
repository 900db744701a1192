//! The watches: one of all Namespaces, or regular reads of a few ([`namespaces`]), one of the Secrets of each allowed name, and, if they are configured, one of all
//! service accounts and one of each Secret with static entries. Each object becomes a small record; nothing else is
//! kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::client::WATCH_TIMEOUT;
use super::errors::message;
use super::merged::{self, Interruption, Item};
use super::observe::{self, resource_version};
use super::{namespaces, pages, scope};
use crate::controller::change::{Change, Seen, WatchTarget};
use crate::core::plan::Backoff;
use crate::core::settings::Settings;
use crate::core::{Jitter, SECRET_KEY, one_line};

/// The number of objects in one page of a list. A page is the largest response in memory, and the metadata of an object can
/// have more than a megabyte. Service accounts are listed as whole objects.
const PAGE_SIZE: u32 = 25;
const SERVICE_ACCOUNT_PAGE_SIZE: u32 = 10;

/// The maximum number of changes that wait for the controller. The watches pause while the queue is full.
const CHANGE_CAPACITY: usize = 256;

/// How often each watch lists again, less up to a quarter: whatever a watch has missed is noticed then.
const RESYNC_PERIOD: Duration = Duration::from_hours(4);

/// kube's default backoff resets slowly, which is an unnecessary delay for a client with few watches.
pub(super) const BACKOFF: Backoff =
    Backoff { base: Duration::from_millis(500), cap: Duration::from_secs(30) };

/// The watches that the configuration requires.
pub fn targets(settings: &Settings) -> Vec<WatchTarget> {
    let secrets = settings.names.all().cloned().map(WatchTarget::Secrets);
    let service_accounts = settings.names.service_accounts.then_some(WatchTarget::ServiceAccounts);
    let sources: BTreeSet<_> = settings.static_grants.iter().map(|grant| grant.secret.clone()).collect();
    let sources = sources.into_iter().map(WatchTarget::StaticSource);
    [WatchTarget::Namespaces].into_iter().chain(secrets).chain(service_accounts).chain(sources).collect()
}

/// The running watches.
pub struct Watches {
    pub tasks: JoinSet<()>,
    /// Both ends of the queue of changes. It is closed once the receiver is dropped.
    pub sender: mpsc::Sender<Change>,
    pub changes: mpsc::Receiver<Change>,
    pub relists: Relists,
}

/// Makes single watches list again.
#[derive(Clone, Default)]
pub struct Relists(BTreeMap<WatchTarget, Arc<Notify>>);

impl Relists {
    pub fn request(&self, target: &WatchTarget) {
        if let Some(relist) = self.0.get(target) {
            relist.notify_one();
        }
    }
}

/// Starts the watches that the configuration requires. An API server whose etcd was restored from a backup keeps a watch
/// silent that resumes from a later version. The leader election notices that by the Lease. Without one, `relists_when_lost`,
/// each watch lists again after it lost its connection.
pub fn start(client: &Client, settings: &Arc<Settings>, streaming: bool, relists_when_lost: bool) -> Watches {
    let client = &pages::repeating(client, settings.jitter);
    let (sender, changes) = mpsc::channel(CHANGE_CAPACITY);
    let (mut tasks, mut relists) = (JoinSet::new(), Relists::default());
    let namespaces_listed = Arc::<Notify>::default();
    for target in targets(settings) {
        let relist = relists.0.entry(target.clone()).or_default().clone();
        let (jitter, changes, namespaces_listed) =
            (settings.jitter, sender.clone(), namespaces_listed.clone());
        let watch =
            Watch { target, jitter, streaming, relists_when_lost, changes, relist, namespaces_listed };
        tasks.spawn(run(client.clone(), settings.clone(), watch));
    }
    Watches { tasks, sender, changes, relists }
}

/// Lists and watches, and restarts after each interruption, until the receiver of `changes` is dropped.
async fn run(client: Client, settings: Arc<Settings>, watch: Watch) {
    let seconds = u32::try_from(WATCH_TIMEOUT.as_secs()).expect("less than a minute");
    let all = watcher::Config::default().timeout(seconds);
    let named = |name: &str| all.clone().fields(&format!("metadata.name={name}"));
    let owned = &settings.names;
    match watch.target.clone() {
        WatchTarget::Namespaces if settings.namespace_selector.is_single() => {
            let Watch { changes, relist, namespaces_listed, .. } = watch;
            namespaces::poll(client, settings.clone(), changes, relist, namespaces_listed).await;
        }
        WatchTarget::Namespaces => {
            let change = |object: &PartialObjectMeta<Namespace>, deleted: bool| {
                namespaces::change(&object.metadata, deleted, &settings)
            };
            watch.run(&[Api::all(client)], all, change).await;
        }
        WatchTarget::Secrets(name) => {
            let change = |object: &PartialObjectMeta<Secret>, deleted| {
                let meta = &object.metadata;
                let namespace = meta.namespace.as_deref()?.into();
                let seen = seen(meta, deleted, || observe::secret(meta, &settings));
                Some(Change::Secret { namespace, name: name.clone(), seen })
            };
            watch.run(&scope::apis(&client, &settings), named(&name), change).await;
        }
        WatchTarget::ServiceAccounts => {
            // The controller keeps the service accounts of namespaces that opted in, so it must know these first. Otherwise it
            // would list those of each of them.
            watch.namespaces_listed.notified().await;
            let change = |object: &ServiceAccount, deleted| {
                let meta = &object.metadata;
                let (namespace, name) = (meta.namespace.as_deref()?.into(), meta.name.as_deref()?.into());
                let seen = seen(meta, deleted, || observe::service_account(object, owned));
                Some(Change::ServiceAccount { namespace, name, seen })
            };
            watch.run(&scope::apis(&client, &settings), all, change).await;
        }
        WatchTarget::StaticSource(name) => {
            let change = |object: &Secret, deleted| Some(static_source(&name, object, deleted));
            watch.run(&[Api::default_namespaced(client)], named(&name), change).await;
        }
    }
}

fn static_source(name: &Arc<str>, secret: &Secret, deleted: bool) -> Change {
    let source = observe::static_source(secret);
    if deleted {
        warn!(secret = &**name, "the secret with static entries was deleted; copies of its entries are kept");
    } else if source.entries.is_empty() {
        warn!(secret = &**name, "the secret with static entries has no usable entry under {SECRET_KEY}");
    }
    Change::StaticSource { name: name.clone(), source: (!deleted).then_some(source) }
}

fn seen<T>(meta: &ObjectMeta, deleted: bool, record: impl FnOnce() -> T) -> Seen<T> {
    if deleted { Seen::Deleted(resource_version(meta)) } else { Seen::Present(record()) }
}

/// The watch of one target.
struct Watch {
    target: WatchTarget,
    jitter: Jitter,
    streaming: bool,
    relists_when_lost: bool,
    changes: mpsc::Sender<Change>,
    relist: Arc<Notify>,
    /// Notified when the changes of a list of Namespaces were sent.
    namespaces_listed: Arc<Notify>,
}

impl Watch {
    async fn run<K>(
        mut self,
        apis: &[Api<K>],
        config: watcher::Config,
        to_change: impl Fn(&K, bool) -> Option<Change>,
    ) where
        K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
    {
        let (mut failures, mut listed_at) = (0, None);
        loop {
            let config = config.clone();
            let page_size = match self.target {
                WatchTarget::ServiceAccounts => SERVICE_ACCOUNT_PAGE_SIZE,
                _ => PAGE_SIZE,
            };
            let config = if self.streaming { config.streaming_lists() } else { config.page_size(page_size) };
            let mut events = merged::events(apis, &config, self.jitter, &self.target);
            let resync = RESYNC_PERIOD.mul_f64(1.0 - 0.25 * self.jitter.fraction(&self.target));
            let resync = sleep(resync);
            tokio::pin!(resync);
            loop {
                let event = tokio::select! {
                    event = events.next() => match event {
                        Some(event) => event,
                        None => break,
                    },
                    () = self.relist.notified() => break,
                    () = &mut resync => break,
                };
                // The start of a list does not mean that it succeeds, nor its end that the watch that follows does.
                failures = match &event {
                    Ok(Event::Init | Event::InitApply(_)) => failures,
                    Ok(Event::InitDone) => {
                        listed_at = Some(Instant::now());
                        failures
                    }
                    Ok(_) => 0,
                    Err(_) if listed_at.take().is_some_and(|at| at.elapsed() > BACKOFF.cap) => 1,
                    Err(_) => failures + 1,
                };
                // With HTTP/1.1, the client does not report a connection that a proxy cuts. The proxy may refuse the next request.
                let is_lost = event.as_ref().is_err_and(|error| matches!(describe(error).0, 0 | 500..));
                if self.streaming
                    && let Err(error) = &event
                    && cannot_stream(error)
                {
                    // kube's watcher has no fallback and would repeat the same request. Each page has its own time limit.
                    self.streaming = false;
                    let (target, reason) = (&self.target, describe(error).1);
                    warn!(?target, reason, "the API server does not stream lists, using paginated lists");
                    sleep(BACKOFF.delay(failures, self.jitter, target)).await;
                    break;
                }
                if let Some(change) = self.change(event, &to_change) {
                    debug!(?change, "watch event");
                    let has_listed = matches!(change, Change::ListDone(WatchTarget::Namespaces));
                    if self.changes.send(change).await.is_err() {
                        return;
                    }
                    if has_listed {
                        self.namespaces_listed.notify_one();
                    }
                }
                if is_lost && self.relists_when_lost {
                    // The next list is another attempt, which waits as the watch itself would.
                    sleep(BACKOFF.delay(failures, self.jitter, &self.target)).await;
                    break;
                }
            }
        }
    }

    fn change<K>(&self, event: Item<K>, to_change: impl Fn(&K, bool) -> Option<Change>) -> Option<Change> {
        let target = &self.target;
        match event {
            Ok(Event::Init) => Some(Change::ListStarted(target.clone())),
            Ok(Event::InitApply(object) | Event::Apply(object)) => to_change(&object, false),
            Ok(Event::Delete(object)) => to_change(&object, true),
            Ok(Event::InitDone) => Some(Change::ListDone(target.clone())),
            Err(error) => {
                warn!(?target, reason = describe(&error).1, "the watch was interrupted, restarting it");
                // Writes do not wait for targets that are not required.
                (!target.is_required()).then(|| Change::ListUnavailable(target.clone()))
            }
        }
    }
}

/// Whether lists by pages may succeed where a streamed one did not.
fn cannot_stream(error: &Interruption) -> bool {
    matches!(error, Interruption::ListCutOff) || matches!(describe(error).0, 400 | 422)
}

/// The HTTP status, or 0 without a response, and the message.
pub(super) fn describe(error: &Interruption) -> (u16, String) {
    let error = match error {
        Interruption::Watch(error) => error,
        Interruption::ListCutOff => {
            let seconds = WATCH_TIMEOUT.as_secs();
            return (
                200,
                format!("the list was not complete when its response ended, after {seconds} s at the latest"),
            );
        }
    };
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => {
            let code = if let kube::Error::Api(status) = error { status.code } else { 0 };
            (code, message(error))
        }
        watcher::Error::WatchError(status) => (status.code, one_line(&status.message)),
        watcher::Error::NoResourceVersion => (0, "the response had no resourceVersion".to_owned()),
    }
}

/// Whether the API server streams lists reliably (`WatchList`, enabled by default since 1.34:
/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#streaming-lists>).
pub async fn streams_lists(client: &Client) -> kube::Result<bool> {
    let version = client.apiserver_version().await?;
    let number =
        |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u32>().unwrap_or(0);
    let streams = (number(&version.major), number(&version.minor)) >= (1, 34);
    info!(version = version.git_version, streaming_lists = streams, "API server");
    Ok(streams)
}

/// Sends a request until it succeeds, and logs each failure under `what`.
pub async fn retry_until_ok<T>(what: &str, jitter: Jitter, request: impl AsyncFn() -> kube::Result<T>) -> T {
    let mut failures = 0;
    loop {
        match request().await {
            Ok(response) => return response,
            Err(error) => {
                failures += 1;
                let delay = Backoff::CALLS.delay(failures, jitter, &what);
                warn!(reason = message(&error), retry_in = ?delay, "{what}");
                sleep(delay).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
