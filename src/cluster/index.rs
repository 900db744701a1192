//! The compact index: for each namespace that opted in or holds a Secret of an allowed name, what the
//! decisions need, and nothing else.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::interner::Interner;
use super::objects::{put, take};
use super::observe::NamespaceRecord;
use super::watch::{Change, Sight, Source};
use crate::core::accounts::Account;
use crate::core::annotations::Reading;
use crate::core::facts::{Facts, History, Observed, Owner};
use crate::core::render::Credential;
use crate::core::request::Accepted;
use crate::core::statics::{Available, Sources};

/// Everything that is known of one namespace.
#[derive(Debug, Default)]
pub struct Entry {
    /// The Namespace, if it opted in.
    pub namespace: Option<NamespaceRecord>,
    /// Its Secrets of allowed names.
    pub secrets: Vec<(Arc<str>, Observed)>,
    /// Its service accounts, if they are watched.
    pub accounts: Vec<(Arc<str>, Account)>,
    /// What this process did in it.
    pub history: History,
}

impl Entry {
    /// What a decision takes.
    pub fn facts<'a>(&'a self, namespace: &'a str, sources: &'a Sources) -> Facts<'a> {
        let reading = self.namespace.as_ref().map(|record| &*record.reading);
        Facts {
            namespace,
            reading,
            secrets: &self.secrets,
            accounts: &self.accounts,
            sources,
            history: &self.history,
        }
    }

    /// Whether it holds a Secret of ours.
    pub fn is_ours(&self) -> bool {
        self.secrets.iter().any(|(_, observed)| observed.owner == Owner::Ours)
    }

    fn is_empty(&self) -> bool {
        self.namespace.is_none() && self.secrets.is_empty() && self.accounts.is_empty()
    }
}

/// An object by its namespace and name.
type Object = (Arc<str>, Arc<str>);

/// The index, and how far the watches that fill it are.
pub struct Index {
    entries: HashMap<Arc<str>, Entry>,
    /// What a list under way has not named yet, by namespace and name.
    relists: HashMap<Source, HashSet<Object>>,
    unsynced: HashSet<Source>,
    sources: Sources,
    statics: HashMap<Arc<str>, BTreeMap<String, Credential>>,
    readings: Interner<Reading>,
    accepted: Interner<Accepted>,
}

impl Index {
    /// An empty index that is synced once each of `sources` has listed.
    pub fn new(sources: impl IntoIterator<Item = Source>) -> Self {
        Self {
            entries: HashMap::new(),
            relists: HashMap::new(),
            unsynced: sources.into_iter().collect(),
            sources: Sources::new(),
            statics: HashMap::new(),
            readings: Interner::default(),
            accepted: Interner::default(),
        }
    }

    /// Whether every watch has listed once.
    pub fn is_synced(&self) -> bool {
        self.unsynced.is_empty()
    }

