//! `explain` shows exactly the Secret that the controller writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::world::World;
use crate::commands::explain::explanation::explain;
use crate::config::Config;
use crate::controller::index::NamespaceState;
use crate::core::PREFIX;
use crate::core::plan::NamespaceRecord;
use crate::core::request::annotations::parse;
use crate::core::settings::Settings;
use crate::core::testing::{JITTER, at};

const CONFIG: &str = r#"
defaults: {identity: DEFAULT, registries: []}
secretNames: [ecr-pull, other]
identities:
  - name: own
    roleArn: arn:aws:iam::222222222222:role/own
    namespaces: ["team-*"]
    registries: ["222222222222/*"]
    repositories: ["{namespace}/*", "shared/*"]
  - name: base
    roleArn: arn:aws:iam::333333333333:role/base
    namespaces: [team-a, dev]
    registries: ["333333333333/eu-central-1", public.ecr.aws]
    repositories: ["base/*"]
  - name: all
    roleArn: arn:aws:iam::222222222222:role/all
    namespaces: ["dev"]
    registries: ["*"]
    repositories: ["*"]
    maxTokenAge: 1h
"#;

const NAMESPACES: [&str; 4] = ["team-a", "team-b", "dev", "nobody"];
const REGISTRIES: [&str; 9] = [
    "default",
    "222222222222",
    "333333333333",
    "444444444444",
    "public.ecr.aws",
    "222222222222.dkr.ecr.us-east-1.amazonaws.com",
    "222222222222.dkr-ecr.eu-central-1.on.aws",
    "333333333333.dkr.ecr.eu-west-1.amazonaws.com",
    "nonsense",
];
const ROLES: [&str; 5] = ["own", "base", "all", "controller", "arn:aws:iam::222222222222:role/own"];
const REPOSITORIES: [&str; 6] = ["team-a/*", "team-b/app", "shared/x", "base/alpine", "*", "a*b"];
const SECRET_NAMES: [&str; 3] = ["ecr-pull", "other", "forbidden"];

fn config(default: bool) -> Settings {
    let text = CONFIG.replace("DEFAULT", if default { "controller" } else { "none" });
    let config = Config::parse(&text).expect("YAML");
    let region = "eu-central-1".parse().expect("a region");
    config.settings(Some(region), None, JITTER).expect("valid")
}

fn annotations() -> impl Strategy<Value = BTreeMap<String, String>> {
    let some = |all: &'static [&'static str], max| subsequence(all, 0..=max).prop_shuffle();
    let lists = (
        subsequence(&REGISTRIES[..], 1..=5).prop_shuffle(),
        prop_oneof![3 => Just(vec![]), 2 => some(&ROLES, 2)],
        prop_oneof![3 => Just(vec![]), 2 => some(&REPOSITORIES, 2)],
        prop_oneof![2 => Just(vec![]), 1 => select(&SECRET_NAMES[..]).prop_map(|name| vec![name])],
    );
    lists.prop_map(|(registries, roles, repositories, secret)| {
        let all = [
            ("registries", registries),
            ("role", roles),
            ("repositories", repositories),
            ("secret-name", secret),
        ];
        let set = all.into_iter().filter(|(_, list)| !list.is_empty());
        set.map(|(key, list)| (format!("{PREFIX}{key}"), list.join(","))).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_explanation_is_the_secret_that_the_controller_writes(
        first in annotations(), then in proptest::option::of(annotations()),
        namespace in select(&NAMESPACES[..]), default in any::<bool>(),
    ) {
        let settings = config(default);
        let mut world = World::with_settings(settings.clone());
        world.start("a");
        let mut state = NamespaceState::default();
        for annotations in [Some(first), then].into_iter().flatten() {
            let parsed = parse(&annotations, false, settings.request_rules()).expect("opted in");
            state.namespace = Some(NamespaceRecord { uid: "u".into(), parsed: Arc::new(parsed.clone()) });
            let explained = explain(namespace, &state, false, &settings, world.now);

            world.set_annotations(namespace, parsed);
            world.run(SignedDuration::from_mins(2), Duration::from_secs(1), |_| {});
            let secrets = world.secrets.iter().filter(|((of, _), _)| **of == *namespace);
            state.secrets = secrets.map(|((_, name), observed)| (name.clone(), observed.clone())).collect();

            if explained.entries.is_empty() {
                prop_assert!(state.secrets.is_empty(), "{:?} but {:?}", explained, state.secrets);
                continue;
            }
            prop_assert_eq!(state.secrets.len(), 1, "{:?} but {:?}", explained, state.secrets);
            let (name, observed) = &state.secrets[0];
            let applied = observed.applied.as_ref().expect("it was written");
            prop_assert_eq!(explained.secret.as_deref(), Some(&**name));
            prop_assert_eq!(&applied.request.secret_name, &**name);
            let shown = explained.entries.iter();
            let shown = shown.map(|entry| (entry.registry.clone(), entry.identity.clone(), entry.scope.clone()));
            let entries = applied.request.registries.iter().zip(&applied.entries);
            let entries = entries.filter_map(|(target, entry)| {
                let entry = entry.as_ref()?;
                Some((target.to_string(), entry.identity.to_string(), format!("{:016x}", entry.scope.0)))
            });
            prop_assert_eq!(shown.collect::<Vec<_>>(), entries.collect::<Vec<_>>());
            prop_assert!(observed.times.is_some_and(|times| times.expires_at > at(0).wall));
        }
    }
}
