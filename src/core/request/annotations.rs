//! Namespace annotations → a [`Request`], or the problems in them. Values are untrusted: parsing is linear in their length,
//! and messages about them are bounded.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::applied::{MAX_APPLIED_LEN, RecordLengths};
use super::problem::Problem;
use super::{DefaultRegistry, MAX_REGIONS, MAX_REGISTRIES, OwnedNames, Request, Target};
use crate::core::aws::{AccountId, Endpoint, Region, Registry};
use crate::core::{EventReason, PREFIX, quote, whole_seconds};

/// Key, without the prefix: the registries. Its presence opts the namespace in.
pub const REGISTRIES: &str = "registries";
/// Key, without the prefix: the name of the Secret.
pub const SECRET_NAME: &str = "secret-name";
/// Key, without the prefix: the identities to choose from.
pub const ROLE: &str = "role";
/// Key, without the prefix: repository patterns.
pub const REPOSITORIES: &str = "repositories";
/// Key, without the prefix: service accounts.
pub const SERVICE_ACCOUNTS: &str = "service-accounts";
/// Key, without the prefix: the time before which a token must not have been issued.
pub const RENEW: &str = "renew";

/// In [`SERVICE_ACCOUNTS`]: every service account of the namespace.
pub const ALL_SERVICE_ACCOUNTS: &str = "*";

/// The maximum number of items in a list.
const MAX_ITEMS: usize = 32;
/// The maximum number of invalid items that one message lists.
const MAX_NAMED: usize = 3;

/// Whether a namespace opts in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OptIn {
    /// `registries: none`.
    Out,
    /// A valid request; whether it is granted is decided later.
    In(Request),
    /// No usable request: the applied one stays in force.
    Invalid,
}

/// The annotations of a namespace that opted in or explicitly opted out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ParsedAnnotations {
    pub opt_in: OptIn,
    /// A token that was issued before this time is replaced. In whole seconds, like the issue times on Secrets.
    pub renew: Option<Timestamp>,
    /// The invalid values.
    pub problems: Vec<Problem>,
}

/// The part of the configuration that determines the meaning of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestRules<'a> {
    pub names: &'a OwnedNames,
    /// The registries that `default` refers to; if empty, [`Target::Default`].
    pub default_registries: &'a [DefaultRegistry],
    /// The controller's region, which is the region of a bare account ID.
    pub region: Option<&'a Region>,
    /// The lengths that the configuration adds to the record of a request.
    pub lengths: RecordLengths,
}

impl RequestRules<'_> {
    /// Whether the record of a request can be read back.
    pub fn fits(&self, request: &Request) -> bool {
        self.lengths.fit(&self.names.instance, request)
    }
}

/// Parses the annotations of a namespace. `None` if it did not opt in. A namespace that the configuration includes
/// requests the default registries, unless its annotations differ.
pub fn parse(
    annotations: &BTreeMap<String, String>,
    included: bool,
    rules: RequestRules<'_>,
) -> Option<ParsedAnnotations> {
    let get = |key: &str| annotations.get(&format!("{PREFIX}{key}")).map(String::as_str);
    let requested = get(REGISTRIES);
    let registries = requested.or(included.then_some("default"))?;
    if registries.trim() == "none" {
        return Some(ParsedAnnotations { opt_in: OptIn::Out, renew: None, problems: vec![] });
    }
    let mut problems = vec![];
    let registries = parse_registries(registries, rules, &mut problems);
    // Invalid registries are skipped; any other invalid value makes the request unusable, and so does an account whose
    // region is only unknown at the moment.
    let skipped = problems.iter().filter(|problem| problem.reason != EventReason::RegionUnknown).count();
    let names = rules.names;
    let service_accounts = parse_service_accounts(get(SERVICE_ACCOUNTS), names);
    let mut request = Request {
        secret_name: or_report(SECRET_NAME, parse_secret_name(get(SECRET_NAME), names), &mut problems),
        role: or_report(ROLE, parse_list(get(ROLE)), &mut problems),
        repositories: or_report(REPOSITORIES, parse_list(get(REPOSITORIES)), &mut problems),
        service_accounts: or_report(SERVICE_ACCOUNTS, service_accounts, &mut problems),
        registries,
        by_default: requested.is_none(),
    };
    request.repositories.sort_unstable();
    request.service_accounts.sort_unstable();
    let is_valid = problems.len() == skipped && !request.registries.is_empty();
    let fits = rules.fits(&request);
    if is_valid && !fits {
        let message =
            format!("all values together are longer than {MAX_APPLIED_LEN} bytes: shorten the lists");
        problems.push(Problem::invalid(REGISTRIES, &message));
    }
    let opt_in = if is_valid && fits { OptIn::In(request) } else { OptIn::Invalid };
    // It does not belong to the request, so an invalid value changes nothing else.
    let renew = or_report(RENEW, parse_renew(get(RENEW)), &mut problems);
    Some(ParsedAnnotations { opt_in, renew, problems })
}

