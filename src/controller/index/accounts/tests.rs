//! Which service accounts are known, in any order of events.

use std::collections::{BTreeMap, VecDeque};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::controller::change::{Change, Seen};
use crate::core::plan::NamespaceRecord;
use crate::core::testing::{at, parsed, request};

fn watched() -> Index {
    Index::new([WatchTarget::Namespaces, WatchTarget::ServiceAccounts])
}

fn opts_in(namespace: &str, is_in: bool) -> Change {
    let record = || NamespaceRecord { uid: "n".into(), parsed: Arc::new(parsed(request(&[]))) };
    Change::Namespace { namespace: namespace.into(), record: is_in.then(record), terminating: false }
}

/// A service account at a version, with the reference that this instance added if it did.
fn refs(version: u64, is_attached: bool) -> PullSecretRefs {
    let attached: Vec<Arc<str>> = is_attached.then(|| "ecr-pull".into()).into_iter().collect();
    PullSecretRefs { resource_version: version, references: attached.clone(), attached }
}

fn account(namespace: &str, name: &str, refs: PullSecretRefs) -> Change {
    Change::ServiceAccount { namespace: namespace.into(), name: name.into(), seen: Seen::Present(refs) }
}

fn list(index: &mut Index, accounts: impl IntoIterator<Item = Change>) -> Vec<Arc<str>> {
    index.apply(Change::ListStarted(WatchTarget::ServiceAccounts));
    for account in accounts {
        index.apply(account);
    }
    index.apply(Change::ListDone(WatchTarget::ServiceAccounts))
}

fn known(index: &Index, namespace: &str) -> BTreeMap<String, PullSecretRefs> {
    let all = index.get(namespace).map_or(&[][..], |state| &state.service_accounts);
    all.iter().map(|(name, refs)| (name.to_string(), refs.clone())).collect()
}

fn misses(index: &Index, namespace: &str) -> bool {
    index.facts(namespace).is_some_and(|facts| facts.known_accounts == KnownAccounts::Attached)
}

#[test]
fn of_a_hundred_thousand_service_accounts_of_foreign_namespaces_none_is_remembered() {
    let mut index = watched();
    let allocations = allocation_counter::measure(|| {
        for n in 0..100_000 {
            let namespace = format!("foreign-{}", n % 1_000);
            index.apply(account(&namespace, &format!("account-{n}"), refs(n + 1, false)));
        }
    });
    assert_eq!((index.names().count(), allocations.bytes_current), (0, 0));
    index.apply(account("left", "build", refs(1, true)));
    assert_eq!(known(&index, "left").len(), 1, "what the controller added is removed later");
    assert_eq!(index.apply(account("left", "build", refs(2, false))), [Arc::from("left")]);
    assert_eq!(index.names().count(), 0, "nothing of this instance is left");
}

#[test]
fn a_namespace_that_opted_in_before_the_list_of_the_watch_needs_no_other_list() {
    let mut index = watched();
    index.apply(opts_in("early", true));
    index.apply(Change::ListStarted(WatchTarget::ServiceAccounts));
    index.apply(account("early", "default", refs(1, false)));
    index.apply(account("late", "default", refs(2, false)));
    index.apply(opts_in("late", true));
    assert!(!misses(&index, "early") && !misses(&index, "late"), "the list is awaited");
    assert_eq!(index.apply(Change::ListDone(WatchTarget::ServiceAccounts)), ["early", "late"].map(Arc::from));
    assert!(!misses(&index, "early") && misses(&index, "late"));
    assert_eq!((known(&index, "early").len(), known(&index, "late").len()), (1, 0));
    let changed = list(&mut index, [account("late", "default", refs(2, false))]);
    assert_eq!(changed, ["early", "late"].map(Arc::from), "early lost its own, and late has one");
    assert!(!misses(&index, "late"), "the next list of the watch is complete, too");
}

#[test]
fn a_namespace_that_opts_out_keeps_only_what_the_controller_added() {
    let mut index = watched();
    index.apply(opts_in("a", true));
    list(&mut index, [account("a", "build", refs(1, true)), account("a", "default", refs(2, false))]);
    index.apply(opts_in("a", false));
    assert_eq!(known(&index, "a").into_keys().collect::<Vec<_>>(), ["build"]);
    index.apply(opts_in("a", true));
    assert!(misses(&index, "a"), "what was dropped is listed");
}

#[test]
fn a_list_during_which_the_namespace_opted_out_is_repeated() {
    let mut index = watched();
    list(&mut index, []);
    index.apply(opts_in("a", true));
    index.await_reply(&"a".into());
    // The API server read no service account, and then one was created.
    index.apply(account("a", "late", refs(2, false)));
    index.apply(opts_in("a", false));
    index.apply(opts_in("a", true));
    index.set_listed_accounts(&"a".into(), vec![]);
    index.reply_arrived("a");
    assert!(misses(&index, "a") && known(&index, "a").is_empty());
}

