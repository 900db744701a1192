//! A month of a cluster: up to 2,000 namespaces that come, go and change, two processes, and faults at random.

use std::time::Duration;

use crate::choices::Choices;
use crate::profile::{Profile, What};
use crate::runs;
use crate::small::everything;
use crate::world::World;

const DAYS: u32 = 30;
/// The number of namespaces, by seed. All months have as many actions and faults, so each namespace of a smaller cluster
/// meets more of them.
const SIZES: [u32; 5] = [2_000, 1_000, 500, 250, 125];
/// Thirty days with a pause of 14 minutes on average.
const STEPS: u32 = DAYS * 24 * 60 / 14;

fn month(seed: u64) -> Profile {
    let usual = everything().what.into_iter();
    let what = usual.chain([What::Arrive, What::Arrive, What::Leave, What::Leave]).collect();
    let size = usize::try_from(seed % SIZES.len() as u64).expect("a remainder is small");
    Profile {
        what,
        opted_in: false,
        namespaces: SIZES[size],
        steps: STEPS,
        gaps: &[60_000, 300_000, 900_000, 2_100_000],
        token_life: 12 * 3_600,
        patrol: Duration::from_hours(1),
        checks_messages: false,
        ..everything()
    }
}

pub fn run(seed: u64) -> World {
    World::new(month(seed), Choices::unrecorded(seed)).run()
}

/// What happened before the violation of a run, as far as it concerns one namespace or all.
fn story(seed: u64) -> String {
    let world = World::new(month(seed), Choices::unrecorded(seed)).told().run();
    let text = world.oracles.violation.map(|violation| violation.text).unwrap_or_default();
    let namespace = text.split(['/', ' ', ':']).next().unwrap_or_default();
    let concerns = |line: &&String| {
        let mut words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        let is_of_all =
            !["team-", "gets the reply", "RequestFinished"].iter().any(|text| line.contains(text));
        words.any(|word| word == namespace) || is_of_all
    };
    let story = world.story.unwrap_or_default();
    let lines: Vec<_> = story.iter().filter(concerns).map(String::as_str).collect();
    lines[lines.len().saturating_sub(200)..].join("\n")
}

#[test]
#[ignore = "for exploration: SEED=1"]
fn one() {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    println!("{:?}\n{}", run(seed).oracles.violation, story(seed));
}

#[test]
#[ignore = "for measurements: DAYS=1"]
fn measure() {
    let days: u32 = std::env::var("DAYS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let profile = Profile { steps: days * 24 * 60 / 14, ..month(0) };
    let world = World::new(profile, Choices::unrecorded(0)).run();
    println!(
        "{:?} {} events, {} writes {:?}",
        world.time,
        world.happened(),
        world.oracles.writes,
        world.oracles.violation
    );
}

#[test]
fn ten_months_of_clusters_of_all_sizes_pass() {
    let figures = runs::all("months", 0..10, run);
    println!(
        "{} months of up to {} namespaces, {} writes in {} s",
        figures.runs, SIZES[0], figures.writes, figures.seconds
    );
    if let Some((seed, violation)) = figures.violations.first() {
        panic!("seed {seed}: {violation}\n{}", story(*seed));
    }
}
