//! Tables in the form of kubectl: columns without lines, the longest text last.

use std::fmt::Write as _;
use std::io::Write as _;

use anstyle::{AnsiColor, Style};
use jiff::{SignedDuration, Timestamp};

use crate::core::Now;

/// The space between two columns.
const GAP: usize = 3;
/// An empty cell.
pub const NONE: &str = "<none>";

pub const GOOD: Style = AnsiColor::Green.on_default();
pub const MIDDLING: Style = AnsiColor::Yellow.on_default();
pub const BAD: Style = AnsiColor::Red.on_default();

/// A cell and its style.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    pub fn styled(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), style: Style::new() }
    }
}

/// The widths of the columns, which rows that are printed later share.
#[derive(Clone, Debug, Default)]
pub struct Widths(Vec<usize>);

impl Widths {
    /// Makes each column at least as wide as these cells.
    pub fn fit(&mut self, cells: &[Cell]) {
        self.0.resize(self.0.len().max(cells.len()), 0);
        for (width, cell) in self.0.iter_mut().zip(cells) {
            *width = (*width).max(cell.text.chars().count());
        }
    }

    /// A line without trailing white space.
    pub fn line(&self, cells: &[Cell]) -> String {
        let mut line = String::new();
        for (index, cell) in cells.iter().enumerate() {
            let Cell { text, style } = cell;
            let _ = write!(line, "{style}{text}{style:#}");
            if index + 1 < cells.len() {
                let width = self.0.get(index).copied().unwrap_or_default() + GAP;
                line.extend(std::iter::repeat_n(' ', width.saturating_sub(text.chars().count())));
            }
        }
        line.trim_end().to_owned()
    }
}

/// Prints a line with colors, which are removed unless standard output is a terminal and `NO_COLOR` is not set.
pub fn print_styled(line: &str) {
    // The command completes its work even if the reader has closed the pipe.
    let _ = writeln!(anstream::stdout(), "{line}");
}

/// How long until `time`, or, with `ago`, since then; as kubectl shows ages.
pub fn until(time: Timestamp, now: Now) -> String {
    let left = now.until(time);
    if left.is_negative() { format!("{} ago", duration(-left)) } else { duration(left) }
}

fn duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let of = |value: i64, unit: &str, rest: i64, small: &str| {
        if rest == 0 { format!("{value}{unit}") } else { format!("{value}{unit}{rest}{small}") }
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => of(minutes, "m", seconds % 60, "s"),
        () if hours < 3 => format!("{minutes}m"),
        () if hours < 8 => of(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => of(days, "d", hours % 24, "h"),
        () => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::{at, wall};

    #[test]
    fn durations_are_short_like_those_of_kubectl() {
        for (seconds, expected) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (3_600, "60m"),
            (3 * 3_600, "3h"),
            (5 * 3_600 + 59 * 60, "5h59m"),
            (12 * 3_600, "12h"),
            (50 * 3_600, "2d2h"),
            (9 * 86_400, "9d"),
            (-90, "90s ago"),
            (-3_600, "60m ago"),
        ] {
            assert_eq!(until(wall(seconds), at(0)), expected);
        }
    }

    #[test]
    fn columns_are_aligned_whatever_their_color_and_lines_have_no_trailing_space() {
        let rows = [vec![Cell::from("A"), "LONGER".into(), "LAST".into()], {
            vec![Cell::styled("aaaa", BAD), "b".into(), Cell::default()]
        }];
        let mut widths = Widths::default();
        for row in &rows {
            widths.fit(row);
        }
        let lines = rows.iter().map(|row| anstream::adapter::strip_str(&widths.line(row)).to_string());
        assert_eq!(lines.collect::<Vec<_>>(), ["A      LONGER   LAST", "aaaa   b"]);
    }
}
