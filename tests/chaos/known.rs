//! The table of known defects. Each row is a scenario and the oracle that reports the defect.
//!
//! The rows that the model or the edges of `tests/sim` show too are part of `make chaos` only.
//!
//! A test for each row asserts that the oracle still reports it. Who repairs a defect removes its row, and adds its
//! scenario to [`crate::guards`].

use testing::control_plane::Builder;

use crate::oracles::Oracle;
use crate::scenarios::{aws, neighbours, pods, replies, silence, slow, state};
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
    // libtest starts tests in the order of their names, and this one takes longest.
    a_watch_request_without_a_reply_r7: "R7", "an unanswered request blinds a watch", Missing, silence::unanswered_watch;
    #[ignore = "the model shows it too: make chaos"]
    b6_silent_watch: "B6", "a silent connection is noticed late", Missing, silence::silent_watch;
    #[ignore = "the model shows it too: make chaos"]
    b7_restored_storage: "B7", "a restored etcd is not noticed", Missing, state::restored_storage;
    #[ignore = "the model shows it too: make chaos"]
    r10_immutable: "R10", "an immutable Secret is deleted without a new token", Missing, state::immutable;
    #[ignore = "the model shows it too: make chaos"]
    b8_clock_ahead: "R4/B8", "retries wait until a wrong time of day", Expired, aws::clock_ahead;
    b5_rotated_file: "B5", "a rotated credentials file is not read", Expired, aws::rotated_file;
    r5_slow_writes: "R5", "a leader abandons writes of 4 seconds", Missing, slow::writes;
    b2_webhook: "B2", "a leader abandons writes that a webhook holds", Missing, slow::webhook;
    #[ignore = "the model shows it too: make chaos"]
    r5_slow_lease: "R5/B2", "replies of 1.2 seconds about the Lease prevent a leader", Missing, slow::lease;
    b3_pruner: "B3", "a deployment tool prunes by the instance label", Missing, neighbours::pruner;
    #[ignore = "the model shows it too: make chaos"]
    late_commit: "E25", "the late write of a dead leader replaces a newer token", Older, replies::late_commit;
    #[ignore = "the model shows it too: make chaos"]
    r14_refused_lists: "R14", "paginated lists ignore Retry-After", RetryAfter, silence::refused_lists;
    #[ignore = "the model shows it too: make chaos"]
    r2_region: "R2/B1", "a start without a usable region deletes Secrets", Missing, state::region_with_a_line_end;
    #[ignore = "the model shows it too: make chaos"]
    r13_empty_source: "R13", "an empty static source removes its entries", EntryLost, state::empty_source;
    #[ignore = "the model shows it too: make chaos"]
    r3_made_up_regions: "R3", "64 made-up regions lock out the others after a restart", Expired, aws::made_up_regions;
    #[ignore = "the model shows it too: make chaos"]
    r8_long_requests: "R8", "a request of a certain length is written without a pause", Writes, state::long_requests;
    #[ignore = "the model shows it too: make chaos"]
    b9_copier: "B9", "a labelled copy is deleted again and again", Writes, neighbours::copier;
    #[ignore = "the model shows it too: make chaos"]
    b11_terminating: "B11", "namespaces that are being deleted hold removals back", Foreign, state::terminating_namespaces;
    #[ignore = "the model shows it too: make chaos"]
    b15_born_expired: "B15", "a Secret is created with an expired token", BornExpired, aws::away_for_longer_than_a_life;
    r11_ipv6: "R11/B4", "the chart listens on IPv4 only", Probe, neighbours::ipv6_only;
    r12_idle_connections: "R12", "64 idle connections block the probes", Probe, neighbours::idle_connections;
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
