//! Namespace annotations → a [`Request`], or which key is wrong. Every value is taken as an adversary's:
//! the cost of reading is linear in its length, and what is said about it is bounded.

use std::collections::{BTreeMap, BTreeSet};

use super::accounts::ALL;
use super::problem::{Problem, REGISTRIES, REPOSITORIES, ROLE, SECRET_NAME, SERVICE_ACCOUNTS, no_region};
use super::registry::{AccountId, Endpoint, Registry};
use super::request::{Applied, LONGEST_APPLIED, MOST_REGIONS, MOST_REGISTRIES, Request, Target};
use super::settings::Settings;
use super::{PREFIX, quote};

const MOST_ITEMS: usize = 32;
const MOST_NAMED: usize = 3;

/// What a namespace wishes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wish {
    /// `registries: none`.
    OptedOut,
    /// A request in which every value is right; whether it is granted is another question.
    Wants(Request),
    /// Nothing that can be used; what was applied before stays in force.
    Unusable,
}

/// A wish, and what had to be left out of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reading {
    /// The wish.
    pub wish: Wish,
    /// Each wrong value, for an Event.
    pub problems: Vec<Problem>,
}

/// Reads a namespace's annotations. `None`: it did not opt in. One that the configuration includes opts in for the
/// default registries, unless it says otherwise itself.
pub fn read(annotations: &BTreeMap<String, String>, included: bool, settings: &Settings) -> Option<Reading> {
    let get = |key: &str| annotations.get(&format!("{PREFIX}{key}")).map(String::as_str);
    let asked = get(REGISTRIES);
    let registries = asked.or(included.then_some("default"))?;
    if registries.trim() == "none" {
        return Some(Reading { wish: Wish::OptedOut, problems: vec![] });
    }
    let mut problems = vec![];
    let registries = read_registries(registries, settings, &mut problems);
    let others = problems.len();
    let request = Request {
        secret_name: read_secret_name(get(SECRET_NAME), settings, &mut problems),
        role: read_list(ROLE, get(ROLE), &mut problems),
        repositories: sorted(read_list(REPOSITORIES, get(REPOSITORIES), &mut problems)),
        service_accounts: sorted(read_accounts(get(SERVICE_ACCOUNTS), &mut problems)),
        registries: registries.into_iter().collect(),
        by_default: asked.is_none(),
    };
    let mut usable = problems.len() == others && !request.registries.is_empty();
    if usable && Applied::longest(&settings.instance, &request) > LONGEST_APPLIED {
        usable = false;
        let message =
            format!("all values together are longer than {LONGEST_APPLIED} bytes: shorten the lists");
        problems.push(Problem::invalid(REGISTRIES, &message));
    }
    Some(Reading { wish: if usable { Wish::Wants(request) } else { Wish::Unusable }, problems })
}

fn items(value: &str) -> impl Iterator<Item = &str> {
    value.split(|c: char| c == ',' || c.is_whitespace()).filter(|item| !item.is_empty())
}

fn sorted(mut list: Vec<String>) -> Vec<String> {
    list.sort_unstable();
    list
}

fn read_registries(value: &str, settings: &Settings, problems: &mut Vec<Problem>) -> BTreeSet<Target> {
    let mut targets = BTreeSet::new();
    let mut regions = BTreeSet::new();
    let mut bad: Vec<String> = vec![];
    let mut bad_count = 0;
    let mut seen = 0;
    for item in items(value) {
        seen += 1;
        match read_item(item, settings).and_then(|new| admit(new, item, &mut targets, &mut regions)) {
            Ok(()) => {}
            Err(message) => {
                bad_count += 1;
                if bad.len() < MOST_NAMED {
                    bad.push(message);
                }
            }
        }
    }
    if seen == 0 {
        let message = "empty: name registries, or say \"none\" or remove the annotation to opt out";
        problems.push(Problem::invalid(REGISTRIES, message));
    }
    if bad_count > bad.len() {
        bad.push(format!("and {} more", bad_count - bad.len()));
    }
    if !bad.is_empty() {
        problems.push(Problem::invalid(REGISTRIES, &bad.join("; ")));
    }
    targets
}

fn read_item(item: &str, settings: &Settings) -> Result<Vec<Target>, String> {
    let host = item.strip_prefix("https://").unwrap_or(item);
    let host = host.strip_suffix('/').unwrap_or(host);
    if host == "default" {
        let configured = settings.default_registries.iter().cloned().map(Target::Host);
        return Ok(if settings.default_registries.is_empty() {
            vec![Target::Own]
        } else {
            configured.collect()
        });
    }
    if !host.is_empty() && host.bytes().all(|b| b.is_ascii_digit()) {
        let account: AccountId = host.parse().map_err(|error| format!("{error}"))?;
        let region = settings.region.clone().ok_or_else(|| no_region(host))?;
        return Ok(vec![Target::Host(Registry::of_account(account, region))]);
    }
    match host.parse() {
        Ok(registry) => Ok(vec![Target::Host(registry)]),
        Err(error) => Err(format!("{error}")),
    }
}

