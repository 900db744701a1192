//! `status --watch`: the rows that change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, select_all};
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PartialObjectMeta;
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt as _, watcher::Config};
use kube::{Api, Client};
use tokio::time::interval;
use tracing::warn;

use super::knowledge::Knowledge;
use super::row::{Row, row};
use crate::clock::Clock;
use crate::commands::CommandError;
use crate::core::one_line;
use crate::core::settings::Settings;
use crate::kubernetes::client::WATCH_TIMEOUT;
use crate::kubernetes::overview::{Overview, Selection};

/// How often the states are computed again, because tokens expire without an event.
const PERIOD: Duration = Duration::from_secs(5);

/// The namespaces that are watched, and the rows that were printed.
pub struct Watching {
    pub client: Client,
    pub selection: Selection,
    pub settings: Arc<Settings>,
    pub knowledge: Knowledge,
    pub clock: Clock,
    pub overview: Overview,
    pub rows: Vec<Row>,
}

/// The objects of a watch: Namespaces, or the Secrets of a name.
type Target = Option<Arc<str>>;
type Events = BoxStream<'static, (Target, watcher::Result<Event<ObjectMeta>>)>;

impl Watching {
    /// Passes each row that changes to `changed`.
    pub async fn run(mut self, mut changed: impl FnMut(&Row)) -> Result<(), CommandError> {
        let rows = std::mem::take(&mut self.rows);
        let mut printed: BTreeMap<_, _> = rows.into_iter().map(|row| (row.namespace.clone(), row)).collect();
        let mut events = self.events();
        let mut ticks = interval(PERIOD);
        loop {
            tokio::select! {
                Some((target, event)) = events.next() => {
                    self.apply(&target, event);
                    // Those that have arrived already, so that a list is printed once.
                    while let Some(Some((target, event))) = events.next().now_or_never() {
                        self.apply(&target, event);
                    }
                }
                _ = ticks.tick() => {}
            }
            if !self.overview.is_listing() {
                self.print(&mut printed, &mut changed);
            }
        }
    }

    fn print(&self, printed: &mut BTreeMap<Arc<str>, Row>, changed: &mut impl FnMut(&Row)) {
        let now = self.clock.now();
        printed.retain(|namespace, _| self.overview.names.contains_key(namespace));
        for namespace in self.overview.names.keys() {
            match row(namespace, &self.overview, &self.settings, self.knowledge, now) {
                Some(row) if printed.get(namespace) != Some(&row) => {
                    changed(&row);
                    printed.insert(namespace.clone(), row);
                }
                Some(_) => {}
                None => _ = printed.remove(namespace),
            }
        }
    }

    fn events(&self) -> Events {
        let Selection { namespace, selector } = &self.selection;
        let seconds = u32::try_from(WATCH_TIMEOUT.as_secs()).expect("less than a minute");
        let mut config = Config::default().timeout(seconds);
        config.label_selector.clone_from(selector);
        let named = |name: &str| Config::default().timeout(seconds).fields(&format!("metadata.name={name}"));
        let config = namespace.as_deref().map_or(config, named);
        let all: Api<PartialObjectMeta<Namespace>> = Api::all(self.client.clone());
        let namespaces = watcher(all, config).default_backoff();
        let namespaces =
            namespaces.map(|event| (None, event.map(|event| meta(event, |o| o.metadata)))).boxed();
        let secret = |name: &Arc<str>| {
            let api: Api<PartialObjectMeta<Secret>> = match namespace {
                Some(namespace) => Api::namespaced(self.client.clone(), namespace),
                None => Api::all(self.client.clone()),
            };
            let name = name.clone();
            let events = watcher(api, named(&name)).default_backoff();
            events
                .map(move |event| (Some(name.clone()), event.map(|event| meta(event, |o| o.metadata))))
                .boxed()
        };
        let may_read = self.overview.secrets_denied.is_none();
        let secrets = self.settings.names.all().filter(|_| may_read).map(secret);
        select_all(std::iter::once(namespaces).chain(secrets)).boxed()
    }

    fn apply(&mut self, target: &Target, event: watcher::Result<Event<ObjectMeta>>) {
        let Self { overview, settings, .. } = self;
        match (event, target) {
            (Ok(Event::Init), _) => overview.list_started(target.clone()),
            (Ok(Event::InitDone), _) => overview.list_done(target.clone()),
            (Ok(Event::InitApply(meta) | Event::Apply(meta)), None) => {
                overview.add_namespace(&meta, settings);
            }
            (Ok(Event::InitApply(meta) | Event::Apply(meta)), Some(name)) => {
                overview.add_secret(name, &meta, settings);
            }
            (Ok(Event::Delete(meta)), None) => overview.remove_namespace(&meta),
            (Ok(Event::Delete(meta)), Some(name)) => overview.remove_secret(name, &meta),
            (Err(error), _) => {
                let reason = one_line(&error.to_string());
                warn!(reason, "the watch was interrupted, restarting it");
            }
        }
    }
}

/// The event with metadata only.
fn meta<K>(event: Event<K>, meta: impl Fn(K) -> ObjectMeta) -> Event<ObjectMeta> {
    match event {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::InitApply(object) => Event::InitApply(meta(object)),
        Event::Apply(object) => Event::Apply(meta(object)),
        Event::Delete(object) => Event::Delete(meta(object)),
    }
}
