//! The limit on removals that follow from the configuration. A mistake in it, or in the labels that it selects by, must not
//! delete the Secrets of a cluster, so many removals at once are held until an administrator confirms exactly these.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::index::{Index, NamespaceState};
use super::tell::HeldCounts;
use crate::core::plan::{RemovalCause, Revocation};
use crate::core::{Now, Uid};

/// As many removals need no confirmation, whatever they are a part of.
const FREE: usize = 10;
/// Of one cause, one in so many of its Secrets.
const PART_OF_CAUSE: usize = 10;
/// Of all causes together, one in so many of all Secrets.
const PART_OF_ALL: usize = 4;
/// How long a removal counts: labels may change one by one.
const WINDOW: Duration = Duration::from_hours(1);
/// The length of an ID, in hexadecimal digits.
const ID_LEN: usize = 12;

/// The removals that follow from the configuration.
#[derive(Default)]
pub(super) struct Removals {
    /// The ID of the set that an administrator confirms.
    confirmed: Option<Arc<str>>,
    /// The Secrets to remove, by namespace.
    wanted: BTreeMap<Arc<str>, Vec<Revocation>>,
    /// The namespaces whose removals wait.
    held: BTreeSet<Arc<str>>,
    /// The causes that are above their limit, until nothing is held any more.
    above: BTreeSet<RemovalCause>,
    /// Whether all causes together are.
    all_above: bool,
    /// The UIDs of the Secrets whose removal was confirmed.
    approved: HashSet<Uid>,
    /// The latest removals, and when they happened.
    done: VecDeque<(Duration, RemovalCause)>,
    /// The ID that was reported last.
    reported: Option<String>,
}

/// The removals that wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldRemovals {
    /// Identifies exactly this set of Secrets.
    pub id: String,
    pub by_cause: BTreeMap<RemovalCause, usize>,
}

impl Removals {
    /// Nothing is removed yet. `confirmed` is the ID of a set that may be removed.
    pub fn new(confirmed: Option<Arc<str>>) -> Self {
        Self { confirmed, ..Self::default() }
    }

    /// Forgets what is wanted and held: another process was the leader.
    pub fn clear(&mut self) {
        let (confirmed, approved) = (self.confirmed.take(), mem::take(&mut self.approved));
        let done = mem::take(&mut self.done);
        *self = Self { confirmed, approved, done, ..Self::default() };
    }

    pub fn is_held(&self, namespace: &str) -> bool {
        self.held.contains(namespace)
    }

    /// Sets what the configuration removes in a namespace. Returns whether [`Removals::decide`] must decide on it.
    pub fn set(&mut self, namespace: &Arc<str>, revocations: Vec<Revocation>) -> bool {
        if revocations.is_empty() {
            self.wanted.remove(namespace);
            self.held.remove(namespace);
            if self.held.is_empty() {
                self.above.clear();
                self.all_above = false;
            }
            return false;
        }
        let is_above = |revocation: &Revocation| self.all_above || self.above.contains(&revocation.cause);
        let is_open = |revocation: &&Revocation| !self.approved.contains(&revocation.uid);
        if revocations.iter().filter(is_open).any(is_above) {
            self.held.insert(namespace.clone());
        }
        let before = self.wanted.insert(namespace.clone(), revocations);
        before.as_ref() != self.wanted.get(namespace) && !self.is_held(namespace)
    }

    /// Holds the removals of every cause that is above its limit. Returns the namespaces that were not held before.
    pub fn decide(&mut self, index: &Index, now: Now) -> Vec<Arc<str>> {
        while self.done.front().is_some_and(|(at, _)| *at + WINDOW < now.mono) {
            self.done.pop_front();
        }
        let mut counts: BTreeMap<RemovalCause, usize> = BTreeMap::new();
        let done = self.done.iter().map(|(_, cause)| cause);
        for cause in self.open().map(|(_, revocation)| &revocation.cause).chain(done) {
            *counts.entry(cause.clone()).or_default() += 1;
        }
        let total: usize = counts.values().sum();
        if total <= FREE {
            return vec![];
        }
        let (all, mut by_cause) = count_secrets(index);
        for (_, cause) in &self.done {
            *by_cause.entry(cause.clone()).or_default() += 1;
        }
        let limit = |secrets: usize, part: usize| (secrets / part).max(FREE);
        self.all_above |= total > limit(all + self.done.len(), PART_OF_ALL);
        let is_above = |(cause, count): &(&RemovalCause, &usize)| {
            **count > limit(by_cause.get(cause).copied().unwrap_or_default(), PART_OF_CAUSE)
        };
        self.above.extend(counts.iter().filter(is_above).map(|(cause, _)| cause.clone()));
        let must_wait = |revocation: &Revocation| self.all_above || self.above.contains(&revocation.cause);
        let found = self.open().filter(|(_, revocation)| must_wait(revocation));
        let found: BTreeSet<_> = found.map(|(namespace, _)| namespace.clone()).collect();
        let new = found.difference(&self.held).cloned().collect();
        self.held.extend(found);
        new
    }

