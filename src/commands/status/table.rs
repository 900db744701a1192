//! The table of namespaces.

use super::row::{Row, State};
use crate::commands::table::{BAD, Cell, GOOD, MIDDLING, NONE, Widths, print_styled, until};
use crate::core::Now;

const HEADER: [&str; 8] =
    ["NAMESPACE", "STATE", "SECRET", "REGISTRIES", "IDENTITY", "EXPIRES IN", "RENEWS IN", "LAST PROBLEM"];

/// The table, of which rows may be printed one after the other.
pub struct Table {
    wide: bool,
    widths: Widths,
    has_header: bool,
}

impl Table {
    /// With `wide`, each registry is listed.
    pub fn new(wide: bool) -> Self {
        Self { wide, widths: Widths::default(), has_header: false }
    }

    pub fn print(&mut self, rows: &[Row], now: Now) {
        for line in self.lines(rows, now) {
            print_styled(&line);
        }
    }

    /// The lines of these rows, with the header if they are the first.
    pub fn lines(&mut self, rows: &[Row], now: Now) -> Vec<String> {
        let header = HEADER.map(Cell::from).to_vec();
        let header = Some(header).filter(|_| !std::mem::replace(&mut self.has_header, true));
        let cells: Vec<_> = rows.iter().map(|row| cells(row, self.wide, now)).collect();
        let all = || header.iter().chain(&cells);
        all().for_each(|cells| self.widths.fit(cells));
        all().map(|cells| self.widths.line(cells)).collect()
    }
}

fn cells(row: &Row, wide: bool, now: Now) -> Vec<Cell> {
    let registries: Vec<_> = row.registries.iter().map(|row| row.registry.as_str()).collect();
    let mut identities: Vec<_> = row.registries.iter().filter_map(|row| row.identity.as_deref()).collect();
    identities.sort_unstable();
    identities.dedup();
    let time = |time: Option<_>| time.map_or_else(|| NONE.to_owned(), |time| until(time, now));
    let problem = row.problem.as_ref();
    vec![
        (&*row.namespace).into(),
        Cell::styled(row.state.into_str(), style(row.state)),
        row.secret.as_deref().unwrap_or(NONE).into(),
        list(&registries, wide).into(),
        list(&identities, wide).into(),
        time(row.expires_at).into(),
        time(row.renews_at).into(),
        problem.map_or_else(|| NONE.to_owned(), |p| format!("{}: {}", p.reason, p.message)).into(),
    ]
}

/// The whole list, or its first item and how many follow.
fn list(items: &[&str], whole: bool) -> String {
    match items {
        [] => NONE.to_owned(),
        [first, rest @ ..] if !whole && !rest.is_empty() => format!("{first} + {} more...", rest.len()),
        _ => items.join(","),
    }
}

fn style(state: State) -> anstyle::Style {
    match state {
        State::Expired | State::Blocked => BAD,
        State::Degraded | State::Ignored | State::Pending => MIDDLING,
        State::Ready => GOOD,
        State::Due | State::Updating | State::Removing | State::Terminating | State::Unknown => {
            anstyle::Style::new()
        }
    }
}
