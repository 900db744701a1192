//! Who gets which token, against an oracle that only knows strings; and what becomes of a grant that is withdrawn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

use super::PREFIX;
use super::annotations::{self, Reading, Wish};
use super::facts::{Facts, History, Observed, Owner, Times, WriteCause};
use super::grants::Granted;
use super::identity::{Assignment, Identity, Restriction};
use super::plan::{DeleteCause, Intent, Plan, Step, plan};
use super::policy::session_policy;
use super::problem::Problem;
use super::registry::Endpoint;
use super::request::{Accepted, Applied, Entry, Request, Target};
use super::settings::Settings;
use super::settle::settle;
use super::statics::Sources;
use crate::config::{Config, DefaultIdentity, IdentityConfig};

const HOME: &str = "eu-central-1";

const NAMESPACES: [&str; 10] =
    ["dev", "dev-prod", "dev-", "de", "team-a", "team-a-x", "team-", "team", "kube-system", "n"];
const NAMESPACE_PATTERNS: [&str; 9] =
    ["dev", "dev-*", "dev*", "team-a", "team-a-*", "team-*", "kube-system", "*", "nobody"];
const REGISTRY_PATTERNS: [&str; 11] = [
    "*",
    "public.ecr.aws",
    "222222222222/*",
    "222222222222/eu-*",
    "222222222222/eu-central-1",
    "222222222222/us-east-1",
    "333333333333/eu-*",
    "333333333333/*",
    "333333333333/cn-*",
    "444444444444/cn-north-1",
    "444444444444/us-gov-*",
];
const TEMPLATES: [&str; 9] = [
    "{namespace}/*",
    "{namespace}",
    "shared/{namespace}/*",
    "x-{namespace}/app*",
    "a/{namespace}/{namespace}",
    "team-a/*",
    "base/alpine",
    "dev*",
    "*",
];
const ROLES: [&str; 6] = [
    "arn:aws:iam::222222222222:role/",
    "arn:aws:iam::333333333333:role/path/",
    "arn:aws-cn:iam::444444444444:role/",
    "arn:aws-cn:iam::333333333333:role/",
    "arn:aws-us-gov:iam::444444444444:role/",
    "arn:aws-iso-b:iam::222222222222:role/",
];
const REGISTRY_ITEMS: [&str; 20] = [
    "default",
    "222222222222",
    "333333333333",
    "public.ecr.aws",
    "ecr-public.aws.com",
    "222222222222.dkr.ecr.eu-central-1.amazonaws.com",
    "222222222222.dkr.ecr-fips.eu-central-1.amazonaws.com",
    "222222222222.dkr-ecr.eu-central-1.on.aws",
    "222222222222.dkr.ecr.us-east-1.amazonaws.com",
    "222222222223.dkr.ecr.eu-central-1.amazonaws.com",
    "222222222222.dkr.ecr.cn-north-1.amazonaws.com.cn",
    "222222222222.dkr.ecr.us-isob-east-1.sc2s.sgov.gov",
    "333333333333.dkr.ecr.eu-west-1.amazonaws.com",
    "333333333333.dkr.ecr.cn-north-1.amazonaws.com.cn",
    "444444444444.dkr.ecr.cn-north-1.amazonaws.com.cn",
    "444444444444.dkr.ecr.us-gov-west-1.amazonaws.com",
    "333333333333.dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk",
    "222222222222.dkr.ecr.eu-central-1.amazonaws.com.evil.example",
    "222222222222/*",
    "*",
];
/// The first so many of these are patterns.
const PLAUSIBLE: usize = 19;
static REPOSITORY_ITEMS: [&str; 26] = [
    "dev/*",
    "dev/app",
    "dev",
    "dev*",
    "dev-*",
    "dev-prod/*",
    "dev-prod/app",
    "team-a/*",
    "team-a/app",
    "team-a/app*",
    "team-a-x/*",
    "shared/dev/*",
    "shared/*",
    "shared/dev/app",
    "x-dev/app1",
    "base/alpine",
    "base/alpine*",
    "base/*",
    "*",
    "{namespace}/*",
    "a*b",
    "dev/**",
    "dev/?",
    "${aws:username}/*",
    "dev/../*",
    "Dev/*",
];

// The oracle: strings only.

/// An identity, as the configuration and the table of roles have it.
#[derive(Clone, Debug, PartialEq)]
struct Spec {
    name: String,
    arn: Option<String>,
    namespaces: Vec<String>,
    registries: Vec<String>,
    repositories: Vec<String>,
    pull_through_cache: bool,
}

#[derive(Clone, Debug)]
struct Model {
    specs: Vec<Spec>,
    default: bool,
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn controller() -> Spec {
    Spec {
        name: "controller".into(),
        arn: None,
        namespaces: strings(&["*"]),
        registries: strings(&["*", "public.ecr.aws"]),
        repositories: vec![],
        pull_through_cache: false,
    }
}

fn glob(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |prefix| name.starts_with(prefix))
}

/// Whether `bound` stands for all that `narrower` does, by what `narrower` stands for at its edges.
fn covers(bound: &str, narrower: &str) -> bool {
    match narrower.strip_suffix('*') {
        None => glob(bound, narrower),
        Some(prefix) => ["", "-", "/", "0", "z/z"].iter().all(|rest| glob(bound, &format!("{prefix}{rest}"))),
    }
}

fn is_public(host: &str) -> bool {
    host == "public.ecr.aws" || host == "ecr-public.aws.com"
}

/// Account and region of a private host.
fn parts(host: &str) -> (&str, &str) {
    let labels: Vec<&str> = host.split('.').collect();
    if labels[1] == "dkr" { (labels[0], labels[3]) } else { (labels[0], labels[2]) }
}

fn partition(region: &str) -> &'static str {
    let word = |n: usize| region.split('-').nth(n).unwrap_or_default();
    match (word(0), word(1)) {
        ("cn", _) => "aws-cn",
        ("eusc", _) => "aws-eusc",
        ("us", "gov") => "aws-us-gov",
        ("us", "iso") => "aws-iso",
        ("us", "isob") => "aws-iso-b",
        ("eu", "isoe") => "aws-iso-e",
        ("us", "isof") => "aws-iso-f",
        _ => "aws",
    }
}

fn endpoint(target: &str) -> String {
    if target == "default" {
        return HOME.to_owned();
    }
    if is_public(target) {
        return "public ECR".to_owned();
    }
    let fips = target.contains(".dkr.ecr-fips.") || target.contains(".dkr-ecr-fips.");
    format!("{}{}", parts(target).1, if fips { " (FIPS)" } else { "" })
}

fn target_partition(target: &str) -> &'static str {
    match target {
        "default" => partition(HOME),
        public if is_public(public) => "aws",
        host => partition(parts(host).1),
    }
}

