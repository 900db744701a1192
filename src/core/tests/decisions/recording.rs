//! The record of a write can be read back, for all sizes of the request and of the static entries.

use proptest::collection::{btree_map, vec};
use proptest::sample::select;

use super::*;
use crate::core::PREFIX;
use crate::core::request::applied::{MAX_APPLIED_LEN, RecordedState};
use crate::core::request::{AppliedState, TemplateFingerprint};
use crate::core::secret::{StaticGrant, StaticSource, static_registries};
use crate::core::testing::longest_entry;

/// The lengths that the configuration allows: static registries in total, keys of `auths`, names of Secrets.
const MAX_STATIC: usize = 16;
const MAX_KEY: usize = 253;

const APPLIED: &str = "ecr-pull-secrets.dev/applied";

/// Settings that grant these hosts of one source to every namespace, and the source.
fn with_static(source: &str, hosts: Vec<String>, version: u64) -> (Settings, StaticSources) {
    let credential = || token(at(0), HOUR).credential().clone();
    let entries = hosts.iter().map(|host| (host.clone(), credential())).collect();
    let sources =
        BTreeMap::from([(Arc::from(source), StaticSource { version, entries, unreadable: [].into() })]);
    let namespaces = vec!["*".parse().expect("a pattern")];
    let grant = StaticGrant { secret: source.into(), hosts, namespaces };
    (Settings { static_grants: vec![grant], ..settings() }, sources)
}

fn parse(annotations: &[(&str, String)], settings: &Settings) -> Option<Request> {
    let prefixed = annotations.iter().map(|(key, value)| (format!("{PREFIX}{key}"), value.clone())).collect();
    match annotations::parse(&prefixed, false, settings.request_rules())?.opt_in {
        OptIn::In(request) => Some(request),
        OptIn::Out | OptIn::Invalid => None,
    }
}

/// The state that a write of the request records, if each entry is as long as it can be.
fn longest_state(request: Request, settings: &Settings, sources: &StaticSources) -> AppliedState {
    let longest = settings.grants.longest_name();
    let entry = |target: &Target| Some(longest_entry(target, longest));
    let static_entries = static_registries::entries(&settings.static_grants, "team-a", sources, None);
    AppliedState {
        entries: request.registries.iter().map(entry).collect(),
        request,
        static_entries: static_registries::tags(&static_entries),
        template: Some(TemplateFingerprint(u64::MAX)),
    }
}

/// The record of `state`: its length, and what is read of it.
fn recorded(state: &AppliedState, settings: &Settings) -> (usize, Option<AppliedState>) {
    let times = Times { expires_at: wall(0), refresh_after: wall(0) };
    let annotations = state.to_annotations(&settings.names.instance, times);
    let read = RecordedState::from_annotations(&annotations);
    assert_eq!(read.times, Some(times));
    (annotations[APPLIED].len(), read.applied.map(|(_, applied)| applied))
}

fn any_list(alphabet: &'static str, longest: usize) -> impl Strategy<Value = String> {
    let item = (0..=longest, 0usize..1_000).prop_map(move |(length, number)| {
        let letters = alphabet.as_bytes();
        format!("{number}{}", char::from(letters[number % letters.len()]).to_string().repeat(length))
    });
    vec(item, 0..32).prop_map(|items| items.join(","))
}

prop_compose! {
    fn any_annotations()(
        accounts in vec(0u64..1_000_000_000_000, 1..70),
        region in select(vec!["us-east-1", "eu-central-1", "ap-southeast-99"]),
        longest in select(vec![3usize, 40, 120, 252]),
    )(
        lists in (
            any_list("abc/*", longest), any_list("xyz:+=@", longest), any_list("abc-.", longest)
        ),
        registries in Just(accounts.iter().map(|n| format!("{n:012}.dkr.ecr.{region}.amazonaws.com")).collect::<Vec<_>>()),
        secret_name in select(vec!["ecr-pull", "other"]),
    ) -> Vec<(&'static str, String)> {
        let (repositories, role, service_accounts) = lists;
        let all = [
            ("registries", registries.join(",")),
            ("secret-name", secret_name.to_owned()),
            ("repositories", repositories),
            ("role", role),
            ("service-accounts", service_accounts),
        ];
        all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
    }
}