#[test]
fn what_the_controller_changed_lately_is_kept_so_that_its_backoff_is_too() {
    let mut index = watched();
    let (namespace, name): (Arc<str>, Arc<str>) = ("left".into(), "build".into());
    index.apply(account("left", "build", refs(1, true)));
    index.await_reply(&namespace);
    index.apply(account("left", "build", refs(2, false)));
    let history = index.history("left").expect("it is kept while an action runs");
    history.change_service_account(&name, |retry| retry.record_repair(at(0)));
    index.set_replied_service_account(&namespace, &name, refs(2, false));
    index.reply_arrived("left");
    index.release_accounts(at(19 * 60).wall);
    assert_eq!(known(&index, "left").len(), 1);
    assert_eq!(index.release_accounts(at(21 * 60).wall), [namespace]);
    assert_eq!(index.names().count(), 0);
}

#[test]
fn the_service_accounts_of_one_namespace_are_bounded_and_those_with_our_reference_come_first() {
    let mut index = watched();
    index.apply(opts_in("a", true));
    for n in 0..MAX_SERVICE_ACCOUNTS + 100 {
        index.apply(account("a", &format!("account-{n}"), refs(1, false)));
    }
    assert_eq!(index.apply(account("a", "account-7", refs(2, true))).len(), 1, "known ones still change");
    assert_eq!(index.apply(account("a", "late", refs(3, true))).len(), 1);
    let all = known(&index, "a");
    assert_eq!(all.len(), MAX_SERVICE_ACCOUNTS);
    assert!(all.contains_key("late") && all.contains_key("account-7"));
}

/// N43: users who create, edit and delete service accounts must not use up the memory of the controller.
#[test]
fn the_changes_of_service_accounts_that_are_not_known_any_more_are_forgotten() {
    let mut index = watched();
    index.apply(opts_in("a", true));
    let record = |index: &mut Index, name: &str| {
        index.change_service_account("a", &name.into(), |retry| retry.record_repair(at(0)))
    };
    for n in 0..MAX_SERVICE_ACCOUNTS {
        let name = format!("account-{n}");
        index.apply(account("a", &name, refs(1, false)));
        record(&mut index, &name).expect("a known one");
    }
    for n in 0..100 {
        index.apply(account("a", &format!("forged-{n}"), refs(2, true)));
    }
    let remembered = |index: &mut Index| index.history("a").expect("a history").service_accounts.len();
    assert_eq!(remembered(&mut index), MAX_SERVICE_ACCOUNTS - 100, "without those that made room for others");
    let (name, seen) = ("account-250".into(), Seen::Deleted(3));
    index.apply(Change::ServiceAccount { namespace: "a".into(), name, seen });
    assert_eq!(record(&mut index, "account-250"), None, "its reply came after its deletion");
    assert_eq!(remembered(&mut index), MAX_SERVICE_ACCOUNTS - 101);
}

#[test]
fn a_relist_of_service_accounts_removes_those_that_it_does_not_report() {
    let mut index = watched();
    index.apply(opts_in("a", true));
    list(&mut index, ["default", "build"].map(|name| account("a", name, refs(1, false))));
    assert_eq!(list(&mut index, [account("a", "build", refs(1, false))]), [Arc::from("a")]);
    assert_eq!(known(&index, "a").into_keys().collect::<Vec<_>>(), ["build"]);
}

const NAMESPACES: [&str; 2] = ["a", "b"];

/// A step in a namespace, of a service account, or of the watches.
#[derive(Clone, Copy, Debug)]
enum Move {
    OptsIn(usize, bool),
    Changes(usize, u8, bool),
    IsDeleted(usize, u8),
    NamespaceEventArrives,
    AccountEventArrives,
    NamespacesAreListedAgain,
    AccountsAreListedAgain,
    /// The list of a namespace is requested, read by the API server, and returned.
    IsListed(usize),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let namespace = || 0..NAMESPACES.len();
    vec(
        prop_oneof![
            3 => (namespace(), any::<bool>()).prop_map(|(n, is_in)| Move::OptsIn(n, is_in)),
            4 => (namespace(), 0..3u8, any::<bool>()).prop_map(|(n, name, ours)| Move::Changes(n, name, ours)),
            2 => (namespace(), 0..3u8).prop_map(|(n, name)| Move::IsDeleted(n, name)),
            6 => Just(Move::NamespaceEventArrives),
            8 => Just(Move::AccountEventArrives),
            1 => Just(Move::NamespacesAreListedAgain),
            1 => Just(Move::AccountsAreListedAgain),
            8 => namespace().prop_map(Move::IsListed),
        ],
        0..60,
    )
}

type Accounts = BTreeMap<String, PullSecretRefs>;

