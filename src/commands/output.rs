//! Standard output and standard error, whose reader may close the pipe (`cleanup --yes | head -1`).

use std::fmt::Display;
use std::io::Write as _;

/// Prints a line to standard output. A command completes its work even if the reader has closed the pipe.
pub(super) fn print_line(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

pub(super) fn print_error(error: impl Display) {
    let _ = writeln!(std::io::stderr(), "error: {error}");
}
