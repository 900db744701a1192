//! The lists of the watches: which are complete, what each has not reported yet, and whether it shows that the versions of
//! the API server went back.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use crate::controller::change::WatchTarget;

/// An object by its namespace and name.
pub(super) type ObjectRef = (Arc<str>, Arc<str>);

/// The lists of all watches.
#[derive(Default)]
pub(super) struct Lists {
    targets: BTreeSet<WatchTarget>,
    /// The watches that have listed.
    listed: BTreeSet<WatchTarget>,
    /// The watches whose first list, or the one after the versions went back, is awaited.
    unsynced: BTreeSet<WatchTarget>,
    /// The objects that a list in progress has not reported yet, each at the version that was known when it began.
    unseen: BTreeMap<WatchTarget, BTreeMap<ObjectRef, u64>>,
    /// The lists in progress that reported an older version than the one that was known when they began.
    older: BTreeSet<WatchTarget>,
    /// The watches whose last list did so.
    doubted: BTreeSet<WatchTarget>,
    /// The watches that must list again.
    relists: BTreeSet<WatchTarget>,
}

impl Lists {
    pub fn new(targets: impl IntoIterator<Item = WatchTarget>) -> Self {
        let targets: BTreeSet<_> = targets.into_iter().collect();
        Self { unsynced: targets.clone(), targets, ..Self::default() }
    }

    /// Whether every watch has listed once.
    pub fn are_complete(&self) -> bool {
        self.unsynced.is_empty()
    }

    /// Whether the watch has listed; `None` if there is none.
    pub fn has_listed(&self, target: &WatchTarget) -> Option<bool> {
        self.targets.contains(target).then(|| self.listed.contains(target))
    }

    /// Whether the watch lists.
    pub fn is_in_progress(&self, target: &WatchTarget) -> bool {
        self.unseen.contains_key(target)
    }

    /// A list begins, where `known` are the known objects of its watch.
    pub fn begin(&mut self, target: WatchTarget, known: BTreeMap<ObjectRef, u64>) {
        self.older.remove(&target);
        self.unseen.insert(target, known);
    }

    /// A watch that is not required cannot list.
    pub fn give_up(&mut self, target: &WatchTarget) {
        self.unsynced.remove(target);
    }

    /// A reply reported an object that is not known. A list in progress that does not report it is older or newer: in the first
    /// case, the watch reports the object after the list, and in the second, it was deleted.
    pub fn expect(&mut self, target: &WatchTarget, namespace: &Arc<str>, name: &Arc<str>) {
        if let Some(unseen) = self.unseen.get_mut(target) {
            unseen.entry((namespace.clone(), name.clone())).or_insert(0);
        }
    }

    /// A list in progress reported an object at `version`.
    pub fn mark_seen(&mut self, target: &WatchTarget, namespace: &Arc<str>, name: &Arc<str>, version: u64) {
        let Some(unseen) = self.unseen.get_mut(target) else { return };
        let known = unseen.remove(&(namespace.clone(), name.clone()));
        if known.is_some_and(|known| version < known) {
            self.older.insert(target.clone());
        }
    }

    /// A list ends. Returns the objects that it did not report.
    pub fn finish(&mut self, target: &WatchTarget) -> BTreeSet<ObjectRef> {
        self.unsynced.remove(target);
        self.listed.insert(target.clone());
        self.unseen.remove(target).unwrap_or_default().into_keys().collect()
    }

    /// Whether the last list shows that versions went back. A list that reported an older version than was known is repeated;
    /// if the next one does so too, they did.
    pub fn show_rewind(&mut self, target: &WatchTarget) -> bool {
        if !self.older.remove(target) {
            self.doubted.remove(target);
            return false;
        }
        if self.doubted.insert(target.clone()) {
            self.relists.insert(target.clone());
            return false;
        }
        true
    }

    /// No known version can be compared with a new one: every watch lists again.
    pub fn rewind(&mut self) {
        self.older.clear();
        self.doubted.clear();
        self.unsynced.clone_from(&self.targets);
        self.relists.clone_from(&self.targets);
    }

    /// The watches that must list again.
    pub fn take_relists(&mut self) -> BTreeSet<WatchTarget> {
        mem::take(&mut self.relists)
    }
}