/// The value, or an empty one and a problem of this key.
fn or_report<T: Default>(key: &str, value: Result<T, String>, problems: &mut Vec<Problem>) -> T {
    value.map_err(|message| problems.push(Problem::invalid(key, &message))).unwrap_or_default()
}

fn items(value: &str) -> impl Iterator<Item = &str> {
    value.split(|c: char| c == ',' || c.is_whitespace()).filter(|item| !item.is_empty())
}

/// The valid registries, in canonical order.
fn parse_registries(value: &str, rules: RequestRules<'_>, problems: &mut Vec<Problem>) -> Vec<Target> {
    let (mut targets, mut regions) = (BTreeSet::new(), BTreeSet::new());
    let mut without_region = None;
    let mut parse = |item| match parse_item(item, rules) {
        Ok(parsed) => insert_within_limits(parsed, item, &mut targets, &mut regions),
        Err(ItemError::Invalid(message)) => Err(message),
        Err(ItemError::NoRegion) => {
            without_region.get_or_insert(item);
            Ok(())
        }
    };
    let mut errors = items(value).filter_map(|item| parse(item).err());
    let mut bad: Vec<_> = errors.by_ref().take(MAX_NAMED).collect();
    let more = errors.count();
    if more > 0 {
        bad.push(format!("and {more} more"));
    }
    if items(value).next().is_none() {
        bad.push("empty: list registries; to opt out, set \"none\" or remove the annotation".into());
    }
    if !bad.is_empty() {
        problems.push(Problem::invalid(REGISTRIES, &bad.join("; ")));
    }
    problems.extend(without_region.map(|item| Problem::no_region(REGISTRIES, item)));
    targets.into_iter().collect()
}

/// Why an item of the list cannot be used.
enum ItemError {
    /// It needs the controller's region, which is unknown.
    NoRegion,
    Invalid(String),
}

impl From<String> for ItemError {
    fn from(message: String) -> Self {
        Self::Invalid(message)
    }
}

fn parse_item(item: &str, rules: RequestRules<'_>) -> Result<Vec<Target>, ItemError> {
    let host = item.strip_prefix("https://").unwrap_or(item);
    let host = host.strip_suffix('/').unwrap_or(host);
    if host == "default" {
        let configured = rules.default_registries.iter().map(|registry| registry.in_region(rules.region));
        let configured: Option<Vec<_>> = configured.map(|registry| registry.map(Target::Host)).collect();
        let configured = configured.ok_or(ItemError::NoRegion)?;
        return Ok(if configured.is_empty() { vec![Target::Default] } else { configured });
    }
    let registry = if !host.is_empty() && host.bytes().all(|b| b.is_ascii_digit()) {
        let account: AccountId = host.parse().map_err(|error| ItemError::Invalid(format!("{error}")))?;
        Registry::of_account(account, rules.region.cloned().ok_or(ItemError::NoRegion)?)
    } else {
        host.parse().map_err(|error| ItemError::Invalid(format!("{error}")))?
    };
    Ok(vec![Target::Host(registry)])
}

