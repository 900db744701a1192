//! Writes the tables of `docs/reliability.md` from runs: `make reliability`.

use std::fmt::Write as _;
use std::path::Path;

use crate::planted::{self, PLANTED};
use crate::runs::Figures;

/// Replaces the table `name` of the report.
pub fn put(name: &str, table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reliability.md");
    let text = std::fs::read_to_string(&path).expect("docs/reliability.md");
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
    let (before, rest) = text.split_once(&begin).expect("the table begins");
    let (_, after) = rest.split_once(&end).expect("the table ends");
    std::fs::write(path, format!("{before}{begin}\n{table}\n{end}{after}")).expect("the report is written");
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
    put("planted", &table);
}
