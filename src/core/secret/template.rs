//! `secretTemplate`: the labels and annotations of the administrator, which every Secret has.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::core::digest;
use crate::core::request::TemplateFingerprint;

/// Labels and annotations in addition to those of the controller. None of them is a reserved key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretTemplate {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    fingerprint: Option<TemplateFingerprint>,
}

impl SecretTemplate {
    pub fn new(labels: BTreeMap<String, String>, annotations: BTreeMap<String, String>) -> Self {
        let is_empty = labels.is_empty() && annotations.is_empty();
        let fingerprint = (!is_empty).then(|| fingerprint(&[&labels, &annotations]));
        Self { labels, annotations, fingerprint }
    }

    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }

    /// Identifies the content; `None` if it is empty.
    pub fn fingerprint(&self) -> Option<TemplateFingerprint> {
        self.fingerprint
    }
}

fn fingerprint(maps: &[&BTreeMap<String, String>]) -> TemplateFingerprint {
    let mut hash = Sha256::new();
    for map in maps {
        // A byte that is in no key and no value separates them.
        for text in map.iter().flat_map(|(key, value)| [key, value]) {
            hash.update(text.as_bytes());
            hash.update([0xff]);
        }
        hash.update([0xfe]);
    }
    TemplateFingerprint(digest::head(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn each_content_has_its_own_fingerprint_and_an_empty_one_has_none() {
        let of = |labels: &[_], annotations: &[_]| {
            SecretTemplate::new(map(labels), map(annotations)).fingerprint()
        };
        assert_eq!(of(&[], &[]), None);
        let all = [
            of(&[("a", "b")], &[]),
            of(&[], &[("a", "b")]),
            of(&[("a", "")], &[]),
            of(&[("ab", "")], &[]),
            of(&[("a", "b"), ("c", "d")], &[]),
            of(&[("a", "b")], &[("c", "d")]),
        ];
        let different: std::collections::BTreeSet<_> =
            all.iter().map(|one| one.expect("a value").0).collect();
        assert_eq!(different.len(), all.len());
        assert_eq!(
            of(&[("team", "a")], &[]),
            Some(TemplateFingerprint(0x6e54_df23_3ac6_c773)),
            "it is stored on Secrets"
        );
    }
}
