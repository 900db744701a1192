//! Keys with our prefix that mean nothing on a Namespace: a misspelled annotation, or a label in place of an annotation.

use std::collections::BTreeMap;

use super::annotations::{REGISTRIES, RENEW, REPOSITORIES, ROLE, SECRET_NAME, SERVICE_ACCOUNTS};
use super::problem::Problem;
use crate::core::{EventReason, PREFIX, quote};

const KNOWN: [&str; 6] = [REGISTRIES, SECRET_NAME, ROLE, REPOSITORIES, SERVICE_ACCOUNTS, RENEW];
/// The maximum number of keys that the message names.
const MAX_NAMED: usize = 3;
/// The longest name of a key after its prefix. A longer one is compared up to here.
const MAX_NAME_LEN: usize = 63;

/// One problem for all such keys; `None` if there are none. They have no effect otherwise. Labels that `is_selected` are used
/// by the configuration.
pub fn report(
    annotations: &BTreeMap<String, String>,
    labels: &BTreeMap<String, String>,
    is_selected: impl Fn(&str) -> bool,
) -> Option<Problem> {
    let unknown = ours(annotations).filter(|name| !KNOWN.contains(name));
    let misplaced = ours(labels).filter(|name| !is_selected(name));
    let annotation = |name| format!("unknown annotation {}: {}", key(name), suggestion(name));
    let label = |name| format!("the label {} has no effect: {}", key(name), suggestion(name));
    let mut all = unknown.map(annotation).chain(misplaced.map(label));
    let mut named: Vec<String> = all.by_ref().take(MAX_NAMED).collect();
    let more = all.count();
    if more > 0 {
        named.push(format!("and {more} more"));
    }
    let message = named.join("; ");
    let subject = "keys".to_owned();
    (!named.is_empty()).then_some(Problem { reason: EventReason::InvalidAnnotation, subject, message })
}

/// The names of the keys with our prefix.
fn ours(all: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    let from = all.range(PREFIX.to_owned()..);
    from.map_while(|(key, _)| key.strip_prefix(PREFIX))
}

fn key(name: &str) -> String {
    quote(&format!("{PREFIX}{name}"))
}

fn suggestion(name: &str) -> String {
    let lower: Vec<char> = name.chars().take(MAX_NAME_LEN).flat_map(char::to_lowercase).collect();
    let nearest = KNOWN.into_iter().min_by_key(|known| distance(&lower, known)).unwrap_or(REGISTRIES);
    format!("did you mean the annotation {nearest:?}?")
}

/// The number of characters to insert, remove or replace in `name` to get `known`.
fn distance(name: &[char], known: &str) -> usize {
    let mut row: Vec<usize> = (0..=name.len()).collect();
    for (above, c) in known.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for column in 1..row.len() {
            let replaced = diagonal + usize::from(name[column - 1] != c);
            diagonal = row[column];
            row[column] = replaced.min(row[column] + 1).min(row[column - 1] + 1);
        }
    }
    row[name.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(names: &[&str]) -> BTreeMap<String, String> {
        names.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect()
    }

    fn said(annotations: &[&str], labels: &[&str]) -> Option<String> {
        let selected = |name: &str| name == "enabled";
        report(&keys(annotations), &keys(labels), selected).map(|problem| problem.message)
    }

    #[test]
    fn a_misspelled_key_is_reported_with_the_nearest_one() {
        for (name, nearest) in [
            ("registry", "registries"),
            ("Registries", "registries"),
            ("regstries", "registries"),
            ("secretName", "secret-name"),
            ("roles", "role"),
            ("repository", "repositories"),
            ("serviceaccounts", "service-accounts"),
            ("renew-at", "renew"),
            ("", "role"),
        ] {
            let message = said(&[&format!("{PREFIX}{name}")], &[]).expect("a problem");
            let expected = format!(
                "unknown annotation \"ecr-pull-secrets.dev/{name}\": did you mean the annotation {nearest:?}?"
            );
            assert_eq!(message, expected);
        }
    }

    #[test]
    fn known_keys_and_those_of_others_are_not_reported() {
        let known = KNOWN.map(|name| format!("{PREFIX}{name}"));
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        assert_eq!(said(&known, &[]), None);
        let others = ["example.com/registry", "ecr-pull-secrets.devx/a", "ecr-pull-secrets.dev", "registry"];
        assert_eq!(said(&others, &others), None);
        assert_eq!(said(&[], &["ecr-pull-secrets.dev/enabled"]), None);
    }

    #[test]
    fn a_label_in_place_of_an_annotation_is_reported() {
        let message = said(&[], &["ecr-pull-secrets.dev/registries"]).expect("a problem");
        let expected = "the label \"ecr-pull-secrets.dev/registries\" has no effect: did you mean the annotation \
                        \"registries\"?";
        assert_eq!(message, expected);
    }

    #[test]
    fn thousands_of_keys_cost_little_and_give_one_short_message() {
        let many: Vec<String> = (0..10_000).map(|n| format!("{PREFIX}{n}{}", "x".repeat(500))).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let message = said(&many, &many).expect("a problem");
        assert!(message.ends_with("; and 19997 more") && message.len() < 800, "{}: {message}", message.len());
    }

    proptest! {
        #[test]
        fn any_keys_are_reported_without_a_panic(names in proptest::collection::vec(".*", 0..4)) {
            let names: Vec<String> = names.iter().map(|name| format!("{PREFIX}{name}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let message = said(&names, &names);
            prop_assert_eq!(message.is_none(), names.is_empty());
            prop_assert!(message.is_none_or(|message| message.len() < 4_000));
        }
    }
}
