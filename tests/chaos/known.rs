//! The table of known defects. Each row is a scenario and the oracle that reports the defect.
//!
//! A test for each row asserts that the oracle still reports it. Who repairs a defect removes its row, and adds its
//! scenario to [`crate::guards`].

use testing::control_plane::Builder;

use crate::oracles::Oracle;
use crate::scenarios::{neighbours, pods};
use crate::world::{World, plain, violations};

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub id: &'static str,
    pub title: &'static str,
    pub oracle: Oracle,
}

/// Asserts that the oracle of a row still reports the defect.
fn still_fails(known: Known, control_plane: Builder, scenario: impl AsyncFnOnce(&mut World<'_>)) {
    let start = std::time::Instant::now();
    let Some(found) = violations(control_plane, Some(known.oracle), scenario) else { return };
    let Known { id, title, oracle } = known;
    println!("{id}, {title}: after {:.1} s {found:#?}", start.elapsed().as_secs_f32());
    assert!(
        found.iter().any(|violation| violation.oracle == oracle),
        "{id} ({title}): the oracle {oracle:?} no longer reports this defect, only {found:#?}. If it is repaired, remove \
         its row from the table and add its scenario to guards.rs."
    );
}

macro_rules! known_defects {
    ($($(#[$ignore:meta])* $test:ident: $id:literal, $title:literal, $oracle:ident, $scenario:path;)*) => {
        /// Every known defect that a scenario shows.
        pub const KNOWN: &[Known] = &[$(Known { id: $id, title: $title, oracle: Oracle::$oracle }),*];

        $(#[test]
        $(#[$ignore])*
        fn $test() {
            let known = Known { id: $id, title: $title, oracle: Oracle::$oracle };
            still_fails(known, plain(), async |world| $scenario(world).await);
        })*
    };
}

known_defects! {
    b10_one_apply: "B10", "a pod of the same apply has no reference", Pod, pods::one_apply;
    b14_network_policy: "B14", "the network policy closes port 80", Egress, neighbours::network_policy;
}

#[test]
fn ids_are_unique() {
    let mut ids: Vec<&str> = KNOWN.iter().map(|known| known.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), KNOWN.len());
}
