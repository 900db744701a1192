//! Small worlds: three namespaces and two processes, and any order of events.

use crate::choices::{Choices, shrink};
use crate::oracles::Violation;
use crate::profile::{Profile, What};
use crate::world::World;

/// Runs the world of a seed.
pub fn run(profile: &Profile, seed: u64) -> World {
    World::new(profile.clone(), Choices::from_seed(seed)).run()
}

/// Runs the world of a list of choices.
pub fn replay(profile: &Profile, list: &[u32]) -> World {
    World::new(profile.clone(), Choices::replay(list)).run()
}

/// The first seed below `seeds` whose run fails.
pub fn find(profile: &Profile, seeds: u64) -> Option<(u64, Violation, Vec<u32>)> {
    (0..seeds).find_map(|seed| {
        let world = run(profile, seed);
        let violation = world.oracles.violation.clone()?;
        Some((seed, violation, world.choices.list().to_vec()))
    })
}

/// The story of the shortest run that fails as `violation` does.
pub fn story(profile: &Profile, list: &[u32], violation: &Violation) -> String {
    let fails = |list: &[u32]| {
        replay(profile, list).oracles.violation.is_some_and(|found| found.oracle == violation.oracle)
    };
    let short = shrink(list, 2_000, fails);
    let world = World::new(profile.clone(), Choices::replay(&short)).told().run();
    format!("choices: {short:?}\n{}", world.story.unwrap_or_default().join("\n"))
}

#[test]
fn explore() {
    let what = [What::DeleteSecret, What::Annotate];
    let profile = Profile::small(&what);
    if let Some((seed, violation, list)) = find(&profile, 1_000) {
        panic!("seed {seed}: {violation:?}\n{}", story(&profile, &list, &violation));
    }
}
