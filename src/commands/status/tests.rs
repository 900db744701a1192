//! Each state of a namespace, from the metadata of its objects to its line in the table.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use strum::IntoEnumIterator as _;

use super::documents;
use super::knowledge::Knowledge;
use super::row::{Row, State, rows};
use super::table::Table;
use crate::controller::change::{Change, Seen};
use crate::core::plan::{Observed, Owner};
use crate::core::request::{Request, Times};
use crate::core::settings::Settings;
use crate::core::testing::{
    HOST, HOUR, applied, at, observed, observed_with, request, request_for, settings, target, wall,
};
use crate::kubernetes::overview::{Overview, Warning};

const KNOWN: Knowledge = Knowledge { configuration: true };
const UNKNOWN: Knowledge = Knowledge { configuration: false };
const OTHER: &str = "222222222222.dkr.ecr.us-east-1.amazonaws.com";

/// An overview of these namespaces, each with its `registries` and perhaps its Secret.
fn overview(namespaces: Vec<(&str, Value, Option<Observed>)>) -> Overview {
    let settings = settings();
    let mut overview = Overview::default();
    for (name, mut meta, observed) in namespaces {
        meta["name"] = name.into();
        meta["uid"] = "u".into();
        let meta: ObjectMeta = serde_json::from_value(meta).expect("metadata");
        overview.add_namespace(&meta, &settings);
        if let Some(observed) = observed {
            let seen = Seen::Present(observed);
            let name = Arc::from(name);
            overview.index.apply(Change::Secret { namespace: name, name: "ecr-pull".into(), seen });
        }
    }
    overview
}

fn requests(registries: &str) -> Value {
    json!({"annotations": {"ecr-pull-secrets.dev/registries": registries}})
}

/// A Secret with a token of 12 hours that was issued so many seconds after the origin.
fn issued(second: i64) -> Observed {
    let times = Times { expires_at: wall(second + 12 * HOUR), refresh_after: wall(second + 6 * HOUR) };
    let applied = applied(&request(&[HOST]), &[second + 12 * HOUR]);
    Observed { times: Some(times), ..observed_with(applied) }
}

/// A Secret whose second entry has expired.
fn half_expired() -> Observed {
    observed_with(applied(&request(&[HOST, OTHER]), &[-60, 12 * HOUR]))
}

fn every_state() -> Overview {
    let foreign =
        Observed { owner: Owner::Unmanaged, is_applied: false, applied: None, ..observed(&request(&[HOST])) };
    let edited = Observed { intact: false, ..issued(0) };
    let ending = json!({
        "annotations": {"ecr-pull-secrets.dev/registries": HOST}, "deletionTimestamp": "2023-11-14T22:13:20Z"
    });
    let misspelled = json!({"annotations": {"ecr-pull-secrets.dev/registry": HOST}});
    let mut overview = overview(vec![
        ("ready", requests(HOST), Some(issued(0))),
        ("expired", requests(HOST), Some(issued(-13 * HOUR))),
        ("blocked", requests("nonsense"), None),
        ("foreign", requests(HOST), Some(foreign)),
        ("degraded", requests(&format!("{HOST} nonsense")), Some(issued(0))),
        ("half", requests(&format!("{HOST} {OTHER}")), Some(half_expired())),
        ("pending", requests(HOST), None),
        ("due", requests(HOST), Some(issued(-7 * HOUR))),
        ("updating", requests(HOST), Some(edited)),
        ("removing", json!({}), Some(issued(0))),
        ("terminating", ending, Some(issued(0))),
        ("ignored", misspelled, None),
        ("plain", json!({}), None),
        ("none", requests("none"), None),
    ]);
    let warning = Warning {
        reason: "WriteFailed".to_owned(),
        message: "could not create secret \"ecr-pull\"".to_owned(),
        at: Some(wall(-30)),
    };
    for namespace in ["pending", "ready"] {
        overview.warnings.insert(namespace.into(), warning.clone());
    }
    overview
}

fn table(overview: &Overview, wide: bool) -> String {
    let rows = rows(overview, &settings(), KNOWN, at(0));
    let lines = Table::new(wide).lines(&rows, at(0));
    let plain = lines.iter().map(|line| anstream::adapter::strip_str(line).to_string());
    plain.collect::<Vec<_>>().join("\n")
}

fn states(overview: &Overview, settings: &Settings, knowledge: Knowledge) -> Vec<(String, State)> {
    let rows = rows(overview, settings, knowledge, at(0));
    rows.into_iter().map(|row| (row.namespace.to_string(), row.state)).collect()
}

/// The table of [`every_state`].
const TABLE: &str = include_str!("table.txt");

#[test]
fn each_state_has_its_line_and_trouble_comes_first() {
    let overview = every_state();
    let table = table(&overview, false);
    assert_eq!(table, TABLE.trim_end(), "\n{table}");
    let found: BTreeSet<_> =
        states(&overview, &settings(), KNOWN).into_iter().map(|(_, state)| state).collect();
    let all = State::iter().filter(|state| *state != State::Unknown);
    assert_eq!(found.into_iter().collect::<Vec<_>>(), all.collect::<Vec<_>>(), "each state but Unknown");
}

