//! Untrusted text as part of a message: bounded, on one line, without control characters.

use jiff::Timestamp;

/// The maximum length of untrusted text in a message, in characters.
const MAX_LINE_LEN: usize = 400;
/// The maximum length of a quoted value in a message, in characters.
const MAX_QUOTE_LEN: usize = 80;

/// `text` on one line of at most 400 characters, without control characters.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_LINE_LEN).collect()
}

/// The time without its fraction of a second, as annotations and messages show it.
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Quotes an untrusted value: escaped, and cut to 80 characters.
pub fn quote(value: &str) -> String {
    match value.char_indices().nth(MAX_QUOTE_LEN) {
        Some((end, _)) => format!("{:?}… ({} bytes)", &value[..end], value.len()),
        None => format!("{value:?}"),
    }
}
