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

/// The number with the noun in its singular or plural: `1 namespace`, `0 namespaces`.
pub fn counted(count: usize, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_singular() {
        let all = [0, 1, 2].map(|count| counted(count, "more secret"));
        assert_eq!(all, ["0 more secrets", "1 more secret", "2 more secrets"]);
    }

    /// With a line break or an escape sequence, an annotation could forge a line of the log or recolor it, and with a
    /// bidirectional control show another value.
    const FORGED: &str = "x\n2026-01-01T00:00:00Z ERROR forged\r\u{1b}[31m\u{202e}gro.live\u{200b}\u{0}";

    #[test]
    fn a_quoted_value_has_no_line_break_escape_sequence_or_invisible_character() {
        let text = quote(FORGED);
        assert!(text.is_ascii() && !text.contains(char::is_control), "{text}");
        assert!(text.contains("x\\n2026") && text.contains("\\u{202e}"), "{text}");
        assert!(quote(&"\u{1b}".repeat(1_000)).ends_with("… (1000 bytes)"));
    }

    #[test]
    fn a_message_of_a_server_is_one_short_line() {
        let text = one_line(&FORGED.repeat(100));
        assert!(!text.contains(char::is_control), "{text}");
        assert_eq!(text.chars().count(), MAX_LINE_LEN);
    }
}
