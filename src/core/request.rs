//! What a namespace asked for, once it was read and found right, and its form in the `applied` annotation.

use std::collections::BTreeSet;
use std::fmt;

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
}

/// The content of the annotation `ecr-pull-secrets.dev/applied`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The instance that applied it: whose the Secret is when its labels are lost.
    pub instance: String,
    /// What it applied.
    #[serde(flatten)]
    pub request: Request,
}

impl Applied {
    /// The canonical JSON: keys sorted, no white space.
    pub fn canonical(instance: &str, request: &Request) -> String {
        let applied = Self { instance: instance.to_owned(), request: request.clone() };
        serde_json::to_string(&applied).expect("strings and lists of strings serialise")
    }

    /// Reads the annotation as untrusted input: too long, beyond a bound, or not of this form, is `None`. The order and
    /// folding of the lists is restored, and the caller checks the grants again.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > LONGEST_APPLIED {
            return None;
        }
        let mut applied: Self = serde_json::from_str(text).ok()?;
        for list in [&mut applied.request.repositories, &mut applied.request.service_accounts] {
            list.sort_unstable();
            list.dedup();
        }
        applied.request.registries.sort_unstable();
        applied.request.registries.dedup();
        let registries = &applied.request.registries;
        let endpoints: BTreeSet<_> = registries.iter().filter_map(Target::endpoint).collect();
        let bounded = registries.len() <= MOST_REGISTRIES && endpoints.len() <= MOST_REGIONS;
        (bounded && !registries.is_empty()).then_some(applied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request() -> Request {
        Request {
            registries: vec![
                Target::Host("123456789012.dkr.ecr.eu-central-1.amazonaws.com".parse().expect("a host")),
                Target::Own,
            ],
            repositories: vec![],
            role: vec!["b".into(), "a".into()],
            secret_name: "ecr-pull".into(),
            service_accounts: vec![],
        }
    }

    #[test]
    fn the_canonical_form_has_sorted_keys_and_reads_back() {
        let text = Applied::canonical("one", &request());
        assert_eq!(
            text,
            r#"{"instance":"one","registries":["123456789012.dkr.ecr.eu-central-1.amazonaws.com","default"],"repositories":[],"role":["b","a"],"secretName":"ecr-pull","serviceAccounts":[]}"#
        );
        let read = Applied::parse(&text).expect("it reads back");
        assert_eq!(read, Applied { instance: "one".into(), request: request() });
    }

    #[test]
    fn a_forged_host_is_not_read() {
        let forged =
            Applied::canonical("one", &request()).replace("amazonaws.com", "amazonaws.com.evil.example");
        assert_eq!(Applied::parse(&forged), None);
        assert_eq!(Applied::parse(&"x".repeat(LONGEST_APPLIED + 1)), None);
    }

    #[test]
    fn a_forged_request_beyond_the_bounds_is_not_read() {
        let hosts = |hosts: Vec<String>| {
            let registries = hosts.iter().map(|host| Target::Host(host.parse().expect(host))).collect();
            Applied::parse(&Applied::canonical("one", &Request { registries, ..request() }))
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