    /// All namespaces of the index.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.entries.keys()
    }

    /// All entries.
    pub fn entries(&self) -> impl Iterator<Item = (&Arc<str>, &Entry)> {
        self.entries.iter()
    }

    /// One entry.
    pub fn get(&self, namespace: &str) -> Option<&Entry> {
        self.entries.get(namespace)
    }

    /// The history of a namespace that is in the index.
    pub fn history(&mut self, namespace: &str) -> Option<&mut History> {
        self.entries.get_mut(namespace).map(|entry| &mut entry.history)
    }

    /// Forgets what this process did, as if it had started now: somebody else wrote in between.
    pub fn forget_histories(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.history = History::default());
    }

    /// Takes a change in, and names the namespaces whose facts changed by it.
    pub fn take(&mut self, change: Change) -> Vec<Arc<str>> {
        match change {
            Change::Begin(source) => {
                let known = self.known(&source);
                self.relists.insert(source, known);
                vec![]
            }
            Change::Namespace { namespace, record } => {
                self.seen(&Source::Namespaces, &namespace, &namespace);
                self.set_namespace(&namespace, record).then_some(namespace).into_iter().collect()
            }
            Change::Secret { namespace, name, sight } => {
                self.seen(&Source::Secrets(name.clone()), &namespace, &name);
                let changed = match sight {
                    Sight::There(observed) => self.set_secret(&namespace, &name, observed),
                    Sight::Gone(version) => self.remove_secret(&namespace, &name, version),
                };
                changed.then_some(namespace).into_iter().collect()
            }
            Change::Account { namespace, name, sight } => {
                self.seen(&Source::Accounts, &namespace, &name);
                let changed = match sight {
                    Sight::There(account) => self.set_account(&namespace, &name, account),
                    Sight::Gone(version) => self.remove_account(&namespace, &name, version),
                };
                changed.then_some(namespace).into_iter().collect()
            }
            Change::Static { name, version, entries } => self.set_static(&name, version, entries),
            Change::Unavailable(source) => {
                self.unsynced.remove(&source);
                vec![]
            }
            Change::Done(source) => self.listed(&source),
        }
    }

    /// Takes in what a write of ours left, unless the watch has brought something newer.
    pub fn set_secret(&mut self, namespace: &Arc<str>, name: &Arc<str>, mut observed: Observed) -> bool {
        observed.applied = observed.applied.map(|accepted| self.accepted.intern(accepted));
        put(&mut self.entries.entry(namespace.clone()).or_default().secrets, name, observed)
    }

    /// Takes note that a Secret is gone since `version`, unless a newer one was seen.
    pub fn remove_secret(&mut self, namespace: &Arc<str>, name: &Arc<str>, version: u64) -> bool {
        let Some(entry) = self.entries.get_mut(namespace) else { return false };
        let changed = take(&mut entry.secrets, name, version);
        if changed {
            entry.history.written = None;
            entry.history.fingerprint = None;
        }
        self.drop_empty(namespace);
        changed
    }

    /// Takes note that a Secret turned out to be immutable.
    pub fn set_immutable(&mut self, namespace: &str, name: &str) {
        let secrets = self.entries.get_mut(namespace).map(|entry| &mut entry.secrets);
        if let Some((_, observed)) = secrets.and_then(|s| s.iter_mut().find(|(known, _)| **known == *name)) {
            observed.immutable = true;
        }
    }

    /// The sources of other registries' entries.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// An entry of one of them.
    pub fn static_entry(&self, source: &str, host: &str) -> Option<Credential> {
        self.statics.get(source)?.get(host).cloned()
    }

    /// Takes in a source, and names the namespaces to look at. The version is that at which its entries were first
    /// seen, so that no other change of it leads to writes.
    fn set_static(
        &mut self,
        name: &Arc<str>,
        version: u64,
        entries: Option<BTreeMap<String, Credential>>,
    ) -> Vec<Arc<str>> {
        let Some(entries) = entries else {
            self.statics.remove(name);
            self.sources.remove(name);
            return vec![];
        };
        if self.statics.get(name) == Some(&entries) {
            return vec![];
        }
        let hosts = entries.keys().cloned().collect();
        self.sources.insert(name.clone(), Available { version: version.to_string(), hosts });
        self.statics.insert(name.clone(), entries);
        self.entries
            .iter()
            .filter(|(_, entry)| entry.namespace.is_some())
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Takes in how a service account stands, unless something newer was seen.
    pub fn set_account(&mut self, namespace: &Arc<str>, name: &Arc<str>, account: Account) -> bool {
        let accounts = &mut self.entries.entry(namespace.clone()).or_default().accounts;
        let same = accounts.iter().any(|(known, old)| {
            known == name && (&old.references, &old.attached) == (&account.references, &account.attached)
        });
        put(accounts, name, account) && !same
    }

    /// Takes note that a service account is gone since `version`.
    pub fn remove_account(&mut self, namespace: &Arc<str>, name: &Arc<str>, version: u64) -> bool {
        let Some(entry) = self.entries.get_mut(namespace) else { return false };
        let changed = take(&mut entry.accounts, name, version);
        if changed {
            entry.history.accounts.remove(name);
        }
        self.drop_empty(namespace);
        changed
    }

    fn set_namespace(&mut self, namespace: &Arc<str>, record: Option<NamespaceRecord>) -> bool {
        let Some(mut record) = record else {
            let gone = self.entries.get_mut(namespace).is_some_and(|entry| entry.namespace.take().is_some());
            self.drop_empty(namespace);
            return gone;
        };
        record.reading = self.readings.intern(record.reading);
        let entry = self.entries.entry(namespace.clone()).or_default();
        let changed = entry.namespace.as_ref() != Some(&record);
        if changed {
            // Somebody may have mended what the last tries failed at.
            entry.history.tries.forgive();
        }
        entry.namespace = Some(record);
        changed
    }

    fn drop_empty(&mut self, namespace: &Arc<str>) {
        if self.entries.get(namespace).is_some_and(Entry::is_empty) {
            self.entries.remove(namespace);
        }
    }

    fn known(&self, source: &Source) -> HashSet<Object> {
        let of = |(namespace, entry): (&Arc<str>, &Entry)| -> Vec<Object> {
            let object = |name: &Arc<str>| (namespace.clone(), name.clone());
            match source {
                Source::Namespaces => entry.namespace.iter().map(|_| object(namespace)).collect(),
                Source::Secrets(name) => entry
                    .secrets
                    .iter()
                    .map(|(known, _)| known)
                    .filter(|known| *known == name)
                    .map(object)
                    .collect(),
                Source::Accounts => entry.accounts.iter().map(|(name, _)| object(name)).collect(),
                Source::Static(_) => vec![],
            }
        };
        self.entries.iter().flat_map(of).collect()
    }

    fn seen(&mut self, source: &Source, namespace: &Arc<str>, name: &Arc<str>) {
        if let Some(unseen) = self.relists.get_mut(source) {
            unseen.remove(&(namespace.clone(), name.clone()));
        }
    }

    /// Ends a list: what it did not name is gone, for a watch tells nothing of what vanished in between.
    fn listed(&mut self, source: &Source) -> Vec<Arc<str>> {
        self.unsynced.remove(source);
        let mut unseen = self.relists.remove(source).unwrap_or_default();
        unseen.retain(|(namespace, name)| match source {
            Source::Namespaces => self.set_namespace(namespace, None),
            Source::Secrets(_) => self.remove_secret(namespace, name, u64::MAX),
            Source::Accounts => self.remove_account(namespace, name, u64::MAX),
            Source::Static(_) => false,
        });
        unseen.into_iter().map(|(namespace, _)| namespace).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::annotations::Wish;

    fn observed(version: u64) -> Observed {
        Observed {
            uid: "u".into(),
            resource_version: version,
            owner: Owner::Ours,
            intact: true,
            data_intact: true,
            immutable: false,
            times: None,
            applied: None,
        }
    }

    fn secret(namespace: &str, sight: Sight<Observed>) -> Change {
        Change::Secret { namespace: namespace.into(), name: "ecr-pull".into(), sight }
    }

    fn namespace(name: &str) -> Change {
        let reading = Reading { wish: Wish::OptedOut, problems: vec![] };
        let record = NamespaceRecord { uid: "n".into(), reading: Arc::new(reading) };
        Change::Namespace { namespace: name.into(), record: Some(record) }
    }

    fn index() -> (Index, Source) {
        let secrets = Source::Secrets("ecr-pull".into());
        (Index::new([Source::Namespaces, secrets.clone()]), secrets)
    }

    #[test]
    fn it_is_synced_when_every_watch_has_listed() {
        let (mut index, secrets) = index();
        for source in [Source::Namespaces, secrets] {
            assert!(!index.is_synced());
            index.take(Change::Begin(source.clone()));
            index.take(Change::Done(source));
        }
        assert!(index.is_synced());
    }

    #[test]
    fn a_relist_removes_what_it_does_not_name_and_reports_only_what_changed() {
        let (mut index, secrets) = index();
        for name in ["a", "b"] {
            index.take(namespace(name));
            index.take(secret(name, Sight::There(observed(1))));
        }
        index.take(Change::Begin(secrets.clone()));
        assert!(index.take(secret("a", Sight::There(observed(1)))).is_empty());
        assert_eq!(index.take(Change::Done(secrets)), [Arc::from("b")]);
        index.take(Change::Begin(Source::Namespaces));
        assert!(index.take(namespace("a")).is_empty());
        assert_eq!(index.take(Change::Done(Source::Namespaces)), [Arc::from("b")]);
        assert_eq!(index.names().count(), 1);
    }

    #[test]
    fn a_relist_of_service_accounts_removes_those_that_it_does_not_name() {
        let mut index = Index::new([Source::Accounts]);
        let account = |name: &str| Change::Account {
            namespace: "a".into(),
            name: name.into(),
            sight: Sight::There(Account { resource_version: 1, references: vec![], attached: vec![] }),
        };
        for name in ["default", "build"] {
            assert_eq!(index.take(account(name)), [Arc::from("a")]);
        }
        index.take(Change::Begin(Source::Accounts));
        assert!(index.take(account("build")).is_empty());
        assert_eq!(index.take(Change::Done(Source::Accounts)), [Arc::from("a")]);
        let left =
            index.get("a").map(|entry| entry.accounts.iter().map(|(name, _)| &**name).collect::<Vec<_>>());
        assert_eq!(left, Some(vec!["build"]));
    }

    #[test]
    fn an_event_older_than_our_own_write_is_not_news() {
        let (mut index, _) = index();
        index.take(namespace("a"));
        assert!(index.set_secret(&"a".into(), &"ecr-pull".into(), observed(9)));
        assert!(index.take(secret("a", Sight::There(observed(8)))).is_empty());
        assert_eq!(index.take(secret("a", Sight::There(observed(10)))).len(), 1);
    }

    #[test]
    fn equal_readings_are_one() {
        let (mut index, _) = index();
        index.take(namespace("a"));
        index.take(namespace("b"));
        let reading =
            |name: &str| index.get(name).and_then(|e| e.namespace.as_ref()).map(|r| r.reading.clone());
        assert!(Arc::ptr_eq(&reading("a").expect("a"), &reading("b").expect("b")));
    }
}
