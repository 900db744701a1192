//! The applied state of a Secret, which three of its annotations record. When they are read back, they are untrusted
//! input.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{MAX_REGIONS, MAX_REGISTRIES, Request, Target};
use crate::core::aws::Registry;
use crate::core::{Now, PREFIX};

/// Annotation, without the prefix: when the earliest live entry expires.
pub const EXPIRES_AT: &str = "expires-at";
/// Annotation, without the prefix: when the Secret is due for renewal.
pub const REFRESH_AFTER: &str = "refresh-after";
/// Annotation, without the prefix: the applied request and its entries, as canonical JSON.
pub const APPLIED: &str = "applied";

/// The maximum length of [`APPLIED`], for writing and reading.
pub const MAX_APPLIED_LEN: usize = 16 * 1024;
/// The same for a record that is read. One that was kept may be longer, because the names of the identities have changed since
/// its request was accepted: each of its entries has one.
pub const MAX_READ_LEN: usize = MAX_APPLIED_LEN + 64 * MAX_REGISTRIES;
/// The version of its form. Another version is not read.
const VERSION: u32 = 1;
/// The longest host of a registry: 12 digits, the longest region, and the longest suffix.
const MAX_HOST_LEN: usize = 80;
/// The 12 hours of a token, and an hour for clocks that differ.
pub const MAX_LIFETIME: SignedDuration = SignedDuration::from_hours(13);

/// The times of a Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// When its earliest live entry expires.
    pub expires_at: Timestamp,
    /// When it is due for renewal.
    pub refresh_after: Timestamp,
}

impl Times {
    /// Whether the Secret is due. Its renewal cannot be later than its expiry, so such times were written while the wall clock
    /// was wrong.
    pub fn is_due(&self, now: Now) -> bool {
        self.refresh_after <= now.wall || self.refresh_after > self.expires_at
    }

    /// Whether a token can have these times: a token of ECR lives for at most 12 hours.
    pub fn is_plausible(&self, now: Now) -> bool {
        [self.expires_at, self.refresh_after].into_iter().all(|time| is_plausible(time, now))
    }
}

/// Whether a token can expire at `time`.
pub fn is_plausible(time: Timestamp, now: Now) -> bool {
    time.duration_since(now.latest()) <= MAX_LIFETIME
}

/// Fingerprint of a token's permissions: its role and session policy. Tokens of equal fingerprints are interchangeable.
/// It is stored on the Secret, so it must not change between versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ScopeFingerprint(pub u64);

/// Fingerprint of the `secretTemplate` that a Secret has. It is stored on the Secret, so it must not change between versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TemplateFingerprint(pub u64);

/// An entry of a Secret as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AppliedEntry {
    pub host: Registry,
    /// The name of the identity whose token it is.
    pub identity: Box<str>,
    pub scope: ScopeFingerprint,
    /// When AWS issued the token, in whole seconds; `None` if unknown.
    pub issued_at: Option<Timestamp>,
    /// In whole seconds; `None` if unknown.
    pub expires_at: Option<Timestamp>,
}

impl AppliedEntry {
    /// Whether its token was issued before `time`, as far as is known. A time in the future was written by another client, or
    /// while the wall clock was wrong.
    pub fn is_older(&self, time: Timestamp, now: Now) -> bool {
        self.issued_at.is_none_or(|at| at < time || at > now.wall)
    }

    /// Whether it is known not to have expired.
    pub fn is_live(&self, now: Now) -> bool {
        self.expires_at.is_some_and(|at| at > now.wall)
    }

    /// How long the last quarter of its lifetime is.
    pub fn last_quarter(&self) -> Option<SignedDuration> {
        Some(self.expires_at?.duration_since(self.issued_at?) / 4)
    }

    /// Whether the last quarter of its lifetime may have begun.
    pub fn may_be_in_last_quarter(&self, now: Now) -> bool {
        let left = self.expires_at.map(|at| at.duration_since(now.latest()));
        left.zip(self.last_quarter()).is_none_or(|(left, last_quarter)| left <= last_quarter)
    }

    /// Whether it has certainly expired; see [`Now::has_certainly_passed`].
    pub fn has_expired(&self, now: Now) -> bool {
        self.expires_at.is_some_and(|at| now.has_certainly_passed(at))
    }
}

/// The applied request and the entries of the Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AppliedState {
    pub request: Request,
    /// One for each registry of the request, in their order; `None` if the Secret has no entry for it, or none is known.
    pub entries: Vec<Option<AppliedEntry>>,
    /// The static entries by host, each with the version of its source.
    pub static_entries: BTreeMap<String, String>,
    /// The template of its labels and annotations; `None` if that was empty.
    pub template: Option<TemplateFingerprint>,
}

