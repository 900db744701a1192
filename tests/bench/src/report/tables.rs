//! The tables.

use std::fmt::Write as _;

use super::{budgets, ratios, round_trip_ms};
use crate::figures::{Bytes, Figures, Memory, Round, Work};
use crate::stats::{number, quantile, size, spread};

/// What is reported on one run.
pub fn section(figures: &Figures, images: &[String]) -> String {
    let about = &figures.about;
    let mut text = format!("\n## {} namespaces\n\n", grouped(about.namespaces as u64));
    let _ = writeln!(
        text,
        "`{}` on {}: {} processors ({}), {} MiB, Linux {}, load average before the run {:.2}. {} ({}), static, {:.1} MiB, {}; \
         kube-apiserver {}, etcd {}.\n",
        about.command,
        about.date,
        about.processors,
        about.processor,
        grouped(about.memory_mib),
        about.kernel,
        about.load_before,
        about.program,
        about.commit,
        size(about.program_bytes) / 1_048_576.0,
        about.compiler,
        about.api_server,
        about.etcd,
    );
    let parts = [
        budgets::table(figures),
        rates(figures),
        images[0].clone(),
        latency(figures),
        images[1].clone(),
        memory(figures),
        images[2].clone(),
        work(figures),
        requests(figures),
        wire(figures),
        others(figures),
    ];
    for part in parts {
        text.push_str(part.trim_end());
        text.push_str("\n\n");
    }
    text
}

/// A number with separators.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

pub fn mib(kib: u64) -> String {
    format!("{:.1}", size(kib) / 1_024.0)
}

/// Minimum, median and maximum as text.
pub fn three(values: &[f64], decimals: usize) -> String {
    let [least, median, most] = spread(values);
    format!("{least:.decimals$} / {median:.decimals$} / {most:.decimals$}")
}

pub fn of_rounds(figures: &Figures, value: impl Fn(&Round) -> f64) -> Vec<f64> {
    figures.rounds.iter().map(value).collect()
}

fn idle_hour(seconds: f64) -> f64 {
    3_600.0 / seconds
}

fn rates(figures: &Figures) -> String {
    let mut text = String::from("| creations in a second | min / median / max |\n|---|---|\n");
    for in_flight in figures.rounds[0].server.keys() {
        let values = of_rounds(figures, |round| round.server[in_flight]);
        let _ = writeln!(text, "| minimal client, {in_flight} in flight | {} |", three(&values, 0));
    }
    let best = of_rounds(figures, Round::server_rate);
    let _ = writeln!(text, "| minimal client, the best of each round | {} |", three(&best, 0));
    let cold = of_rounds(figures, |round| round.cold_sync.per_second());
    let _ = writeln!(text, "| cold sync | {} |", three(&cold, 0));
    let peaks = of_rounds(figures, |round| size(round.peak_kib) / 1_024.0);
    let _ = writeln!(text, "\nLargest resident memory during a cold sync: {} MiB.", three(&peaks, 1));
    text
}

fn latency(figures: &Figures) -> String {
    let latency = &figures.latency;
    let mut text = String::from("| annotation to Secret, ms | p50 | p99 | max |\n|---|---|---|---|\n");
    for (name, values) in [("idle", &latency.idle_ms), ("during a renewal", &latency.during_renewal_ms)] {
        let [p50, p99, most] = [0.5, 0.99, 1.0].map(|part| quantile(values, part));
        let _ = writeln!(text, "| {name}, {} annotations | {p50:.1} | {p99:.1} | {most:.1} |", values.len());
    }
    text
}

fn memory(figures: &Figures) -> String {
    let mut text = String::from(
        "| resident memory, MiB: RSS (private, of the file), PSS | after | leader | standby |\n|---|---|---|---|\n",
    );
    let cell = |memory: &Memory| {
        let Memory { rss_kib, pss_kib, private_kib, .. } = *memory;
        format!("{} ({}, {}), {}", mib(rss_kib), mib(private_kib), mib(memory.file_kib()), mib(pss_kib))
    };
    for life in &figures.lives {
        for stage in &life.stages {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} |",
                life.name,
                stage.name,
                cell(&stage.leader),
                cell(&stage.standby)
            );
        }
    }
    text
}

