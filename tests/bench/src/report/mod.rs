//! The report: tables in a document and plots next to it, from stored figures alone.

mod budgets;
mod plots;
mod tables;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::figures::{Figures, Latency, Round, Speed};
use crate::stats::median;

const BEGIN: &str = "<!-- begin figures -->\n";
const END: &str = "<!-- end figures -->";
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
    let (before, rest) = text.split_once(BEGIN).expect("the document has the beginning of the block");
    let (_, after) = rest.split_once(END).expect("the document has the end of the block");
    files.insert(document.to_owned(), format!("{before}{BEGIN}{block}{END}{after}"));
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

/// The figures of a folder, by the number of namespaces.
fn stored(folder: &Path) -> Vec<Figures> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("an entry").path());
    let files = entries.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let mut all: Vec<_> = files.map(|path| crate::read::<Figures>(&path)).collect();
    all.sort_by_key(|figures| figures.about.namespaces);
    all
}

/// The ratios that two runs on one machine have in common. The latency is compared with the request of the same moment,
/// because a machine answers single requests slower than a row of them, by a factor of its own. Figures of commits before
/// this comparison have no such ratio.
pub fn ratios(rounds: &[Round], latency: &Latency) -> Vec<(&'static str, f64)> {
    let cold = ("cold sync / rate of the API server", rounds.iter().map(Round::ratio).collect());
    let paired = |secrets: &[f64], annotations: &[f64]| -> Vec<f64> {
        secrets.iter().zip(annotations).map(|(secret, alone)| secret / alone).collect()
    };
    let idle = paired(&latency.idle_ms, &latency.idle_requests_ms);
    let busy = paired(&latency.during_renewal_ms, &latency.during_renewal_requests_ms);
    let all = [
        cold,
        ("annotation to Secret, idle / request that annotates", idle),
        ("annotation to Secret, during a renewal / request that annotates", busy),
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

/// Prints the ratios of two runs, and returns whether they are close.
pub fn compare(first: &Speed, second: &Speed) -> bool {
    let [first, second] = [first, second].map(|speed| ratios(&speed.rounds, &speed.latency));
    let mut is_close = true;
    for ((name, before), (_, after)) in first.into_iter().zip(second) {
        let difference = after / before - 1.0;
        is_close &= difference.abs() <= TOLERANCE;
        println!("{name}: {before:.3}, then {after:.3}: {:+.1} %", 100.0 * difference);
    }
    is_close
}
