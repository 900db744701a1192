//! What is wrong with a request, in words that name the annotation, the value and the remedy.

use super::{PREFIX, quote};

/// Key, without the prefix: which registries; its presence opts in.
pub const REGISTRIES: &str = "registries";
/// Key, without the prefix: the Secret's name.
pub const SECRET_NAME: &str = "secret-name";
/// Key, without the prefix: the identities to choose among.
pub const ROLE: &str = "role";
/// Key, without the prefix: repository patterns.
pub const REPOSITORIES: &str = "repositories";
/// Key, without the prefix: service accounts.
pub const SERVICE_ACCOUNTS: &str = "service-accounts";

/// Something about a request that is wrong or not granted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    /// Whether a grant is missing, rather than a value wrong.
    pub ungranted: bool,
    /// The annotation, the value and what would be right.
    pub message: String,
}

impl Problem {
    /// A value that is wrong.
    pub fn invalid(key: &str, message: &str) -> Self {
        Self { ungranted: false, message: format!("{PREFIX}{key}: {message}") }
    }

    /// A value that is not granted.
    pub fn ungranted(key: &str, message: &str) -> Self {
        Self { ungranted: true, message: format!("{PREFIX}{key}: {message}") }
    }
}

/// What an item is told that needs the controller's region where it has none.
pub fn no_region(item: &str) -> String {
    format!("{} needs the controller's region, and it has none: set AWS_REGION", quote(item))
}
