//! Problems in a request: the annotation, the value and the remedy.

use crate::core::{EventReason, PREFIX, quote};

/// A condition that the owner of the namespace should know about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    pub reason: EventReason,
    /// The cause and the remedy. For an annotation: its key, the value and a valid value.
    pub message: String,
}

impl Problem {
    /// An invalid value of an annotation.
    pub fn invalid(key: &str, message: &str) -> Self {
        Self { reason: EventReason::InvalidAnnotation, message: format!("{PREFIX}{key}: {message}") }
    }

    /// A value of an annotation that is not granted.
    pub fn ungranted(key: &str, message: &str) -> Self {
        Self { reason: EventReason::NotGranted, message: format!("{PREFIX}{key}: {message}") }
    }
}

/// The message for an item that needs the controller's region, which is unknown.
pub fn no_region(item: &str) -> String {
    format!("{} needs the controller's region, which is unknown: set AWS_REGION", quote(item))
}
