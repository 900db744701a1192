//! Service accounts: which of them the index keeps, and whether a namespace may have others.
//!
//! One watch reports the service accounts of all namespaces. The index keeps those with a reference that the controller
//! added, and all of the namespaces that opted in. A namespace that opts in later has others, which were not kept: they are
//! listed when its request needs them, and the watch reports their changes from then on.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Index, NamespaceState, upsert_newer};
use crate::controller::change::WatchTarget;
use crate::core::plan::service_accounts::MAX_SERVICE_ACCOUNTS;
use crate::core::plan::{KnownAccounts, PullSecretRefs, RetryState};

/// Which service accounts of a namespace are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Accounts {
    /// At least those with a reference that the controller added.
    #[default]
    Some,
    /// As before, and all of them once the list of the watch ends: the namespace opted in before that list began.
    Listing,
    All,
}

impl NamespaceState {
    /// Drops the service accounts that do not concern the controller, if the namespace did not opt in. Those that the
    /// controller changed lately are kept, so that another client that reverts each change causes growing delays.
    pub(super) fn drop_accounts(&mut self) {
        if self.is_opted_in() {
            return;
        }
        self.accounts = Accounts::Some;
        let changed = &self.history.service_accounts;
        self.service_accounts.retain(|(name, refs)| !refs.attached.is_empty() || changed.contains_key(name));
        self.service_accounts.shrink_to_fit();
    }

    /// Forgets changes of service accounts that were long ago.
    fn forget_changes(&mut self, time: Timestamp) {
        let accounts = &self.service_accounts;
        let is_ours =
            |name: &Arc<str>| accounts.iter().any(|(known, refs)| known == name && !refs.attached.is_empty());
        let is_kept = |name: &Arc<str>, retry: &mut RetryState| retry.is_remembered(time) || is_ours(name);
        self.history.service_accounts.change(|all| all.retain(is_kept));
    }
}

impl Index {
    /// Which service accounts of the namespace are known. Without the option, there is no watch, and none matters.
    pub(super) fn known_accounts(&self, state: &NamespaceState) -> KnownAccounts {
        let is_missing = state.is_opted_in() && state.accounts != Accounts::All;
        match self.lists.has_listed(&WatchTarget::ServiceAccounts) {
            Some(false) => KnownAccounts::Unlisted,
            Some(true) if is_missing => KnownAccounts::Attached,
            Some(true) | None => KnownAccounts::All,
        }
    }

    /// The list of the watch begins.
    pub(super) fn begin_accounts(&mut self) {
        let opted_in = self.namespaces.values_mut().filter(|state| state.is_opted_in());
        for state in opted_in.filter(|state| state.accounts == Accounts::Some) {
            state.accounts = Accounts::Listing;
        }
    }

    /// The list of the watch ended. Returns the namespaces that opted in since the last one.
    pub(super) fn finish_accounts(&mut self) -> Vec<Arc<str>> {
        let mut changed = vec![];
        for (namespace, state) in self.namespaces.iter_mut().filter(|(_, state)| state.is_opted_in()) {
            if state.accounts != Accounts::All {
                changed.push(namespace.clone());
            }
            if state.accounts == Accounts::Listing {
                state.accounts = Accounts::All;
            }
        }
        changed
    }

    /// Records a service account, unless a newer version is known. Returns whether its references changed.
    pub fn set_service_account(
        &mut self,
        namespace: &Arc<str>,
        name: &Arc<str>,
        refs: PullSecretRefs,
    ) -> bool {
        if !self.keeps_account(namespace, name, &refs) {
            return self.remove(&WatchTarget::ServiceAccounts, namespace, name, refs.resource_version);
        }
        let NamespaceState { service_accounts: all, history, .. } = self.state_of(namespace);
        // Users who can create service accounts must not use up the memory of the controller.
        if all.len() >= MAX_SERVICE_ACCOUNTS && !all.iter().any(|(known, _)| known == name) {
            let other = all.iter().position(|(_, refs)| refs.attached.is_empty());
            let Some(other) = other.filter(|_| !refs.attached.is_empty()) else { return false };
            let (other, _) = all.swap_remove(other);
            history.service_accounts.change(|changed| changed.remove(&other));
        }
        let same = all.iter().any(|(known, old)| {
            known == name && (&old.references, &old.attached) == (&refs.references, &refs.attached)
        });
        upsert_newer(all, name, refs, |refs| refs.resource_version) && !same
    }