fn work(figures: &Figures) -> String {
    let mut text = String::from(
        "| | writes | seconds | in a second | CPU seconds for 1,000 writes | AWS calls |\n|---|---|---|---|---|---|\n",
    );
    let mut row = |name: &str, work: &Work| {
        let _ = writeln!(
            text,
            "| {name} | {} | {:.1} | {:.0} | {:.3} | {} |",
            grouped(work.writes as u64),
            work.seconds,
            work.per_second(),
            work.cpu_per_thousand(),
            grouped(work.aws_calls as u64)
        );
    };
    row("renewal of all at the default rate, and new Secrets", &figures.latency.renewal);
    for life in &figures.lives {
        row(
            &format!("cold sync while the namespaces opt in, with its Events, {}", life.name),
            &life.cold_sync,
        );
        for (index, refresh) in life.refreshes.iter().enumerate() {
            row(&format!("refresh {}, {}", index + 1, life.name), refresh);
        }
        row(&format!("all opt out and in again, with Events, {}", life.name), &life.churn);
    }
    let steady = &figures.steady;
    let hour = idle_hour(steady.idle_seconds);
    let _ = writeln!(
        text,
        "\nAWS calls are those of ECR and STS for tokens. A restart with all Secrets fresh is ready after {:.0} ms, with {} writes, {} AWS calls and {:.2} CPU seconds. An idle \
         hour takes {:.1} CPU seconds (extrapolated from {:.0} s), with {} writes. Resident memory then: {} MiB.",
        steady.ready_ms,
        steady.restart.writes,
        steady.restart.aws_calls,
        steady.restart.cpu_seconds,
        hour * steady.idle.cpu_seconds,
        steady.idle_seconds,
        steady.idle.writes,
        mib(steady.memory.rss_kib)
    );
    text
}

fn requests(figures: &Figures) -> String {
    let hour = idle_hour(figures.steady.idle_seconds);
    let cold = &figures.rounds[figures.rounds.len() - 1].cold_sync.requests;
    let columns = [
        (cold, 1.0),
        (&figures.latency.renewal.requests, 1.0),
        (&figures.steady.restart.requests, 1.0),
        (&figures.steady.idle.requests, hour),
    ];
    let mut names: Vec<_> = columns.iter().flat_map(|(requests, _)| requests.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let mut text = String::from(
        "| requests that ended, by verb | cold sync | renewal | restart | idle hour |\n|---|---|---|---|---|\n",
    );
    for name in names {
        let _ = write!(text, "| {name} |");
        for (requests, factor) in columns {
            let count = requests.get(name).copied().unwrap_or_default();
            let _ = write!(text, " {:.0} |", size(count) * factor);
        }
        text.push('\n');
    }
    text
}

fn wire(figures: &Figures) -> String {
    let wire = &figures.wire;
    let mut text = String::from(
        "| on the wire, with TLS | KiB sent | KiB received | new connections |\n|---|---|---|---|\n",
    );
    let mut row = |name: &str, bytes: Bytes, factor: f64| {
        let kib = |bytes: u64| size(bytes) / 1_024.0 * factor;
        let connections = size(bytes.connections) * factor;
        let _ = writeln!(
            text,
            "| {name} | {:.0} | {:.0} | {connections:.0} |",
            kib(bytes.sent),
            kib(bytes.received)
        );
    };
    row("start and cold sync", wire.cold_sync, 1.0);
    row("restart with all Secrets fresh", wire.restart, 1.0);
    row("idle hour", wire.idle, idle_hour(wire.idle_seconds));
    text
}

/// The figures of others were measured once, and not by this program.
fn others(figures: &Figures) -> String {
    let cold = of_rounds(figures, |round| round.cold_sync.per_second());
    let per_namespace = 1_000.0 / quantile(&cold, 0.5);
    let rss =
        figures.lives.first().and_then(|life| life.stages.iter().find(|stage| stage.name == "cold sync"));
    let memory = rss.map(|stage| mib(stage.leader.rss_kib)).unwrap_or_default();
    let calls = figures.rounds[0].cold_sync.aws_calls;
    format!(
        "| | ms for one namespace | resident memory | AWS calls for {} namespaces |\n|---|---|---|---|\n\
         | ecr-pull-secrets, cold sync | {per_namespace:.2} | {memory} MiB | {calls} |\n\
         | the same creations, one after the other (minimal client) | {:.1} | – | – |\n\
         | a CronJob that writes one Secret after the other | 7 | 43 MB | – |\n\
         | external-secrets | 200 | 197 MB | {} |\n\n\
         The last two rows were measured once, from outside, on a machine of this kind, before this benchmark existed. `make bench` \
         does not repeat them. {}",
        grouped(figures.about.namespaces as u64),
        round_trip_ms(&figures.rounds),
        grouped(figures.about.namespaces as u64),
        summary(figures),
    )
}

fn summary(figures: &Figures) -> String {
    let ratios: Vec<_> = ratios(&figures.rounds, &figures.latency)
        .into_iter()
        .map(|(name, ratio)| format!("{name}: {ratio:.2}"))
        .collect();
    format!(
        "Ratios to compare with another run: {}. {} rounds.",
        ratios.join("; "),
        number(figures.rounds.len())
    )
}