impl Spec {
    fn granted(&self, namespace: &str) -> bool {
        self.namespaces.iter().any(|pattern| glob(pattern, namespace))
    }

    fn called(&self, text: &str) -> bool {
        self.name == text || self.arn.as_deref() == Some(text)
    }

    fn partition(&self) -> Option<&str> {
        self.arn.as_deref().map(|arn| arn.split(':').nth(1).expect("a partition"))
    }

    fn account(&self) -> Option<&str> {
        self.arn.as_deref().map(|arn| arn.split(':').nth(4).expect("an account"))
    }

    /// The accounts that it serves in a region, as ARNs name them.
    fn accounts(&self, region: &str) -> BTreeSet<String> {
        if self.registries.iter().any(|pattern| pattern == "*") {
            return BTreeSet::from(["*".to_owned()]);
        }
        let private = self.registries.iter().filter_map(|pattern| pattern.split_once('/'));
        private.filter(|(_, regions)| glob(regions, region)).map(|(account, _)| account.to_owned()).collect()
    }

    fn serves(&self, target: &str) -> bool {
        let of = |account: Option<&str>, region: &str| {
            let accounts = self.accounts(region);
            // The account of the controller itself is not known, its region is.
            accounts.contains("*") || account.map_or(!accounts.is_empty(), |known| accounts.contains(known))
        };
        match target {
            "default" => of(self.account(), HOME),
            public if is_public(public) => self.registries.iter().any(|pattern| pattern == "public.ecr.aws"),
            host => {
                let (account, region) = parts(host);
                of(Some(account), region)
            }
        }
    }

    /// What it grants to a namespace.
    fn bounds(&self, namespace: &str) -> Vec<String> {
        let all = self.repositories.iter().map(|template| template.replace("{namespace}", namespace));
        let all: Vec<_> = all.filter(|pattern| pattern.len() <= 256).collect();
        if self.repositories.is_empty() { strings(&["*"]) } else { all }
    }

    /// The patterns of its token; `None`: the whole scope.
    fn patterns(&self, namespace: &str, target: &str, narrowed: &[String]) -> Option<BTreeSet<String>> {
        self.arn.as_ref()?;
        if is_public(target) {
            return Some(BTreeSet::from(["*".to_owned()]));
        }
        let bounds = self.bounds(namespace);
        if narrowed.is_empty() {
            return Some(bounds.into_iter().collect());
        }
        let within = |pattern: &&String| bounds.iter().any(|bound| covers(bound, pattern));
        Some(narrowed.iter().filter(within).cloned().collect())
    }

    fn fits(&self, namespace: &str, target: &str, narrowed: &[String]) -> bool {
        self.serves(target)
            && self.partition().is_none_or(|own| own == target_partition(target))
            && match self.patterns(namespace, target, narrowed) {
                None => narrowed.is_empty(),
                Some(patterns) => !patterns.is_empty(),
            }
    }
}

impl Model {
    fn config(&self) -> Config {
        let identity = |spec: &Spec| IdentityConfig {
            name: spec.name.clone(),
            role_arn: spec.arn.clone(),
            namespaces: spec.namespaces.clone(),
            registries: spec.registries.clone(),
            repositories: spec.repositories.clone(),
            pull_through_cache: spec.pull_through_cache,
            ..IdentityConfig::default()
        };
        let mut config = Config::default();
        config.defaults.identity =
            if self.default { DefaultIdentity::Controller } else { DefaultIdentity::None };
        config.identities = self.specs.iter().map(identity).collect();
        config
    }

    fn settings(&self) -> Settings {
        self.config().settings(Some(HOME.parse().expect("a region"))).expect("a configuration")
    }

    /// The identities that a namespace may choose among, in order; `None`: one of `roles` is not granted.
    fn candidates(&self, namespace: &str, roles: &[String]) -> Option<Vec<Spec>> {
        let default = self.default.then(controller);
        let granted: Vec<Spec> = self.specs.iter().filter(|spec| spec.granted(namespace)).cloned().collect();
        let known: Vec<Spec> = granted.iter().chain(&default).cloned().collect();
        let mut chosen = if roles.is_empty() { granted } else { vec![] };
        for role in roles {
            chosen.push(known.iter().find(|spec| spec.called(role))?.clone());
        }
        chosen.extend(default);
        (!chosen.is_empty()).then_some(chosen)
    }

    /// Which identity serves each registry of a request; `None`: the request is not granted.
    fn expected(&self, namespace: &str, request: &Request) -> Option<Vec<(String, Spec)>> {
        let candidates = self.candidates(namespace, &request.role)?;
        for pattern in &request.repositories {
            let bounded = |spec: &&Spec| spec.arn.is_some();
            let within = |spec: &Spec| spec.bounds(namespace).iter().any(|bound| covers(bound, pattern));
            let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._/-".contains(c);
            let written = pattern.strip_suffix('*').unwrap_or(pattern).chars().all(fine);
            if !written || !candidates.iter().filter(bounded).any(within) {
                return None;
            }
        }
        let choice = |target: &Target| {
            let target = target.to_string();
            let fits = |spec: &&Spec| spec.fits(namespace, &target, &request.repositories);
            Some((target.clone(), candidates.iter().find(fits)?.clone()))
        };
        let served: Vec<_> = request.registries.iter().filter_map(choice).collect();
        (request.service_accounts.is_empty() && !served.is_empty()).then_some(served)
    }

    fn spec(&self, name: &str) -> Spec {
        let found = self.specs.iter().find(|spec| spec.name == name).cloned();
        found.or_else(|| (self.default && name == "controller").then(controller)).expect("a known identity")
    }
}

fn identity<'a>(settings: &'a Settings, name: &str) -> &'a Identity {
    let grants = &settings.grants;
    let mut all = grants.identities.iter().chain(&grants.default_identity);
    all.find(|identity| identity.name.as_str() == name).expect("a known identity")
}

fn policy_of(settings: &Settings, assignment: &Assignment) -> Option<String> {
    session_policy(identity(settings, assignment.key.identity.as_str()), &assignment.key)
}

/// What a token may do: the role, or the identity that has none, and the policy.
fn reach(settings: &Settings, assignment: &Assignment) -> (String, Option<String>) {
    let identity = identity(settings, assignment.key.identity.as_str());
    let who = identity.role.as_ref().map_or(identity.name.as_str(), |role| role.arn.as_str());
    (who.to_owned(), policy_of(settings, assignment))
}

// The generators.

fn some_of(
    values: &'static [&'static str],
    count: std::ops::RangeInclusive<usize>,
) -> BoxedStrategy<Vec<String>> {
    subsequence(values, count).prop_shuffle().prop_map(|list| strings(&list)).boxed()
}