impl AppliedState {
    /// The entry that was written for `target`.
    pub fn entry(&self, target: &Target) -> Option<&AppliedEntry> {
        let index = self.request.registries.iter().position(|known| known == target)?;
        self.entries.get(index)?.as_ref()
    }

    /// The entry of this host, whichever registry it was written for.
    pub fn entry_of(&self, host: &Registry) -> Option<&AppliedEntry> {
        self.entries.iter().flatten().find(|entry| entry.host == *host)
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
        let wire = Wire {
            entries: self.entries.iter().map(|entry| entry.as_ref().map(WireEntry::new)).collect(),
            instance: instance.to_owned(),
            request: self.request.clone(),
            static_entries: self.static_entries.clone(),
            template: self.template.map(|template| hex(template.0)),
            version: VERSION,
        };
        serde_json::to_string(&wire).expect("strings and lists of strings serialize")
    }
}

/// The lengths that the configuration adds to the record of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordLengths {
    /// The longest name of an identity.
    pub identity: usize,
    /// The JSON of all static entries together.
    pub static_entries: usize,
}

impl RecordLengths {
    /// Whether the record of `request` can be read back, whatever its entries are.
    pub fn fit(self, instance: &str, request: &Request) -> bool {
        let wire = Wire::<()> {
            entries: vec![],
            instance: instance.to_owned(),
            request: request.clone(),
            static_entries: BTreeMap::new(),
            template: Some(hex(u64::MAX)),
            version: VERSION,
        };
        let fixed = serde_json::to_string(&wire).expect("strings and lists of strings serialize").len();
        let host = |target: &Target| match target {
            Target::Host(registry) => registry.to_string().len(),
            Target::Default => MAX_HOST_LEN,
        };
        // The keys, the punctuation, two times of up to twelve digits and a scope of sixteen.
        let entries = request.registries.iter().map(|target| 120 + host(target) + self.identity);
        fixed + entries.sum::<usize>() + self.static_entries <= MAX_APPLIED_LEN
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

/// The JSON of [`APPLIED`].
#[derive(Serialize, Deserialize)]
struct Wire<E> {
    /// `null` for a registry without an entry.
    entries: Vec<Option<E>>,
    instance: String,
    #[serde(flatten)]
    request: Request,
    #[serde(default, rename = "static", skip_serializing_if = "BTreeMap::is_empty")]
    static_entries: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    template: Option<String>,
    version: u32,
}

/// The form of a fingerprint.
fn hex(number: u64) -> String {
    format!("{number:016x}")
}

/// Times are in seconds since 1970; the scope is hexadecimal.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireEntry {
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    host: String,
    identity: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_at: Option<i64>,
    scope: String,
}

impl WireEntry {
    fn new(entry: &AppliedEntry) -> Self {
        Self {
            expires_at: entry.expires_at.map(Timestamp::as_second),
            host: entry.host.to_string(),
            identity: entry.identity.clone(),
            issued_at: entry.issued_at.map(Timestamp::as_second),
            scope: hex(entry.scope.0),
        }
    }

