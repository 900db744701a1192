//! The compact index. It contains the facts that decisions need about each namespace that opted in or has a Secret of
//! an allowed name, and nothing else.

mod accounts;
mod interner;
mod lists;
mod replies;
mod versioned;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use self::accounts::Accounts;
pub use self::interner::Interner;
use self::lists::{Lists, ObjectRef};
use self::replies::Replies;
pub use self::replies::Reply;
use self::versioned::{remove_older, upsert_newer};
use super::change::{Change, Seen, WatchTarget};
use crate::core::Now;
use crate::core::plan::{
    Facts, History, Mutability, NamespaceRecord, Observed, Obstacle, Owner, PullSecretRefs, RetryState,
};
use crate::core::planted::{Bug, planted};
use crate::core::rare::Rare;
use crate::core::request::{AppliedState, OptIn, ParsedAnnotations};
use crate::core::secret::{StaticSource, StaticSources};

/// In place of the controller's own namespace, in which the static sources are.
const OWN_NAMESPACE: &str = "";

/// Everything that is known about one namespace.
#[derive(Debug, Default)]
pub struct NamespaceState {
    /// `None` if the Namespace did not opt in.
    pub namespace: Option<NamespaceRecord>,
    /// Its Secrets of allowed names.
    pub secrets: Vec<(Arc<str>, Observed)>,
    /// Its service accounts that concern the controller, if they are watched.
    pub service_accounts: Vec<(Arc<str>, PullSecretRefs)>,
    accounts: Accounts,
    /// The writes, failures and repairs of this process in it.
    pub history: History,
    /// Whether, by the last plan, a person must act before the controller can do anything.
    pub blocked: bool,
}

impl NamespaceState {
    /// The Secrets that this instance manages.
    pub fn managed(&self) -> impl Iterator<Item = &Observed> {
        self.managed_by_name().map(|(_, observed)| observed)
    }

    /// The Secrets that this instance manages, with their names.
    pub fn managed_by_name(&self) -> impl Iterator<Item = &(Arc<str>, Observed)> {
        self.secrets.iter().filter(|(_, observed)| observed.owner == Owner::This)
    }

    /// The name of the Secret that the annotations request.
    pub fn requested_name(&self) -> Option<&str> {
        match &self.namespace.as_ref()?.parsed.opt_in {
            OptIn::In(request) => Some(&request.secret_name),
            OptIn::Out | OptIn::Invalid => None,
        }
    }

    /// The Secret of the requested name, or, as long as there is none, all that this instance manages. One under a former name
    /// may be kept for one of its entries after others have expired.
    pub fn in_use(&self) -> impl Iterator<Item = &Observed> {
        let exists = |requested: &&str| self.managed_by_name().any(|(name, _)| **name == **requested);
        let requested = self.requested_name().filter(exists);
        let is_in_use = move |name: &str| requested.is_none_or(|requested| name == requested);
        self.managed_by_name().filter(move |(name, _)| is_in_use(name)).map(|(_, observed)| observed)
    }

    /// The earliest expiry of the Secrets in use.
    pub fn earliest_expiry(&self, now: Now) -> Option<Timestamp> {
        self.in_use().filter_map(|observed| Some(observed.first_expiry(observed.times?, now))).min()
    }

    /// The earliest renewal of the Secrets in use.
    pub fn earliest_refresh(&self) -> Option<Timestamp> {
        self.in_use().filter_map(|observed| observed.times).map(|times| times.refresh_after).min()
    }

    /// Whether its annotations or the configuration request a Secret.
    pub fn is_opted_in(&self) -> bool {
        self.namespace.as_ref().is_some_and(|record| record.parsed.opt_in != OptIn::Out)
    }

    fn is_empty(&self) -> bool {
        self.namespace.is_none() && self.secrets.is_empty() && self.service_accounts.is_empty()
    }
}

/// The part of a history that outlasts the namespace's other state.
#[derive(Default)]
struct Emptied {
    deleted: Rare<BTreeSet<Arc<str>>>,
    removals: Rare<RetryState>,
    listings: Rare<RetryState>,
}

/// The index, and the progress of the watches that fill it.
pub struct Index {
    namespaces: BTreeMap<Arc<str>, Box<NamespaceState>>,
    /// The Namespaces that are being deleted.
    terminating: BTreeSet<Arc<str>>,
    lists: Lists,
    replies: Replies,
    /// Our latest deletions and lists in namespaces of which nothing is left.
    emptied: BTreeMap<Arc<str>, Emptied>,
    static_sources: StaticSources,
    parsed: Interner<ParsedAnnotations>,
    applied: Interner<AppliedState>,
}

