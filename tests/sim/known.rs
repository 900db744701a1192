//! The known defects that the model shows. A row is a world and the oracle that reports in it; nothing in the world is made
//! for the row but what may happen in it. When a defect is fixed, its test fails: remove the row, and add its world to the
//! guards in `small`.

use std::collections::BTreeMap;
use std::time::Duration;

use ecr_pull_secrets::simulation::core::grants::{CredentialSource, Identity, IdentityName, Pattern, Role};
use ecr_pull_secrets::simulation::core::secret::StaticGrant;
use ecr_pull_secrets::simulation::core::settings::Settings;
use ecr_pull_secrets::simulation::core::testing;

use kube::core::Expression;

use crate::oracles::Oracle;
use crate::profile::{Profile, What};
use crate::small;
use crate::world::variant;

pub struct Known {
    /// As in the reliability review (R), the public reports (B) or the architecture review (A); N is new.
    pub id: &'static str,
    pub title: &'static str,
    pub oracle: Oracle,
    pub world: fn() -> Profile,
    /// The defect is found within this many schedules.
    pub seeds: u64,
}

pub const KNOWN: &[Known] = &[
    Known {
        id: "R3",
        title: "64 invented regions of one tenant lock every other region out",
        oracle: Oracle::Progress,
        world: || Profile {
            steps: 16,
            ..Profile::small(&[What::InventRegions, What::Crash, What::Annotate])
        },
        seeds: 1_000,
    },
    Known {
        id: "R6",
        title: "Creations that hang use every slot, so that healthy namespaces are not renewed",
        oracle: Oracle::NoneExpired,
        world: || Profile {
            namespaces: 500,
            opted_in: false,
            processes: 1,
            steps: 2,
            token_life: 120,
            calm: Duration::from_mins(1),
            gaps: &[1_000],
            tail: Duration::from_mins(25),
            ..Profile::small(&[What::AnnotateAll, What::MostHang])
        },
        seeds: 20,
    },
    Known {
        id: "R9",
        title: "A region that hangs delays the calls for every other region",
        oracle: Oracle::Progress,
        world: || Profile {
            settings: with_own_keys,
            namespaces: 600,
            opted_in: false,
            processes: 1,
            steps: 3,
            gaps: &[1_000],
            tail: Duration::from_secs(390),
            annotations: |n| variant(u32::from(n % 50 != 0)),
            ..Profile::small(&[What::AwsHangs, What::AnnotateAll])
        },
        seeds: 200,
    },
    Known {
        id: "R16",
        title: "Tokens of keys that no namespace requests are kept",
        oracle: Oracle::Memory,
        world: || Profile {
            settings: with_own_keys,
            namespaces: 12,
            token_life: 300,
            steps: 20,
            ..Profile::small(&[What::OptOut])
        },
        seeds: 100,
    },
];

fn pattern(text: &str) -> Pattern {
    text.parse().expect("a pattern")
}

/// Every namespace gets entries from a Secret in the controller's namespace.
pub fn with_static_entries() -> Settings {
    let hosts = (0..8).map(|n| format!("mirror-{n}.registries.example"));
    let grant = StaticGrant { secret: "hub".into(), hosts: hosts.collect(), namespaces: vec![pattern("*")] };
    Settings { static_grants: vec![grant], ..testing::settings() }
}

/// Every namespace has a token of its own.
pub fn with_own_keys() -> Settings {
    let role = Role {
        arn: "arn:aws:iam::123456789012:role/ecr-pull".parse().expect("an ARN"),
        source: CredentialSource::Controller,
        external_id: None,
        session_name: "ecr-pull-secrets".to_owned(),
        tags: BTreeMap::new(),
        max_token_age: None,
    };
    let identity = Identity {
        name: IdentityName::new("team"),
        role: Some(role.into()),
        namespaces: vec![pattern("*")],
        registries: vec!["123456789012/*".parse().expect("a registry pattern")],
        repositories: vec!["{namespace}/*".parse().expect("a template")],
        pull_through_cache: false,
    };
    let mut settings = testing::settings();
    settings.grants.identities = vec![identity];
    settings
}

/// The configuration includes namespaces by a label.
pub fn with_selector() -> Settings {
    let mut settings = testing::settings();
    settings.namespace_selector.selector = Expression::Equal("pull".to_owned(), "ecr".to_owned()).into();
    settings
}

/// The number of schedules after which the oracle of the row finds the defect.
pub fn find(known: &Known) -> Option<u64> {
    let fails = |seed: &u64| {
        let violation = small::run(&(known.world)(), *seed).oracles.violation;
        violation.is_some_and(|violation| violation.oracle == known.oracle)
    };
    (0..known.seeds).find(fails).map(|seed| seed + 1)
}

fn assert_known(id: &str) {
    let known = KNOWN.iter().find(|known| known.id == id).expect("a row");
    let schedules = find(known).unwrap_or_else(|| {
        panic!(
            "{id} was not found in {} schedules ({}). If it is fixed, remove its row from KNOWN and add its world to \
             the guards",
            known.seeds, known.title
        )
    });
    println!("{id}: {:?} after {schedules} schedules", known.oracle);
}

/// One test for each row, so that they run in parallel.
macro_rules! rows {
    ($($test:ident: $id:literal,)*) => {
        $(#[test]
        fn $test() {
            assert_known($id);
        })*

        #[test]
        fn each_row_has_a_test() {
            let tests = [$($id),*];
            assert_eq!(KNOWN.iter().map(|known| known.id).collect::<Vec<_>>(), tests);
        }
    };
}

rows! {
    r3: "R3",
    r6: "R6",
    r9: "R9",
    r16: "R16",
}
