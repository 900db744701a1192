//! Functions that validate a value, with the path of its field in the error.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use crate::core::quote;

/// Why a configuration is rejected.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("--config {}: cannot read the file: {source}", .path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// The file does not follow the schema.
    #[error("--config {}: {source}", .path.display())]
    Parse { path: PathBuf, source: Box<serde_saphyr::Error> },
    /// A value is not valid. `field` is its path, such as `identities[0].roleArn`; `problem` quotes it and describes a
    /// valid one.
    #[error("configuration: {field}: {problem}")]
    Invalid { field: String, problem: String },
}

pub(super) fn invalid(field: impl Display, problem: impl Display) -> ConfigError {
    ConfigError::Invalid { field: field.to_string(), problem: problem.to_string() }
}

/// Returns an error with `problem` unless the value is valid.
pub(super) fn check<P: Display>(
    field: impl Display,
    is_valid: bool,
    problem: impl FnOnce() -> P,
) -> Result<(), ConfigError> {
    if is_valid { Ok(()) } else { Err(invalid(field, problem())) }
}

pub(super) fn parse<T: FromStr<Err: Display>>(field: impl Display, text: &str) -> Result<T, ConfigError> {
    text.parse().map_err(|error| invalid(field, error))
}

/// Parses the items of a list.
pub(super) fn parse_each<T: FromStr<Err: Display>>(
    list: impl Display,
    texts: &[String],
) -> Result<Vec<T>, ConfigError> {
    let items = texts.iter().enumerate();
    items.map(|(index, text)| parse(format_args!("{list}[{index}]"), text)).collect()
}

/// The requirements of [`is_label`], for messages.
pub(super) const LABEL_EXPECTED: &str =
    "expected at most 63 characters of a-z, 0-9, - and ., beginning and ending with a letter or digit";

/// A name that is also valid as the value of a label.
pub(super) fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_object_name(text)
}

/// The name of an object
/// (<https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names>).
pub(super) fn is_object_name(text: &str) -> bool {
    let is_alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= 253 && text.split('.').all(|part| is_word(part, is_alphanumeric, "-"))
}

/// Whether the text begins and ends with an alphanumeric character, and the rest is alphanumeric or in `others`.
pub(super) fn is_word(text: &str, is_alphanumeric: impl Fn(char) -> bool + Copy, others: &str) -> bool {
    text.starts_with(is_alphanumeric)
        && text.ends_with(is_alphanumeric)
        && text.chars().all(|c| is_alphanumeric(c) || others.contains(c))
}

/// Accepts valid keys of labels and annotations only
/// (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>).
pub(super) fn check_label_key(field: impl Display, key: &str) -> Result<(), ConfigError> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let is_name = is_label_word(name);
    check(field, is_name && prefix.is_none_or(is_object_name), || {
        format!("{}: expected a label key, such as team or example.com/team", quote(key))
    })
}

/// The requirements of [`is_label_value`], for messages.
pub(super) const LABEL_VALUE_EXPECTED: &str = "expected a label value: at most 63 letters, digits, -, _ and ., beginning and \
                                               ending with a letter or digit";

pub(super) fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_label_word(text)
}

fn is_label_word(text: &str) -> bool {
    text.len() <= 63 && is_word(text, |c| c.is_ascii_alphanumeric(), "-_.")
}