    /// The entry, if it can belong to `target`.
    fn read(self, target: &Target) -> Option<AppliedEntry> {
        let time = |second: Option<i64>| second.and_then(|second| Timestamp::from_second(second).ok());
        let host: Registry = self.host.parse().ok()?;
        let fits = *target == Target::Default || *target == Target::Host(host.clone());
        let scope = ScopeFingerprint(u64::from_str_radix(&self.scope, 16).ok()?);
        let (issued_at, expires_at) = (time(self.issued_at), time(self.expires_at));
        fits.then_some(AppliedEntry { host, identity: self.identity, scope, issued_at, expires_at })
    }
}

fn parse(text: &str) -> Option<(String, AppliedState)> {
    if text.len() > MAX_READ_LEN {
        return None;
    }
    // An entry that cannot be read does not concern the others.
    let wire: Wire<Value> = serde_json::from_str(text).ok()?;
    let Wire { entries, instance, mut request, static_entries, template, version } = wire;
    if version != VERSION {
        return None;
    }
    for list in [&mut request.repositories, &mut request.service_accounts] {
        list.sort_unstable();
        list.dedup();
    }
    let written = request.registries.clone();
    request.registries.sort_unstable();
    request.registries.dedup();
    // Entries are matched to registries by position, so an annotation in another order is ambiguous.
    let in_order = written == request.registries && entries.len() == written.len();
    let read = |(entry, target): (Option<Value>, &Target)| {
        serde_json::from_value::<WireEntry>(entry?).ok()?.read(target)
    };
    let entries = if in_order { entries.into_iter().zip(&written).map(read).collect() } else { vec![] };
    let endpoints: BTreeSet<_> = request.registries.iter().filter_map(Target::endpoint).collect();
    let bounded = request.registries.len() <= MAX_REGISTRIES && endpoints.len() <= MAX_REGIONS;
    if !bounded || request.registries.is_empty() {
        return None;
    }
    // A value that cannot be read is not the fingerprint of any template.
    let template = template.map(|text| TemplateFingerprint(u64::from_str_radix(&text, 16).unwrap_or(0)));
    let state = AppliedState { request, entries, static_entries, template };
    // JSON that is not in canonical form may be longer when it is written again.
    let fits = text.len() <= MAX_READ_LEN / 2 || state.to_json(&instance).len() <= MAX_READ_LEN;
    fits.then_some((instance, state))
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

    fn entry() -> AppliedEntry {
        let at = |second| Timestamp::from_second(second).ok();
        AppliedEntry {
            host: HOST.parse().expect("a host"),
            identity: "controller".into(),
            scope: ScopeFingerprint(0xdead_beef),
            issued_at: at(1_699_956_800),
            expires_at: at(1_700_000_000),
        }
    }

    fn applied(request: Request) -> AppliedState {
        let mut entries = vec![None; request.registries.len()];
        entries[0] = Some(entry());
        AppliedState { request, entries, static_entries: BTreeMap::new(), template: None }
    }

    #[test]
    fn the_canonical_form_has_sorted_keys() {
        let text = applied(request()).to_json("one");
        assert_eq!(
            text,
            r#"{"entries":[{"expiresAt":1700000000,"host":"123456789012.dkr.ecr.eu-central-1.amazonaws.com","identity":"controller","issuedAt":1699956800,"scope":"00000000deadbeef"},null],"instance":"one","registries":["123456789012.dkr.ecr.eu-central-1.amazonaws.com","default"],"repositories":[],"role":["b","a"],"secretName":"ecr-pull","serviceAccounts":[],"version":1}"#
        );
        assert_eq!(parse(&text), Some(("one".into(), applied(request()))));
    }

    #[test]
    fn entries_in_another_order_than_the_registries_are_not_read() {
        let text = applied(request()).to_json("one");
        assert_eq!(parse(&text.replace(",null]", "]")).expect("it parses").1.entries, []);
    }

    #[test]
    fn an_entry_that_cannot_be_read_or_belongs_to_another_host_is_left_out() {
        let text = applied(request()).to_json("one");
        for (from, to) in [
            ("1700000000", "\"soon\""),
            ("\"host\":\"123456789012", "\"host\":\"999999999999"),
            ("00000000deadbeef", "scope"),
            ("\"identity\":\"controller\",", ""),
        ] {
            let forged = text.replace(from, to);
            assert_ne!(forged, text);
            assert_eq!(parse(&forged).expect("it parses").1.entries, [None, None], "{forged}");
        }
    }

    #[test]
    fn a_record_of_another_version_is_not_read() {
        let text = applied(request()).to_json("one");
        assert!(parse(&text).is_some());
        assert_eq!(parse(&text.replace("\"version\":1", "\"version\":2")), None);
        assert_eq!(parse(&text.replace(",\"version\":1", "")), None);
    }

    #[test]
    fn a_forged_host_is_not_read() {
        let text = applied(request()).to_json("one");
        assert_eq!(parse(&text.replace("amazonaws.com", "amazonaws.com.evil.example")), None);
        assert_eq!(parse(&"x".repeat(MAX_READ_LEN + 1)), None);
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
            entries in vec(of(("[a-z]{1,9}", any::<u64>(), of(any_time()), of(any_time()))), 6),
            static_entries in btree_map("[a-z.]{1,9}", "[a-z]{1,5}@[0-9]", 0..3),
            template in of(any::<u64>()),
        ) -> AppliedState {
            let entry = |(target, written): (&Target, Option<_>)| {
                let (identity, scope, issued_at, expires_at): (String, _, _, _) = written?;
                let host = match target {
                    Target::Host(registry) => registry.clone(),
                    Target::Default => HOST.parse().expect("a host"),
                };
                let (identity, scope) = (identity.into(), ScopeFingerprint(scope));
                Some(AppliedEntry { host, identity, scope, issued_at, expires_at })
            };
            let entries = registries.iter().zip(entries).map(entry).collect();
            let request = Request {
                repositories: repositories.into_iter().collect(),
                service_accounts: service_accounts.into_iter().collect(),
                role,
                by_default,
                ..request_for(registries.into_iter().collect())
            };
            AppliedState { request, entries, static_entries, template: template.map(TemplateFingerprint) }
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