/// Adds what an item stands for, unless a bound is passed by it.
fn admit(
    new: Vec<Target>,
    item: &str,
    targets: &mut BTreeSet<Target>,
    regions: &mut BTreeSet<Endpoint>,
) -> Result<(), String> {
    for target in new {
        if targets.contains(&target) {
            continue;
        }
        if targets.len() == MOST_REGISTRIES {
            return Err(format!("{}: a secret holds at most {MOST_REGISTRIES} registries", quote(item)));
        }
        if let Target::Host(registry) = &target {
            let endpoint = registry.endpoint();
            if regions.len() == MOST_REGIONS && !regions.contains(&endpoint) {
                return Err(format!("{}: a secret spans at most {MOST_REGIONS} regions", quote(item)));
            }
            regions.insert(endpoint);
        }
        targets.insert(target);
    }
    Ok(())
}

fn read_secret_name(value: Option<&str>, settings: &Settings, problems: &mut Vec<Problem>) -> String {
    let name = value.map_or(&*settings.secret_names[0], str::trim);
    if !settings.secret_names.iter().any(|allowed| **allowed == *name) {
        let allowed: Vec<_> = settings.secret_names.iter().map(|name| format!("{name:?}")).collect();
        let message =
            format!("{} is not allowed: the configuration allows {}", quote(name), allowed.join(", "));
        problems.push(Problem::invalid(SECRET_NAME, &message));
    }
    name.to_owned()
}

