//! Long runs, spread over the processors, with progress and figures: `make soak`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::oracles::Violation;
use crate::world::World;
use crate::{report, small, soak};

/// What a long run did.
#[derive(Default)]
pub struct Figures {
    pub runs: u64,
    pub events: u64,
    pub writes: u64,
    pub seconds: u64,
    pub violations: Vec<(u64, Violation)>,
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
                figures.violations.push((seed, violation));
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
        parts.reduce(|mut all, part| {
            all.runs += part.runs;
            all.events += part.events;
            all.writes += part.writes;
            all.violations.extend(part.violations);
            all
        })
    })
    .unwrap_or_default();
    figures.seconds = begin.elapsed().as_secs();
    figures
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// `SCHEDULES` of the small worlds and `SEEDS` months of a large cluster, into `docs/reliability.md`.
#[test]
#[ignore = "takes an hour: make soak"]
fn long() {
    let mut rows = vec![];
    let mut failed = vec![];
    let guards = small::guards();
    let each = number("SCHEDULES", 1_000_000).div_ceil(guards.len() as u64);
    for (name, profile) in guards {
        let figures = all(name, 0..each, |seed| small::run(&profile, seed));
        failed.extend(figures.violations.iter().map(|(seed, v)| format!("{name}, seed {seed}: {v}")));
        rows.push(report::row(name, &figures));
    }
    let from = number("FROM", 0);
    let figures = all("months", from..from + number("SEEDS", 500), soak::run);
    failed.extend(figures.violations.iter().map(|(seed, v)| format!("month, seed {seed}: {v}")));
    rows.push(report::row("30 days with 2,000 namespaces and two processes", &figures));
    report::put(report::RELIABILITY, "runs", &report::runs_table(&rows));
    assert!(failed.is_empty(), "{} runs failed:\n{}", failed.len(), failed.join("\n"));
}
