//! Writes tables of documents from runs: `make reliability`, `make soak`, `make fleet`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::planted::{self, PLANTED};
use crate::runs::{Figures, Soak};

pub const RELIABILITY: &str = "docs/reliability.md";
/// The figures of the table of runs.
const SOAK: &str = "docs/reliability/soak.json";

fn path(document: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(document)
}

/// The text before the table `name` of a document, the table, and the text after it.
fn split(document: &str, name: &str) -> [String; 3] {
    let text = std::fs::read_to_string(path(document)).expect("a document of the repository");
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
    let (before, rest) = text.split_once(&begin).expect("the table begins");
    let (table, after) = rest.split_once(&end).expect("the table ends");
    [format!("{before}{begin}"), table.to_owned(), format!("{end}{after}")]
}

/// The table `name` of a document.
pub fn get(document: &str, name: &str) -> String {
    let [_, table, _] = split(document, name);
    table
}

/// Replaces the table `name` of a document.
pub fn put(document: &str, name: &str, table: &str) {
    let [before, _, after] = split(document, name);
    std::fs::write(path(document), format!("{before}\n{table}\n{after}")).expect("the document is written");
}

/// The runs that `make soak` stored last, complete or not.
pub fn stored_soak() -> Option<Soak> {
    let text = std::fs::read_to_string(path(SOAK)).ok()?;
    Some(serde_json::from_str(&text).expect("stored runs"))
}

/// Stores runs, and writes their table.
pub fn store_soak(soak: &Soak) {
    let text = serde_json::to_string_pretty(soak).expect("runs are JSON");
    std::fs::write(path(SOAK), text + "\n").expect("the runs are stored");
    put(RELIABILITY, "runs", &runs_table(soak));
}

fn runs_table(soak: &Soak) -> String {
    let mut table = format!("Code: {}.\n\n", soak.code);
    table.push_str("| world | schedules | events | writes of Secrets | violations | seconds |\n|---|---|---|---|---|---|\n");
    for (name, Figures { runs, events, writes, seconds, violations }) in soak.rows() {
        let _ =
            writeln!(table, "| {name} | {runs} | {events} | {writes} | {} | {seconds} |", violations.len());
    }
    table
}

#[test]
fn the_table_of_runs_is_that_of_the_stored_ones() {
    let soak = stored_soak().expect("runs are stored");
    assert_eq!(get(RELIABILITY, "runs").trim(), runs_table(&soak).trim());
}

#[test]
#[ignore = "writes docs/reliability.md: make reliability"]
fn write_the_tables() {
    let mut table = String::from("| oracle | planted bug | schedules until found |\n|---|---|---|\n");
    for row in PLANTED {
        let _ = writeln!(table, "| `{:?}` | `{:?}` | {} |", row.oracle, row.bug, planted::find(row));
    }
    put(RELIABILITY, "planted", &table);
}