/// A list of names: what Kubernetes, IAM and ECR allow in them, folded, in the order given.
fn read_list(key: &str, value: Option<&str>, problems: &mut Vec<Problem>) -> Vec<String> {
    let Some(value) = value else { return vec![] };
    let mut list: Vec<String> = vec![];
    for item in items(value) {
        let fine =
            item.len() <= 256 && item.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._/*:+=@".contains(&b));
        if !fine {
            problems.push(Problem::invalid(key, &format!("{} is no name or pattern", quote(item))));
            return list;
        }
        if !list.iter().any(|have| have == item) {
            list.push(item.to_owned());
        }
        if list.len() > MOST_ITEMS {
            problems.push(Problem::invalid(key, &format!("more than {MOST_ITEMS} items")));
            return list;
        }
    }
    if list.is_empty() {
        problems.push(Problem::invalid(key, "empty: name at least one, or remove the annotation"));
    }
    list
}

/// Names of service accounts, or `*` for all.
fn read_accounts(value: Option<&str>, problems: &mut Vec<Problem>) -> Vec<String> {
    let list = read_list(SERVICE_ACCOUNTS, value, problems);
    let named = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    if let Some(item) = list.iter().find(|item| *item != ALL && !item.bytes().all(named)) {
        let message =
            format!("{} is no name of a service account: name them, or say \"*\" for all", quote(item));
        problems.push(Problem::invalid(SERVICE_ACCOUNTS, &message));
    }
    list
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::core::grants::Grants;
    use crate::core::identity::Identity;
    use crate::core::opt_in::OptIn;
    use crate::core::registry::Region;
    use crate::core::token::RefreshPolicy;
    use proptest::prelude::*;

    pub(crate) const HOST: &str = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";

    pub(crate) fn settings() -> Settings {
        let region: Region = "eu-central-1".parse().expect("a region");
        Settings {
            instance: "test".into(),
            secret_names: vec!["ecr-pull".into(), "other".into()],
            retired_names: vec!["old".into()],
            opt_in: OptIn::default(),
            default_registries: vec![],
            region: Some(region.clone()),
            grants: Grants {
                identities: vec![],
                default_identity: Some(Identity::controller()),
                home: Some(region),
                service_accounts: false,
            },
            statics: vec![],
            refresh: RefreshPolicy { at: 0.5, jitter: 0.1 },
        }
    }

    fn reading(pairs: &[(&str, &str)]) -> Reading {
        let annotations = pairs.iter().map(|(k, v)| (format!("{PREFIX}{k}"), (*v).to_owned())).collect();
        read(&annotations, false, &settings()).expect("opted in")
    }

    fn hosts(reading: &Reading) -> Vec<String> {
        let Wish::Wants(request) = &reading.wish else { panic!("{reading:?}") };
        request.registries.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn one_that_the_configuration_includes_gets_the_default_unless_it_says_otherwise() {
        let key = |key: &str| format!("{PREFIX}{key}");
        let wants = |pairs: &[(&str, &str)]| {
            let annotations = pairs.iter().map(|(k, v)| (key(k), (*v).to_owned())).collect();
            read(&annotations, true, &settings()).expect("opted in").wish
        };
        let Wish::Wants(request) = wants(&[("secret-name", "other")]) else { panic!("it is included") };
        assert_eq!((&*request.registries, &*request.secret_name), (&[Target::Own][..], "other"));
        assert!(request.by_default);
        let Wish::Wants(asked) = wants(&[("registries", HOST)]) else { panic!("it asks") };
        assert_eq!((asked.registries[0].to_string(), asked.by_default), (HOST.to_owned(), false));
        assert_eq!(wants(&[("registries", " none ")]), Wish::OptedOut);
        assert_eq!(wants(&[("registries", "")]), Wish::Unusable, "empty is an error and no default");
    }

    #[test]
    fn without_the_annotation_nobody_opted_in() {
        assert_eq!(read(&BTreeMap::new(), false, &settings()), None);
    }

    #[test]
    fn every_form_of_one_registry_is_that_registry() {
        let slash = format!("https://{HOST}/");
        for value in [HOST, "123456789012", &slash, "  123456789012\n,", "123456789012 123456789012"] {
            let read = reading(&[(REGISTRIES, value)]);
            assert_eq!(hosts(&read), [HOST], "{value:?}");
            assert_eq!(read.problems, []);
        }
        assert_eq!(hosts(&reading(&[(REGISTRIES, "default")])), ["default"]);
        assert_eq!(reading(&[(REGISTRIES, " none ")]).wish, Wish::OptedOut);
    }

    #[test]
    fn bad_items_are_skipped_and_named_and_the_good_ones_served() {
        let read = reading(&[(REGISTRIES, "evil.example 12345, public.ecr.aws")]);
        assert_eq!(hosts(&read), ["public.ecr.aws"]);
        assert_eq!(read.problems.len(), 1);
        let message = &read.problems[0].message;
        assert!(message.starts_with("ecr-pull-secrets.dev/registries: \"evil.example\" is no"), "{message}");
        assert!(message.contains("\"12345\" is no AWS account ID: expected 12 digits"), "{message}");
    }

    #[test]
    fn nothing_good_is_unusable() {
        for value in ["", " , ", "evil.example", "none 123"] {
            let read = reading(&[(REGISTRIES, value)]);
            assert_eq!((read.wish, read.problems.len()), (Wish::Unusable, 1), "{value:?}");
        }
    }

    #[test]
    fn any_other_bad_value_leaves_the_applied_request_in_force() {
        for (key, value) in [
            (SECRET_NAME, "not-allowed"),
            (SECRET_NAME, ""),
            (ROLE, "rôle"),
            (ROLE, " "),
            (REPOSITORIES, "a/${b}"),
            (SERVICE_ACCOUNTS, "a\u{1b}[31m"),
            (SERVICE_ACCOUNTS, "team-*"),
        ] {
            let read = reading(&[(REGISTRIES, HOST), (key, value)]);
            assert_eq!((read.wish, read.problems.len()), (Wish::Unusable, 1), "{key}: {value:?}");
        }
        let message = &reading(&[(REGISTRIES, HOST), (SECRET_NAME, "x")]).problems[0].message;
        assert!(message.contains(r#"the configuration allows "ecr-pull", "other""#), "{message}");
    }

    #[test]
    fn thousands_of_registries_cost_little_and_say_little() {
        let many: Vec<_> = (0..12_000).map(|n| format!("{n:012}")).collect();
        let read = reading(&[(REGISTRIES, &many.join(","))]);
        assert_eq!(hosts(&read).len(), MOST_REGISTRIES);
        assert!(read.problems[0].message.len() < 600, "{}", read.problems[0].message);
        let regions: Vec<_> =
            (10..40).map(|n| format!("123456789012.dkr.ecr.us-east-{n}.amazonaws.com")).collect();
        assert_eq!(hosts(&reading(&[(REGISTRIES, &regions.join(" "))])).len(), MOST_REGIONS);
    }

    proptest! {
        #[test]
        fn any_values_are_read_without_a_panic(values in proptest::collection::vec(".*", 5)) {
            let keys = [REGISTRIES, SECRET_NAME, ROLE, REPOSITORIES, SERVICE_ACCOUNTS];
            let pairs: Vec<_> = keys.into_iter().zip(values.iter().map(String::as_str)).collect();
            let read = reading(&pairs);
            if let Wish::Wants(request) = read.wish {
                prop_assert!(!request.registries.is_empty() && request.registries.len() <= MOST_REGISTRIES);
            }
        }
    }
}
