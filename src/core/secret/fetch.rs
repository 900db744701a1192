//! The reply of AWS to a request for a token, or why there is none.

use futures::future::BoxFuture;
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::credential::MalformedToken;
use super::token::{Token, by_local_clock};
use crate::core::grants::TokenRequest;

/// Where tokens come from: AWS, or a test.
pub trait TokenSource: Send + Sync {
    /// Fetches one new token. Every call ends within a bounded time.
    fn fetch_token<'a>(
        &'a self,
        request: &'a TokenRequest,
    ) -> BoxFuture<'a, Result<FetchedToken, TokenError>>;
}

/// The reply of `GetAuthorizationToken`.
pub struct FetchedToken {
    /// `authorizationToken`: base64 of `AWS:PASSWORD`.
    pub authorization: Zeroizing<String>,
    /// `expiresAt` by AWS's clock.
    pub expires_at: Option<Timestamp>,
    /// AWS's clock: the reply's `Date`.
    pub server_time: Option<Timestamp>,
    /// `proxyEndpoint`.
    pub proxy_endpoint: Option<String>,
}

impl Token {
    /// The token of a reply to a request that was sent at `asked`. Its lifetime is measured by AWS's clock and counts from
    /// the request, because the reply may have waited for a process that was frozen. A token without `expiresAt` counts as
    /// expired.
    pub fn from_reply(reply: FetchedToken, asked: Timestamp) -> Result<Self, MalformedToken> {
        let expires_at = reply.expires_at.map(|at| by_local_clock(at, reply.server_time, asked));
        Self::new(&reply.authorization, asked, expires_at.unwrap_or(asked), reply.proxy_endpoint)
    }
}

/// The kinds of failure. The name, in snake case, is the value of the metric label `result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum TokenErrorKind {
    AccessDenied,
    /// STS denied the session: the role's trust policy, or the caller's own policy.
    AssumeRoleDenied,
    /// The packed size of the session policy exceeds AWS's limit.
    PolicyTooLarge,
    Throttled,
    Timeout,
    Unreachable,
    /// AWS returned 5xx.
    ServerError,
    /// There are no valid credentials for the request.
    Credentials,
    InvalidResponse,
    /// The token had expired, or had no expiry, when it arrived.
    ExpiredToken,
    /// The token expires before the one that it would replace.
    ShorterLivedToken,
    Other,
}

impl TokenErrorKind {
    /// Whether AWS denied the request itself, so that the same one fails until a person changes something.
    pub fn is_denial(self) -> bool {
        matches!(self, Self::AccessDenied | Self::AssumeRoleDenied | Self::PolicyTooLarge)
    }
}

/// The clock of AWS when it replied, whether it returned a token or not.
pub fn server_time(reply: &Result<FetchedToken, TokenError>) -> Option<Timestamp> {
    reply.as_ref().map_or_else(|error| error.server_time, |reply| reply.server_time)
}

/// Why there is no token, or no better one. The message is bounded. From the reply it only contains AWS's error
/// message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TokenError {
    pub kind: TokenErrorKind,
    /// The failure and the remedy.
    pub message: String,
    /// The clock of AWS when it replied; `None` without a reply.
    pub server_time: Option<Timestamp>,
}

impl TokenError {
    pub fn new(kind: TokenErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), server_time: None }
    }

    /// The error, with the clock of AWS when it replied.
    #[must_use]
    pub fn at(self, server_time: Option<Timestamp>) -> Self {
        Self { server_time, ..self }
    }
}