fn any_spec() -> impl Strategy<Value = Spec> {
    (
        select(&ROLES[..]),
        some_of(&NAMESPACE_PATTERNS, 0..=3),
        some_of(&REGISTRY_PATTERNS, 1..=4),
        some_of(&TEMPLATES, 0..=3),
        any::<bool>(),
    )
        .prop_map(|(role, namespaces, registries, repositories, pull_through_cache)| Spec {
            name: String::new(),
            arn: Some(role.to_owned()),
            namespaces,
            registries,
            repositories,
            pull_through_cache,
        })
}

fn named((place, spec): (usize, Spec)) -> Spec {
    let arn = spec.arn.map(|arn| format!("{arn}role-{place}"));
    Spec { name: format!("id-{place}"), arn, ..spec }
}

fn is_accepted(spec: &Spec) -> bool {
    Model { specs: vec![spec.clone()], default: true }.config().settings(None).is_ok()
}

/// A configuration, as far as it is accepted; now and then with the controller's own identity among the others.
fn any_model() -> impl Strategy<Value = Model> {
    let own =
        weighted(0.3, (0usize..5, some_of(&NAMESPACE_PATTERNS, 0..=3), some_of(&REGISTRY_PATTERNS, 1..=3)));
    (vec(any_spec(), 1..=5), own, any::<bool>()).prop_map(|(specs, own, default)| {
        let mut specs: Vec<Spec> = specs.into_iter().enumerate().map(named).filter(is_accepted).collect();
        if let Some((place, namespaces, registries)) = own {
            specs.insert(place.min(specs.len()), Spec { namespaces, registries, ..controller() });
        }
        Model { specs, default }
    })
}

fn any_role() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => (0usize..5).prop_map(|place| format!("id-{place}")),
        3 => (select(&ROLES[..]), 0usize..5).prop_map(|(role, place)| format!("{role}role-{place}")),
        1 => select(vec!["controller".to_owned(), "nobody".to_owned(), "*".to_owned(), "id-".to_owned()]),
    ]
}

/// The values of `registries`, `role` and `repositories`.
#[derive(Clone, Debug)]
struct Wishes {
    registries: Vec<String>,
    roles: Vec<String>,
    repositories: Vec<String>,
}

fn any_wishes() -> impl Strategy<Value = Wishes> {
    let roles = prop_oneof![3 => Just(vec![]), 1 => vec(any_role(), 1..=3)];
    let repositories = prop_oneof![
        4 => Just(vec![]),
        4 => some_of(&REPOSITORY_ITEMS[..PLAUSIBLE], 1..=2),
        1 => some_of(&REPOSITORY_ITEMS, 1..=2),
    ];
    (some_of(&REGISTRY_ITEMS, 1..=8), roles, repositories)
        .prop_map(|(registries, roles, repositories)| Wishes { registries, roles, repositories })
}

fn read(wishes: &Wishes, settings: &Settings) -> Reading {
    let lists =
        [("registries", &wishes.registries), ("role", &wishes.roles), ("repositories", &wishes.repositories)];
    let given = lists.into_iter().filter(|(_, list)| !list.is_empty());
    let annotations: BTreeMap<_, _> =
        given.map(|(key, list)| (format!("{PREFIX}{key}"), list.join(", "))).collect();
    annotations::read(&annotations, settings).expect("opted in")
}

fn wanted(reading: &Reading) -> Option<&Request> {
    match &reading.wish {
        Wish::Wants(request) => Some(request),
        _ => None,
    }
}

fn any_namespace() -> impl Strategy<Value = &'static str> {
    select(&NAMESPACES[..])
}

// The properties.

type Answer = Result<(Granted, Vec<Problem>), Vec<Problem>>;

/// What `answer` says is what the oracle expects: (a) to (e) and (h).
fn check_answer(model: &Model, settings: &Settings, namespace: &str, request: &Request, answer: &Answer) {
    let expected = model.expected(namespace, request);
    let Ok((granted, problems)) = answer else {
        assert_eq!(expected, None, "refused: {answer:?}");
        assert!(answer.as_ref().is_err_and(|problems| !problems.is_empty()));
        return;
    };
    let expected = expected.expect("what is not granted is refused");
    let actual: Vec<_> = granted
        .assignments
        .iter()
        .map(|assignment| (assignment.target.to_string(), model.spec(assignment.key.identity.as_str())))
        .collect();
    let names = |list: &[(String, Spec)]| {
        list.iter().map(|(target, spec)| (target.clone(), spec.name.clone())).collect::<Vec<_>>()
    };
    assert_eq!(names(&actual), names(&expected), "(h) {request:?} of {namespace}");
    assert_eq!(problems.is_empty(), granted.request.registries.len() == request.registries.len());
    let kept: Vec<_> = granted.assignments.iter().map(|assignment| assignment.target.clone()).collect();
    assert_eq!(*granted.request, Request { registries: kept, ..request.clone() });
    for assignment in &granted.assignments {
        check_assignment(model, settings, namespace, request, assignment);
    }
}

fn check_assignment(
    model: &Model,
    settings: &Settings,
    namespace: &str,
    request: &Request,
    assignment: &Assignment,
) {
    let target = assignment.target.to_string();
    let spec = model.spec(assignment.key.identity.as_str());
    assert_eq!(assignment.key.endpoint.to_string(), endpoint(&target));
    let by_default = model.default && spec.name == "controller";
    assert!(spec.granted(namespace) || by_default, "(a) {spec:?} is not granted to {namespace}");
    assert!(by_default || spec.serves(&target), "(b) {spec:?} does not serve {target}");
    assert!(spec.partition().is_none_or(|own| own == target_partition(&target)), "(b) {spec:?} {target}");
    let Restriction::Pull(patterns) = &assignment.key.restriction else {
        assert_eq!(spec.arn, None, "(d) the whole scope of a role");
        assert_eq!(request.repositories, [""; 0], "(c) narrowed, and the whole scope");
        assert_eq!(policy_of(settings, assignment), None);
        return;
    };
    assert!(spec.arn.is_some(), "(d) {spec:?} cannot be restricted");
    let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
    let unique: BTreeSet<String> = patterns.iter().cloned().collect();
    assert_eq!(unique.len(), patterns.len());
    if !is_public(&target) {
        let within = |bounds: &[String], pattern: &String| bounds.iter().any(|bound| covers(bound, pattern));
        let bounds = spec.bounds(namespace);
        for pattern in &patterns {
            assert!(within(&bounds, pattern), "(c) {pattern} of {spec:?}");
            assert!(
                request.repositories.is_empty() || within(&request.repositories, pattern),
                "(c) {pattern}"
            );
        }
    }
    assert_eq!(Some(unique), spec.patterns(namespace, &target, &request.repositories));
    let policy = policy_of(settings, assignment).expect("(e) a role always has a policy");
    check_policy(&spec, &assignment.key.endpoint, &patterns, &policy);
}

