//! Untrusted text as part of a message: bounded, on one line, without control characters.

use jiff::Timestamp;

use super::redaction::redact;

/// The maximum length of untrusted text in a message, in characters.
const MAX_LINE_LEN: usize = 400;
/// How much of a text is searched for secrets, in characters. It is more than is shown, because the end of a secret may
/// be what tells it from a word.
const MAX_REDACTED_LEN: usize = 8 * MAX_LINE_LEN;
/// The maximum length of a quoted value in a message, in characters.
const MAX_QUOTE_LEN: usize = 80;

/// `text` on one line of at most 400 characters, without control characters, and without what looks like a secret.
pub fn one_line(text: &str) -> String {
    let head = text.char_indices().nth(MAX_REDACTED_LEN).map_or(text, |(end, _)| &text[..end]);
    redact(head).chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_LINE_LEN).collect()
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
