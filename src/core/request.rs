//! What a namespace asked for, once it was read and found right, and its form in the `applied` annotation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::registry::{Endpoint, Registry, RegistryError};

/// The longest canonical form that is accepted.
pub const LONGEST_APPLIED: usize = 8 * 1024;

/// The most registries in one Secret; a Secret holds 1 MiB, and 180 entries did not fit.
pub const MOST_REGISTRIES: usize = 64;
/// The most regions in one Secret.
pub const MOST_REGIONS: usize = 8;

/// One entry that the Secret shall have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// A registry by its host.
    Host(Registry),
    /// The registry that the identity's own token names (`proxyEndpoint`).
    Own,
}

impl Target {
    /// The endpoint whose tokens it takes, where the host alone says that.
    pub fn endpoint(&self) -> Option<Endpoint> {
        match self {
            Self::Host(registry) => Some(registry.endpoint()),
            Self::Own => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(registry) => registry.fmt(f),
            Self::Own => f.write_str("default"),
        }
    }
}

impl TryFrom<String> for Target {
    type Error = RegistryError;

    fn try_from(text: String) -> Result<Self, RegistryError> {
        if text == "default" { Ok(Self::Own) } else { text.parse().map(Self::Host) }
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

impl Serialize for Target {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.try_into().map_err(serde::de::Error::custom)
    }
}

/// A request that was accepted: what is kept up in a namespace until another one is accepted.
///
/// Lists that are sets are sorted and hold nothing twice, so that equal requests are equal values and have
/// one canonical form.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// The entries of the Secret; at least one.
    pub registries: Vec<Target>,
    /// Repository patterns that narrow the token further; empty: the identity's own bound.
    #[serde(default)]
    pub repositories: Vec<String>,
    /// Identities by name or role ARN, in the order of choice; empty: every identity granted.
    #[serde(default)]
    pub role: Vec<String>,
    /// The name of the Secret, one of those that the configuration allows.
    pub secret_name: String,
    /// Service accounts that get the Secret as a pull secret; empty: none.
    #[serde(default)]
    pub service_accounts: Vec<String>,
    /// Nobody asked for it by an annotation: the configuration does for every namespace that it includes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_default: bool,
}

/// How far a token reaches, as a fingerprint: the role and its session policy. Tokens of equal scope may do the
/// same. It is stable, for it is kept on the Secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scope(pub u64);

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// An entry of a Secret as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// How far its token reaches.
    pub scope: Scope,
    /// When that expires, in whole seconds; `None`: nobody knows.
    pub expires_at: Option<Timestamp>,
}

/// A request that is in force, with what stands of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Accepted {
    /// The request.
    pub request: Request,
    /// The entry of each of its registries, in their order; `None`: it has none, or nothing is known of it.
    pub entries: Vec<Option<Entry>>,
    /// The entries of other registries, each with the version of its source.
    pub statics: BTreeMap<String, String>,
}

impl Accepted {
    /// The entry that was written for `target`.
    pub fn entry(&self, target: &Target) -> Option<Entry> {
        let place = self.request.registries.iter().position(|known| known == target)?;
        self.entries.get(place).copied().flatten()
    }
}

/// The content of the annotation `ecr-pull-secrets.dev/applied`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The instance that applied it: whose the Secret is when its labels are lost.
    pub instance: String,
    /// What it applied.
    pub accepted: Accepted,
}

/// Its form. The keys are sorted, and an entry is `SCOPE@SECOND`, without the second where it is not known, or empty.
#[derive(Serialize, Deserialize)]
struct Form {
    #[serde(default)]
    entries: Vec<String>,
    instance: String,
    #[serde(flatten)]
    request: Request,
    #[serde(default, rename = "static", skip_serializing_if = "BTreeMap::is_empty")]
    statics: BTreeMap<String, String>,
}

impl Applied {
    /// The canonical JSON: keys sorted, no white space.
    pub fn canonical(instance: &str, accepted: &Accepted) -> String {
        let second = |end: Option<Timestamp>| end.map(|end| end.as_second().to_string()).unwrap_or_default();
        let entry = |entry: &Option<Entry>| {
            entry.map(|entry| format!("{}@{}", entry.scope, second(entry.expires_at))).unwrap_or_default()
        };
        let entries = accepted.entries.iter().map(entry).collect();
        let Accepted { request, statics, .. } = accepted.clone();
        let form = Form { entries, instance: instance.to_owned(), request, statics };
        serde_json::to_string(&form).expect("strings and lists of strings serialise")
    }

    /// How long the canonical JSON is at most.
    pub fn longest(instance: &str, request: &Request) -> usize {
        let entry = Entry { scope: Scope(u64::MAX), expires_at: Some(Timestamp::MAX) };
        let entries = vec![Some(entry); request.registries.len()];
        let statics = BTreeMap::new();
        Self::canonical(instance, &Accepted { request: request.clone(), entries, statics }).len()
    }

