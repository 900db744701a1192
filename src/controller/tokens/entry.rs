//! One key of the token cache: its token, its failures, and when the next call is due.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::calls::{Group, Urgency};
use super::{KeyState, MIN_INTERVAL, RENEW_INTERVAL, RenewalRequest};
use crate::core::grants::{TokenKey, TokenRequest};
use crate::core::plan::Backoff;
use crate::core::planted::{Bug, planted};
use crate::core::secret::{FetchedToken, RefreshPolicy, Token, TokenError, TokenErrorKind};
use crate::core::{Jitter, Now};

/// After this many failures in a row a denial counts as one that lasts: changes of IAM take effect after seconds.
const DENIED_AFTER: u32 = 2;

/// The state of a key.
pub struct CacheEntry {
    pub key: TokenKey,
    /// The request of the call that waits or runs. Its session policy is as long as a short token, so none is kept for later.
    pub request: Option<Box<TokenRequest>>,
    /// The number of namespaces whose request names the key.
    pub users: usize,
    /// When it was last looked up, by the monotonic clock.
    pub used_at: Duration,
    pub token: Option<Arc<Token>>,
    /// When the current call was requested.
    pub pending_since: Option<Timestamp>,
    /// How urgent the call is, while it waits.
    pub queued: Option<Urgency>,
    /// When the current call was started; `None` if none is running.
    pub called_at: Option<Timestamp>,
    pub failures: u32,
    pub failed: Option<(TokenError, Timestamp)>,
    pub not_before: Option<Timestamp>,
    /// When the last call for a requested renewal was queued, or made if it succeeded.
    pub renewed_at: Option<Timestamp>,
    /// The time before which the token in use may not have been issued.
    pub issued_after: Option<Timestamp>,
    pub waiters: BTreeSet<Arc<str>>,
    /// Whether namespaces request the token for standard hosts, and for dual-stack hosts: these call another name.
    pub wanted_names: [bool; 2],
    /// Whether the last call was to the dual-stack name.
    pub called_dual_stack: bool,
}

impl CacheEntry {
    pub fn new(key: TokenKey) -> Self {
        Self {
            key,
            request: None,
            users: 0,
            used_at: Duration::ZERO,
            token: None,
            pending_since: None,
            queued: None,
            called_at: None,
            failures: 0,
            failed: None,
            not_before: None,
            renewed_at: None,
            issued_after: None,
            waiters: BTreeSet::new(),
            wanted_names: [false; 2],
            called_dual_stack: false,
        }
    }

    /// Whether the next call is to the dual-stack name, when a namespace with such a host, or without, asks for it. A name that
    /// cannot be reached must not keep those waiting who request the other one.
    pub fn next_name(&self, is_dual_stack: bool) -> bool {
        let has_failed = self.failed.is_some() && self.wanted_names == [true; 2];
        if has_failed { !self.called_dual_stack } else { is_dual_stack }
    }

    /// Whether AWS denied the last calls, so that the next one is likely to fail, too.
    pub fn is_denied(&self) -> bool {
        self.failures >= DENIED_AFTER && self.failed.as_ref().is_some_and(|(error, _)| error.kind.is_denial())
    }

    /// The group of the call that waits.
    pub fn queued_group(&self) -> Group {
        Group::of(&self.key, self.request.as_ref().is_some_and(|request| request.dual_stack))
    }

    pub fn state(&self, policy: RefreshPolicy, now: Now) -> KeyState {
        if let Some(token) = self.token.as_ref().filter(|token| token.is_live(now) && token.is_plausible(now))
            && self.failed.is_none()
            && !planted(Bug::NeverFresh)
            && (now.wall < token.successor_due_at(policy)
                || self.not_before.is_some_and(|at| now.is_within(at, MIN_INTERVAL)))
        {
            return KeyState::Fresh;
        }
        if let Some(since) = self.pending_since {
            return KeyState::Pending { since };
        }
        if let Some((error, retry_at)) = &self.failed
            && now.is_within(*retry_at, Backoff::CALLS.longest())
        {
            return KeyState::Failing { error: error.clone(), retry_at: *retry_at };
        }
        if let Some(retry_at) = self.not_before.filter(|at| now.is_within(*at, MIN_INTERVAL)) {
            let expired =
                || TokenError::new(TokenErrorKind::ExpiredToken, "the token expired within seconds");
            let error = self.failed.as_ref().map_or_else(expired, |(error, _)| error.clone());
            return KeyState::Failing { error, retry_at };
        }
        KeyState::Pending { since: now.wall }
    }