/// (e)
fn check_policy(spec: &Spec, endpoint: &Endpoint, patterns: &[String], policy: &str) {
    assert!(policy.len() <= 2_048, "{} characters", policy.len());
    assert!(!policy.contains('?') && !policy.contains("${"), "{policy}");
    let parsed: Value = serde_json::from_str(policy).expect("JSON");
    assert_eq!(parsed["Version"], "2012-10-17");
    assert_eq!(parsed.as_object().map(serde_json::Map::len), Some(2));
    let statements = parsed["Statement"].as_array().expect("statements");
    for statement in statements {
        assert_eq!(
            (&statement["Effect"], statement.as_object().map(serde_json::Map::len)),
            (&json!("Allow"), Some(3))
        );
    }
    let set = |value: &Value| -> BTreeSet<String> {
        let list = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        list.iter().map(|text| text.as_str().expect("a text").to_owned()).collect()
    };
    let of = |list: &[&str]| strings(list).into_iter().collect::<BTreeSet<_>>();
    let said: Vec<_> = statements.iter().map(|s| (set(&s["Action"]), set(&s["Resource"]))).collect();
    if *endpoint == Endpoint::Public {
        let actions = of(&["ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken"]);
        assert_eq!(said, [(actions, of(&["*"]))]);
        return;
    }
    let mut actions =
        of(&["ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"]);
    if spec.pull_through_cache {
        actions.extend(of(&["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"]));
    }
    let accounts = spec.accounts(endpoint.region());
    assert!(!accounts.is_empty());
    let resource = |account: &String| {
        let (partition, region, account) =
            (spec.partition().expect("a role"), endpoint.region(), account.clone());
        patterns.iter().map(move |p| format!("arn:{partition}:ecr:{region}:{account}:repository/{p}"))
    };
    let resources: BTreeSet<String> = accounts.iter().flat_map(resource).collect();
    for resource in &resources {
        let stars: Vec<_> = resource.match_indices('*').map(|(at, _)| at).collect();
        let account = resource.find(":*:").map(|at| at + 1);
        assert!(stars.iter().all(|at| at + 1 == resource.len() || Some(*at) == account), "{resource}");
        assert!(account.is_none() || spec.registries.iter().any(|pattern| pattern == "*"), "{resource}");
    }
    assert_eq!(said, [(of(&["ecr:GetAuthorizationToken"]), of(&["*"])), (actions, resources)]);
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("a time")
}

const HOUR: i64 = 3_600;

/// A Secret of ours with what was granted.
fn standing(granted: &Granted) -> Vec<(Arc<str>, Observed)> {
    let entry = |a: &Assignment| Some(Entry { scope: a.scope, expires_at: Some(at(12 * HOUR)) });
    let entries = granted.assignments.iter().map(entry).collect();
    let accepted = Accepted { request: Request::clone(&granted.request), entries, statics: BTreeMap::new() };
    let text = Applied::canonical("ecr-pull-secrets", &accepted);
    secret(Applied::parse(&text).expect("it reads back").accepted)
}

fn secret(applied: Accepted) -> Vec<(Arc<str>, Observed)> {
    let observed = Observed {
        uid: "uid-1".into(),
        resource_version: 7,
        owner: Owner::Ours,
        intact: true,
        data_intact: true,
        immutable: false,
        times: Some(Times { expires_at: at(12 * HOUR), refresh_after: at(6 * HOUR) }),
        applied: Some(Arc::new(applied)),
    };
    vec![("ecr-pull".into(), observed)]
}

fn decide(namespace: &str, reading: &Reading, secrets: &[(Arc<str>, Observed)], settings: &Settings) -> Plan {
    let (history, sources) = (History::default(), Sources::default());
    let facts = Facts {
        namespace,
        reading: Some(reading),
        secrets,
        accounts: &[],
        sources: &sources,
        history: &history,
    };
    plan(&facts, settings, at(HOUR))
}

/// The entries that are carried when no token is to be had.
fn carried(intent: &Intent, namespace: &str, settings: &Settings) -> Vec<Target> {
    let none = vec![None; intent.granted.assignments.len()];
    let made = settle(intent, &none, namespace, &History::default(), settings, at(HOUR));
    made.map(|made| made.carried).unwrap_or_default()
}

fn unusable() -> Reading {
    Reading { wish: Wish::Unusable, problems: vec![] }
}

/// A change of a configuration after which less, or something else, is granted.
#[derive(Clone, Debug)]
enum Withdrawal {
    Identity(usize),
    Namespaces(usize),
    Registries(usize, Vec<String>),
    Repositories(usize, Vec<String>),
    Default,
    Nothing,
}

fn any_withdrawal() -> impl Strategy<Value = Withdrawal> {
    prop_oneof![
        (0usize..5).prop_map(Withdrawal::Identity),
        (0usize..5).prop_map(Withdrawal::Namespaces),
        (0usize..5, some_of(&REGISTRY_PATTERNS, 1..=2)).prop_map(|(n, to)| Withdrawal::Registries(n, to)),
        (0usize..5, some_of(&TEMPLATES, 0..=2)).prop_map(|(n, to)| Withdrawal::Repositories(n, to)),
        Just(Withdrawal::Default),
        Just(Withdrawal::Nothing),
    ]
}

fn after(model: &Model, withdrawal: Withdrawal) -> Model {
    let mut model = model.clone();
    let count = model.specs.len().max(1);
    match withdrawal {
        Withdrawal::Identity(n) => {
            model.specs = model
                .specs
                .into_iter()
                .enumerate()
                .filter(|(i, _)| *i != n % count)
                .map(|(_, s)| s)
                .collect();
        }
        Withdrawal::Default => model.default = false,
        Withdrawal::Nothing => {}
        Withdrawal::Namespaces(n) => {
            if let Some(spec) = model.specs.get_mut(n % count) {
                spec.namespaces = vec![];
            }
        }
        Withdrawal::Registries(n, registries) => {
            if let Some(spec) = model.specs.get_mut(n % count) {
                spec.registries = registries;
            }
        }
        Withdrawal::Repositories(n, repositories) => {
            if let Some(spec) = model.specs.get_mut(n % count).filter(|spec| spec.arn.is_some()) {
                spec.repositories = repositories;
            }
        }
    }
    model.specs.retain(is_accepted);
    model
}