/// The list of a namespace.
#[derive(Default)]
enum List {
    #[default]
    None,
    Requested,
    /// The API server read it, and the reply is on its way.
    Read(Accounts),
}

/// The API server, two watches and an index.
struct World {
    version: u64,
    opted_in: [bool; NAMESPACES.len()],
    accounts: [Accounts; NAMESPACES.len()],
    namespace_events: VecDeque<Change>,
    account_events: VecDeque<Change>,
    lists: [List; NAMESPACES.len()],
    index: Index,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            version: 0,
            opted_in: [false; NAMESPACES.len()],
            accounts: [const { Accounts::new() }; NAMESPACES.len()],
            namespace_events: VecDeque::new(),
            account_events: VecDeque::new(),
            lists: Default::default(),
            index: watched(),
        };
        world.list_namespaces();
        world.list_accounts();
        world
    }

    fn list_namespaces(&mut self) {
        self.namespace_events.clear();
        self.namespace_events.push_back(Change::ListStarted(WatchTarget::Namespaces));
        for (name, is_in) in NAMESPACES.iter().zip(self.opted_in) {
            self.namespace_events.push_back(opts_in(name, is_in));
        }
        self.namespace_events.push_back(Change::ListDone(WatchTarget::Namespaces));
    }

    fn list_accounts(&mut self) {
        self.account_events.clear();
        self.account_events.push_back(Change::ListStarted(WatchTarget::ServiceAccounts));
        for (namespace, all) in NAMESPACES.iter().zip(&self.accounts) {
            let all = all.iter().map(|(name, refs)| account(namespace, name, refs.clone()));
            self.account_events.extend(all);
        }
        self.account_events.push_back(Change::ListDone(WatchTarget::ServiceAccounts));
    }

    fn make(&mut self, step: Move) {
        self.version += 1;
        match step {
            Move::OptsIn(n, is_in) => {
                self.opted_in[n] = is_in;
                self.namespace_events.push_back(opts_in(NAMESPACES[n], is_in));
            }
            Move::Changes(n, name, is_attached) => {
                let (name, refs) = (name.to_string(), refs(self.version, is_attached));
                self.account_events.push_back(account(NAMESPACES[n], &name, refs.clone()));
                self.accounts[n].insert(name, refs);
            }
            Move::IsDeleted(n, name) => {
                let name = name.to_string();
                if self.accounts[n].remove(&name).is_some() {
                    let (namespace, seen) = (NAMESPACES[n].into(), Seen::Deleted(self.version));
                    let name = name.as_str().into();
                    self.account_events.push_back(Change::ServiceAccount { namespace, name, seen });
                }
            }
            Move::NamespaceEventArrives => {
                self.namespace_events.pop_front().map(|change| self.index.apply(change));
            }
            Move::AccountEventArrives => {
                self.account_events.pop_front().map(|change| self.index.apply(change));
            }
            Move::NamespacesAreListedAgain => self.list_namespaces(),
            Move::AccountsAreListedAgain => self.list_accounts(),
            Move::IsListed(n) => self.go_on_with_list(n),
        }
    }

    fn go_on_with_list(&mut self, n: usize) {
        let namespace: Arc<str> = NAMESPACES[n].into();
        match std::mem::take(&mut self.lists[n]) {
            List::None if misses(&self.index, &namespace) => {
                self.index.await_reply(&namespace);
                self.lists[n] = List::Requested;
            }
            List::None => {}
            List::Requested => self.lists[n] = List::Read(self.accounts[n].clone()),
            List::Read(read) => {
                let listed = read.into_iter().map(|(name, refs)| (name.as_str().into(), refs));
                self.index.set_listed_accounts(&namespace, listed.collect());
                self.index.reply_arrived(&namespace);
            }
        }
    }

    /// Everything that is on its way arrives, and what is missing is listed.
    fn settle(&mut self) {
        while !self.namespace_events.is_empty() || !self.account_events.is_empty() {
            self.make(Move::NamespaceEventArrives);
            self.make(Move::AccountEventArrives);
        }
        for n in 0..NAMESPACES.len() {
            for _ in 0..6 {
                self.go_on_with_list(n);
            }
        }
        self.index.release_accounts(at(0).wall);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// The events of the two watches and the replies of lists arrive in any order: in the end each service account of a
    /// namespace that opted in is known as it is, and of the others only those with our reference.
    #[test]
    fn in_every_order_of_events_the_right_service_accounts_are_known(moves in moves()) {
        let mut world = World::new();
        for step in moves {
            world.make(step);
        }
        world.settle();
        for (n, namespace) in NAMESPACES.iter().enumerate() {
            prop_assert!(!misses(&world.index, namespace));
            let mut expected = world.accounts[n].clone();
            expected.retain(|_, refs| world.opted_in[n] || !refs.attached.is_empty());
            prop_assert_eq!(known(&world.index, namespace), expected, "{}", namespace);
        }
    }
}
