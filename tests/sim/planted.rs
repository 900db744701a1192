//! Each oracle is believed because it finds a planted bug: one line of the production code, wrong on purpose.

use ecr_pull_secrets::simulation::core::planted::{Bug, plant};

use crate::known::with_own_keys;
use crate::oracles::Oracle;
use crate::profile::{Fate, Profile, What};
use crate::small;

/// The bug is found by the oracle in this world, which is clean without it.
fn assert_finds(oracle: Oracle, bug: Bug, world: &Profile) {
    const SEEDS: u64 = 100;
    let clean = small::find(world, SEEDS);
    assert!(clean.is_none(), "without the bug: {clean:?}");
    plant(Some(bug));
    let found = (0..SEEDS).find_map(|seed| {
        let violation = small::run(world, seed).oracles.violation?;
        (violation.oracle == oracle).then_some((seed, violation))
    });
    plant(None);
    let (seed, violation) = found.unwrap_or_else(|| panic!("{bug:?} is not found by {oracle:?}"));
    println!("{bug:?}: {oracle:?} after {} schedules: {}", seed + 1, violation.text);
}

#[test]
fn belief_finds_deletions_that_are_ignored() {
    assert_finds(
        Oracle::Belief,
        Bug::IgnoreDeletions,
        &Profile::small(&[What::TerminateNamespace, What::OptOut]),
    );
}

#[test]
fn none_expired_finds_updates_that_never_succeed() {
    let world = Profile { token_life: 600, ..Profile::small(&[What::OptOut]) };
    assert_finds(Oracle::NoneExpired, Bug::WrongUid, &world);
}

#[test]
fn none_taken_finds_deletions_by_a_stale_view() {
    let world = Profile::small(&[What::Annotate, What::OptOut]);
    assert_finds(Oracle::NoneTaken, Bug::TrustStaleNamespace, &world);
}

#[test]
fn the_write_budget_finds_writes_without_backoff() {
    assert_finds(
        Oracle::WriteBudget,
        Bug::NoBackoff,
        &Profile::small(&[What::Quota, What::OptOut, What::Annotate]),
    );
}

#[test]
fn progress_finds_namespaces_that_are_forgotten() {
    let world = Profile::small(&[What::Annotate, What::OptOut]).with_fates(&[Fate::Unavailable], 4);
    assert_finds(Oracle::Progress, Bug::ForgetRetries, &world);
}

#[test]
fn the_token_budget_finds_a_token_for_each_write() {
    assert_finds(Oracle::TokenBudget, Bug::NeverFresh, &Profile::small(&[What::Annotate]));
}

#[test]
fn scope_finds_tokens_that_are_shared_across_restrictions() {
    let world = Profile { settings: with_own_keys, ..Profile::small(&[What::Quota]) };
    assert_finds(Oracle::Scope, Bug::ShareTokens, &world);
}

#[test]
fn memory_finds_namespaces_that_are_kept() {
    // Replies and events in order: a deletion that overtakes a reply is a known defect.
    let world = Profile { delays: &[1], ..Profile::small(&[What::DeleteNamespace]) };
    assert_finds(Oracle::Memory, Bug::KeepNamespaces, &world);
}

#[test]
fn the_differential_oracle_finds_writes_that_are_repeated_without_a_reason() {
    assert_finds(Oracle::Differential, Bug::ForgetOwnWrites, &Profile::small(&[What::Annotate]));
}

#[test]
fn redaction_finds_credentials_in_debug_output() {
    assert_finds(Oracle::Redaction, Bug::ShowCredentials, &Profile::small(&[What::Annotate]));
}
