//! The choices of a run: the only source of randomness. A run is a list of numbers, so it can be replayed and shrunk.

/// Numbers from a seed, or a recorded list of them. Zero is always the most ordinary choice: no fault, the shortest
/// delay. A list that has ended continues with zeros.
pub struct Choices {
    list: Vec<u32>,
    next: usize,
    random: Option<u64>,
    records: bool,
}

impl Choices {
    pub fn from_seed(seed: u64) -> Self {
        Self { list: vec![], next: 0, random: Some(seed), records: true }
    }

    pub fn replay(list: &[u32]) -> Self {
        Self { list: list.to_vec(), next: 0, random: None, records: true }
    }

    /// The same without a record, for runs of millions of choices.
    pub fn unrecorded(seed: u64) -> Self {
        Self { records: false, ..Self::from_seed(seed) }
    }

    /// A number below `n`.
    pub fn pick(&mut self, n: u32) -> u32 {
        let value = match &mut self.random {
            Some(state) => u32::try_from(splitmix(state) % u64::from(n.max(1))).expect("below n"),
            None => self.list.get(self.next).copied().unwrap_or(0).min(n.saturating_sub(1)),
        };
        self.next += 1;
        if self.random.is_some() && self.records {
            self.list.push(value);
        }
        value
    }

    /// Whether the rare case happens, once in `n` times; never if `n` is 0.
    pub fn one_in(&mut self, n: u32) -> bool {
        n > 0 && self.pick(n) == n - 1
    }

    pub fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        let n = u32::try_from(all.len()).expect("a short list");
        &all[self.pick(n) as usize]
    }

    pub fn list(&self) -> &[u32] {
        &self.list
    }
}

/// <https://prng.di.unimi.it/splitmix64.c>
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The shortest list that still `fails`: halves are dropped, then single choices are set to zero.
pub fn shrink(list: &[u32], mut budget: u32, fails: impl Fn(&[u32]) -> bool) -> Vec<u32> {
    let mut best = list.to_vec();
    let mut try_ = |candidate: Vec<u32>, best: &mut Vec<u32>| {
        let smaller = candidate != *best && budget > 0;
        budget = budget.saturating_sub(u32::from(smaller));
        let better = smaller && fails(&candidate);
        if better {
            *best = candidate;
        }
        better
    };
    let mut chunk = best.len().next_power_of_two();
    while chunk > 0 {
        let mut at = 0;
        while at < best.len() {
            let end = (at + chunk).min(best.len());
            let without = [&best[..at], &best[end..]].concat();
            let mut zeroed = best.clone();
            zeroed[at..end].fill(0);
            if !try_(without, &mut best) {
                try_(zeroed, &mut best);
                at += chunk;
            }
        }
        chunk /= 2;
    }
    while best.last() == Some(&0) {
        best.pop();
    }
    best
}
