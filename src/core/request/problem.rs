//! Problems in a request: the annotation, the value and the remedy.

use crate::core::{EventReason, PREFIX, quote};

/// A condition that the owner of the namespace should know about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    pub reason: EventReason,
    /// The key of the annotation, or the name of the Secret: all problems of one reason and subject are one Event.
    pub subject: String,
    /// The cause and the remedy. For an annotation: its key, the value and a valid value.
    pub message: String,
}

impl Problem {
    /// An invalid value of an annotation.
    pub fn invalid(key: &str, message: &str) -> Self {
        Self::of(EventReason::InvalidAnnotation, key, message)
    }

    /// An item that needs the controller's region, which is unknown. The environment of the controller is the cause, so
    /// nothing is removed.
    pub fn no_region(key: &str, item: &str) -> Self {
        let item = quote(item);
        let message = format!("{item} needs the controller's region, which is unknown: set AWS_REGION");
        Self::of(EventReason::RegionUnknown, key, &message)
    }

    /// A value of an annotation that is not granted.
    pub fn ungranted(key: &str, message: &str) -> Self {
        Self::of(EventReason::NotGranted, key, message)
    }

    fn of(reason: EventReason, key: &str, message: &str) -> Self {
        Self { reason, subject: key.to_owned(), message: format!("{PREFIX}{key}: {message}") }
    }
}