prop_compose! {
    fn any_static()(
        hosts in btree_map("[a-z./:]{1,20}", 0usize..MAX_KEY - 20, 0..=MAX_STATIC),
        source in "[a-z]{1,9}",
        longer in select(vec![0usize, 40, 244]),
        version in any::<u64>(),
    ) -> (Settings, StaticSources) {
        let hosts = hosts.into_iter().map(|(host, length)| format!("{host}{}", "h".repeat(length))).collect();
        with_static(&format!("{source}{}", "s".repeat(longer)), hosts, version)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_write_records_can_be_read_back(
        annotations in any_annotations(), (settings, sources) in any_static(),
    ) {
        let Some(request) = parse(&annotations, &settings) else { return Ok(()) };
        let state = longest_state(request, &settings, &sources);
        let (length, read) = recorded(&state, &settings);
        prop_assert!(length <= MAX_APPLIED_LEN, "{} bytes", length);
        prop_assert_eq!(read, Some(state));
    }
}

/// R8: a record that is too long to be read was written again and again.
#[test]
fn a_request_that_does_not_fit_with_the_static_entries_is_rejected() {
    let hosts = (0..MAX_STATIC).map(|number| format!("{number:0253}")).collect();
    let (settings, sources) = with_static(&"s".repeat(MAX_KEY), hosts, u64::MAX);
    let request = parse(&[("registries", "default".to_owned())], &settings).expect("a short one fits");
    assert!(recorded(&longest_state(request, &settings, &sources), &settings).1.is_some());
    let long = (0..31).map(|number| format!("{number:02}{}", "a".repeat(248))).collect::<Vec<_>>();
    let annotations = [("registries", "default".to_owned()), ("service-accounts", long.join(","))];
    assert!(parse(&annotations, &settings).is_none());
    assert!(parse(&annotations, &self::settings()).is_some(), "without static entries it fits");
}

/// Static entries that were configured later than the request was accepted are left out if they do not fit.
#[test]
fn an_applied_request_that_no_longer_fits_keeps_its_tokens() {
    let hosts = (0..MAX_STATIC).map(|number| format!("{number:0253}")).collect();
    let (settings, sources) = with_static(&"s".repeat(MAX_KEY), hosts, u64::MAX);
    let accounts: Vec<_> = (0..31).map(|number| format!("{number:02}{}", "a".repeat(248))).collect();
    let long = Request { service_accounts: accounts, ..request(&[HOST]) };
    let secrets = [("ecr-pull".into(), observed(&long))];
    let (parsed, history) =
        (ParsedAnnotations { opt_in: OptIn::Invalid, renew: None, problems: vec![] }, History::default());
    let facts =
        Facts { parsed: Some(&parsed), secrets: &secrets, static_sources: &sources, ..facts(&history) };
    let Plan { step, problems, .. } = plan(&facts, &settings, at(7 * HOUR));
    let Step::Write(write) = step else { panic!("{step:?}") };
    assert!(write.static_entries.is_empty() && write.reason == WriteReason::RenewalDue);
    assert_eq!(problems.len(), 1);
}

/// N52: it was written with a record that was not read back, and never renewed.
#[test]
fn an_applied_request_is_still_read_after_the_name_of_its_identity_became_longer() {
    let hosts: Vec<_> = (0..64).map(|n| format!("{n:012}.dkr.ecr.eu-central-1.amazonaws.com")).collect();
    let mut long = request(&hosts.iter().map(String::as_str).collect::<Vec<_>>());
    long.service_accounts = (0..4).map(|number| format!("{number:02}{}", "a".repeat(248))).collect();
    assert!(settings().request_rules().fits(&long), "it was accepted");
    let mut entries = longest_state(long, &settings(), &StaticSources::new());
    for entry in entries.entries.iter_mut().flatten() {
        entry.identity = "i".repeat(63).into();
    }
    let (length, read) = recorded(&entries, &settings());
    assert!(length > MAX_APPLIED_LEN, "{length} bytes");
    assert_eq!(read, Some(entries));
}
