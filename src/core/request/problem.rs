//! Problems in a request: the annotation, the value and the remedy.

use crate::core::{PREFIX, quote};

/// A value of an annotation that is invalid or not granted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    /// Whether a grant is missing; otherwise the value is invalid.
    pub ungranted: bool,
    /// The annotation, the value and a valid value.
    pub message: String,
}

impl Problem {
    /// An invalid value.
    pub fn invalid(key: &str, message: &str) -> Self {
        Self { ungranted: false, message: format!("{PREFIX}{key}: {message}") }
    }

    /// A value that is not granted.
    pub fn ungranted(key: &str, message: &str) -> Self {
        Self { ungranted: true, message: format!("{PREFIX}{key}: {message}") }
    }
}

/// The message for an item that needs the controller's region, which is unknown.
pub fn no_region(item: &str) -> String {
    format!("{} needs the controller's region, which is unknown: set AWS_REGION", quote(item))
}