    /// Reads the annotation as untrusted input: too long, beyond a bound, or not of this form, is `None`. The order and
    /// folding of the lists is restored, and the caller checks the grants again.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > LONGEST_APPLIED {
            return None;
        }
        let Form { entries, instance, mut request, statics } = serde_json::from_str(text).ok()?;
        for list in [&mut request.repositories, &mut request.service_accounts] {
            list.sort_unstable();
            list.dedup();
        }
        let written = request.registries.clone();
        request.registries.sort_unstable();
        request.registries.dedup();
        // The entries stand in the order of the registries, and mean nothing in another one.
        let in_order = written == request.registries && entries.len() == written.len();
        let entries = entries.iter().filter(|_| in_order).map(|text| parse_entry(text)).collect();
        let endpoints: BTreeSet<_> = request.registries.iter().filter_map(Target::endpoint).collect();
        let bounded = request.registries.len() <= MOST_REGISTRIES && endpoints.len() <= MOST_REGIONS;
        (bounded && !request.registries.is_empty())
            .then_some(Self { instance, accepted: Accepted { request, entries, statics } })
    }
}

fn parse_entry(text: &str) -> Option<Entry> {
    let (scope, second) = text.split_once('@')?;
    let scope = Scope(u64::from_str_radix(scope, 16).ok()?);
    let expires_at = second.parse().ok().and_then(|second| Timestamp::from_second(second).ok());
    Some(Entry { scope, expires_at })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A request for `registries`, and nothing beyond.
    pub(crate) fn request_for(registries: Vec<Target>) -> Request {
        Request {
            registries,
            repositories: vec![],
            role: vec![],
            secret_name: "ecr-pull".into(),
            service_accounts: vec![],
            by_default: false,
        }
    }

    fn request() -> Request {
        let host = "123456789012.dkr.ecr.eu-central-1.amazonaws.com".parse().expect("a host");
        let registries = vec![Target::Host(host), Target::Own];
        Request { role: vec!["b".into(), "a".into()], ..request_for(registries) }
    }

    fn accepted(request: Request) -> Accepted {
        let expires_at = Some(Timestamp::from_second(1_700_000_000).expect("a time"));
        let mut entries = vec![None; request.registries.len()];
        entries[0] = Some(Entry { scope: Scope(0xdead_beef), expires_at });
        Accepted { request, entries, statics: BTreeMap::new() }
    }

    #[test]
    fn the_canonical_form_has_sorted_keys_and_reads_back() {
        let accepted = accepted(request());
        let text = Applied::canonical("one", &accepted);
        assert!(text.len() <= Applied::longest("one", &request()));
        assert_eq!(
            text,
            r#"{"entries":["00000000deadbeef@1700000000",""],"instance":"one","registries":["123456789012.dkr.ecr.eu-central-1.amazonaws.com","default"],"repositories":[],"role":["b","a"],"secretName":"ecr-pull","serviceAccounts":[]}"#
        );
        let read = Applied::parse(&text).expect("it reads back");
        assert_eq!(read, Applied { instance: "one".into(), accepted });
    }

    #[test]
    fn entries_that_are_not_in_the_order_of_the_registries_say_nothing() {
        let text = Applied::canonical("one", &accepted(request()));
        let forged = text.replace(r#""","#, "").replace(r#","""#, "");
        assert_eq!(Applied::parse(&forged).expect("it reads").accepted.entries, []);
        let garbage = text.replace("@1700000000", "@soon");
        let entry = Some(Entry { scope: Scope(0xdead_beef), expires_at: None });
        assert_eq!(Applied::parse(&garbage).expect("it reads").accepted.entries, [entry, None]);
    }

    #[test]
    fn a_forged_host_is_not_read() {
        let forged = Applied::canonical("one", &accepted(request()))
            .replace("amazonaws.com", "amazonaws.com.evil.example");
        assert_eq!(Applied::parse(&forged), None);
        assert_eq!(Applied::parse(&"x".repeat(LONGEST_APPLIED + 1)), None);
    }

    #[test]
    fn a_forged_request_beyond_the_bounds_is_not_read() {
        let hosts = |hosts: Vec<String>| {
            let registries = hosts.iter().map(|host| Target::Host(host.parse().expect(host))).collect();
            Applied::parse(&Applied::canonical("one", &accepted(Request { registries, ..request() })))
        };
        let accounts =
            |n: u64| (0..n).map(|n| format!("{n:012}.dkr.ecr.eu-central-1.amazonaws.com")).collect();
        let regions =
            |n: u64| (0..n).map(|n| format!("123456789012.dkr.ecr.us-east-{n}.amazonaws.com")).collect();
        assert!(hosts(accounts(64)).is_some() && hosts(accounts(65)).is_none());
        assert!(hosts(regions(8)).is_some() && hosts(regions(9)).is_none());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_not_without_a_panic(text in ".*") {
            let _ = Applied::parse(&text);
        }
    }
}
