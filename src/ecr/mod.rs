//! Tokens from AWS: the port through which they are minted, its implementation, and the shared cache.

pub mod aws;
pub mod cache;

#[cfg(test)]
mod tests;

use futures::future::BoxFuture;
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::core::identity::TokenKey;

/// What AWS answered, before anything is made of it.
pub struct Minted {
    /// `authorizationToken`: base64 of `AWS:PASSWORD`.
    pub authorization: Zeroizing<String>,
    /// `expiresAt` by AWS's clock, if it was there.
    pub expires_at: Option<Timestamp>,
    /// AWS's clock: the reply's `Date`.
    pub server_time: Option<Timestamp>,
    /// `proxyEndpoint`, if it was there.
    pub proxy_endpoint: Option<String>,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The token.
    pub key: TokenKey,
    /// Whether the call goes to the dual-stack name of the endpoint; the token is the same.
    pub dual_stack: bool,
}

/// The port: one call, one new token.
pub trait Mint: Send + Sync + 'static {
    /// Asks AWS for a token. Every call ends within a bounded time.
    fn mint<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<Minted, MintError>>;
}

/// The kinds of failure; the names are the metric's label values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MintErrorKind {
    /// AWS refused the principal.
    AccessDenied,
    /// AWS refused to have the role assumed: its trust policy, or the caller's own.
    RoleRefused,
    /// The session policy takes more space than AWS has for it.
    PolicyTooLarge,
    /// AWS asked to slow down.
    Throttled,
    /// AWS did not answer in time.
    Timeout,
    /// AWS could not be reached.
    Unreachable,
    /// AWS said that it is out of order (5xx).
    ServerError,
    /// There are no credentials to ask with.
    Credentials,
    /// The answer was no answer of this API.
    Malformed,
    /// The token had expired, or had no expiry, when it came.
    Expired,
    /// The token would end before the one it should replace.
    ShorterLived,
    /// Anything else that AWS refused.
    Other,
}

impl MintErrorKind {
    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccessDenied => "access_denied",
            Self::RoleRefused => "role_refused",
            Self::PolicyTooLarge => "policy_too_large",
            Self::Throttled => "throttled",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::ServerError => "server_error",
            Self::Credentials => "credentials",
            Self::Malformed => "malformed",
            Self::Expired => "expired",
            Self::ShorterLived => "shorter_lived",
            Self::Other => "other",
        }
    }
}

/// Why there is no (better) token. The message is bounded, and holds nothing of a reply but the error message
/// that AWS words for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct MintError {
    /// Its kind.
    pub kind: MintErrorKind,
    /// What happened, and what to do about it.
    pub message: String,
}

impl MintError {
    /// An error with a message of ours.
    pub fn new(kind: MintErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}
