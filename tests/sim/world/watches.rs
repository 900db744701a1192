//! Watches: the events of one arrive in order, each after a delay. A watch that breaks lists again, from the present or
//! from an older version.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ecr_pull_secrets::simulation::controller::Input;
use ecr_pull_secrets::simulation::controller::change::{Change, Seen, WatchTarget};
use ecr_pull_secrets::simulation::kubernetes::observe;

use super::{Happening, World};
use crate::store::{Event, Key, Kind, Object};

#[derive(Clone, Debug)]
enum Item {
    ListStarted,
    Object { key: Key, version: u64, object: Option<Arc<Object>> },
    ListDone,
}

pub struct Watch {
    target: WatchTarget,
    queue: VecDeque<Item>,
    /// When the last event of the queue arrives.
    last: Duration,
    /// Grows when the watch breaks: events of the broken one never arrive.
    generation: u32,
}

impl Watch {
    pub fn new(target: WatchTarget) -> Self {
        Self { target, queue: VecDeque::new(), last: Duration::ZERO, generation: 0 }
    }

    fn covers(&self, key: &Key) -> bool {
        match &self.target {
            WatchTarget::Namespaces => key.kind == Kind::Namespace,
            WatchTarget::Secrets(name) => key.kind == Kind::Secret && key.name == *name,
            WatchTarget::ServiceAccounts => key.kind == Kind::ServiceAccount,
            WatchTarget::StaticSource(name) => key.kind == Kind::Source && key.name == *name,
        }
    }
}

impl World {
    /// Sends a change to the watches of a process.
    pub fn notify(&mut self, process: usize, event: &Event) {
        if !self.processes[process].is_alive {
            return;
        }
        for watch in 0..self.processes[process].watches.len() {
            if self.processes[process].watches[watch].covers(&event.key) {
                let Event { key, version, after, .. } = event.clone();
                self.enqueue(process, watch, Item::Object { key, version, object: after });
            }
        }
    }

    fn enqueue(&mut self, process: usize, watch: usize, item: Item) {
        let delay = if matches!(item, Item::Object { .. }) { self.delay() } else { Duration::ZERO };
        let (time, reachable_at) = (self.time, self.processes[process].partitioned_until);
        let epoch = self.processes[process].epoch;
        let this = &mut self.processes[process].watches[watch];
        let at = (time + delay).max(this.last).max(reachable_at);
        this.last = at;
        this.queue.push_back(item);
        let generation = this.generation;
        self.schedule(at, Happening::Watch { process, epoch, watch, generation });
    }

    /// Lists from the present, or from `behind` versions ago, and watches from there.
    pub fn list(&mut self, process: usize, watch: usize, behind: Option<u64>) {
        let this = &mut self.processes[process].watches[watch];
        this.generation += 1;
        this.queue.clear();
        let version = self.store.version.saturating_sub(behind.unwrap_or(0));
        let objects: BTreeMap<_, _> =
            if behind.is_some() { self.store.at(version) } else { self.store.objects.clone() };
        self.enqueue(process, watch, Item::ListStarted);
        let covered = |key: &Key, this: &Self| this.processes[process].watches[watch].covers(key);
        for (key, object) in objects {
            if covered(&key, self) {
                let item = Item::Object { key, version, object: Some(object) };
                self.enqueue(process, watch, item);
            }
        }
        self.enqueue(process, watch, Item::ListDone);
        let later: Vec<Event> =
            self.store.history.iter().filter(|event| event.version > version).cloned().collect();
        for event in later {
            if covered(&event.key, self) {
                let Event { key, version, after, .. } = event;
                self.enqueue(process, watch, Item::Object { key, version, object: after });
            }
        }
    }

    /// A controller wants a new list.
    pub fn relist(&mut self, process: usize, target: &WatchTarget) {
        let watches = &self.processes[process].watches;
        if let Some(watch) = watches.iter().position(|watch| watch.target == *target) {
            self.list(process, watch, None);
        }
    }

