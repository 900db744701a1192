//! Random numbers, and the story of a run.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::observer::Looks;
use crate::oracles::Violation;

/// Numbers that follow from a seed (`SplitMix64`).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A seed of six digits, which people can type.
    pub fn seed() -> u64 {
        RandomState::new().hash_one(0) % 1_000_000
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).expect("a small number");
        usize::try_from(self.next() % bound).expect("a small number")
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub fn milliseconds(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.next() % (most - least))
    }
}

/// What happened, with the time.
pub struct Story {
    seed: u64,
    start: Instant,
    seconds: Duration,
    faults: BTreeMap<&'static str, usize>,
    pub looks: Looks,
}

impl Story {
    pub fn start(seed: u64, seconds: Duration) -> Self {
        println!("seed {seed}: repeat with make chaos SEED={seed} SECONDS={}", seconds.as_secs());
        Self { seed, start: Instant::now(), seconds, faults: BTreeMap::new(), looks: Looks::default() }
    }

    pub fn seconds(&self) -> Duration {
        self.seconds
    }

    pub fn goes_on(&self) -> bool {
        self.start.elapsed() < self.seconds
    }

    pub fn tell(&self, what: &str) {
        println!("[{:6.1} s] {what}", self.start.elapsed().as_secs_f32());
    }

    pub fn fault(&mut self, kind: &'static str, what: &str) {
        *self.faults.entry(kind).or_default() += 1;
        self.tell(&format!("{kind}: {what}"));
    }

    /// Prints the table of the run, and writes it to the file that `CHAOS_REPORT` names.
    pub fn summarise(&self, found: &[Violation]) {
        println!("\n{:<32} {:>6}", "fault", "number");
        for (kind, number) in &self.faults {
            println!("{kind:<32} {number:>6}");
        }
        println!("{:<32} {:>6}", "looks at every namespace", self.looks.number);
        let longest = self.looks.longest_missing.as_secs_f32();
        println!("{:<32} {longest:>6.1}", "longest wait for a Secret, in s");
        println!("{:<32} {:>6}", "violations", found.len());
        for violation in found {
            println!("{:?}: {}", violation.oracle, violation.text);
        }
        let Some(path) = std::env::var_os("CHAOS_REPORT") else { return };
        let report = json!({
            "seed": self.seed,
            "seconds": self.start.elapsed().as_secs(),
            "faults": self.faults,
            "looks": self.looks.number,
            "longestWaitSeconds": longest,
            "violations": found.iter().map(|it| json!({"oracle": format!("{:?}", it.oracle), "text": it.text}))
                .collect::<Vec<_>>(),
        });
        std::fs::write(path, format!("{report:#}\n")).expect("the report is written");
    }
}
