//! The namespaces that opt in without an annotation.

use std::collections::BTreeMap;

// Types and their matching rules only, no client.
use kube::core::{Expression, Selector, SelectorExt as _};

use super::pattern::Pattern;

/// The prefix of Kubernetes' own namespaces. Only a pattern with this prefix includes them.
const KUBERNETES: &str = "kube-";

/// The section `namespaces` of the configuration. If it is empty, no namespace opts in without an annotation.
#[derive(Clone, Debug, Default)]
pub struct NamespaceSelector {
    /// Labels that include a namespace. An empty selector includes none; `include: ["*"]` includes all.
    pub selector: Selector,
    /// Names that are included.
    pub include: Vec<Pattern>,
    /// Names that are excluded. They override the other fields.
    pub exclude: Vec<Pattern>,
    /// In single-namespace mode, the names of all namespaces that the controller works in; the other fields are empty.
    pub only: Vec<Box<str>>,
}

impl NamespaceSelector {
    /// Whether the controller works in the namespaces of [`Self::only`] and has no permissions in others.
    pub fn is_single(&self) -> bool {
        !self.only.is_empty()
    }

    /// Whether the selector depends on this label.
    pub fn uses_label(&self, label: &str) -> bool {
        use Expression::{DoesNotExist, Equal, Exists, In, NotEqual, NotIn};
        let label_of = |requirement| {
            let (In(key, _)
            | NotIn(key, _)
            | Equal(key, _)
            | NotEqual(key, _)
            | Exists(key)
            | DoesNotExist(key)) = requirement;
            key
        };
        self.selector.clone().into_iter().map(label_of).any(|key| key == label)
    }

    /// Whether a namespace without the annotation `registries` gets the default registries.
    pub fn includes(&self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        if self.is_single() {
            return self.only.iter().any(|name| **name == *namespace);
        }
        let matches = |pattern: &Pattern| pattern.matches(namespace);
        if self.exclude.iter().any(matches) {
            return false;
        }
        if namespace.starts_with(KUBERNETES) {
            return self.include.iter().any(|p| p.literal().starts_with(KUBERNETES) && matches(p));
        }
        self.include.iter().any(matches) || (!self.selector.selects_all() && self.selector.matches(labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| text.parse().expect("a pattern")).collect()
    }

    fn includes(include: &[&str], exclude: &[&str], namespace: &str) -> bool {
        let selector = Expression::Equal("pull".into(), "yes".into()).into();
        let (include, exclude) = (patterns(include), patterns(exclude));
        let namespace_selector = NamespaceSelector { selector, include, exclude, only: vec![] };
        let labels =
            if namespace.contains("labelled") { vec![("pull".to_owned(), "yes".to_owned())] } else { vec![] };
        namespace_selector.includes(namespace, &labels.into_iter().collect())
    }

    #[test]
    fn the_labels_of_the_selector_are_known() {
        let requirements = [
            Expression::In("in".into(), ["a".to_owned()].into()),
            Expression::NotEqual("not-equal".into(), "a".into()),
            Expression::DoesNotExist("absent".into()),
        ];
        let selector =
            NamespaceSelector { selector: Selector::from_iter(requirements), ..Default::default() };
        assert!(["in", "not-equal", "absent"].iter().all(|label| selector.uses_label(label)));
        assert!(!selector.uses_label("a") && !NamespaceSelector::default().uses_label("in"));
    }

    #[test]
    fn an_empty_selector_includes_no_namespace() {
        assert!(!NamespaceSelector::default().includes("team-a", &BTreeMap::new()));
    }

    #[test]
    fn in_single_namespace_mode_exactly_the_listed_names_are_included() {
        let selector =
            NamespaceSelector { only: vec!["team-a".into(), "kube-x".into()], ..Default::default() };
        let labels = BTreeMap::from([("pull".to_owned(), "yes".to_owned())]);
        let included = ["team-a", "kube-x", "team-b", "team-"].map(|name| selector.includes(name, &labels));
        assert_eq!(included, [true, true, false, false]);
        assert!(selector.is_single() && !NamespaceSelector::default().is_single());
    }

    #[test]
    fn labels_or_names_include_and_names_exclude() {
        for (include, exclude, namespace, expected) in [
            (&[][..], &[][..], "labelled", true),
            (&[], &[], "team-a", false),
            (&["team-*"], &[], "team-a", true),
            (&["team-*"], &[], "labelled", true),
            (&["*"], &["team-*"], "team-a", false),
            (&["*"], &["labelled"], "labelled", false),
        ] {
            assert_eq!(
                includes(include, exclude, namespace),
                expected,
                "{include:?} {exclude:?} {namespace}"
            );
        }
    }

    #[test]
    fn the_namespaces_of_kubernetes_are_only_included_by_name() {
        for (include, exclude, namespace, expected) in [
            (&["*"][..], &[][..], "kube-system", false),
            (&["kube*"], &[], "kube-system", false),
            (&[], &[], "kube-labelled", false),
            (&["kube-system"], &[], "kube-system", true),
            (&["kube-*"], &["kube-public"], "kube-system", true),
            (&["kube-*"], &["kube-public"], "kube-public", false),
            (&["*"], &[], "kubeflow", true),
        ] {
            assert_eq!(
                includes(include, exclude, namespace),
                expected,
                "{include:?} {exclude:?} {namespace}"
            );
        }
    }
}