/// Adds the targets of an item, up to the limits.
fn insert_within_limits(
    new: Vec<Target>,
    item: &str,
    targets: &mut BTreeSet<Target>,
    regions: &mut BTreeSet<Endpoint>,
) -> Result<(), String> {
    for target in new {
        if targets.contains(&target) {
            continue;
        }
        if targets.len() == MAX_REGISTRIES {
            return Err(format!("{}: a secret holds at most {MAX_REGISTRIES} registries", quote(item)));
        }
        if let Some(endpoint) = target.endpoint() {
            if regions.len() == MAX_REGIONS && !regions.contains(&endpoint) {
                return Err(format!("{}: a secret spans at most {MAX_REGIONS} regions", quote(item)));
            }
            regions.insert(endpoint);
        }
        targets.insert(target);
    }
    Ok(())
}

fn parse_secret_name(value: Option<&str>, names: &OwnedNames) -> Result<String, String> {
    let name = value.map_or(&*names.secret_names[0], str::trim);
    if names.secret_names.iter().any(|allowed| **allowed == *name) {
        return Ok(name.to_owned());
    }
    let allowed: Vec<_> = names.secret_names.iter().map(|name| format!("{name:?}")).collect();
    Err(format!("{} is not allowed: the configuration allows {}", quote(name), allowed.join(", ")))
}

fn parse_renew(value: Option<&str>) -> Result<Option<Timestamp>, String> {
    let Some(value) = value else { return Ok(None) };
    let time = value.trim().parse::<Timestamp>();
    let time = time.map_err(|_| {
        let value = quote(value);
        format!("{value} is not a time: set the current time in the form of RFC 3339, as `date -u +%FT%TZ` prints it")
    })?;
    Ok(Some(whole_seconds(time)))
}

