//! Generated configurations, annotations and namespaces.

use super::oracle::*;
use super::*;

pub(super) fn some_of(
    all: &'static [&'static str],
    count: std::ops::RangeInclusive<usize>,
) -> BoxedStrategy<Vec<String>> {
    subsequence(all, count).prop_shuffle().prop_map(|list| strings(&list)).boxed()
}

pub(super) fn any_spec() -> impl Strategy<Value = Spec> {
    (
        select(&ROLES[..]),
        some_of(&NAMESPACE_PATTERNS, 0..=3),
        some_of(&REGISTRY_PATTERNS, 1..=4),
        prop_oneof![3 => some_of(&TEMPLATES, 1..=3), 1 => Just(strings(&["*"])), 1 => Just(vec![])],
        any::<(bool, bool)>(),
    )
        .prop_map(|(role, namespaces, registries, repositories, (pull_through_cache, list_tags))| Spec {
            name: String::new(),
            arn: Some(role.to_owned()),
            namespaces,
            registries,
            repositories,
            pull_through_cache,
            list_tags,
        })
}

pub(super) fn named((index, spec): (usize, Spec)) -> Spec {
    let arn = spec.arn.map(|arn| format!("{arn}role-{index}"));
    Spec { name: format!("id-{index}"), arn, ..spec }
}

pub(super) fn is_accepted(spec: &Spec) -> bool {
    Model { specs: vec![spec.clone()], default: true }.config().settings(None, None, JITTER).is_ok()
}

/// A valid configuration; sometimes the controller's own identity is among its identities.
pub(super) fn any_model() -> impl Strategy<Value = Model> {
    let own =
        weighted(0.3, (0usize..5, some_of(&NAMESPACE_PATTERNS, 0..=3), some_of(&REGISTRY_PATTERNS, 1..=3)));
    (vec(any_spec(), 1..=5), own, any::<bool>()).prop_map(|(specs, own, default)| {
        let mut specs: Vec<Spec> = specs.into_iter().enumerate().map(named).filter(is_accepted).collect();
        if let Some((index, namespaces, registries)) = own {
            specs.insert(index.min(specs.len()), Spec { namespaces, registries, ..controller() });
        }
        Model { specs, default }
    })
}

pub(super) fn any_role() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => (0usize..5).prop_map(|index| format!("id-{index}")),
        3 => (select(&ROLES[..]), 0usize..5).prop_map(|(role, index)| format!("{role}role-{index}")),
        1 => select(vec!["controller".to_owned(), "nobody".to_owned(), "*".to_owned(), "id-".to_owned()]),
    ]
}

/// The values of `registries`, `role` and `repositories`.
#[derive(Clone, Debug)]
pub(super) struct Values {
    pub(super) registries: Vec<String>,
    pub(super) roles: Vec<String>,
    pub(super) repositories: Vec<String>,
}

pub(super) fn any_values() -> impl Strategy<Value = Values> {
    let roles = prop_oneof![3 => Just(vec![]), 1 => vec(any_role(), 1..=3)];
    let repositories = prop_oneof![
        4 => Just(vec![]),
        4 => some_of(&REPOSITORY_ITEMS[..VALID_PATTERNS], 1..=2),
        1 => some_of(&REPOSITORY_ITEMS, 1..=2),
    ];
    (some_of(&REGISTRY_ITEMS, 1..=8), roles, repositories)
        .prop_map(|(registries, roles, repositories)| Values { registries, roles, repositories })
}

pub(super) fn parse(values: &Values, settings: &Settings) -> ParsedAnnotations {
    let lists =
        [("registries", &values.registries), ("role", &values.roles), ("repositories", &values.repositories)];
    let given = lists.into_iter().filter(|(_, list)| !list.is_empty());
    let annotations: BTreeMap<_, _> =
        given.map(|(key, list)| (format!("{PREFIX}{key}"), list.join(", "))).collect();
    annotations::parse(&annotations, false, settings.request_rules()).expect("opted in")
}

pub(super) fn requested(parsed: &ParsedAnnotations) -> Option<&Request> {
    match &parsed.opt_in {
        OptIn::In(request) => Some(request),
        _ => None,
    }
}

pub(super) fn any_namespace() -> impl Strategy<Value = &'static str> {
    select(&NAMESPACES[..])
}

/// A change of a configuration after which less, or something else, is granted.
#[derive(Clone, Debug)]
pub(super) enum Withdrawal {
    Identity(usize),
    Namespaces(usize),
    Registries(usize, Vec<String>),
    Repositories(usize, Vec<String>),
    Default,
    Nothing,
}

pub(super) fn any_withdrawal() -> impl Strategy<Value = Withdrawal> {
    prop_oneof![
        (0usize..5).prop_map(Withdrawal::Identity),
        (0usize..5).prop_map(Withdrawal::Namespaces),
        (0usize..5, some_of(&REGISTRY_PATTERNS, 1..=2)).prop_map(|(n, to)| Withdrawal::Registries(n, to)),
        (0usize..5, some_of(&TEMPLATES, 0..=2)).prop_map(|(n, to)| Withdrawal::Repositories(n, to)),
        Just(Withdrawal::Default),
        Just(Withdrawal::Nothing),
    ]
}

pub(super) fn after(model: &Model, withdrawal: Withdrawal) -> Model {
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
