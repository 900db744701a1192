//! The budgets of the project, and how much of each a run used.

use std::fmt::Write as _;

use super::round_trip_ms;
use super::tables::{mib, of_rounds, three};
use crate::figures::{Figures, Life, Round};
use crate::stats::{quantile, size};

/// The largest resident memory after any stage, of the leader or the standby.
fn largest_kib(life: &Life) -> u64 {
    life.stages.iter().map(|stage| stage.leader.rss_kib.max(stage.standby.rss_kib)).max().unwrap_or_default()
}

pub fn table(figures: &Figures) -> String {
    let latency = &figures.latency;
    let trip = round_trip_ms(&figures.rounds);
    let mut text = String::from("| | budget | measured |\n|---|---|---|\n");
    let mut row = |what: &str, budget: &str, measured: String| {
        let _ = writeln!(text, "| {what} | {budget} | {measured} |");
    };
    row(
        "cold sync as a ratio of the rate of the API server, min / median / max",
        "at least 0.95",
        three(&of_rounds(figures, Round::ratio), 3),
    );
    row(
        "CPU seconds of the controller for 1,000 writes of a cold sync, min / median / max",
        "at most 0.12",
        three(&of_rounds(figures, |round| round.cold_sync.cpu_per_thousand()), 3),
    );
    row(
        "annotation to Secret during a renewal, p50",
        &format!("at most 2 round trips, {:.1} ms", 2.0 * trip),
        format!("{:.1} ms", quantile(&latency.during_renewal_ms, 0.5)),
    );
    row(
        "annotation to Secret during a renewal, p99",
        "at most 25 ms",
        format!("{:.1} ms", quantile(&latency.during_renewal_ms, 0.99)),
    );
    row(
        "start to first write, min / median / max",
        "at most 300 ms, and the list",
        format!(
            "{} ms with one namespace, {} ms with all",
            three(&figures.first_write_ms, 0),
            three(&of_rounds(figures, |round| round.first_write_ms), 0)
        ),
    );
    for life in &figures.lives {
        let budget = if life.own_tokens { 24 } else { 18 };
        row(
            &format!("largest resident memory after any stage, {}", life.name),
            &format!("at most {budget} MiB with 10,000 namespaces"),
            format!("{} MiB", mib(largest_kib(life))),
        );
    }
    let bytes = size(figures.about.program_bytes) / 1_048_576.0;
    let calls = figures.rounds.iter().map(|round| round.cold_sync.aws_calls).max().unwrap_or_default();
    row("AWS calls of a cold sync with one token", "1", calls.to_string());
    let steady = &figures.steady;
    let rest = steady.restart.writes + steady.idle.writes;
    row("writes of Secrets after a restart with all fresh, and idle", "0", rest.to_string());
    row("program", "at most 16 MiB", format!("{bytes:.1} MiB"));
    text
}