/// A list of names with the characters that Kubernetes, IAM and ECR allow, without duplicates, in the given order.
fn parse_list(value: Option<&str>) -> Result<Vec<String>, String> {
    let Some(value) = value else { return Ok(vec![]) };
    let mut list: Vec<String> = vec![];
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._/*:+=@".contains(&b);
    for item in items(value) {
        if item.len() > 256 || !item.bytes().all(allowed) {
            return Err(format!("{} is not a valid name or pattern", quote(item)));
        }
        if !list.iter().any(|have| have == item) {
            list.push(item.to_owned());
        }
        if list.len() > MAX_ITEMS {
            return Err(format!("more than {MAX_ITEMS} items"));
        }
    }
    if list.is_empty() { Err("empty: list at least one, or remove the annotation".into()) } else { Ok(list) }
}

/// Names of service accounts, or `*` for all.
fn parse_service_accounts(value: Option<&str>, names: &OwnedNames) -> Result<Vec<String>, String> {
    if value.is_some() && !names.service_accounts {
        let message = "service accounts are not enabled in the controller's configuration: remove the annotation, and \
                       name the secret in imagePullSecrets";
        return Err(message.into());
    }
    let list = parse_list(value)?;
    let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    if let Some(item) = list.iter().find(|item| *item != ALL_SERVICE_ACCOUNTS && !item.bytes().all(valid)) {
        let item = quote(item);
        return Err(format!("{item} is not a valid service account name: list names, or \"*\" for all"));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::{HOST, settings};
    use proptest::prelude::*;

    fn parsed(pairs: &[(&str, &str)]) -> ParsedAnnotations {
        let annotations = pairs.iter().map(|(k, v)| (format!("{PREFIX}{k}"), (*v).to_owned())).collect();
        parse(&annotations, false, settings().request_rules()).expect("opted in")
    }

    fn hosts(parsed: &ParsedAnnotations) -> Vec<String> {
        let OptIn::In(request) = &parsed.opt_in else { panic!("{parsed:?}") };
        request.registries.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_namespace_that_the_configuration_includes_gets_the_default_unless_annotations_differ() {
        let key = |key: &str| format!("{PREFIX}{key}");
        let wants = |pairs: &[(&str, &str)]| {
            let annotations = pairs.iter().map(|(k, v)| (key(k), (*v).to_owned())).collect();
            parse(&annotations, true, settings().request_rules()).expect("opted in").opt_in
        };
        let OptIn::In(request) = wants(&[("secret-name", "other")]) else { panic!("it is included") };
        assert_eq!((&*request.registries, &*request.secret_name), (&[Target::Default][..], "other"));
        assert!(request.by_default);
        let OptIn::In(asked) = wants(&[("registries", HOST)]) else { panic!("opted in") };
        assert_eq!((asked.registries[0].to_string(), asked.by_default), (HOST.to_owned(), false));
        assert_eq!(wants(&[("registries", " none ")]), OptIn::Out);
        assert_eq!(wants(&[("registries", "")]), OptIn::Invalid, "empty is invalid, not the default");
    }

    /// The controller keeps the applied request until the region is known.
    #[test]
    fn without_the_region_a_default_that_is_an_account_cannot_be_used_yet() {
        let mut settings = settings();
        let account = "222222222222".parse().expect("an account");
        settings.default_registries = vec![DefaultRegistry::Account(account)];
        let annotations = BTreeMap::from([(format!("{PREFIX}registries"), "default".to_owned())]);
        let parsed = |settings: &crate::core::settings::Settings| {
            parse(&annotations, false, settings.request_rules()).expect("opted in")
        };
        assert_eq!(hosts(&parsed(&settings)), ["222222222222.dkr.ecr.eu-central-1.amazonaws.com"]);
        settings.region = None;
        let parsed = parsed(&settings);
        assert_eq!(parsed.opt_in, OptIn::Invalid);
        assert_eq!(
            parsed.problems.iter().map(|p| p.reason).collect::<Vec<_>>(),
            [EventReason::RegionUnknown]
        );
    }

    #[test]
    fn without_the_annotation_a_namespace_has_not_opted_in() {
        assert_eq!(parse(&BTreeMap::new(), false, settings().request_rules()), None);
    }

    #[test]
    fn every_form_of_one_registry_is_that_registry() {
        let slash = format!("https://{HOST}/");
        for value in [HOST, "123456789012", &slash, "  123456789012\n,", "123456789012 123456789012"] {
            let read = parsed(&[(REGISTRIES, value)]);
            assert_eq!(hosts(&read), [HOST], "{value:?}");
            assert_eq!(read.problems, []);
        }
        assert_eq!(hosts(&parsed(&[(REGISTRIES, "default")])), ["default"]);
        assert_eq!(parsed(&[(REGISTRIES, " none ")]).opt_in, OptIn::Out);
    }

    #[test]
    fn invalid_items_are_skipped_and_named_and_valid_ones_served() {
        let read = parsed(&[(REGISTRIES, "evil.example 12345, public.ecr.aws")]);
        assert_eq!(hosts(&read), ["public.ecr.aws"]);
        assert_eq!(read.problems.len(), 1);
        let message = &read.problems[0].message;
        assert!(message.starts_with("ecr-pull-secrets.dev/registries: \"evil.example\" is not"), "{message}");
        assert!(message.contains("\"12345\" is not an AWS account ID: expected 12 digits"), "{message}");
    }

    #[test]
    fn without_a_valid_registry_the_request_is_invalid() {
        for value in ["", " , ", "evil.example", "none 123"] {
            let read = parsed(&[(REGISTRIES, value)]);
            assert_eq!((read.opt_in, read.problems.len()), (OptIn::Invalid, 1), "{value:?}");
        }
    }

    #[test]
    fn any_other_invalid_value_leaves_the_applied_request_in_force() {
        for (key, value) in [
            (SECRET_NAME, "not-allowed"),
            (SECRET_NAME, ""),
            (ROLE, "rôle"),
            (ROLE, " "),
            (REPOSITORIES, "a/${b}"),
            (SERVICE_ACCOUNTS, "a\u{1b}[31m"),
            (SERVICE_ACCOUNTS, "team-*"),
        ] {
            let read = parsed(&[(REGISTRIES, HOST), (key, value)]);
            assert_eq!((read.opt_in, read.problems.len()), (OptIn::Invalid, 1), "{key}: {value:?}");
        }
        let message = &parsed(&[(REGISTRIES, HOST), (SECRET_NAME, "x")]).problems[0].message;
        assert!(message.contains(r#"the configuration allows "ecr-pull", "other""#), "{message}");
    }

    #[test]
    fn a_time_to_renew_after_is_no_part_of_the_request() {
        let request = parsed(&[(REGISTRIES, HOST)]).opt_in;
        let read = parsed(&[(REGISTRIES, HOST), (RENEW, " 2026-01-02T03:04:05.9+01:00 ")]);
        assert_eq!(read.renew, "2026-01-02T02:04:05Z".parse().ok());
        assert_eq!((&read.opt_in, &*read.problems), (&request, &[][..]));
        for value in ["", "now", "yesterday", "2026-01-02", "1767323045"] {
            let read = parsed(&[(REGISTRIES, HOST), (RENEW, value)]);
            assert_eq!((read.renew, &read.opt_in), (None, &request), "{value:?}");
            let message = &read.problems[0].message;
            assert!(
                message.starts_with("ecr-pull-secrets.dev/renew: ") && message.contains("RFC 3339"),
                "{message}"
            );
        }
    }

    #[test]
    fn service_accounts_that_are_not_enabled_are_a_problem() {
        let mut settings = settings();
        settings.names.service_accounts = false;
        let key = |key: &str| format!("{PREFIX}{key}");
        let mut annotations = BTreeMap::from([(key(REGISTRIES), HOST.to_owned())]);
        let read = parse(&annotations, false, settings.request_rules()).expect("opted in");
        assert!(matches!(read.opt_in, OptIn::In(_)) && read.problems.is_empty());
        for value in ["*", "builder", ""] {
            annotations.insert(key(SERVICE_ACCOUNTS), value.to_owned());
            let read = parse(&annotations, false, settings.request_rules()).expect("opted in");
            assert_eq!((read.opt_in, read.problems.len()), (OptIn::Invalid, 1), "{value:?}");
            let message = &read.problems[0].message;
            assert!(message.contains("service accounts are not enabled"), "{message}");
            assert_eq!(read.problems[0].reason, crate::core::EventReason::InvalidAnnotation);
        }
    }

    #[test]
    fn thousands_of_registries_cost_little_and_give_a_short_message() {
        let many: Vec<_> = (0..12_000).map(|n| format!("{n:012}")).collect();
        let read = parsed(&[(REGISTRIES, &many.join(","))]);
        assert_eq!(hosts(&read).len(), MAX_REGISTRIES);
        assert!(read.problems[0].message.len() < 600, "{}", read.problems[0].message);
        let regions: Vec<_> =
            (10..40).map(|n| format!("123456789012.dkr.ecr.us-east-{n}.amazonaws.com")).collect();
        assert_eq!(hosts(&parsed(&[(REGISTRIES, &regions.join(" "))])).len(), MAX_REGIONS);
    }

    proptest! {
        #[test]
        fn any_values_are_parsed_without_a_panic(values in proptest::collection::vec(".*", 6)) {
            let keys = [REGISTRIES, SECRET_NAME, ROLE, REPOSITORIES, SERVICE_ACCOUNTS, RENEW];
            let pairs: Vec<_> = keys.into_iter().zip(values.iter().map(String::as_str)).collect();
            let read = parsed(&pairs);
            if let OptIn::In(request) = read.opt_in {
                prop_assert!(!request.registries.is_empty() && request.registries.len() <= MAX_REGISTRIES);
            }
        }
    }
}
