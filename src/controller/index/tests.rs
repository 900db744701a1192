//! The index and the watch events that fill it.

use super::*;
use crate::core::request::OptIn;
use crate::core::testing;

fn observed(version: u64) -> Observed {
    Observed { resource_version: version, ..testing::observed(&testing::request(&[testing::HOST])) }
}

fn secret(namespace: &str, seen: Seen<Observed>) -> Change {
    Change::Secret { namespace: namespace.into(), name: "ecr-pull".into(), seen }
}

fn namespace(name: &str) -> Change {
    let parsed = Arc::new(ParsedAnnotations { opt_in: OptIn::Out, renew: None, problems: vec![] });
    Change::Namespace {
        namespace: name.into(),
        record: Some(NamespaceRecord { uid: "n".into(), parsed }),
        terminating: false,
    }
}

fn index() -> (Index, WatchTarget) {
    let secrets = WatchTarget::Secrets("ecr-pull".into());
    (Index::new([WatchTarget::Namespaces, secrets.clone()]), secrets)
}

#[test]
fn the_index_is_synced_when_every_watch_has_listed() {
    let (mut index, secrets) = index();
    for target in [WatchTarget::Namespaces, secrets] {
        assert!(!index.is_synced());
        index.apply(Change::ListStarted(target.clone()));
        index.apply(Change::ListDone(target));
    }
    assert!(index.is_synced());
}

#[test]
fn a_relist_removes_what_it_does_not_report_and_returns_only_what_changed() {
    let (mut index, secrets) = index();
    for name in ["a", "b"] {
        index.apply(namespace(name));
        index.apply(secret(name, Seen::Present(observed(1))));
    }
    index.apply(Change::ListStarted(secrets.clone()));
    assert!(index.apply(secret("a", Seen::Present(observed(1)))).is_empty());
    assert_eq!(index.apply(Change::ListDone(secrets)), [Arc::from("b")]);
    index.apply(Change::ListStarted(WatchTarget::Namespaces));
    assert!(index.apply(namespace("a")).is_empty());
    assert_eq!(index.apply(Change::ListDone(WatchTarget::Namespaces)), [Arc::from("b")]);
    assert_eq!(index.names().count(), 1);
}

#[test]
fn a_relist_of_service_accounts_removes_those_that_it_does_not_report() {
    let mut index = Index::new([WatchTarget::ServiceAccounts]);
    let service_account = |name: &str| Change::ServiceAccount {
        namespace: "a".into(),
        name: name.into(),
        seen: Seen::Present(PullSecretRefs { resource_version: 1, references: vec![], attached: vec![] }),
    };
    for name in ["default", "build"] {
        assert_eq!(index.apply(service_account(name)), [Arc::from("a")]);
    }
    index.apply(Change::ListStarted(WatchTarget::ServiceAccounts));
    assert!(index.apply(service_account("build")).is_empty());
    assert_eq!(index.apply(Change::ListDone(WatchTarget::ServiceAccounts)), [Arc::from("a")]);
    let left = &index.get("a").expect("a namespace").service_accounts;
    assert_eq!(left.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["build"]);
}

#[test]
fn a_reply_older_than_a_deletion_changes_nothing() {
    let (mut index, _) = index();
    let (namespace, name): (Arc<str>, Arc<str>) = ("a".into(), "ecr-pull".into());
    index.apply(self::namespace("a"));
    index.await_reply(&namespace);
    index.apply(secret("a", Seen::Present(observed(100))));
    index.apply(secret("a", Seen::Deleted(101)));
    assert_eq!(index.set_replied_secret(&namespace, &name, observed(100)), Reply::Deleted);
    assert!(index.get("a").is_some_and(|state| state.secrets.is_empty()));
    let newer = index.set_replied_secret(&namespace, &name, observed(102));
    assert_eq!(newer, Reply::Recorded, "a newer one exists");
    index.reply_arrived("a");
    index.remove_secret(&namespace, &name, 101);
    assert!(index.get("a").is_some_and(|state| state.secrets.len() == 1), "our deletion was of an older one");
}

#[test]
fn an_event_older_than_our_own_write_changes_nothing() {
    let (mut index, _) = index();
    index.apply(namespace("a"));
    assert!(index.set_secret(&"a".into(), &"ecr-pull".into(), observed(9)));
    assert!(index.apply(secret("a", Seen::Present(observed(8)))).is_empty());
    assert_eq!(index.apply(secret("a", Seen::Present(observed(10)))).len(), 1);
}

#[test]
fn equal_annotations_are_one_value_in_memory() {
    let (mut index, _) = index();
    index.apply(namespace("a"));
    index.apply(namespace("b"));
    let parsed = |name: &str| {
        let record = index.get(name).and_then(|state| state.namespace.as_ref());
        record.map(|record| record.parsed.clone()).expect(name)
    };
    assert!(Arc::ptr_eq(&parsed("a"), &parsed("b")));
}

#[test]
fn the_service_accounts_of_one_namespace_are_bounded_and_known_ones_still_change() {
    let mut index = Index::new([WatchTarget::ServiceAccounts]);
    let refs = |version| PullSecretRefs { resource_version: version, references: vec![], attached: vec![] };
    let namespace: Arc<str> = "a".into();
    for n in 0..MAX_SERVICE_ACCOUNTS + 100 {
        index.set_service_account(&namespace, &format!("account-{n}").into(), refs(1));
    }
    let changed = PullSecretRefs { attached: vec!["ecr-pull".into()], ..refs(2) };
    assert!(index.set_service_account(&namespace, &"account-7".into(), changed));
    assert_eq!(index.get("a").map(|state| state.service_accounts.len()), Some(MAX_SERVICE_ACCOUNTS));
}