/// What a namespace has after `plan`, as far as it is granted in `model`.
fn check_step(
    model: &Model,
    settings: &Settings,
    namespace: &str,
    wish: Option<&Request>,
    applied: (&Accepted, &BTreeMap<String, (String, Option<String>)>),
    step: &Step,
) {
    let (accepted, reached) = applied;
    let of = |request: &Request| Some((request.clone(), model.expected(namespace, request)?));
    let Some((request, expected)) = wish.and_then(of).or_else(|| of(&accepted.request)) else {
        let Step::Delete { cause: DeleteCause::NotGranted, .. } = step else {
            panic!("nothing of it is granted: {step:?}");
        };
        return;
    };
    let (answer, _) = settings.grants.assign(namespace, &request).expect("granted");
    let same = |assignment: &Assignment| {
        reached.get(&assignment.target.to_string()).is_none_or(|was| *was == reach(settings, assignment))
    };
    let stands = *answer.request == accepted.request && answer.assignments.iter().all(same);
    let Step::Write(intent) = step else {
        assert!(stands, "{step:?} leaves what is no longer granted");
        assert_eq!(*step, Step::Idle(Some(at(6 * HOUR))));
        return;
    };
    assert!(!stands, "{intent:?} changes nothing");
    assert_eq!(intent.cause, WriteCause::Change);
    let targets = |list: &[(String, Spec)]| list.iter().map(|(target, _)| target.clone()).collect::<Vec<_>>();
    let asked: Vec<_> = intent.granted.request.registries.iter().map(ToString::to_string).collect();
    assert_eq!(asked, targets(&expected));
    for target in carried(intent, namespace, settings) {
        let assignment = intent.granted.assignments.iter().find(|a| a.target == target).expect("assigned");
        let was = reached.get(&target.to_string());
        assert_eq!(was, Some(&reach(settings, assignment)), "what reaches otherwise was carried");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_namespace_only_gets_what_is_granted_to_it_and_no_annotation_widens_it(
        model in any_model(), namespace in any_namespace(), wishes in any_wishes(),
    ) {
        let settings = model.settings();
        let reading = read(&wishes, &settings);
        if let Some(request) = wanted(&reading) {
            let answer = settings.grants.assign(namespace, request);
            check_answer(&model, &settings, namespace, request, &answer);
        }
    }

    #[test]
    fn tokens_are_shared_between_equal_reaches_only(
        model in any_model(), spaces in [any_namespace(), any_namespace()], wishes in [any_wishes(), any_wishes()],
        alike in any::<bool>(), other in any_withdrawal(),
    ) {
        let other = after(&model, other);
        let sides = [(&model, model.settings()), (&other, other.settings())];
        let mut all = vec![];
        for (place, (_, settings)) in sides.iter().enumerate() {
            let wishes = if alike { &wishes[0] } else { &wishes[place] };
            for namespace in spaces {
                let reading = read(wishes, settings);
                let granted = wanted(&reading).and_then(|request| settings.grants.assign(namespace, request).ok());
                let assignments = granted.map(|(granted, _)| granted.assignments).unwrap_or_default();
                all.extend(assignments.into_iter().map(|assignment| (place, reach(settings, &assignment), assignment)));
            }
        }
        for (place, reach, a) in &all {
            for (other_place, other_reach, b) in &all {
                prop_assert_eq!(a.scope == b.scope, reach == other_reach, "{:?} {:?}", a, b);
                if a.key == b.key {
                    prop_assert_eq!(endpoint(&a.target.to_string()), endpoint(&b.target.to_string()));
                    prop_assert!(place != other_place || reach == other_reach, "{:?} {:?}", a, b);
                }
                let parts = |a: &Assignment| (a.key.identity.as_str().to_owned(), endpoint(&a.target.to_string()), a.key.restriction.clone());
                prop_assert_eq!(a.key == b.key, parts(a) == parts(b));
            }
        }
    }

    #[test]
    fn what_one_namespace_is_granted_by_its_name_is_no_other_ones(
        template in select(&TEMPLATES[..5]), prefix in "[a-z/]{0,3}", namespace in any_namespace(), other in any_namespace(),
        wishes in any_wishes(),
    ) {
        prop_assume!(namespace != other);
        let template = format!("{prefix}{template}");
        let spec = Spec { repositories: vec![template.clone()], ..role("all", &["*"]) };
        let model = Model { specs: vec![spec], default: false };
        let settings = model.settings();
        let reading = read(&Wishes { roles: vec![], ..wishes }, &settings);
        let granted = wanted(&reading).and_then(|request| settings.grants.assign(namespace, request).ok());
        for assignment in granted.iter().flat_map(|(granted, _)| &granted.assignments) {
            let Restriction::Pull(patterns) = &assignment.key.restriction else { panic!("the whole scope") };
            for pattern in patterns.iter().map(ToString::to_string) {
                for rest in ["", "app", "/app", "app/x"] {
                    let theirs = template.replace("{namespace}", other).replace('*', rest);
                    prop_assert!(!glob(&pattern, &theirs), "{} reaches {}", pattern, theirs);
                }
            }
        }
    }

    #[test]
    fn what_is_withdrawn_is_taken_away(
        model in any_model(), namespace in any_namespace(), wishes in any_wishes(), withdrawal in any_withdrawal(),
        usable in any::<bool>(),
    ) {
        let before = model.settings();
        let reading = read(&wishes, &before);
        if let Some(Ok((granted, _))) = wanted(&reading).map(|request| before.grants.assign(namespace, request)) {
            let reached = granted.assignments.iter().map(|a| (a.target.to_string(), reach(&before, a))).collect();
            let model = after(&model, withdrawal);
            let settings = model.settings();
            let secrets = standing(&granted);
            let reading = if usable { read(&wishes, &settings) } else { unusable() };
            let step = decide(namespace, &reading, &secrets, &settings).step;
            let accepted = secrets[0].1.applied.clone().expect("applied");
            check_step(&model, &settings, namespace, wanted(&reading), (&accepted, &reached), &step);
        }
    }

    #[test]
    fn a_forged_applied_request_is_held_to_the_grants(
        model in any_model(), namespace in any_namespace(), wishes in any_wishes(), entries in vec("[0-9a-f]{0,16}@[0-9]{1,12}|", 0..9),
        noise in weighted(0.2, ".{0,40}"), accounts in weighted(0.1, Just("*")),
    ) {
        let settings = model.settings();
        let hosts: Vec<String> = wishes.registries.iter()
            .map(|item| if item.len() == 12 { format!("{item}.dkr.ecr.{HOME}.amazonaws.com") } else { item.clone() })
            .filter(|item| noise.is_some() || item.parse::<super::registry::Registry>().is_ok() || item == "default")
            .collect();
        let forged = json!({
            "entries": entries, "instance": "ecr-pull-secrets", "registries": hosts,
            "repositories": wishes.repositories, "role": wishes.roles, "secretName": noise.clone().unwrap_or("kube-root".into()),
            "serviceAccounts": accounts.into_iter().collect::<Vec<_>>(),
        }).to_string();
        let forged = noise.map_or(forged.clone(), |noise| forged.replacen(HOME, &noise, 1));
        let Some(applied) = Applied::parse(&forged) else { return Ok(()) };
        let request = applied.accepted.request.clone();
        let step = decide(namespace, &unusable(), &secret(applied.accepted), &settings).step;
        // Service accounts are not enabled, and that is no reason to take anything away.
        let request = Request { secret_name: "ecr-pull".into(), service_accounts: vec![], ..request };
        match step {
            Step::Delete { cause, .. } => {
                prop_assert_eq!(cause, DeleteCause::NotGranted);
                prop_assert!(model.expected(namespace, &request).is_none());
            }
            Step::Write(intent) => {
                let answer = settings.grants.assign(namespace, &request);
                check_answer(&model, &settings, namespace, &request, &answer);
                prop_assert_eq!(answer.ok().map(|(granted, _)| granted), Some(intent.granted));
            }
            Step::Account { .. } => panic!("{step:?}"),
            Step::Idle(_) => {
                let answer = settings.grants.assign(namespace, &request);
                check_answer(&model, &settings, namespace, &request, &answer);
            }
        }
    }
}

// Cases by name.

fn role(name: &str, registries: &[&str]) -> Spec {
    Spec {
        name: name.into(),
        arn: Some(format!("arn:aws:iam::222222222222:role/{name}")),
        namespaces: strings(&["*"]),
        registries: strings(registries),
        repositories: vec![],
        pull_through_cache: false,
    }
}

fn request(registries: &[&str]) -> Request {
    let mut registries: Vec<Target> =
        registries.iter().map(|text| (*text).to_owned().try_into().expect("a target")).collect();
    registries.sort();
    let secret_name = "ecr-pull".into();
    Request { registries, repositories: vec![], role: vec![], secret_name, service_accounts: vec![] }
}

fn wants(request: Request) -> Reading {
    Reading { wish: Wish::Wants(request), problems: vec![] }
}

fn assigned(model: &Model, namespace: &str, request: &Request) -> Granted {
    model.settings().grants.assign(namespace, request).expect("granted").0
}

const TWO: &str = "222222222222.dkr.ecr.eu-central-1.amazonaws.com";
const THREE: &str = "333333333333.dkr.ecr.eu-central-1.amazonaws.com";

#[test]
fn dev_never_reaches_dev_prod() {
    for template in ["{namespace}/*", "{namespace}", "x/{namespace}/*", "x/{namespace}"] {
        let spec = Spec { repositories: strings(&[template]), ..role("all", &["*"]) };
        let model = Model { specs: vec![spec], default: false };
        for assignment in assigned(&model, "dev", &request(&[TWO])).assignments {
            let Restriction::Pull(patterns) = assignment.key.restriction else { panic!("the whole scope") };
            for name in
                ["dev-prod", "dev-prod/app", "x/dev-prod", "x/dev-prod/app", "devx/app", "de/app", "n/app"]
            {
                assert!(
                    !patterns.iter().any(|pattern| glob(&pattern.to_string(), name)),
                    "{template}: {name}"
                );
            }
        }
    }
}

#[test]
fn the_order_of_role_comes_before_the_order_of_the_configuration() {
    let model =
        Model { specs: vec![role("one", &["*"]), role("two", &["*"]), role("three", &["*"])], default: true };
    for (roles, chosen) in [
        (&[][..], "one"),
        (&["three", "two"], "three"),
        (&["arn:aws:iam::222222222222:role/two", "one"], "two"),
        (&["controller", "one"], "controller"),
    ] {
        let request = Request { role: strings(roles), ..request(&[TWO]) };
        let granted = assigned(&model, "dev", &request);
        assert_eq!(granted.assignments[0].key.identity.as_str(), chosen, "{roles:?}");
    }
}

#[test]
fn the_own_registry_is_only_served_in_a_region_that_the_identity_has() {
    let own = Spec { registries: strings(&["222222222222/us-east-1"]), ..controller() };
    let model = Model { specs: vec![own], default: false };
    let answer = model.settings().grants.assign("dev", &request(&["default"]));
    assert!(answer.is_err(), "its registries are in us-east-1 only: {answer:?}");
}

#[test]
fn a_session_policy_that_is_too_long_is_not_asked_for() {
    let model = Model { specs: vec![role("one", &["*"])], default: false };
    let repositories: Vec<String> = (10..30).map(|n| format!("{}/{n}", "x".repeat(80))).collect();
    let long = Request { repositories, ..request(&[TWO]) };
    let problems = model.settings().grants.assign("dev", &long).expect_err("it is too long");
    assert!(problems[0].message.contains("of at most 2048 characters"), "{problems:?}");
}

#[test]
fn all_registries_withdrawn_is_a_removal_and_some_of_them_a_change() {
    let both = Model {
        specs: vec![role("two", &["222222222222/*"]), role("three", &["333333333333/*"])],
        default: false,
    };
    let (granted, asked) = (assigned(&both, "dev", &request(&[TWO, THREE])), wants(request(&[TWO, THREE])));
    for reading in [asked, unusable()] {
        let nothing = Model { specs: vec![], default: false };
        let step = decide("dev", &reading, &standing(&granted), &nothing.settings()).step;
        assert!(matches!(step, Step::Delete { cause: DeleteCause::NotGranted, .. }), "{step:?}");
        let one = Model { specs: both.specs[1..].to_vec(), default: false };
        let Step::Write(intent) = decide("dev", &reading, &standing(&granted), &one.settings()).step else {
            panic!("what is withdrawn stands")
        };
        assert_eq!((intent.cause, &*intent.granted.request), (WriteCause::Change, &request(&[THREE])));
        assert_eq!(carried(&intent, "dev", &one.settings()), request(&[THREE]).registries);
    }
}

#[test]
fn a_narrowed_grant_is_a_change_and_its_old_token_is_not_carried() {
    let model = |repositories: &[&str]| {
        let narrow = Spec { repositories: strings(repositories), ..role("two", &["222222222222/*"]) };
        Model { specs: vec![narrow, role("three", &["333333333333/*"])], default: false }
    };
    let granted = assigned(&model(&[]), "dev", &request(&[TWO, THREE]));
    let settings = model(&["{namespace}/*"]).settings();
    for reading in [wants(request(&[TWO, THREE])), unusable()] {
        let Step::Write(intent) = decide("dev", &reading, &standing(&granted), &settings).step else {
            panic!("a wider token stands")
        };
        assert_eq!(intent.cause, WriteCause::Change);
        assert_eq!(carried(&intent, "dev", &settings), request(&[THREE]).registries);
    }
}

#[test]
fn an_annotation_that_narrows_cannot_fall_back_to_the_whole_scope() {
    let narrow = Spec { repositories: strings(&["{namespace}/*"]), ..role("two", &["222222222222/*"]) };
    let model = Model { specs: vec![narrow], default: true };
    let narrowed = Request { repositories: strings(&["dev/app"]), ..request(&[TWO, THREE]) };
    let (granted, problems) = model.settings().grants.assign("dev", &narrowed).expect("one is granted");
    assert_eq!(granted.request.registries, request(&[TWO]).registries);
    assert_eq!(problems.len(), 1);
    for wider in ["*", "dev*", "dev-prod/*", "d*", "team-a/app"] {
        let wider = Request { repositories: strings(&[wider]), ..request(&[TWO]) };
        assert!(model.settings().grants.assign("dev", &wider).is_err(), "{wider:?}");
    }
}

// The configuration.

/// A configuration with one identity that is right, but for `change`.
fn one(change: &str) -> String {
    let mut fields = BTreeMap::from([
        ("name", "name: a".to_owned()),
        ("roleArn", "roleArn: arn:aws:iam::222222222222:role/a".to_owned()),
        ("namespaces", "namespaces: [dev]".to_owned()),
        ("registries", "registries: [222222222222/*]".to_owned()),
    ]);
    for part in change.split("; ").filter(|part| !part.is_empty()) {
        let (field, value) = part.split_once(':').expect("a field");
        if value.trim() == "-" {
            fields.remove(field)
        } else {
            fields.insert(field, part.to_owned())
        };
    }
    format!("identities: [{{{}}}]", fields.into_values().collect::<Vec<_>>().join(", "))
}

fn refused(yaml: &str) -> Option<String> {
    let config: Config = match serde_saphyr::from_str(yaml) {
        Ok(config) => config,
        Err(error) => return Some(error.to_string()),
    };
    let settings = config.settings(Some(HOME.parse().expect("a region"))).err();
    settings.or_else(|| config.endpoints().err()).map(|error| error.to_string())
}

fn expect_refusals(rows: &[(String, &str)]) {
    let mut wrong = vec![];
    for (yaml, said) in rows {
        match refused(yaml) {
            Some(message) if message.contains(said) => {}
            other => wrong.push(format!("{yaml}: {other:?} instead of {said:?}")),
        }
    }
    assert_eq!(wrong, [""; 0], "{wrong:#?}");
}

#[test]
fn a_right_configuration_is_taken() {
    for change in [
        "",
        "source: webIdentity; tokenFile: /token",
        "maxTokenAge: 12h; externalId: x-1; sessionName: me; pullThroughCache: true",
        "repositories: ['*', '{namespace}', '{namespace}/*', 'a/{namespace}/b*']",
        "name: controller; roleArn: -",
        "roleArn: arn:aws-cn:iam::222222222222:role/p/a; registries: [222222222222/cn-north-1, '*']",
        "registries: [222222222222/eu-*, public.ecr.aws]; namespaces: []",
    ] {
        assert_eq!(refused(&one(change)), None, "{change}");
    }
}

#[test]
fn each_bad_value_of_an_identity_is_named_with_its_field() {
    let rows = [
        (
            "roleArn: arn:aws:iam::22222222222:role/a",
            r#"identities[0].roleArn: "arn:aws:iam::22222222222:role/a""#,
        ),
        (
            "roleArn: arn:aws:iam::222222222222:user/a",
            r#"identities[0].roleArn: "arn:aws:iam::222222222222:user/a""#,
        ),
        ("roleArn: arn:aws-xx:iam::222222222222:role/a", r#"identities[0].roleArn: "arn:aws-xx:"#),
        ("roleArn: -", "identities[0].roleArn: missing"),
        ("name: controller", "identities[0].roleArn: \"controller\" is the controller's own identity"),
        (
            "name: controller; roleArn: -; repositories: ['a/*']",
            "identities[0].repositories: identity \"controller\"",
        ),
        ("name: controller; roleArn: -; pullThroughCache: true", "identities[0].pullThroughCache: identity"),
        ("name: controller; roleArn: -; source: webIdentity", "identities[0].source: identity"),
        ("name: controller; roleArn: -; tokenFile: /x", "identities[0].tokenFile: identity"),
        ("name: controller; roleArn: -; maxTokenAge: 1h", "identities[0].maxTokenAge: identity"),
        ("name: A", r#"identities[0].name: "A""#),
        ("name: ''", r#"identities[0].name: """#),
        ("name: 'a,b'", r#"identities[0].name: "a,b""#),
        ("name: -", r#"identities[0].name: """#),
        ("repositories: [a, '{namespace}*']", r#"identities[0].repositories[1]: "{namespace}*""#),
        ("repositories: ['{namespace}-x/*']", r#"identities[0].repositories[0]: "{namespace}-x/*""#),
        ("repositories: ['a*b']", r#"identities[0].repositories[0]: "a*b""#),
        ("repositories: ['*/{namespace}']", r#"identities[0].repositories[0]: "*/{namespace}""#),
        ("repositories: ['a?']", r#"identities[0].repositories[0]: "a?""#),
        ("repositories: ['${aws:username}/*']", r#"identities[0].repositories[0]: "${aws:username}/*""#),
        ("repositories: ['{Namespace}/*']", r#"identities[0].repositories[0]: "{Namespace}/*""#),
        ("repositories: ['']", r#"identities[0].repositories[0]: """#),
        ("namespaces: ['']", r#"identities[0].namespaces[0]: """#),
        ("namespaces: ['*-prod']", r#"identities[0].namespaces[0]: "*-prod""#),
        ("namespaces: [dev, Dev]", r#"identities[0].namespaces[1]: "Dev""#),
        ("namespaces: [a/b]", r#"identities[0].namespaces[0]: "a/b""#),
        ("registries: []", "identities[0].registries: empty"),
        ("registries: -", "identities[0].registries: empty"),
        ("registries: ['2222*']", r#"identities[0].registries[0]: "2222*""#),
        ("registries: ['2222*/eu-central-1']", r#"identities[0].registries[0]: "2222*/eu-central-1""#),
        ("registries: ['*/eu-central-1']", r#"identities[0].registries[0]: "*/eu-central-1""#),
        ("registries: ['222222222222/e*-1']", r#"identities[0].registries[0]: "222222222222/e*-1""#),
        ("registries: ['222222222222']", r#"identities[0].registries[0]: "222222222222""#),
        ("registries: [evil.example]", r#"identities[0].registries[0]: "evil.example""#),
        (
            "registries: ['*', 222222222222/cn-north-1]",
            r#"identities[0].registries[1]: "222222222222/cn-north-1""#,
        ),
        ("maxTokenAge: 1s", r#"identities[0].maxTokenAge: "1s""#),
        ("maxTokenAge: 13h", r#"identities[0].maxTokenAge: "13h""#),
        ("maxTokenAge: -1h", r#"identities[0].maxTokenAge: "-1h""#),
        ("maxTokenAge: often", r#"identities[0].maxTokenAge: "often""#),
        (
            "source: webIdentity; tokenFile: /t; externalId: xyz",
            "identities[0].externalId: AssumeRoleWithWebIdentity",
        ),
        ("source: webIdentity; tokenFile: /t; sessionTags: {a: b}", "identities[0].sessionTags: AssumeRole"),
        ("tokenFile: /t", "identities[0].tokenFile: has no meaning without source: webIdentity"),
        ("externalId: 'a b'", r#"identities[0].externalId: "a b""#),
        ("sessionName: x", r#"identities[0].sessionName: "x""#),
        ("role: a", "role"),
        ("source: profile", "profile"),
    ];
    expect_refusals(&rows.map(|(change, said)| (one(change), said)));
}

#[test]
fn a_web_identity_needs_its_file() {
    // The environment stands in for the field; it is not this process's to change.
    if std::env::var_os("AWS_WEB_IDENTITY_TOKEN_FILE").is_none() {
        expect_refusals(&[(one("source: webIdentity"), "identities[0].source: webIdentity needs the file")]);
    }
}

#[test]
fn each_bad_value_beside_the_identities_is_named_with_its_field() {
    let twice = |first: &str, second: &str| format!("identities: [{{{first}}}, {{{second}}}]");
    let a = "name: a, roleArn: 'arn:aws:iam::222222222222:role/a', registries: ['*']";
    let same_arn = "name: b, roleArn: 'arn:aws:iam::222222222222:role/a', registries: [public.ecr.aws]";
    let same_name = "name: a, roleArn: 'arn:aws:iam::222222222222:role/b', registries: ['*']";
    let own = "name: controller, registries: ['*']";
    let endpoint = |url: &str| format!("endpoints: [{{service: ecr, url: '{url}'}}]");
    let rows = [
        (twice(a, same_arn), "identities[1].roleArn: arn:aws:iam::222222222222:role/a belongs to another"),
        (twice(a, same_name), "identities[1].name: \"a\" stands there twice"),
        (twice(own, own), "identities[1].name: \"controller\" stands there twice"),
        ("identity: []".to_owned(), "identity"),
        ("defaults: {identity: team-a}".to_owned(), "team-a"),
        (endpoint("http://ecr.example"), r#"endpoints[0].url: "http://ecr.example""#),
        (endpoint("http://10.0.0.1:80"), r#"endpoints[0].url: "http://10.0.0.1:80""#),
        (endpoint("http://localhost.evil.example"), "endpoints[0].url: \"http://localhost.evil"),
        (endpoint("http://127.0.0.1@evil.example"), "endpoints[0].url: \"http://127.0.0.1@evil"),
        (endpoint("http://127.0.0.1.evil.example"), "endpoints[0].url: \"http://127.0.0.1.evil"),
        (endpoint("https://a:b@ecr.example"), "endpoints[0].url"),
        (endpoint("https://ecr.example/?x=y"), "endpoints[0].url"),
        (endpoint("ftp://ecr.example"), "endpoints[0].url: \"ftp://ecr.example\""),
        (endpoint("ecr.example"), "endpoints[0].url: \"ecr.example\""),
        (endpoint("https://"), "endpoints[0].url: \"https://\""),
        (
            "endpoints: [{service: ecr, region: eu, url: 'https://a'}]".to_owned(),
            "endpoints[0].region: \"eu\"",
        ),
        (
            "endpoints: [{service: ecr, url: 'https://a'}, {service: ecr, url: 'https://b'}]".to_owned(),
            "endpoints[1].region: this API has an endpoint for it already",
        ),
        ("endpoints: [{service: s3, url: 'https://a'}]".to_owned(), "s3"),
        ("endpoints: [{service: ecr, url: 'https://a', uri: b}]".to_owned(), "uri"),
    ];
    expect_refusals(&rows);
    for url in ["http://127.0.0.1:4566", "http://[::1]:4566", "http://localhost:1", "https://vpce.example/x"]
    {
        assert_eq!(refused(&endpoint(url)), None, "{url}");
    }
}

/// Twenty patterns that no session policy has room for.
fn too_many(head: &str) -> String {
    (10..30).map(|n| format!("'{}/{n}{head}'", "x".repeat(100))).collect::<Vec<_>>().join(", ")
}

#[test]
fn a_grant_that_no_session_policy_holds_is_refused_at_the_start() {
    for registries in ["'*'", "222222222222/*", "222222222222/eu-central-1"] {
        let yaml = one(&format!("registries: [{registries}]; repositories: [{}]", too_many("/*")));
        expect_refusals(&[(yaml, "identities[0].repositories: with so many accounts and repositories")]);
    }
}

#[test]
fn a_grant_for_the_regions_of_a_prefix_that_no_session_policy_holds_is_refused_at_the_start() {
    for registries in ["222222222222/eu-*", "222222222222/us-e*", "222222222222/eu-central-*"] {
        let yaml = one(&format!("registries: [{registries}]; repositories: [{}]", too_many("/*")));
        expect_refusals(&[(yaml, "identities[0].repositories: with so many accounts and repositories")]);
    }
    let accounts: Vec<_> =
        (10..50).map(|n| format!("2222222222{n}/{}", if n % 2 == 0 { "*" } else { "eu-*" })).collect();
    let yaml = one(&format!("registries: [{}]", accounts.join(", ")));
    expect_refusals(&[(yaml, "identities[0].repositories: with so many accounts and repositories")]);
}

#[test]
fn a_bound_that_is_none_for_a_long_namespace_is_refused_at_the_start() {
    let template = format!("'{}/{{namespace}}/*'", "x".repeat(220));
    let longest = "n".repeat(63);
    let yaml = one(&format!("repositories: [{template}]"));
    if refused(&yaml).is_none() {
        let config: Config = serde_saphyr::from_str(&yaml.replace("[dev]", "['*']")).expect("YAML");
        let settings = config.settings(Some(HOME.parse().expect("a region"))).expect("a configuration");
        let answer = settings.grants.assign(&longest, &request(&[TWO]));
        let served =
            answer.as_ref().is_ok_and(|(granted, _)| granted.assignments[0].key.identity.as_str() == "a");
        assert!(served, "accepted at the start, and refused for a namespace: {answer:?}");
    }
}

#[test]
fn an_age_is_an_age() {
    let age = |text: &str| {
        let config: Config = serde_saphyr::from_str(&one(&format!("maxTokenAge: {text}"))).expect("YAML");
        let settings = config.settings(None).expect("a configuration");
        settings.grants.identities[0].role.as_ref().and_then(|role| role.max_token_age)
    };
    assert_eq!(age("15m"), Some(SignedDuration::from_mins(15)));
    assert_eq!(age("12h"), Some(SignedDuration::from_hours(12)));
}
