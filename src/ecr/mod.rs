//! Authorization tokens of Amazon ECR: the interface that fetches them, and its implementation with the AWS SDK.

pub mod aws;

use futures::future::BoxFuture;

use crate::core::grants::TokenRequest;
use crate::core::secret::{FetchedToken, TokenError};

/// Fetches authorization tokens.
pub trait TokenSource: Send + Sync + 'static {
    /// Fetches one new token. Every call ends within a bounded time.
    fn fetch_token<'a>(
        &'a self,
        request: &'a TokenRequest,
    ) -> BoxFuture<'a, Result<FetchedToken, TokenError>>;
}
