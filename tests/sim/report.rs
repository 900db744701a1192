//! Writes tables of documents from runs: `make reliability`, `make soak`, `make fleet`.

use std::fmt::Write as _;
use std::path::Path;

use crate::planted::{self, PLANTED};
use crate::runs::Figures;

pub const RELIABILITY: &str = "docs/reliability.md";

/// The text before the table `name` of a document, the table, and the text after it.
fn split(document: &str, name: &str) -> [String; 3] {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let text = std::fs::read_to_string(&path).expect("a document of the repository");
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
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    std::fs::write(path, format!("{before}\n{table}\n{after}")).expect("the document is written");
}

/// A row of the table of runs.
pub fn row(name: &str, figures: &Figures) -> String {
    let Figures { runs, events, writes, seconds, violations } = figures;
    format!("| {name} | {runs} | {events} | {writes} | {} | {seconds} |", violations.len())
}

pub fn runs_table(rows: &[String]) -> String {
    let head = "| world | schedules | events | writes of Secrets | violations | seconds |\n|---|---|---|---|---|---|\n";
    format!("{head}{}\n", rows.join("\n"))
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
