//! Static registries: entries of Secrets in the controller's own namespace that go beside those of ECR.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::pattern::Pattern;

/// Entries of one Secret that namespaces get.
#[derive(Clone, Debug)]
pub struct StaticGrant {
    /// The Secret, in the controller's own namespace.
    pub secret: Arc<str>,
    /// The keys of the entries, as they stand under `auths`.
    pub hosts: Vec<String>,
    /// The namespaces that get them.
    pub namespaces: Vec<Pattern>,
}

/// How a source stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Available {
    /// Changes when its entries do.
    pub version: String,
    /// The keys of its entries.
    pub hosts: BTreeSet<String>,
}

/// The sources that are there, by name.
pub type Sources = BTreeMap<Arc<str>, Available>;

/// An entry that a namespace shall have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StaticEntry {
    /// The Secret that it comes from.
    pub secret: Arc<str>,
    /// `SECRET@VERSION`, as the applied request records it.
    pub tag: String,
    /// Whether the source is there; else what stands in the namespace is kept.
    pub available: bool,
}

/// The static entries of a namespace, by their keys: the first grant that has one counts. A source that is not there
/// takes nothing away; an entry that is no longer in its source goes.
pub fn entries(
    grants: &[StaticGrant],
    namespace: &str,
    sources: &Sources,
    applied: Option<&BTreeMap<String, String>>,
) -> BTreeMap<String, StaticEntry> {
    let mut entries = BTreeMap::new();
    let granted = grants.iter().filter(|grant| grant.namespaces.iter().any(|p| p.matches(namespace)));
    for (grant, host) in granted.flat_map(|grant| grant.hosts.iter().map(move |host| (grant, host))) {
        let secret = grant.secret.clone();
        let entry = match sources.get(&grant.secret) {
            Some(source) if source.hosts.contains(host) => {
                let tag = format!("{secret}@{}", source.version);
                StaticEntry { secret, tag, available: true }
            }
            Some(_) => continue,
            None => match applied.and_then(|applied| applied.get(host)) {
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

/// What the applied request records of them.
pub fn tags(entries: &BTreeMap<String, StaticEntry>) -> BTreeMap<String, String> {
    entries.iter().map(|(host, entry)| (host.clone(), entry.tag.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn sources(names: &[(&str, &[&str])]) -> Sources {
        let source = |(name, hosts): &(&str, &[&str])| {
            let hosts = hosts.iter().map(ToString::to_string).collect();
            (Arc::from(*name), Available { version: "7".into(), hosts })
        };
        names.iter().map(source).collect()
    }

    #[test]
    fn each_namespace_gets_what_is_granted_to_it_from_the_first_grant() {
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
    fn a_source_that_is_gone_takes_nothing_away_but_an_entry_that_is_gone_goes() {
        let applied = BTreeMap::from([
            ("docker.io".to_owned(), "hub@3".to_owned()),
            ("mirror.example".to_owned(), "mirror@4".to_owned()),
        ]);
        let left = entries(&grants(), "team-a", &sources(&[("hub", &[])]), Some(&applied));
        assert_eq!(tags(&left), BTreeMap::from([("mirror.example".to_owned(), "mirror@4".to_owned())]));
        assert!(!left["mirror.example"].available);
        assert_eq!(entries(&grants(), "team-a", &sources(&[]), None), BTreeMap::new(), "nothing is made up");
    }
}
