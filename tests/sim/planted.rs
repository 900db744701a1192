//! Each oracle is believed because it finds a planted bug: one line of the production code, wrong on purpose. The edges have the
//! one for [`Oracle::Deadline`].

use ecr_pull_secrets::simulation::core::planted::{Bug, plant};

use strum::VariantArray as _;

use crate::configurations::with_own_keys;
use crate::oracles::Oracle;
use crate::profile::{Fate, Profile, What};
use crate::small;

/// Within this many schedules the bug is found, and without it nothing is.
const SEEDS: u64 = 100;

pub struct Planted {
    pub bug: Bug,
    pub oracle: Oracle,
    pub world: fn() -> Profile,
}

pub const PLANTED: &[Planted] = &[
    Planted {
        bug: Bug::IgnoreDeletions,
        oracle: Oracle::Belief,
        world: || Profile::small(&[What::TerminateNamespace, What::OptOut]),
    },
    Planted {
        bug: Bug::WrongUid,
        oracle: Oracle::NoneExpired,
        world: || Profile { token_life: 600, ..Profile::small(&[What::OptOut]) },
    },
    Planted {
        bug: Bug::TrustStaleNamespace,
        oracle: Oracle::NoneTaken,
        world: || Profile::small(&[What::Annotate, What::OptOut]),
    },
    Planted {
        bug: Bug::NoBackoff,
        oracle: Oracle::WriteBudget,
        world: || Profile::small(&[What::Quota, What::OptOut, What::Annotate]),
    },
    Planted {
        bug: Bug::ForgetRetries,
        oracle: Oracle::Progress,
        world: || Profile::small(&[What::Annotate, What::OptOut]).with_fates(&[Fate::Unavailable], 4),
    },
    Planted {
        bug: Bug::NeverFresh,
        oracle: Oracle::TokenBudget,
        world: || Profile::small(&[What::Annotate]),
    },
    Planted {
        bug: Bug::ShareTokens,
        oracle: Oracle::Scope,
        world: || Profile { settings: with_own_keys, ..Profile::small(&[What::Quota]) },
    },
    Planted {
        bug: Bug::KeepNamespaces,
        oracle: Oracle::Memory,
        // Replies and events in order: a deletion that overtakes a reply is a known defect.
        world: || Profile { delays: &[1], ..Profile::small(&[What::DeleteNamespace]) },
    },
    Planted {
        bug: Bug::ForgetOwnWrites,
        oracle: Oracle::Differential,
        world: || Profile::small(&[What::Annotate]),
    },
    Planted {
        bug: Bug::ShowCredentials,
        oracle: Oracle::Redaction,
        world: || Profile::small(&[What::Annotate]),
    },
];

/// The number of schedules after which the oracle finds the bug.
pub fn find(planted: &Planted) -> u64 {
    let Planted { bug, oracle, world } = planted;
    let world = world();
    let clean = small::find(&world, SEEDS);
    assert!(clean.is_none(), "without {bug:?}: {clean:?}");
    plant(Some(*bug));
    let found = (0..SEEDS).find(|seed| {
        small::run(&world, *seed).oracles.violation.is_some_and(|violation| violation.oracle == *oracle)
    });
    plant(None);
    found.unwrap_or_else(|| panic!("{bug:?} is not found by {oracle:?}")) + 1
}

#[test]
fn each_oracle_finds_its_planted_bug() {
    for planted in PLANTED {
        println!("{:?}: {:?} after {} schedules", planted.bug, planted.oracle, find(planted));
    }
}

/// `tests/layers` shows that the program lacks the mark.
#[test]
fn a_build_with_planted_bugs_is_marked() {
    let program = std::fs::read(std::env::current_exe().expect("a path")).expect("this program");
    // Two halves, so that this test itself does not contain the mark.
    let mark = [b"built with ".as_slice(), b"planted bugs"].concat();
    assert!(program.windows(mark.len()).any(|window| window == mark));
}

#[test]
fn each_oracle_of_the_model_has_a_planted_bug() {
    for oracle in Oracle::VARIANTS.iter().filter(|oracle| **oracle != Oracle::Deadline) {
        assert!(PLANTED.iter().any(|planted| planted.oracle == *oracle), "{oracle:?}");
    }
}