impl Index {
    /// Returns an empty index, which is synced once the watches of all `targets` have listed.
    pub fn new(targets: impl IntoIterator<Item = WatchTarget>) -> Self {
        Self {
            namespaces: BTreeMap::new(),
            terminating: BTreeSet::new(),
            lists: Lists::new(targets),
            replies: Replies::default(),
            emptied: BTreeMap::new(),
            static_sources: StaticSources::new(),
            parsed: Interner::default(),
            applied: Interner::default(),
        }
    }

    /// Forgets shared values that no namespace has any more. Call this now and then.
    pub fn sweep(&mut self) {
        self.parsed.sweep();
        self.applied.sweep();
    }

    /// Whether every watch has listed once.
    pub fn is_synced(&self) -> bool {
        self.lists.are_complete()
    }

    /// Whether this watch has listed once.
    pub fn has_listed(&self, target: &WatchTarget) -> bool {
        self.lists.has_listed(target) == Some(true)
    }

    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.namespaces.keys()
    }

    pub fn states(&self) -> impl Iterator<Item = &NamespaceState> {
        self.namespaces.values().map(|state| &**state)
    }

    pub fn get(&self, namespace: &str) -> Option<&NamespaceState> {
        self.namespaces.get(namespace).map(|state| &**state)
    }

    pub fn get_mut(&mut self, namespace: &str) -> Option<&mut NamespaceState> {
        self.namespaces.get_mut(namespace).map(|state| &mut **state)
    }

    /// The facts about a namespace, as decisions use them.
    pub fn facts<'a>(&'a self, namespace: &'a str) -> Option<Facts<'a>> {
        let state = self.get(namespace)?;
        Some(Facts {
            namespace,
            parsed: state.namespace.as_ref().map(|record| &*record.parsed),
            terminating: self.terminating.contains(namespace),
            held: false,
            keeps_all: false,
            is_single_pass: false,
            secrets: &state.secrets,
            service_accounts: &state.service_accounts,
            known_accounts: self.known_accounts(state),
            static_sources: &self.static_sources,
            history: &state.history,
        })
    }

    pub fn history(&mut self, namespace: &str) -> Option<&mut History> {
        self.get_mut(namespace).map(|state| &mut state.history)
    }

    /// Clears all histories, as after a start, because another process was the leader in the meantime.
    pub fn forget_histories(&mut self) {
        self.namespaces.values_mut().for_each(|state| state.history = History::default());
    }

    /// Applies a change, and returns the namespaces whose facts it changed.
    pub fn apply(&mut self, change: Change) -> Vec<Arc<str>> {
        let (namespace, changed) = match change {
            Change::ListStarted(target) => {
                let known = self.objects(&target);
                if target == WatchTarget::ServiceAccounts {
                    self.begin_accounts();
                }
                self.lists.begin(target, known);
                return vec![];
            }
            Change::ListDone(target) => return self.finish_list(&target),
            Change::ListUnavailable(target) => {
                self.lists.give_up(&target);
                return vec![];
            }
            Change::StaticSource { name, source } => {
                let target = WatchTarget::StaticSource(name.clone());
                self.lists.mark_seen(&target, &OWN_NAMESPACE.into(), &name, u64::MAX);
                return self.set_static_source(name, source);
            }
            Change::MissedOptIn { namespace, .. } => {
                return self.apply(Change::Namespace { namespace, record: None, terminating: false });
            }
            Change::Namespace { namespace, record, terminating } => {
                let was = self.terminating.contains(&namespace);
                self.lists.mark_seen(&WatchTarget::Namespaces, &namespace, &namespace, u64::MAX);
                let changed = match record {
                    Some(record) => self.set_namespace(&namespace, record),
                    None => self.remove(&WatchTarget::Namespaces, &namespace, &namespace, u64::MAX),
                };
                if terminating {
                    self.terminating.insert(namespace.clone());
                } else {
                    self.terminating.remove(&namespace);
                }
                (namespace, changed || was != terminating)
            }
            Change::Secret { namespace, name, seen } => {
                let target = WatchTarget::Secrets(name.clone());
                self.lists.mark_seen(
                    &target,
                    &namespace,
                    &name,
                    seen.version(|observed| observed.resource_version),
                );
                let changed = match seen {
                    Seen::Present(observed) => self.set_secret(&namespace, &name, observed),
                    Seen::Deleted(_) if planted(Bug::IgnoreDeletions) => false,
                    Seen::Deleted(version) => self.remove(&target, &namespace, &name, version),
                };
                (namespace, changed)
            }
            Change::ServiceAccount { namespace, name, seen } => {
                let target = WatchTarget::ServiceAccounts;
                self.lists.mark_seen(&target, &namespace, &name, seen.version(|refs| refs.resource_version));
                let changed = match seen {
                    Seen::Present(refs) => self.set_service_account(&namespace, &name, refs),
                    Seen::Deleted(version) => self.remove(&target, &namespace, &name, version),
                };
                (namespace, changed)
            }
        };
        if changed { vec![self.known_name(namespace)] } else { vec![] }
    }

    /// The name as the index has it: each event brings a copy, which the queue must not keep.
    fn known_name(&self, namespace: Arc<str>) -> Arc<str> {
        self.namespaces.get_key_value(&namespace).map_or(namespace, |(known, _)| known.clone())
    }

    /// Records a Secret, unless a newer version is known.
    pub fn set_secret(&mut self, namespace: &Arc<str>, name: &Arc<str>, mut observed: Observed) -> bool {
        observed.applied = observed.applied.map(|applied| self.applied.intern(applied));
        let all = &mut self.state_of(namespace).secrets;
        let known = all.iter().find(|(known, _)| known == name).map(|(_, known)| known);
        let is_immutable =
            |known: &Observed| known.uid == observed.uid && known.mutability == Mutability::Immutable;
        if known.is_some_and(is_immutable) {
            observed.mutability = Mutability::Immutable;
        }
        upsert_newer(all, name, observed, |observed| observed.resource_version)
    }

    /// An action begins in a namespace: until its reply, deletions and lists are remembered.
    pub fn await_reply(&mut self, namespace: &Arc<str>) {
        self.replies.expect(namespace);
    }

    /// The action in a namespace ended. Call this before another one begins, and after the reply was recorded.
    pub fn reply_arrived(&mut self, namespace: &str) {
        self.replies.arrived(namespace);
    }

    /// The version of a Secret in the index.
    pub fn secret_version(&self, namespace: &str, name: &str) -> Option<u64> {
        let found = self.get(namespace)?.secrets.iter().find(|(known, _)| **known == *name);
        found.map(|(_, observed)| observed.resource_version)
    }

    /// Records the Secret that a reply contains, unless a newer version is known or it was deleted since.
    pub fn set_replied_secret(&mut self, namespace: &Arc<str>, name: &Arc<str>, observed: Observed) -> Reply {
        let target = WatchTarget::Secrets(name.clone());
        if self.replies.is_deleted(&target, namespace, name, observed.resource_version) {
            return Reply::Deleted;
        }
        if self.replies.is_rewound(namespace) || self.is_missed(namespace, name) {
            return Reply::Uncertain;
        }
        self.record_reply(&target, namespace, name, observed);
        Reply::Recorded
    }

    fn record_reply(
        &mut self,
        target: &WatchTarget,
        namespace: &Arc<str>,
        name: &Arc<str>,
        observed: Observed,
    ) {
        if self.secret_version(namespace, name).is_none() {
            self.lists.expect(target, namespace, name);
        }
        self.set_secret(namespace, name, observed);
    }

    /// Records a Secret as it was read, where `known` was its version in the index when the read began. The API server
    /// reads the newest version, so an older one than `known` means that its versions went back.
    pub fn set_read_secret(
        &mut self,
        namespace: &Arc<str>,
        name: &Arc<str>,
        read: Option<Observed>,
        known: u64,
    ) {
        let Some(observed) = read else { return self.remove_secret(namespace, name, known) };
        if observed.resource_version < known {
            self.rewind();
        }
        let target = WatchTarget::Secrets(name.clone());
        if !self.replies.is_deleted(&target, namespace, name, observed.resource_version) {
            self.record_reply(&target, namespace, name, observed);
        }
    }

    /// Whether a list ended since the action in the namespace began, and did not report the Secret: it may be older or newer
    /// than the reply.
    pub fn is_missed(&self, namespace: &str, name: &Arc<str>) -> bool {
        let target = WatchTarget::Secrets(name.clone());
        self.replies.is_listed(&target, namespace) && self.secret_version(namespace, name).is_none()
    }

    /// The versions of the API server went back, as after a restored backup of etcd. No known version can be compared
    /// with a new one, so every watch lists again, and nothing is written until then.
    pub fn rewind(&mut self) {
        for state in self.namespaces.values_mut() {
            for (_, observed) in &mut state.secrets {
                observed.resource_version = 0;
                if observed.mutability == Mutability::Immutable {
                    observed.mutability = Mutability::Unknown;
                }
            }
            state.service_accounts.iter_mut().for_each(|(_, refs)| refs.resource_version = 0);
            state.history.forget_content();
        }
        self.replies.rewind();
        self.lists.rewind();
    }

    /// The watches that must list again.
    pub fn take_relists(&mut self) -> BTreeSet<WatchTarget> {
        self.lists.take_relists()
    }

    /// Whether the versions of the API server went back since the action in the namespace began.
    pub fn is_rewound(&self, namespace: &str) -> bool {
        self.replies.is_rewound(namespace)
    }

    /// Records that we deleted a Secret at this version. A newer Secret of that name is another one.
    pub fn remove_secret(&mut self, namespace: &Arc<str>, name: &Arc<str>, version: u64) {
        self.remove(&WatchTarget::Secrets(name.clone()), namespace, name, version);
    }

    /// Records that an object was deleted at `version`, unless a newer version is known. Returns whether it was known.
    fn remove(&mut self, target: &WatchTarget, namespace: &Arc<str>, name: &Arc<str>, version: u64) -> bool {
        // A list has no version of the deletion.
        if version < u64::MAX {
            self.replies.deleted(target, namespace, name, version);
        }
        if *target == WatchTarget::Namespaces {
            self.terminating.remove(namespace);
        }
        let Some(state) = self.namespaces.get_mut(namespace) else { return false };
        let NamespaceState { namespace: record, secrets, service_accounts, history, .. } = &mut **state;
        let removed = match target {
            WatchTarget::Namespaces => record.take().is_some(),
            WatchTarget::Secrets(_) => remove_older(secrets, name, |o| o.resource_version > version),
            WatchTarget::ServiceAccounts => {
                remove_older(service_accounts, name, |refs| refs.resource_version > version)
            }
            WatchTarget::StaticSource(_) => false,
        };
        match target {
            WatchTarget::Secrets(name) if removed && history.is_written(name) => history.forget_content(),
            WatchTarget::ServiceAccounts if removed => {
                history.service_accounts.change(|all| all.remove(name));
            }
            WatchTarget::Namespaces => {
                state.drop_accounts();
                self.replies.interrupt(namespace);
            }
            _ => {}
        }
        if state.is_empty() && !planted(Bug::KeepNamespaces) {
            self.remove_state(namespace);
        }
        removed
    }

    fn state_of(&mut self, namespace: &Arc<str>) -> &mut NamespaceState {
        self.namespaces.entry(namespace.clone()).or_insert_with(|| {
            let Emptied { deleted, removals, listings } = self.emptied.remove(namespace).unwrap_or_default();
            let history = History { deleted, removals, listings, ..History::default() };
            Box::new(NamespaceState { history, ..NamespaceState::default() })
        })
    }

    /// Records that this process deleted a Secret. The watch may have reported it first, as the last object of the namespace.
    pub fn record_deletion(&mut self, namespace: &Arc<str>, name: &Arc<str>, now: Now) {
        let state = self.state_of(namespace);
        state.history.record_deletion(name, now);
        if state.is_empty() {
            self.remove_state(namespace);
        }
    }

    /// Forgets a namespace, except for recent deletions and lists: whatever creates a Secret or opts in again and again must
    /// not cause them without a pause.
    fn remove_state(&mut self, namespace: &Arc<str>) {
        let Some(state) = self.namespaces.remove(namespace) else { return };
        let History { deleted, removals, listings, .. } = state.history;
        if let Some(latest) = removals.repaired_at.max(listings.repaired_at) {
            let is_recent = |retry: &RetryState| retry.is_remembered(latest);
            self.emptied.retain(|_, other| is_recent(&other.removals) || is_recent(&other.listings));
            self.emptied.insert(namespace.clone(), Emptied { deleted, removals, listings });
        }
    }

    /// Records that a write was rejected because the Secret is immutable, which holds as long as it exists.
    /// Returns whether that is new.
    pub fn set_immutable(&mut self, namespace: &str, name: &str) -> bool {
        let secrets = self.namespaces.get_mut(namespace).map(|state| &mut state.secrets);
        if let Some((_, observed)) = secrets.and_then(|s| s.iter_mut().find(|(known, _)| **known == *name)) {
            return std::mem::replace(&mut observed.mutability, Mutability::Immutable)
                != Mutability::Immutable;
        }
        false
    }

    /// Records that this version of a Secret cannot be adopted.
    pub fn refuse_adoption(&mut self, namespace: &str, name: &str, version: u64, obstacle: Obstacle) {
        let secrets = self.namespaces.get_mut(namespace).map(|state| &mut state.secrets);
        let found = secrets.and_then(|s| s.iter_mut().find(|(known, _)| **known == *name));
        if let Some((_, observed)) = found.filter(|(_, observed)| observed.resource_version == version) {
            observed.owner = Owner::NotAdoptable(obstacle);
        }
    }

    /// Records a static source, and returns the namespaces that may need its entries. The version is the one at which
    /// its entries were first seen, so that other changes to the Secret cause no writes.
    fn set_static_source(&mut self, name: Arc<str>, source: Option<StaticSource>) -> Vec<Arc<str>> {
        let is_same = match (self.static_sources.get(&name), &source) {
            (Some(known), Some(source)) => {
                known.entries == source.entries && known.unreadable == source.unreadable
            }
            (known, source) => known.is_none() && source.is_none(),
        };
        if is_same {
            return vec![];
        }
        // A write that is queued may need the entries of a source that is deleted.
        match source {
            Some(source) => self.static_sources.insert(name, source),
            None => self.static_sources.remove(&name),
        };
        let opted_in = self.namespaces.iter().filter(|(_, state)| state.namespace.is_some());
        opted_in.map(|(name, _)| name.clone()).collect()
    }

    fn set_namespace(&mut self, namespace: &Arc<str>, mut record: NamespaceRecord) -> bool {
        record.parsed = self.parsed.intern(record.parsed);
        let state = self.state_of(namespace);
        let changed = state.namespace.as_ref() != Some(&record);
        if changed {
            // The change may have removed the cause of earlier failures.
            state.history.restart_retries();
        }
        state.namespace = Some(record);
        if !state.is_opted_in() {
            state.drop_accounts();
            self.replies.interrupt(namespace);
        }
        changed
    }

    /// The known objects of a watch, each with its version. Namespaces have none here: the events of their watch are in
    /// order, and nothing else changes them.
    fn objects(&self, target: &WatchTarget) -> BTreeMap<ObjectRef, u64> {
        let names = |namespace: &Arc<str>, state: &NamespaceState| -> Vec<(Arc<str>, u64)> {
            let secrets = state.secrets.iter().map(|(name, o)| (name.clone(), o.resource_version));
            let accounts = state.service_accounts.iter();
            match target {
                WatchTarget::Namespaces => state.namespace.iter().map(|_| (namespace.clone(), 0)).collect(),
                WatchTarget::Secrets(name) => secrets.filter(|(known, _)| known == name).collect(),
                WatchTarget::ServiceAccounts => {
                    accounts.map(|(name, refs)| (name.clone(), refs.resource_version)).collect()
                }
                WatchTarget::StaticSource(_) => vec![],
            }
        };
        if let WatchTarget::StaticSource(name) = target {
            let known = self.static_sources.contains_key(name);
            return known.then(|| ((OWN_NAMESPACE.into(), name.clone()), 0)).into_iter().collect();
        }
        let objects = self.namespaces.iter().flat_map(|(namespace, state)| {
            names(namespace, state).into_iter().map(|(name, version)| ((namespace.clone(), name), version))
        });
        let ending = self.terminating.iter().filter(|_| *target == WatchTarget::Namespaces);
        objects.chain(ending.map(|name| ((name.clone(), name.clone()), 0))).collect()
    }

    /// Removes the objects that a finished list did not report. They were deleted while the watch was interrupted, and
    /// no event reports that.
    fn finish_list(&mut self, target: &WatchTarget) -> Vec<Arc<str>> {
        self.replies.listed(target);
        let mut unseen = self.lists.finish(target);
        if let WatchTarget::StaticSource(name) = target {
            return if unseen.is_empty() { vec![] } else { self.set_static_source(name.clone(), None) };
        }
        unseen.retain(|(namespace, name)| self.remove(target, namespace, name, u64::MAX));
        if self.lists.show_rewind(target) {
            self.rewind();
        }
        let mut changed: Vec<_> = unseen.into_iter().map(|(namespace, _)| namespace).collect();
        if *target == WatchTarget::ServiceAccounts {
            changed.extend(self.finish_accounts());
        }
        changed
    }
}

#[cfg(test)]
mod tests;
