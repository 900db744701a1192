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

/// The watch was interrupted, and did not report the deletion.
#[test]
fn a_reply_from_before_a_list_in_progress_does_not_outlive_it() {
    let (namespace, name): (Arc<str>, Arc<str>) = ("a".into(), "ecr-pull".into());
    for read in [false, true] {
        let (mut index, secrets) = index();
        index.apply(self::namespace("a"));
        index.await_reply(&namespace);
        index.apply(Change::ListStarted(secrets.clone()));
        if read {
            index.set_read_secret(&namespace, &name, Some(observed(100)), 0);
        } else {
            assert_eq!(index.set_replied_secret(&namespace, &name, observed(100)), Reply::Recorded);
        }
        assert_eq!(index.apply(Change::ListDone(secrets.clone())).len(), 1);
        assert!(index.get("a").is_some_and(|state| state.secrets.is_empty()), "the list is newer");
        assert_eq!(index.set_replied_secret(&namespace, &name, observed(100)), Reply::Uncertain);
        assert!(index.is_missed("a", &name), "what was read is read again");
        index.apply(secret("a", Seen::Present(observed(100))));
        assert!(index.get("a").is_some_and(|state| state.secrets.len() == 1), "the list was older");
    }
}

#[test]
fn a_reply_about_a_known_secret_during_a_list_outlives_it() {
    let (mut index, secrets) = index();
    index.apply(namespace("a"));
    index.apply(secret("a", Seen::Present(observed(1))));
    index.await_reply(&"a".into());
    index.apply(Change::ListStarted(secrets.clone()));
    index.apply(secret("a", Seen::Present(observed(1))));
    assert_eq!(index.set_replied_secret(&"a".into(), &"ecr-pull".into(), observed(2)), Reply::Recorded);
    assert!(index.apply(Change::ListDone(secrets)).is_empty());
    assert_eq!(index.secret_version("a", "ecr-pull"), Some(2));
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

/// N61: it was deleted while its watch was interrupted.
#[test]
fn a_static_source_that_a_list_does_not_report_does_not_exist() {
    let name: Arc<str> = "hub".into();
    let target = WatchTarget::StaticSource(name.clone());
    let mut index = Index::new([target.clone()]);
    let source = || StaticSource {
        version: 1,
        entries: [("docker.io".to_owned(), testing::token(testing::at(0), 60).credential().clone())].into(),
        unreadable: [].into(),
    };
    let present = || Change::StaticSource { name: name.clone(), source: Some(source()) };
    index.apply(present());
    index.apply(Change::ListStarted(target.clone()));
    index.apply(present());
    index.apply(Change::ListDone(target.clone()));
    assert_eq!(index.static_sources.len(), 1);
    index.apply(Change::ListStarted(target.clone()));
    index.apply(Change::ListDone(target));
    assert_eq!(index.static_sources.len(), 0);
}
