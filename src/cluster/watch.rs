//! The metadata watches: one of all Namespaces, one of the Secrets of each allowed name. What comes in is made
//! into small records at the door; nothing else is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::api::PartialObjectMeta;
use kube::runtime::utils::{self, StreamBackoff};
use kube::runtime::watcher as watch;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::observe::{self, NamespaceRecord};
use super::write::message;
use crate::core::SECRET_KEY;
use crate::core::accounts::Account;
use crate::core::backoff::Backoff;
use crate::core::facts::Observed;
use crate::core::render::{Credential, DockerConfig};
use crate::core::settings::Settings;

/// Objects of one page of a list: small, since a page is the largest thing that is ever in memory.
const PAGE: u32 = 100;

/// A watch, by what it watches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// All Namespaces.
    Namespaces,
    /// The Secrets of this name, in all namespaces.
    Secrets(Arc<str>),
    /// All service accounts, where the configuration wants them looked after.
    Accounts,
    /// One Secret of other registries' entries, in the controller's own namespace. It is the only one whose data are
    /// watched.
    Static(Arc<str>),
}

impl Source {
    /// Whether the secrets wait for its first list.
    fn is_needed(&self) -> bool {
        matches!(self, Self::Namespaces | Self::Secrets(_))
    }
}

/// How soon an interrupted watch begins again. kube's default grows to 30 s, and is slow to shrink: for one client
/// with a handful of watches that would be late for nothing.
const RETRIES: Backoff = Backoff { base: Duration::from_millis(500), cap: Duration::from_secs(5) };

#[derive(Default)]
struct Retries {
    failures: u32,
}

impl Iterator for Retries {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        Some(RETRIES.delay(self.failures, &std::process::id()))
    }
}

impl utils::Backoff for Retries {
    fn reset(&mut self) {
        self.failures = 0;
    }
}

/// What a watch saw.
#[derive(Debug)]
pub enum Change {
    /// A list begins; what follows up to its end names every object again.
    Begin(Source),
    /// A Namespace is so; `None`: it did not opt in, or is gone.
    Namespace {
        /// Its name.
        namespace: Arc<str>,
        /// Its record.
        record: Option<NamespaceRecord>,
    },
    /// A Secret was seen.
    Secret {
        /// Where it is.
        namespace: Arc<str>,
        /// Its name.
        name: Arc<str>,
        /// How.
        sight: Sight<Observed>,
    },
    /// A service account was seen.
    Account {
        /// Where it is.
        namespace: Arc<str>,
        /// Its name.
        name: Arc<str>,
        /// How.
        sight: Sight<Account>,
    },
    /// A source of other registries' entries was seen.
    Static {
        /// Its name.
        name: Arc<str>,
        /// Its resource version.
        version: u64,
        /// Its entries; `None`: it is gone.
        entries: Option<BTreeMap<String, Credential>>,
    },
    /// The list is whole.
    Done(Source),
    /// The list cannot be had, and is not waited for.
    Unavailable(Source),
}

/// How an object was seen.
#[derive(Debug)]
pub enum Sight<T> {
    /// It is there.
    There(T),
    /// It was deleted, at this resource version.
    Gone(u64),
}

/// All watches of a configuration.
pub fn sources(settings: &Settings) -> Vec<Source> {
    let secrets = settings.all_names().cloned().map(Source::Secrets);
    let accounts = settings.grants.service_accounts.then_some(Source::Accounts);
    let statics: BTreeSet<_> = settings.statics.iter().map(|grant| grant.secret.clone()).collect();
    let statics = statics.into_iter().map(Source::Static);
    [Source::Namespaces].into_iter().chain(secrets).chain(accounts).chain(statics).collect()
}

