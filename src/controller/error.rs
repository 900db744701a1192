//! The reasons why a request to the API server failed.

use std::time::Duration;

/// The outcome of a failed request. Messages are bounded and contain no response body. The name of a variant, in snake
/// case, is the value of the metric label `result`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum RequestError {
    /// Another field manager owns the fields (409), so this instance does not manage the object.
    #[error("another field manager owns it: {0}")]
    NotOwned(String),
    /// It has another type (422), which the API server never changes.
    #[error("it has another type: {0}")]
    OtherType(String),
    /// The object changed or was replaced since it was read (409, or 422 about its UID).
    #[error("it changed since it was read: {0}")]
    Conflict(String),
    #[error("it is immutable: {0}")]
    Immutable(String),
    /// The namespace does not exist or is being deleted.
    #[error("its namespace does not exist or is being deleted")]
    NamespaceGone,
    /// RBAC, or an admission webhook.
    #[error("{0}")]
    Forbidden(String),
    /// A `ValidatingAdmissionPolicy`. The API server may have evaluated an older version of the namespace.
    #[error("{0}")]
    AdmissionDenied(String),
    /// Any other 4xx.
    #[error("{0}")]
    Rejected(String),
    /// No response, or a 429 or 5xx, which may contain how long to wait (`Retry-After`).
    #[error("{message}")]
    Unavailable { message: String, retry_after: Option<Duration> },
    /// This process lost the Lease before or during the request.
    #[error("this process is no longer the leader")]
    NotLeader,
}

impl RequestError {
    /// A request without a response.
    pub fn unavailable(message: &str) -> Self {
        Self::Unavailable { message: message.to_owned(), retry_after: None }
    }

    /// How long the API server demands to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        if let Self::Unavailable { retry_after, .. } = self { *retry_after } else { None }
    }
}