    fn keeps_account(&self, namespace: &str, name: &str, refs: &PullSecretRefs) -> bool {
        // The reply of an action in the namespace counts as a change.
        !refs.attached.is_empty()
            || self.replies.is_expected(namespace)
            || self
                .namespaces
                .get(namespace)
                .is_some_and(|state| state.is_opted_in() || state.history.service_accounts.contains_key(name))
    }

    /// Records the service account that a reply contains, unless a newer version is known, it was deleted since, or a watch
    /// will report it.
    pub fn set_replied_service_account(
        &mut self,
        namespace: &Arc<str>,
        name: &Arc<str>,
        refs: PullSecretRefs,
    ) {
        let target = WatchTarget::ServiceAccounts;
        if !self.is_rewound(namespace)
            && !self.replies.is_deleted(&target, namespace, name, refs.resource_version)
        {
            let accounts = self.get(namespace).map(|state| &state.service_accounts);
            if accounts.is_none_or(|all| all.iter().all(|(known, _)| known != name)) {
                self.lists.expect(&target, namespace, name);
            }
            self.set_service_account(namespace, name, refs);
        }
    }

    /// Records the service accounts of a namespace as they were listed. If events about some of them were ignored since,
    /// because the namespace had not opted in, or a list of the watch may be newer, they must be listed again.
    pub fn set_listed_accounts(&mut self, namespace: &Arc<str>, listed: Vec<(Arc<str>, PullSecretRefs)>) {
        let target = WatchTarget::ServiceAccounts;
        if self.is_rewound(namespace)
            || self.lists.is_in_progress(&target)
            || self.replies.is_listed(&target, namespace)
            || self.replies.is_interrupted(namespace)
        {
            return;
        }
        for (name, refs) in listed {
            self.set_replied_service_account(namespace, &name, refs);
        }
        if let Some(state) = self.get_mut(namespace).filter(|state| state.is_opted_in()) {
            state.accounts = Accounts::All;
        }
    }

    /// The failures and repairs of a service account, if it is known.
    pub fn change_service_account<R>(
        &mut self,
        namespace: &str,
        name: &Arc<str>,
        change: impl FnOnce(&mut RetryState) -> R,
    ) -> Option<R> {
        let state = self.get_mut(namespace)?;
        let is_known = state.service_accounts.iter().any(|(known, _)| known == name);
        is_known.then(|| state.history.change_service_account(name, change))
    }

    /// Records that a service account does not exist, unless a version newer than `version` is known.
    pub fn remove_service_account(&mut self, namespace: &Arc<str>, name: &Arc<str>, version: u64) {
        self.remove(&WatchTarget::ServiceAccounts, namespace, name, version);
    }

    /// Drops the service accounts of namespaces that did not opt in, if they were kept because of changes that were long ago.
    /// Returns the namespaces of which nothing is left.
    pub fn release_accounts(&mut self, time: Timestamp) -> Vec<Arc<str>> {
        let Self { namespaces, replies, .. } = self;
        let idle = namespaces.iter_mut().filter(|(namespace, state)| {
            !state.service_accounts.is_empty() && !state.is_opted_in() && !replies.is_expected(namespace)
        });
        let mut empty = vec![];
        for (namespace, state) in idle {
            state.forget_changes(time);
            state.drop_accounts();
            if state.is_empty() {
                empty.push(namespace.clone());
            }
        }
        for namespace in &empty {
            self.remove_state(namespace);
        }
        empty
    }
}

#[cfg(test)]
mod tests;
