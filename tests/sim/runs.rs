//! Long runs, spread over the processors, with progress and figures: `make soak`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::world::World;
use crate::{report, small, soak};

/// What a long run did.
#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Figures {
    pub runs: u64,
    pub events: u64,
    pub writes: u64,
    pub seconds: u64,
    /// Each with its seed.
    pub violations: Vec<(u64, String)>,
}

impl Figures {
    fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.events += other.events;
        self.writes += other.writes;
        self.seconds += other.seconds;
        self.violations.extend(other.violations);
    }
}

/// Runs `run` for each seed, on every processor.
pub fn all(name: &str, seeds: std::ops::Range<u64>, run: impl Fn(u64) -> World + Sync) -> Figures {
    let (next, done) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    let (begin, total) = (Instant::now(), seeds.end - seeds.start);
    let work = || {
        let mut figures = Figures::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return figures;
            }
            let world = run(seed);
            figures.runs += 1;
            figures.events += world.happened();
            figures.writes += world.oracles.writes;
            if let Some(violation) = world.oracles.violation {
                // A run of hours may be interrupted.
                eprintln!("{name}, seed {seed}: {violation}");
                figures.violations.push((seed, violation.to_string()));
            }
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            if done.is_multiple_of((total / 20).max(1)) {
                eprintln!("{name}: {done} of {total} in {} s", begin.elapsed().as_secs());
            }
        }
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut figures = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..processors).map(|_| scope.spawn(work)).collect();
        let parts = threads.into_iter().map(|thread| thread.join().expect("a run does not panic"));
        parts.fold(Figures::default(), |mut all, part| {
            all.add(part);
            all
        })
    });
    figures.seconds = begin.elapsed().as_secs();
    figures
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// All long runs of one state of the code, as they are stored. They take hours, so `make soak` continues stored ones.
#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Soak {
    /// The Git trees of the program and of the simulation.
    pub code: String,
    /// By the name of the world. The seeds of its runs begin with 0.
    worlds: BTreeMap<String, Figures>,
}

impl Soak {
    /// The stored runs, or none if there are none of this code.
    fn of(code: &str) -> Self {
        let stored = report::stored_soak().filter(|stored| stored.code == code);
        stored.unwrap_or_else(|| Self { code: code.to_owned(), worlds: BTreeMap::new() })
    }

    /// Runs the seeds of one world that were not run yet, and stores the figures after each part.
    fn run(&mut self, name: &str, seeds: u64, part: u64, run: impl Fn(u64) -> World + Sync) {
        loop {
            let done = self.worlds.get(name).map_or(0, |figures| figures.runs);
            if done >= seeds {
                return;
            }
            let figures = all(name, done..(done + part).min(seeds), &run);
            self.worlds.entry(name.to_owned()).or_default().add(figures);
            report::store_soak(self);
        }
    }

    /// The worlds in the order of the report, with their figures.
    pub fn rows(&self) -> Vec<(&str, &Figures)> {
        let names = small::guards().into_iter().map(|(name, _)| name).chain([MONTHS]);
        names
            .filter_map(|name| self.worlds.get_key_value(name))
            .map(|(name, all)| (name.as_str(), all))
            .collect()
    }
}

const MONTHS: &str = "30 days with 125 to 2,000 namespaces and two processes";
/// Months whose figures are stored together.
const MONTHS_OF_PART: u64 = 20;

/// `SCHEDULES` of the small worlds and `SEEDS` months of clusters of all sizes, into `docs/reliability.md`.
#[test]
#[ignore = "takes hours: make soak"]
fn long() {
    let mut soak = Soak::of(&std::env::var("CODE").unwrap_or_default());
    let guards = small::guards();
    let each = number("SCHEDULES", 1_000_000).div_ceil(guards.len() as u64);
    for (name, profile) in guards {
        soak.run(name, each, each, |seed| small::run(&profile, seed));
    }
    soak.run(MONTHS, number("SEEDS", 500), MONTHS_OF_PART, soak::run);
    let failed: Vec<_> =
        soak.rows().into_iter().filter(|(_, figures)| !figures.violations.is_empty()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}
