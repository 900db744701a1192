//! The applied state of a Secret, which three of its annotations record. When they are read back, they are untrusted
//! input.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{MAX_REGIONS, MAX_REGISTRIES, Request, Target};
use crate::core::{Now, PREFIX};

/// Annotation, without the prefix: when the earliest live entry expires.
pub const EXPIRES_AT: &str = "expires-at";
/// Annotation, without the prefix: when the Secret is due for renewal.
pub const REFRESH_AFTER: &str = "refresh-after";
/// Annotation, without the prefix: the applied request and its entries, as canonical JSON.
pub const APPLIED: &str = "applied";

/// The maximum length of [`APPLIED`], for writing and reading.
pub const MAX_APPLIED_LEN: usize = 8 * 1024;
/// The 12 hours of a token, and an hour for clocks that differ.
const MAX_LIFETIME: SignedDuration = SignedDuration::from_hours(13);

/// The times of a Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// When its earliest live entry expires.
    pub expires_at: Timestamp,
    /// When it is due for renewal.
    pub refresh_after: Timestamp,
}

impl Times {
    /// Whether a token can have these times: a token of ECR lives for at most 12 hours.
    pub fn is_plausible(&self, now: Now) -> bool {
        [self.expires_at, self.refresh_after].into_iter().all(|time| is_plausible(time, now))
    }
}

/// Whether a token can expire at `time`.
pub fn is_plausible(time: Timestamp, now: Now) -> bool {
    now.until(time) <= MAX_LIFETIME
}

/// Fingerprint of a token's permissions: its role and session policy. Tokens of equal fingerprints are interchangeable.
/// It is stored on the Secret, so it must not change between versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ScopeFingerprint(pub u64);

/// An entry of a Secret as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AppliedEntry {
    pub scope: ScopeFingerprint,
    /// In whole seconds; `None` if unknown.
    pub expires_at: Option<Timestamp>,
}

/// The applied request and the entries of the Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AppliedState {
    pub request: Request,
    /// One for each registry of the request, in their order; `None` if the Secret has no entry for it, or none is known.
    pub entries: Vec<Option<AppliedEntry>>,
    /// The static entries by host, each with the version of its source.
    pub static_entries: BTreeMap<String, String>,
}

impl AppliedState {
    /// The entry that was written for `target`.
    pub fn entry(&self, target: &Target) -> Option<AppliedEntry> {
        let index = self.request.registries.iter().position(|known| known == target)?;
        self.entries.get(index).copied().flatten()
    }

    /// The three annotations of a Secret that `instance` applies.
    pub fn to_annotations(&self, instance: &str, times: Times) -> BTreeMap<String, String> {
        let values = [
            (EXPIRES_AT, times.expires_at.to_string()),
            (REFRESH_AFTER, times.refresh_after.to_string()),
            (APPLIED, self.to_json(instance)),
        ];
        values.into_iter().map(|(key, value)| (format!("{PREFIX}{key}"), value)).collect()
    }

    /// The canonical JSON: sorted keys, no white space.
    fn to_json(&self, instance: &str) -> String {
        let entry = |entry: &Option<AppliedEntry>| entry.map(format_entry).unwrap_or_default();
        let wire = Wire {
            entries: self.entries.iter().map(entry).collect(),
            instance: instance.to_owned(),
            request: self.request.clone(),
            static_entries: self.static_entries.clone(),
        };
        serde_json::to_string(&wire).expect("strings and lists of strings serialize")
    }

    /// The maximum length of the JSON for `request`.
    pub fn max_len(instance: &str, request: &Request) -> usize {
        let entry = AppliedEntry { scope: ScopeFingerprint(u64::MAX), expires_at: Some(Timestamp::MAX) };
        let entries = vec![Some(entry); request.registries.len()];
        Self { request: request.clone(), entries, static_entries: BTreeMap::new() }.to_json(instance).len()
    }
}