/// Runs one watch for ever: it lists, follows, and starts again, with backoff, whenever it must. Ends only
/// when nobody listens any more.
pub async fn run(
    client: Client,
    source: Source,
    settings: Arc<Settings>,
    streaming: bool,
    out: mpsc::Sender<Change>,
) {
    match source.clone() {
        Source::Namespaces => {
            let record = move |object: &PartialObjectMeta<Namespace>, gone: bool| {
                let meta = &object.metadata;
                let namespace = meta.name.as_deref()?.into();
                let record = if gone { None } else { observe::namespace(meta, &settings) };
                Some(Change::Namespace { namespace, record })
            };
            follow(Api::all(client), source, watcher::Config::default(), streaming, out, record).await;
        }
        Source::Secrets(name) => {
            let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
            let record = move |object: &PartialObjectMeta<Secret>, gone: bool| {
                let meta = &object.metadata;
                let namespace = meta.namespace.as_deref()?.into();
                let sight = if gone {
                    Sight::Gone(observe::version(meta))
                } else {
                    Sight::There(observe::secret(meta, &settings.instance))
                };
                Some(Change::Secret { namespace, name: name.clone(), sight })
            };
            follow(Api::all(client), source, config, streaming, out, record).await;
        }
        Source::Static(name) => {
            let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
            let record = move |secret: &Secret, gone: bool| {
                let data = secret.data.as_ref().and_then(|data| data.get(SECRET_KEY));
                let entries = data.map(|data| DockerConfig::foreign(&data.0)).unwrap_or_default();
                if gone {
                    warn!(
                        secret = &*name,
                        "the secret of static registries is gone: what was copied from it stays"
                    );
                } else if entries.is_empty() {
                    warn!(
                        secret = &*name,
                        "the secret of static registries has no usable entry under {SECRET_KEY}"
                    );
                }
                let (name, version) = (name.clone(), observe::version(&secret.metadata));
                Some(Change::Static { name, version, entries: (!gone).then_some(entries) })
            };
            let api = Api::default_namespaced(client);
            follow(api, source, config, streaming, out, record).await;
        }
        Source::Accounts => {
            let record = move |account: &ServiceAccount, gone: bool| {
                let meta = &account.metadata;
                let sight = if gone {
                    Sight::Gone(observe::version(meta))
                } else {
                    Sight::There(observe::account(account, &settings))
                };
                let (namespace, name) = (meta.namespace.as_deref()?.into(), meta.name.as_deref()?.into());
                Some(Change::Account { namespace, name, sight })
            };
            follow(Api::all(client), source, watcher::Config::default(), streaming, out, record).await;
        }
    }
}

/// Whether the server is known to stream lists well (`WatchList`, on by default since 1.34:
/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#streaming-lists>).
pub async fn streams_lists(client: &Client) -> Result<bool, kube::Error> {
    let version = client.apiserver_version().await?;
    let number =
        |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u32>().unwrap_or(0);
    let streams = (number(&version.major), number(&version.minor)) >= (1, 34);
    info!(version = version.git_version, streaming_lists = streams, "API server");
    Ok(streams)
}

async fn follow<K>(
    api: Api<K>,
    source: Source,
    config: watcher::Config,
    mut streaming: bool,
    out: mpsc::Sender<Change>,
    record: impl Fn(&K, bool) -> Option<Change>,
) where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    loop {
        let config =
            if streaming { config.clone().streaming_lists() } else { config.clone().page_size(PAGE) };
        let mut events = StreamBackoff::new(watch(api.clone(), config), Retries::default()).boxed();
        while let Some(event) = events.next().await {
            let change = match event {
                Ok(Event::Init) => Some(Change::Begin(source.clone())),
                Ok(Event::InitApply(object) | Event::Apply(object)) => record(&object, false),
                Ok(Event::Delete(object)) => record(&object, true),
                Ok(Event::InitDone) => Some(Change::Done(source.clone())),
                Err(error) => {
                    warn!(?source, reason = explain(&error), "watch interrupted, starting again");
                    if streaming && refuses_streaming(&error) {
                        streaming = false;
                        break;
                    }
                    // The secrets do not wait for what only the service accounts need.
                    (!source.is_needed()).then(|| Change::Unavailable(source.clone()))
                }
            };
            if let Some(change) = change {
                debug!(?change, "watched");
                if out.send(change).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// kube's watcher has no fallback of its own, and would ask in the same way for ever.
fn refuses_streaming(error: &watcher::Error) -> bool {
    let code = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status.code,
        _ => return false,
    };
    matches!(code, 400 | 422)
}

fn explain(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => message(error),
        watcher::Error::WatchError(status) => status.message.clone(),
        watcher::Error::NoResourceVersion => "the answer had no resourceVersion".to_owned(),
    }
}

/// Asks the API server for something that it must answer before anything can begin, until it does.
pub async fn insist<T, F, R>(what: &str, mut ask: F) -> T
where
    F: FnMut() -> R,
    R: Future<Output = Result<T, kube::Error>>,
{
    let mut failures = 0;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => {
                failures += 1;
                let delay = Backoff::CALLS.delay(failures, &what);
                warn!(reason = message(&error), retry_in = ?delay, "{what}");
                tokio::time::sleep(delay).await;
            }
        }
    }
}
