//! The annotations of a namespace, which anyone who may edit the namespace writes.
//!
//! The first line of an input chooses the configuration, the others are `KEY=VALUE`.

use std::collections::BTreeMap;

use ecr_pull_secrets::simulation::core::PREFIX;
use ecr_pull_secrets::simulation::core::request::annotations::{
    OptIn, REGISTRIES, REPOSITORIES, ROLE, SECRET_NAME, SERVICE_ACCOUNTS, parse,
};
use ecr_pull_secrets::simulation::core::request::applied::{AppliedState, MAX_APPLIED_LEN, Times};
use ecr_pull_secrets::simulation::core::request::{DefaultRegistry, Problem, Request, unknown_keys};
use ecr_pull_secrets::simulation::core::settings::Settings;
use ecr_pull_secrets::simulation::core::testing::{HOST, longest_entry, settings};
use jiff::Timestamp;

use super::{assert_bounded, assert_recorded};

/// The longest list that an annotation may have.
const MAX_ITEMS: usize = 32;

pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (options, lines) = text.split_once('\n').unwrap_or_default();
    let settings = configured(options);
    let prefixed = |line: &str| {
        let (key, value) = line.split_once('=')?;
        let key = if key.contains('/') { key.to_owned() } else { format!("{PREFIX}{key}") };
        Some((key, value.to_owned()))
    };
    let annotations: BTreeMap<_, _> = lines.split('\n').filter_map(prefixed).collect();
    let unknown = unknown_keys::report(&annotations, &annotations, |name| name.len() % 2 == 0);
    unknown.iter().for_each(check_problem);
    let included = options.contains('i');
    let Some(parsed) = parse(&annotations, included, settings.request_rules()) else {
        assert!(!included && !annotations.contains_key(&format!("{PREFIX}{REGISTRIES}")));
        return;
    };
    assert!(parsed.problems.len() <= 7, "{} problems", parsed.problems.len());
    parsed.problems.iter().for_each(check_problem);
    assert!(parsed.renew.is_none_or(|time| time.subsec_nanosecond() == 0), "{:?}", parsed.renew);
    match parsed.opt_in {
        OptIn::Out => assert_eq!(parsed.problems, []),
        OptIn::Invalid => assert_ne!(parsed.problems, [], "an invalid request is explained"),
        OptIn::In(request) => check_request(&request, &settings),
    }
}

fn check_problem(problem: &Problem) {
    // Four quoted items of 80 characters, each at most ten bytes when it is escaped.
    assert!(problem.message.len() < 4_000, "{} bytes", problem.message.len());
    assert!(!problem.message.contains(char::is_control), "{:?}", problem.message);
}

/// The configurations that give the same annotations another meaning.
fn configured(options: &str) -> Settings {
    let mut settings = settings();
    settings.names.service_accounts = !options.contains('s');
    if options.contains('r') {
        settings.region = None;
    }
    if options.contains('d') {
        settings.default_registries =
            [HOST, "public.ecr.aws"].map(|host| DefaultRegistry::Host(host.parse().expect("a host"))).into();
    }
    settings
}

fn check_request(request: &Request, settings: &Settings) {
    assert_bounded(request);
    assert!(settings.names.secret_names.iter().any(|name| **name == *request.secret_name));
    for list in [&request.role, &request.repositories, &request.service_accounts] {
        assert!(list.len() <= MAX_ITEMS, "{} items", list.len());
        let is_valid = |item: &String| {
            (1..=256).contains(&item.len())
                && item.chars().all(|c| c.is_ascii_alphanumeric() || "-._/*:+=@".contains(c))
        };
        assert!(list.iter().all(is_valid), "{list:?}");
    }
    assert!(settings.names.service_accounts || request.service_accounts.is_empty());

    let again = parse(&canonical(request), false, settings.request_rules()).expect("opted in");
    let expected = Request { by_default: false, ..request.clone() };
    assert_eq!((again.opt_in, again.problems), (OptIn::In(expected), vec![]));

    let instance = &settings.names.instance;
    let longest = settings.grants.longest_name();
    let entries = request.registries.iter().map(|target| Some(longest_entry(target, longest))).collect();
    let state =
        AppliedState { request: request.clone(), entries, static_entries: BTreeMap::new(), template: None };
    let times = Times { expires_at: Timestamp::MAX, refresh_after: Timestamp::MIN };
    let annotations = state.to_annotations(instance, times);
    assert!(super::ours(&annotations, "applied").len() <= MAX_APPLIED_LEN, "a valid request can be recorded");
    assert_recorded(&state, &annotations, instance);
}

/// The annotations that ask for exactly this request.
fn canonical(request: &Request) -> BTreeMap<String, String> {
    let registries = request.registries.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let lists = [
        (ROLE, request.role.join(",")),
        (REPOSITORIES, request.repositories.join(" ")),
        (SERVICE_ACCOUNTS, request.service_accounts.join(", ")),
        (SECRET_NAME, request.secret_name.clone()),
        (REGISTRIES, registries),
    ];
    let given = lists.into_iter().filter(|(_, value)| !value.is_empty());
    given.map(|(key, value)| (format!("{PREFIX}{key}"), value)).collect()
}
