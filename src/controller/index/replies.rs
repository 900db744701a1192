//! The watch events while an action runs. The reply of the action may be older.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::controller::change::WatchTarget;

/// The state of a Secret that a reply contains, compared with the watch events since the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is in the index, at this or a newer version.
    Recorded,
    /// It was deleted since.
    Deleted,
    /// A list that did not report it is older or newer than the reply, or the versions went back.
    Uncertain,
}

/// The deletions and lists of watches since an action in a namespace began.
#[derive(Default)]
struct Meanwhile {
    /// The versions of deletions, by watch and name.
    deleted: BTreeMap<(WatchTarget, Arc<str>), u64>,
    /// The watches that finished a list.
    listed: BTreeSet<WatchTarget>,
    /// Whether the versions of the API server went back.
    rewound: bool,
    /// Whether events about service accounts of the namespace may have been ignored.
    interrupted: bool,
}

/// The actions whose replies are awaited, by namespace.
#[derive(Default)]
pub(super) struct Replies(BTreeMap<Arc<str>, Meanwhile>);

impl Replies {
    /// An action begins in a namespace.
    pub fn expect(&mut self, namespace: &Arc<str>) {
        self.0.insert(namespace.clone(), Meanwhile::default());
    }

    /// The action ended, and its reply was recorded.
    pub fn arrived(&mut self, namespace: &str) {
        self.0.remove(namespace);
    }

    /// A watch or our own reply reported a deletion at `version`.
    pub fn deleted(&mut self, target: &WatchTarget, namespace: &str, name: &Arc<str>, version: u64) {
        if let Some(since) = self.0.get_mut(namespace) {
            let known = since.deleted.entry((target.clone(), name.clone())).or_default();
            *known = version.max(*known);
        }
    }

    /// A watch finished a list.
    pub fn listed(&mut self, target: &WatchTarget) {
        for since in self.0.values_mut() {
            since.listed.insert(target.clone());
        }
    }

    /// The versions of the API server went back.
    pub fn rewind(&mut self) {
        for since in self.0.values_mut() {
            *since = Meanwhile { rewound: true, ..Meanwhile::default() };
        }
    }

    /// The namespace does not opt in.
    pub fn interrupt(&mut self, namespace: &str) {
        if let Some(since) = self.0.get_mut(namespace) {
            since.interrupted = true;
        }
    }

    /// Whether an action runs in the namespace.
    pub fn is_expected(&self, namespace: &str) -> bool {
        self.0.contains_key(namespace)
    }

    /// Whether the namespace did not opt in at some time since the action began.
    pub fn is_interrupted(&self, namespace: &str) -> bool {
        self.0.get(namespace).is_some_and(|since| since.interrupted)
    }

    /// Whether the versions went back since the action began.
    pub fn is_rewound(&self, namespace: &str) -> bool {
        self.0.get(namespace).is_some_and(|since| since.rewound)
    }

    /// Whether a list ended since the action began.
    pub fn is_listed(&self, target: &WatchTarget, namespace: &str) -> bool {
        self.0.get(namespace).is_some_and(|since| since.listed.contains(target))
    }

    /// Whether an object was deleted after `version` since the action began.
    pub fn is_deleted(&self, target: &WatchTarget, namespace: &str, name: &Arc<str>, version: u64) -> bool {
        let key = (target.clone(), name.clone());
        let deleted = self.0.get(namespace).and_then(|since| since.deleted.get(&key));
        deleted.is_some_and(|at| *at > version)
    }
}
