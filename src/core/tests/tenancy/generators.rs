//! Configurations, annotations and namespaces as they come.

use super::oracle::*;
use super::*;

pub(super) fn some_of(
    values: &'static [&'static str],
    count: std::ops::RangeInclusive<usize>,
) -> BoxedStrategy<Vec<String>> {
    subsequence(values, count).prop_shuffle().prop_map(|list| strings(&list)).boxed()
}

pub(super) fn any_spec() -> impl Strategy<Value = Spec> {
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

pub(super) fn named((place, spec): (usize, Spec)) -> Spec {
    let arn = spec.arn.map(|arn| format!("{arn}role-{place}"));
    Spec { name: format!("id-{place}"), arn, ..spec }
}

pub(super) fn is_accepted(spec: &Spec) -> bool {
    Model { specs: vec![spec.clone()], default: true }.config().settings(None).is_ok()
}

/// A configuration, as far as it is accepted; now and then with the controller's own identity among the others.
pub(super) fn any_model() -> impl Strategy<Value = Model> {
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

pub(super) fn any_role() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => (0usize..5).prop_map(|place| format!("id-{place}")),
        3 => (select(&ROLES[..]), 0usize..5).prop_map(|(role, place)| format!("{role}role-{place}")),
        1 => select(vec!["controller".to_owned(), "nobody".to_owned(), "*".to_owned(), "id-".to_owned()]),
    ]
}

/// The values of `registries`, `role` and `repositories`.
#[derive(Clone, Debug)]
pub(super) struct Wishes {
    pub(super) registries: Vec<String>,
    pub(super) roles: Vec<String>,
    pub(super) repositories: Vec<String>,
}

pub(super) fn any_wishes() -> impl Strategy<Value = Wishes> {
    let roles = prop_oneof![3 => Just(vec![]), 1 => vec(any_role(), 1..=3)];
    let repositories = prop_oneof![
        4 => Just(vec![]),
        4 => some_of(&REPOSITORY_ITEMS[..PLAUSIBLE], 1..=2),
        1 => some_of(&REPOSITORY_ITEMS, 1..=2),
    ];
    (some_of(&REGISTRY_ITEMS, 1..=8), roles, repositories)
        .prop_map(|(registries, roles, repositories)| Wishes { registries, roles, repositories })
}

pub(super) fn read(wishes: &Wishes, settings: &Settings) -> Reading {
    let lists =
        [("registries", &wishes.registries), ("role", &wishes.roles), ("repositories", &wishes.repositories)];
    let given = lists.into_iter().filter(|(_, list)| !list.is_empty());
    let annotations: BTreeMap<_, _> =
        given.map(|(key, list)| (format!("{PREFIX}{key}"), list.join(", "))).collect();
    annotations::read(&annotations, false, settings).expect("opted in")
}

pub(super) fn wanted(reading: &Reading) -> Option<&Request> {
    match &reading.wish {
        Wish::Wants(request) => Some(request),
        _ => None,
    }
}

pub(super) fn any_namespace() -> impl Strategy<Value = &'static str> {
    select(&NAMESPACES[..])
}
