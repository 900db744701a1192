//! The report: tables in a document and plots next to it, from stored figures alone.

mod budgets;
mod plots;
mod tables;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::figures::{Figures, Latency, Round, Speed};
use crate::stats::median;

/// How far the ratios of two runs on one machine may differ.
const TOLERANCE: f64 = 0.15;

/// Writes the report on all figures of a folder, or checks it. Returns whether it was current.
pub fn write(folder: &Path, document: &Path, check: bool) -> bool {
    let mut files = BTreeMap::<PathBuf, String>::new();
    let mut block = String::new();
    for figures in stored(folder) {
        let number = figures.about.namespaces;
        let place = folder.strip_prefix(document.parent().unwrap_or(Path::new(""))).unwrap_or(folder);
        let mut images = vec![];
        for (name, title, svg) in plots::all(&figures) {
            let file = format!("{number}-{name}.svg");
            images.push(format!("![{title}]({})", place.join(&file).display()));
            files.insert(folder.join(file), svg);
        }
        block.push_str(&tables::section(&figures, &images));
    }
    let text = fs::read_to_string(document).expect("the document exists");
    let text = replace(&text, "figures", &block);
    files.insert(document.to_owned(), replace(&text, "two runs", &repeated(folder)));
    let outdated: Vec<_> =
        files.iter().filter(|(path, new)| fs::read_to_string(path).ok().as_ref() != Some(*new)).collect();
    for (path, new) in &outdated {
        if check {
            eprintln!("{} is out of date: run make bench-report", path.display());
        } else {
            fs::write(path, new).expect("the report is written");
        }
    }
    !check || outdated.is_empty()
}

/// The text of a document with another block of this name.
fn replace(text: &str, name: &str, block: &str) -> String {
    let [begin, end] = [format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->")];
    let (before, rest) = text.split_once(&begin).expect("the document has the beginning of the block");
    let (_, after) = rest.split_once(&end).expect("the document has the end of the block");
    format!("{before}{begin}{block}{end}{after}")
}

/// The figures of a folder, by the number of namespaces.
fn stored(folder: &Path) -> Vec<Figures> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("an entry").path());
    let files = entries.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let mut all: Vec<_> = files.map(|path| crate::read::<Figures>(&path)).collect();
    all.sort_by_key(|figures| figures.about.namespaces);
    all
}

/// The ratios that two runs on one machine have in common, as far as they were recorded. A machine may answer single requests
/// slower than a row of them, by a factor of its own, so the latency is compared with the request of the same moment, too.
pub fn ratios(rounds: &[Round], latency: &Latency) -> Vec<(&'static str, f64)> {
    let trip = round_trip_ms(rounds);
    let to_trip = |secrets: &[f64]| secrets.iter().map(|secret| secret / trip).collect();
    let to_request = |secrets: &[f64], annotations: &[f64]| {
        secrets.iter().zip(annotations).map(|(secret, alone)| secret / alone).collect()
    };
    let Latency { idle_ms, during_renewal_ms, idle_requests_ms, during_renewal_requests_ms, .. } = latency;
    let all: [(_, Vec<f64>); 5] = [
        ("cold sync / rate of the API server", rounds.iter().map(Round::ratio).collect()),
        ("annotation to Secret, idle / round trip", to_trip(idle_ms)),
        ("annotation to Secret, during a renewal / round trip", to_trip(during_renewal_ms)),
        ("annotation to Secret, idle / request that annotates", to_request(idle_ms, idle_requests_ms)),
        (
            "annotation to Secret, during a renewal / request that annotates",
            to_request(during_renewal_ms, during_renewal_requests_ms),
        ),
    ];
    all.into_iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(name, values)| (name, median(&values)))
        .collect()
}

/// How long one creation takes if nothing else runs, as the minimal client sees it.
pub fn round_trip_ms(rounds: &[Round]) -> f64 {
    let alone: Vec<f64> = rounds.iter().filter_map(|round| round.server.get(&1).copied()).collect();
    1_000.0 / median(&alone)
}

/// The ratios that both runs have: the name, the ratio of each, and the difference.
fn differences(first: &Speed, second: &Speed) -> Vec<(&'static str, f64, f64, f64)> {
    let [first, second] = [first, second].map(|speed| ratios(&speed.rounds, &speed.latency));
    let both = first.into_iter().zip(second).filter(|((name, _), (other, _))| name == other);
    both.map(|((name, before), (_, after))| (name, before, after, after / before - 1.0)).collect()
}

/// Prints the ratios of two runs, and returns whether they are close.
pub fn compare(first: &Speed, second: &Speed) -> bool {
    let all = differences(first, second);
    for (name, before, after, difference) in &all {
        println!("{name}: {before:.3}, then {after:.3}: {:+.1} %", 100.0 * difference);
    }
    all.iter().all(|(.., difference)| difference.abs() <= TOLERANCE)
}

/// The table of two stored runs on one machine.
fn repeated(folder: &Path) -> String {
    let [first, second] = ["first", "second"].map(|name| folder.join(format!("two-runs/{name}.json")));
    if !first.exists() {
        return String::new();
    }
    let mut table =
        String::from("\n| ratio, median | first run | second run | difference |\n|---|---|---|---|\n");
    for (name, before, after, difference) in differences(&crate::read(&first), &crate::read(&second)) {
        let _ = writeln!(table, "| {name} | {before:.3} | {after:.3} | {:+.1} % |", 100.0 * difference);
    }
    table.push('\n');
    table
}