    /// Whether the token was issued before this time.
    pub fn is_older(&self, time: Timestamp) -> bool {
        self.token.as_ref().is_some_and(|token| !token.is_issued_after(time))
    }

    /// Whether a call is due because the key has no token yet, as after a start.
    pub fn needs_first_token(&self, state: &KeyState) -> bool {
        self.token.is_none() && self.pending_since.is_none() && matches!(state, KeyState::Pending { .. })
    }

    /// The state of a key whose token needs no renewal, but is older than an annotation requests.
    pub fn renewal_state(&mut self, renewal: RenewalRequest, now: Now) -> KeyState {
        if let Some(since) = self.pending_since {
            return KeyState::Pending { since };
        }
        let until = self.renewed_at.and_then(|at| at.checked_add(RENEW_INTERVAL).ok());
        let until =
            until.into_iter().chain(renewal.held_until).filter(|at| now.is_within(*at, RENEW_INTERVAL));
        if let Some(until) = until.max() {
            return KeyState::Held { until };
        }
        self.renewed_at = Some(now.wall);
        self.issued_after = self.issued_after.max(Some(renewal.issued_after));
        KeyState::Pending { since: now.wall }
    }

    /// Keeps the token of a reply, unless a live one expires later that is not older than requested.
    pub fn accept(&mut self, reply: FetchedToken, now: Now) -> Result<Arc<Token>, TokenError> {
        let expires_at = reply.expires_at;
        // The wall clock may have been set back since.
        let asked = self.called_at.take().map_or(now.wall, |at| at.min(now.wall));
        let token = Token::from_reply(reply, asked)
            .map_err(|error| TokenError::new(TokenErrorKind::InvalidResponse, format!("AWS: {error}")))?;
        let token = Arc::new(token);
        let is_enough =
            |current: &&Arc<Token>| self.issued_after.is_none_or(|at| current.is_issued_after(at));
        let current = self.token.as_ref().filter(|current| current.is_live(now) && current.is_plausible(now));
        let current = current.filter(is_enough);
        if let Some(current) = current.filter(|current| current.expires_at() > token.expires_at()) {
            let message = format!(
                "AWS returned a token that expires before the current one, which is used until {}",
                current.expires_at()
            );
            return Err(TokenError::new(TokenErrorKind::ShorterLivedToken, message));
        }
        if self.issued_after.is_some_and(|time| self.is_older(time)) {
            self.renewed_at = Some(asked);
        }
        self.token = Some(token.clone());
        let message = match expires_at {
            Some(_) if token.is_live(now) => return Ok(token),
            Some(at) => format!(
                "AWS returned a token that expired at {at}; it is used because there is no better one"
            ),
            None => {
                "AWS returned a token without expiresAt; it is used because there is no better one".to_owned()
            }
        };
        Err(TokenError::new(TokenErrorKind::ExpiredToken, message))
    }

    /// Records how a call ended.
    pub fn record(&mut self, error: Option<&TokenError>, jitter: Jitter, now: Now) {
        let Some(error) = error else {
            (self.failures, self.failed) = (0, None);
            self.not_before = Some(now.after(MIN_INTERVAL));
            return;
        };
        self.failures = self.failures.saturating_add(1);
        let outdated = matches!(error.kind, TokenErrorKind::ExpiredToken | TokenErrorKind::ShorterLivedToken);
        let backoff = if outdated { Backoff::EXPIRED_TOKENS } else { Backoff::CALLS };
        let retry_at = now.after(backoff.delay(self.failures, jitter, &self.key));
        self.failed = Some((error.clone(), retry_at));
    }
}