    /// What was held back arrives now.
    pub fn thaw_watch(&mut self, process: usize, watch: usize) {
        let this = &self.processes[process].watches[watch];
        if this.last > self.time + Duration::from_secs(10) {
            self.list(process, watch, None);
        }
    }

    pub fn deliver(&mut self, process: usize, epoch: u32, watch: usize, generation: u32) {
        let this = &mut self.processes[process];
        if this.epoch != epoch || !this.is_alive || this.watches[watch].generation != generation {
            return;
        }
        if this.frozen_until > self.time {
            let at = this.frozen_until;
            return self.schedule(at, Happening::Watch { process, epoch, watch, generation });
        }
        let Some(item) = this.watches[watch].queue.pop_front() else { return };
        let change = self.change(process, watch, item);
        self.tell_change(process, &change);
        self.input(process, Input::Changed(change));
    }

    /// The change that `kubernetes::watch` makes of an event.
    fn change(&self, process: usize, watch: usize, item: Item) -> Change {
        let process = &self.processes[process];
        let target = process.watches[watch].target.clone();
        let (key, version, object) = match item {
            Item::ListStarted => return Change::ListStarted(target),
            Item::ListDone => return Change::ListDone(target),
            Item::Object { key, version, object } => (key, version, object),
        };
        let Key { namespace, name, .. } = key;
        match (target, object.as_deref()) {
            (WatchTarget::Namespaces, Some(Object::Namespace(object))) => {
                let record = observe::namespace(&object.meta(&name), &process.settings);
                Change::Namespace { namespace: name, record, terminating: object.terminating }
            }
            (WatchTarget::Namespaces, _) => {
                Change::Namespace { namespace: name, record: None, terminating: false }
            }
            (WatchTarget::Secrets(_), Some(Object::Secret(object))) => {
                let seen = Seen::Present(object.observed(&name, &process.settings));
                Change::Secret { namespace, name, seen }
            }
            (WatchTarget::Secrets(_), _) => Change::Secret { namespace, name, seen: Seen::Deleted(version) },
            (WatchTarget::ServiceAccounts, Some(Object::ServiceAccount(refs))) => {
                Change::ServiceAccount { namespace, name, seen: Seen::Present(refs.clone()) }
            }
            (WatchTarget::ServiceAccounts, _) => {
                Change::ServiceAccount { namespace, name, seen: Seen::Deleted(version) }
            }
            (WatchTarget::StaticSource(_), Some(Object::Source(source))) => {
                Change::StaticSource { name, source: Some(source.clone()) }
            }
            (WatchTarget::StaticSource(_), _) => Change::StaticSource { name, source: None },
        }
    }

    fn tell_change(&mut self, process: usize, change: &Change) {
        if self.story.is_none() {
            return;
        }
        let name = self.processes[process].name.clone();
        let text = match change {
            Change::Secret { namespace, name, seen: Seen::Present(o) } => {
                format!("secret {namespace}/{name} at version {}", o.resource_version)
            }
            Change::Secret { namespace, name, seen: Seen::Deleted(version) } => {
                format!("secret {namespace}/{name} deleted at version {version}")
            }
            Change::Namespace { namespace, record, .. } => {
                let opted = if record.is_some() { "opted in" } else { "not opted in" };
                format!("namespace {namespace} {opted}")
            }
            Change::MissedOptIn { namespace, .. } => {
                format!("namespace {namespace} not opted in, with our keys")
            }
            Change::ListStarted(target) => format!("a list of {target:?} begins"),
            Change::ListDone(target) => format!("the list of {target:?} ends"),
            Change::ServiceAccount { namespace, name, .. } => format!("service account {namespace}/{name}"),
            Change::StaticSource { name, source } => {
                format!(
                    "static source {name} with {} entries",
                    source.as_ref().map_or(0, |s| s.entries.len())
                )
            }
            Change::ListUnavailable(target) => format!("no list of {target:?}"),
        };
        self.tell(|| format!("{name} sees {text}"));
    }
}