/// The state that the annotations of a Secret record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordedState {
    /// The instance, and the state that it applied.
    pub applied: Option<(String, AppliedState)>,
    pub times: Option<Times>,
}

impl RecordedState {
    /// Reads the annotations of a Secret. A value that is missing, too long, out of bounds or not in canonical form is
    /// `None`; the caller checks the grants again.
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Self {
        let get = |key: &str| annotations.get(&format!("{PREFIX}{key}")).map(String::as_str);
        let time = |key: &str| get(key)?.parse::<Timestamp>().ok();
        let times = time(EXPIRES_AT).zip(time(REFRESH_AFTER));
        Self {
            applied: get(APPLIED).and_then(parse),
            times: times.map(|(expires_at, refresh_after)| Times { expires_at, refresh_after }),
        }
    }
}

/// The JSON of [`APPLIED`]. An entry is `SCOPE@SECOND`, `SCOPE@` if its expiry is unknown, or empty.
#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(default)]
    entries: Vec<String>,
    instance: String,
    #[serde(flatten)]
    request: Request,
    #[serde(default, rename = "static", skip_serializing_if = "BTreeMap::is_empty")]
    static_entries: BTreeMap<String, String>,
}

fn parse(text: &str) -> Option<(String, AppliedState)> {
    if text.len() > MAX_APPLIED_LEN {
        return None;
    }
    let Wire { entries, instance, mut request, static_entries } = serde_json::from_str(text).ok()?;
    for list in [&mut request.repositories, &mut request.service_accounts] {
        list.sort_unstable();
        list.dedup();
    }
    let written = request.registries.clone();
    request.registries.sort_unstable();
    request.registries.dedup();
    // Entries are matched to registries by position, so an annotation in another order is ambiguous.
    let in_order = written == request.registries && entries.len() == written.len();
    let entries = if in_order { entries.iter().map(|text| parse_entry(text)).collect() } else { vec![] };
    let endpoints: BTreeSet<_> = request.registries.iter().filter_map(Target::endpoint).collect();
    let bounded = request.registries.len() <= MAX_REGISTRIES && endpoints.len() <= MAX_REGIONS;
    let usable = bounded && !request.registries.is_empty();
    usable.then_some((instance, AppliedState { request, entries, static_entries }))
}

fn format_entry(entry: AppliedEntry) -> String {
    let second = entry.expires_at.map(|at| at.as_second().to_string()).unwrap_or_default();
    format!("{:016x}@{second}", entry.scope.0)
}