#[test]
fn without_rights_on_secrets_each_state_is_unknown_and_problems_come_from_annotations_and_events() {
    let mut overview = overview(vec![
        ("a", requests(HOST), None),
        ("b", requests("nonsense"), None),
        ("c", requests(HOST), None),
    ]);
    overview.secrets_denied = Some("forbidden".to_owned());
    let (reason, message) = ("TokenFailed".to_owned(), "could not fetch a token".to_owned());
    overview.warnings.insert("c".into(), Warning { reason, message, at: None });
    let rows = rows(&overview, &settings(), KNOWN, at(0));
    let problem = |row: &Row| row.problem.as_ref().map(|problem| problem.reason.clone());
    let shown: Vec<_> = rows.iter().map(|row| (row.state, problem(row))).collect();
    let unknown = |reason: Option<&str>| (State::Unknown, reason.map(str::to_owned));
    assert_eq!(shown, [unknown(None), unknown(Some("InvalidAnnotation")), unknown(Some("TokenFailed"))]);
    assert!(rows.iter().all(|row| row.expires_at.is_none()));
    let first = table(&overview, false).lines().nth(1).map(str::to_owned);
    let expected =
        format!("a           Unknown   ecr-pull   {HOST}   controller   <none>       <none>      <none>");
    assert_eq!(first, Some(expected));
}

#[test]
fn only_a_namespace_without_a_secret_and_without_a_problem_needs_its_events() {
    let mut overview = every_state();
    let unexplained = |overview: &Overview| {
        let rows = rows(overview, &settings(), KNOWN, at(0));
        rows.into_iter().filter(Row::is_unexplained).map(|row| row.namespace.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(unexplained(&overview), [""; 0]);
    overview.warnings.clear();
    assert_eq!(unexplained(&overview), ["pending"]);
}

#[test]
fn a_watch_may_report_a_secret_before_its_namespace_and_after_it_was_deselected() {
    let settings = settings();
    let meta = |meta: Value| serde_json::from_value::<ObjectMeta>(meta).expect("metadata");
    let secret = meta(json!({
        "name": "ecr-pull", "namespace": "a", "uid": "s", "resourceVersion": "3",
        "labels": {"app.kubernetes.io/managed-by": "ecr-pull-secrets", "ecr-pull-secrets.dev/instance": "test"},
    }));
    let mut namespace = requests(HOST);
    namespace["name"] = "a".into();
    let namespace = meta(namespace);
    let mut overview = Overview::default();
    overview.add_secret(&"ecr-pull".into(), &secret, &settings);
    assert!(rows(&overview, &settings, KNOWN, at(0)).is_empty(), "the namespace is not selected yet");
    overview.add_namespace(&namespace, &settings);
    assert_eq!(overview.index.get("a").map(|state| state.managed().count()), Some(1));
    assert_eq!(rows(&overview, &settings, KNOWN, at(0)).len(), 1);
    overview.remove_namespace(&namespace);
    assert!(rows(&overview, &settings, KNOWN, at(0)).is_empty(), "it is no longer selected");
}

#[test]
fn the_wide_table_lists_each_registry() {
    let overview = overview(vec![("half", requests(&format!("{HOST} {OTHER}")), Some(half_expired()))]);
    assert!(table(&overview, true).contains(&format!("{HOST},{OTHER}")));
}

#[test]
fn without_the_configuration_nothing_is_reported_that_depends_on_it() {
    // The controller's configuration has an identity for the role, and includes the second namespace.
    let by_role = Request { role: vec!["team".into()], ..request(&[HOST]) };
    let by_default = Request { by_default: true, ..request_for(vec![target("default")]) };
    let recorded = |request| {
        let applied = applied(&request, &[12 * HOUR]);
        observed_with(applied)
    };
    let annotated = json!({"annotations": {
        "ecr-pull-secrets.dev/registries": HOST, "ecr-pull-secrets.dev/role": "team"
    }});
    let overview = overview(vec![
        ("by-role", annotated, Some(recorded(by_role))),
        ("included", json!({}), Some(recorded(by_default))),
        ("bad", requests("nonsense"), None),
    ]);
    let of = |namespace: &str, state| (namespace.to_owned(), state);
    let shown = states(&overview, &settings(), UNKNOWN);
    assert_eq!(shown, [of("bad", State::Blocked), of("by-role", State::Ready), of("included", State::Ready)]);
    let mut elsewhere = settings();
    elsewhere.region = None;
    elsewhere.grants.default_region = None;
    assert_eq!(states(&overview, &elsewhere, UNKNOWN), shown, "nor what depends on the region");
    assert_ne!(states(&overview, &settings(), KNOWN), shown);
}

/// The state is that of the Secret in use, so its times must be too.
#[test]
fn the_times_are_those_of_the_requested_secret_while_an_older_one_is_kept() {
    let renamed = json!({"annotations": {
        "ecr-pull-secrets.dev/registries": HOST, "ecr-pull-secrets.dev/secret-name": "other"
    }});
    let mut overview = overview(vec![("a", renamed, Some(issued(-13 * HOUR)))]);
    let seen = Seen::Present(issued(0));
    overview.index.apply(Change::Secret { namespace: "a".into(), name: "other".into(), seen });
    let rows = rows(&overview, &settings(), KNOWN, at(0));
    assert_eq!((rows[0].secret.as_deref(), rows[0].expires_at), (Some("other"), Some(wall(12 * HOUR))));
}

#[test]
fn json_has_the_documented_form() {
    let overview = overview(vec![("ready", requests(HOST), Some(issued(0)))]);
    let rows = rows(&overview, &settings(), KNOWN, at(0));
    let list = json!({
        "apiVersion": "ecr-pull-secrets.dev/v1alpha1",
        "kind": "NamespaceStatusList",
        "items": [{
            "namespace": "ready",
            "state": "ready",
            "secret": "ecr-pull",
            "registries": [{
                "registry": HOST,
                "identity": "controller",
                "issuedAt": "2023-11-14T22:13:20Z",
                "expiresAt": "2023-11-15T10:13:20Z",
            }],
            "expiresAt": "2023-11-15T10:13:20Z",
            "renewsAt": "2023-11-15T04:13:20Z",
            "problem": null,
        }],
    });
    assert_eq!(documents(&rows, false), [list]);
}
