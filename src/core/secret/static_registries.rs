//! Static registries: entries of Secrets in the controller's own namespace that are copied into pull secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::credential::RegistryCredential;
use crate::core::grants::Pattern;

/// Entries of one Secret, and the namespaces that get them.
#[derive(Clone, Debug)]
pub struct StaticGrant {
    /// The Secret, in the controller's own namespace.
    pub secret: Arc<str>,
    /// The keys of the entries under `auths`.
    pub hosts: Vec<String>,
    /// The namespaces that get them.
    pub namespaces: Vec<Pattern>,
}

/// A Secret with static entries.
#[derive(Clone, Debug, PartialEq)]
pub struct StaticSource {
    /// Changes when its entries change.
    pub version: u64,
    /// The credentials by host.
    pub entries: BTreeMap<String, RegistryCredential>,
    /// The hosts of entries that cannot be used.
    pub unreadable: BTreeSet<String>,
}

/// The Secrets with static entries that exist, by name.
pub type StaticSources = BTreeMap<Arc<str>, StaticSource>;

/// An entry that a namespace should have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StaticEntry {
    /// The Secret that it is copied from.
    pub secret: Arc<str>,
    /// `SECRET@VERSION`, as the applied state records it.
    pub tag: String,
    /// Whether the source has it; otherwise the current entry of the namespace is kept.
    pub available: bool,
}

/// The static entries of a namespace by host; the first grant with an entry takes precedence. A source that is missing,
/// empty or unreadable removes nothing, and neither does an entry that is unreadable; an entry that is missing from its source
/// is removed.
pub fn entries(
    grants: &[StaticGrant],
    namespace: &str,
    sources: &StaticSources,
    applied: Option<&BTreeMap<String, String>>,
) -> BTreeMap<String, StaticEntry> {
    let mut entries = BTreeMap::new();
    for (grant, host) in granted(grants, namespace) {
        let secret = grant.secret.clone();
        let entry = match sources.get(&grant.secret) {
            Some(source) if source.entries.contains_key(host) => {
                let tag = format!("{secret}@{}", source.version);
                StaticEntry { secret, tag, available: true }
            }
            Some(source) if !source.entries.is_empty() && !source.unreadable.contains(host) => continue,
            Some(_) | None => match applied.and_then(|applied| applied.get(host)) {
                Some(tag) if tag.split('@').next() == Some(&*secret) => {
                    StaticEntry { secret, tag: tag.clone(), available: false }
                }
                _ => continue,
            },
        };
        entries.entry(host.clone()).or_insert(entry);
    }
    entries
}

/// The grants of a namespace, each with a host; of two for one host, the first takes precedence.
pub fn granted<'a>(
    grants: &'a [StaticGrant],
    namespace: &'a str,
) -> impl Iterator<Item = (&'a StaticGrant, &'a String)> {
    let granted = grants.iter().filter(|grant| grant.namespaces.iter().any(|p| p.matches(namespace)));
    granted.flat_map(|grant| grant.hosts.iter().map(move |host| (grant, host)))
}

/// The maximum length of the JSON of all tags of a namespace that gets every entry, with the punctuation around it.
pub fn max_len(grants: &[StaticGrant]) -> usize {
    let tag = |grant: &StaticGrant| format!("{}@{}", grant.secret, u64::MAX);
    let tags = grants.iter().flat_map(|grant| grant.hosts.iter().map(move |host| (host.clone(), tag(grant))));
    let json = serde_json::to_string(&tags.collect::<Vec<_>>()).expect("strings serialize");
    json.len() + "\"static\":{},".len()
}

/// The tag of each entry by host, as the applied state records it.
pub fn tags(entries: &BTreeMap<String, StaticEntry>) -> BTreeMap<String, String> {
    entries.iter().map(|(host, entry)| (host.clone(), entry.tag.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::{HOUR, at, token};

    fn grants() -> Vec<StaticGrant> {
        let grant = |secret: &str, hosts: &[&str], namespace: &str| StaticGrant {
            secret: secret.into(),
            hosts: hosts.iter().map(ToString::to_string).collect(),
            namespaces: vec![namespace.parse().expect("a pattern")],
        };
        vec![
            grant("mirror", &["mirror.example"], "team-*"),
            grant("hub", &["docker.io", "mirror.example"], "*"),
        ]
    }

    fn credential() -> RegistryCredential {
        token(at(0), HOUR).credential().clone()
    }

    fn sources(names: &[(&str, &[&str])]) -> StaticSources {
        let source = |(name, hosts): &(&str, &[&str])| {
            let entries = hosts.iter().map(|host| ((*host).to_owned(), credential()));
            (
                Arc::from(*name),
                StaticSource { version: 7, entries: entries.collect(), unreadable: BTreeSet::new() },
            )
        };
        names.iter().map(source).collect()
    }

    #[test]
    fn each_namespace_gets_the_entries_of_its_first_grant() {
        let sources = sources(&[("mirror", &["mirror.example"]), ("hub", &["docker.io", "mirror.example"])]);
        let tags = |namespace| tags(&entries(&grants(), namespace, &sources, None));
        let of = |mirror: &str| {
            BTreeMap::from([
                ("docker.io".to_owned(), "hub@7".to_owned()),
                ("mirror.example".to_owned(), mirror.to_owned()),
            ])
        };
        assert_eq!(tags("team-a"), of("mirror@7"));
        assert_eq!(tags("dev"), of("hub@7"));
    }

    #[test]
    fn a_missing_or_empty_source_removes_nothing_and_a_missing_entry_is_removed() {
        let applied = BTreeMap::from([
            ("docker.io".to_owned(), "hub@3".to_owned()),
            ("mirror.example".to_owned(), "mirror@4".to_owned()),
        ]);
        for emptied in [sources(&[("hub", &[]), ("mirror", &[])]), sources(&[])] {
            assert_eq!(tags(&entries(&grants(), "team-a", &emptied, Some(&applied))), applied);
        }
        let left = entries(&grants(), "team-a", &sources(&[("hub", &["other.example"])]), Some(&applied));
        assert_eq!(tags(&left), BTreeMap::from([("mirror.example".to_owned(), "mirror@4".to_owned())]));
        assert!(!left["mirror.example"].available);
        let mut some = sources(&[("hub", &["other.example"])]);
        some.get_mut("hub").expect("a source").unreadable = ["docker.io".to_owned()].into();
        let left = entries(&grants(), "team-a", &some, Some(&applied));
        assert_eq!(tags(&left), applied, "an unreadable entry removes nothing");
        let never_applied = entries(&grants(), "team-a", &sources(&[]), None);
        assert_eq!(never_applied, BTreeMap::new());
    }
}