fn parse_entry(text: &str) -> Option<AppliedEntry> {
    let (scope, second) = text.split_once('@')?;
    let scope = ScopeFingerprint(u64::from_str_radix(scope, 16).ok()?);
    let expires_at = second.parse().ok().and_then(|second| Timestamp::from_second(second).ok());
    Some(AppliedEntry { scope, expires_at })
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, btree_set, vec};
    use proptest::option::of;
    use proptest::prelude::*;

    use super::*;
    use crate::core::testing::{HOST, request_for};

    fn request() -> Request {
        let registries = vec![Target::Host(HOST.parse().expect("a host")), Target::Default];
        Request { role: vec!["b".into(), "a".into()], ..request_for(registries) }
    }

    fn applied(request: Request) -> AppliedState {
        let expires_at = Some(Timestamp::from_second(1_700_000_000).expect("a time"));
        let mut entries = vec![None; request.registries.len()];
        entries[0] = Some(AppliedEntry { scope: ScopeFingerprint(0xdead_beef), expires_at });
        AppliedState { request, entries, static_entries: BTreeMap::new() }
    }

    #[test]
    fn the_canonical_form_has_sorted_keys() {
        let text = applied(request()).to_json("one");
        assert!(text.len() <= AppliedState::max_len("one", &request()));
        assert_eq!(
            text,
            r#"{"entries":["00000000deadbeef@1700000000",""],"instance":"one","registries":["123456789012.dkr.ecr.eu-central-1.amazonaws.com","default"],"repositories":[],"role":["b","a"],"secretName":"ecr-pull","serviceAccounts":[]}"#
        );
        assert_eq!(parse(&text), Some(("one".into(), applied(request()))));
    }

    #[test]
    fn entries_in_another_order_than_the_registries_are_not_read() {
        let text = applied(request()).to_json("one");
        let forged = text.replace(r#""","#, "").replace(r#","""#, "");
        assert_eq!(parse(&forged).expect("it parses").1.entries, []);
        let garbage = text.replace("@1700000000", "@soon");
        let entry = Some(AppliedEntry { scope: ScopeFingerprint(0xdead_beef), expires_at: None });
        assert_eq!(parse(&garbage).expect("it parses").1.entries, [entry, None]);
    }

    #[test]
    fn a_forged_host_is_not_read() {
        let text = applied(request()).to_json("one");
        assert_eq!(parse(&text.replace("amazonaws.com", "amazonaws.com.evil.example")), None);
        assert_eq!(parse(&"x".repeat(MAX_APPLIED_LEN + 1)), None);
    }

    #[test]
    fn a_forged_request_beyond_the_bounds_is_not_read() {
        let hosts = |hosts: Vec<String>| {
            let registries = hosts.iter().map(|host| Target::Host(host.parse().expect(host))).collect();
            parse(&applied(Request { registries, ..request() }).to_json("one"))
        };
        let accounts =
            |n: u64| (0..n).map(|n| format!("{n:012}.dkr.ecr.eu-central-1.amazonaws.com")).collect();
        let regions =
            |n: u64| (0..n).map(|n| format!("123456789012.dkr.ecr.us-east-{n}.amazonaws.com")).collect();
        assert!(hosts(accounts(64)).is_some() && hosts(accounts(65)).is_none());
        assert!(hosts(regions(8)).is_some() && hosts(regions(9)).is_none());
    }

    fn any_target() -> impl Strategy<Value = Target> {
        let host = (0u64..1_000_000_000_000, 1u8..5).prop_map(|(account, n)| {
            let host = format!("{account:012}.dkr.ecr.us-east-{n}.amazonaws.com");
            Target::Host(host.parse().expect("a host"))
        });
        prop_oneof![1 => Just(Target::Default), 4 => host]
    }

    fn any_time() -> impl Strategy<Value = Timestamp> {
        (0i64..4_000_000_000).prop_map(|second| Timestamp::from_second(second).expect("a time"))
    }

    prop_compose! {
        fn any_applied()(
            registries in btree_set(any_target(), 1..6),
            repositories in btree_set("[a-z]{1,5}/\\*", 0..3),
            service_accounts in btree_set("[a-z]{1,5}", 0..3),
            role in vec("[a-z]{1,5}", 0..3),
            by_default in any::<bool>(),
            entries in vec(of((any::<u64>(), of(any_time()))), 6),
            static_entries in btree_map("[a-z.]{1,9}", "[a-z]{1,5}@[0-9]", 0..3),
        ) -> AppliedState {
            let entry = |(scope, expires_at)| AppliedEntry { scope: ScopeFingerprint(scope), expires_at };
            let entries = entries.into_iter().take(registries.len()).map(|e| e.map(entry)).collect();
            let request = Request {
                repositories: repositories.into_iter().collect(),
                service_accounts: service_accounts.into_iter().collect(),
                role,
                by_default,
                ..request_for(registries.into_iter().collect())
            };
            AppliedState { request, entries, static_entries }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_a_panic(text in ".*") {
            let _ = parse(&text);
        }

        #[test]
        fn a_written_state_can_be_read_back(
            applied in any_applied(), expires_at in any_time(), refresh_after in any_time(),
        ) {
            let times = Times { expires_at, refresh_after };
            let read = RecordedState::from_annotations(&applied.to_annotations("one", times));
            prop_assert_eq!(read, RecordedState { applied: Some(("one".into(), applied)), times: Some(times) });
        }
    }
}