    /// Approves the held removals if an administrator confirmed exactly these. Returns their namespaces.
    pub fn approve(&mut self) -> BTreeSet<Arc<str>> {
        // Most runs confirm nothing, and the ID takes a hash of every UID.
        let Some(confirmed) = &self.confirmed else { return BTreeSet::new() };
        if self.held().is_none_or(|held| held.id != **confirmed) {
            return BTreeSet::new();
        }
        let held = mem::take(&mut self.held);
        let secrets = held.iter().filter_map(|namespace| self.wanted.get(namespace)).flatten();
        self.approved.extend(secrets.map(|revocation| revocation.uid.clone()));
        self.above.clear();
        self.all_above = false;
        held
    }

    /// Records that a Secret was removed.
    pub fn record(&mut self, namespace: &str, uid: &Uid, now: Now) {
        let mut wanted = self.wanted.get(namespace).into_iter().flatten();
        if let Some(revocation) = wanted.find(|revocation| revocation.uid == *uid)
            && !self.approved.remove(uid)
        {
            self.done.push_back((now.mono, revocation.cause.clone()));
        }
    }

    /// The removals that wait, if there are any.
    pub fn held(&self) -> Option<HeldRemovals> {
        let uids: BTreeSet<_> = self.waiting().map(|revocation| revocation.uid.to_string()).collect();
        let mut by_cause = BTreeMap::new();
        for revocation in self.waiting() {
            *by_cause.entry(revocation.cause.clone()).or_default() += 1;
        }
        let mut digest = Sha256::new();
        for uid in &uids {
            digest.update(uid.as_bytes());
            digest.update([0]);
        }
        let digest = digest.finalize();
        let number = digest[..ID_LEN / 2].iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        (!uids.is_empty()).then(|| HeldRemovals { id: format!("{number:0ID_LEN$x}"), by_cause })
    }

    pub fn counts(&self) -> HeldCounts {
        let mut counts = HeldCounts::default();
        for revocation in self.waiting() {
            *match revocation.cause {
                RemovalCause::Identity(_) => &mut counts.identities,
                RemovalCause::Namespaces => &mut counts.namespaces,
                RemovalCause::SecretNames => &mut counts.secret_names,
            } += 1;
        }
        counts
    }

    /// The removals that wait, if they are others than at the last call.
    pub fn changed(&mut self) -> Option<HeldRemovals> {
        let held = self.held();
        let id = held.as_ref().map(|held| held.id.clone());
        if id == self.reported {
            return None;
        }
        self.reported = id;
        held
    }

    /// The removals that are held.
    fn waiting(&self) -> impl Iterator<Item = &Revocation> {
        let held = self.open().filter(|(namespace, _)| self.held.contains(*namespace));
        held.map(|(_, revocation)| revocation)
    }

    /// The removals without a confirmation.
    fn open(&self) -> impl Iterator<Item = (&Arc<str>, &Revocation)> {
        let all = self.wanted.iter().flat_map(|(namespace, all)| all.iter().map(move |one| (namespace, one)));
        all.filter(|(_, revocation)| !self.approved.contains(&revocation.uid))
    }
}

/// The number of Secrets of this instance, and of those that each cause concerns.
fn count_secrets(index: &Index) -> (usize, BTreeMap<RemovalCause, usize>) {
    let (mut all, mut by_cause) = (0, BTreeMap::new());
    for observed in index.states().flat_map(NamespaceState::managed).filter(|observed| observed.is_applied) {
        all += 1;
        let causes: BTreeSet<_> = RemovalCause::possible(observed).collect();
        for cause in causes {
            *by_cause.entry(cause).or_default() += 1;
        }
    }
    (all, by_cause)
}
