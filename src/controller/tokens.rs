//! The shared token cache: one call at a time for each key, and one token for all namespaces with that key. Nothing
//! blocks on AWS: a namespace that needs a pending token is reconciled when the call ends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::core::grants::{TokenKey, TokenRequest};
use crate::core::plan::Backoff;
use crate::core::planted::{Bug, planted};
use crate::core::secret::{FetchedToken, RefreshPolicy, Token, TokenError, TokenErrorKind, skew};
use crate::core::{Jitter, Now};

/// The maximum number of concurrent calls to AWS.
const MAX_CALLS: usize = 16;
/// Above this number of keys, those without a live token are dropped.
const MAX_KEYS: usize = 16_384;
/// The maximum number of endpoints without a live token, because namespace owners can invent regions.
const MAX_DEAD_ENDPOINTS: usize = 64;
/// The minimum time between two successful calls for one key, however short the lifetime of its tokens is.
const MIN_INTERVAL: SignedDuration = SignedDuration::from_secs(5);
/// A failed key that no namespace has requested for this long is dropped.
const FORGET_AFTER: SignedDuration = SignedDuration::from_mins(5);
/// A key is fetched for requested renewals at most once in this time, and so is what one namespace requests.
pub const RENEW_INTERVAL: SignedDuration = SignedDuration::from_mins(5);
/// How long a write waits for a slow endpoint before it proceeds without its token.
pub const MAX_WAIT: SignedDuration = SignedDuration::from_secs(2);

/// The reply of AWS to a request for a token.
pub type FetchResult = Result<FetchedToken, TokenError>;

/// The state of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// The token needs no renewal yet.
    Fresh,
    /// The last call failed. The token, if there is one, is old or expired.
    Failing { error: TokenError, retry_at: Timestamp },
    /// A call is queued or running.
    Pending { since: Timestamp },
    /// The token needs no renewal yet, but it is older than an annotation requests, and no call may be made for that until
    /// then.
    Held { until: Timestamp },
}

/// A renewal that an annotation requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenewalRequest {
    /// The time before which the token may not have been issued.
    pub issued_after: Timestamp,
    /// Until when no call may be made for the namespace.
    pub held_until: Option<Timestamp>,
}

/// The best token of a key, and the state of the key.
#[derive(Clone, Debug)]
pub struct CachedToken {
    pub token: Option<Arc<Token>>,
    pub state: KeyState,
    /// Whether this lookup queued a call because a renewal was requested.
    pub renews: bool,
}

/// The outcome of a call.
pub struct FetchOutcome {
    /// The token in use, or why there is no new one.
    pub result: Result<Arc<Token>, TokenError>,
    /// The difference between the clocks, if AWS would reject signatures because of it.
    pub skew: Option<Duration>,
    /// The namespaces that wait for the token.
    pub waiters: BTreeSet<Arc<str>>,
}

#[derive(Default)]
struct CacheEntry {
    token: Option<Arc<Token>>,
    /// When the current call was requested.
    pending_since: Option<Timestamp>,
    /// When the current call was started.
    called_at: Option<Timestamp>,
    failures: u32,
    failed: Option<(TokenError, Timestamp)>,
    not_before: Option<Timestamp>,
    /// When the last call for a requested renewal was queued, or made if it succeeded.
    renewed_at: Option<Timestamp>,
    /// The time before which the token in use may not have been issued.
    issued_after: Option<Timestamp>,
    waiters: BTreeSet<Arc<str>>,
}

/// The tokens of all keys.
pub struct TokenCache {
    policy: RefreshPolicy,
    jitter: Jitter,
    entries: BTreeMap<TokenKey, CacheEntry>,
    queued: VecDeque<TokenRequest>,
    running: usize,
    interval: Duration,
    next_call: Duration,
}

impl TokenCache {
    /// Returns an empty cache, which starts at most this many calls per second: each of ten thousand namespaces may
    /// have a separate key.
    pub fn new(policy: RefreshPolicy, jitter: Jitter) -> Self {
        Self {
            policy,
            jitter,
            entries: BTreeMap::new(),
            queued: VecDeque::new(),
            running: 0,
            interval: Duration::from_secs(1) / policy.tokens_per_second.max(1),
            next_call: Duration::ZERO,
        }
    }

    /// Returns the token of a request, and queues a call if one is due or a renewal is requested. `waiter` is returned when a
    /// pending call ends.
    pub fn lookup(
        &mut self,
        request: &TokenRequest,
        renewal: Option<RenewalRequest>,
        waiter: &Arc<str>,
        now: Now,
    ) -> CachedToken {
        let shared = planted(Bug::ShareTokens)
            .then(|| self.entries.keys().find(|k| k.endpoint == request.key.endpoint));
        let key = &shared.flatten().unwrap_or(&request.key).clone();
        if !self.entries.contains_key(key)
            && let Some(state) = self.make_room(key, now)
        {
            return CachedToken { token: None, state, renews: false };
        }
        let entry = self.entries.entry(key.clone()).or_default();
        let mut state = entry.state(self.policy, now);
        let renewal =
            renewal.filter(|renewal| state == KeyState::Fresh && entry.is_older(renewal.issued_after));
        if let Some(renewal) = renewal {
            state = entry.renewal_state(renewal, now);
        }
        let renews = renewal.is_some() && entry.renewed_at == Some(now.wall);
        let token = entry.token.clone();
        if let KeyState::Pending { .. } = state {
            entry.waiters.insert(waiter.clone());
            if entry.pending_since.is_none() {
                entry.pending_since = Some(now.wall);
                self.queued.push_back(request.clone());
            }
        }
        CachedToken { token, state, renews }
    }

    /// The next call to start, if one may start now.
    pub fn start_call(&mut self, now: Now) -> Option<TokenRequest> {
        if self.running >= MAX_CALLS || self.next_call > now.mono {
            return None;
        }
        let request = self.queued.pop_front()?;
        if let Some(entry) = self.entries.get_mut(&request.key) {
            entry.called_at = Some(now.wall);
        }
        self.running += 1;
        self.next_call = self.next_call.max(now.mono) + self.interval;
        Some(request)
    }

    /// How long until the next queued call may start; `None` if none is queued or too many are running.
    pub fn time_to_next_call(&self, now: Now) -> Option<Duration> {
        let may_start = !self.queued.is_empty() && self.running < MAX_CALLS;
        may_start.then(|| self.next_call.saturating_sub(now.mono))
    }

    /// Records the result of a call.
    pub fn finish_call(&mut self, key: &TokenKey, result: FetchResult, now: Now) -> FetchOutcome {
        self.running = self.running.saturating_sub(1);
        let entry = self.entries.entry(key.clone()).or_default();
        entry.pending_since = None;
        let waiters = mem::take(&mut entry.waiters);
        let skew = result.as_ref().ok().and_then(|reply| skew(reply.server_time?, now.wall));
        let result = result.and_then(|reply| entry.accept(reply, now));
        match &result {
            Ok(_) => {
                entry.failures = 0;
                entry.failed = None;
                entry.not_before = Some(now.after(MIN_INTERVAL));
            }
            Err(error) => {
                entry.failures = entry.failures.saturating_add(1);
                let outdated =
                    matches!(error.kind, TokenErrorKind::ExpiredToken | TokenErrorKind::ShorterLivedToken);
                let backoff = if outdated { Backoff::EXPIRED_TOKENS } else { Backoff::CALLS };
                let retry_at = now.after(backoff.delay(entry.failures, self.jitter, key));
                entry.failed = Some((error.clone(), retry_at));
            }
        }
        FetchOutcome { result, skew, waiters }
    }

    #[cfg(feature = "simulation")]
    pub fn key_count(&self) -> usize {
        self.entries.len()
    }

    /// Whether a call is queued or running.
    pub fn is_busy(&self) -> bool {
        self.running > 0 || !self.queued.is_empty()
    }

    /// Evicts keys in favor of a new one. Returns the state of the new key if the cache does not accept it.
    fn make_room(&mut self, key: &TokenKey, now: Now) -> Option<KeyState> {
        let is_live = |entry: &CacheEntry| entry.token.as_ref().is_some_and(|token| token.is_live(now));
        if self.entries.len() >= MAX_KEYS {
            self.entries.retain(|_, entry| entry.pending_since.is_some() || is_live(entry));
        }
        // A namespace that still needs a key requests it again as soon as it may.
        self.entries.retain(|_, entry| is_live(entry) || !entry.is_abandoned(now));
        let dead = self.entries.iter().filter(|(_, entry)| !is_live(entry));
        let endpoints: BTreeSet<_> = dead.map(|(key, _)| &key.endpoint).collect();
        if endpoints.len() < MAX_DEAD_ENDPOINTS || endpoints.contains(&key.endpoint) {
            return None;
        }
        let message = format!(
            "no token is available for {MAX_DEAD_ENDPOINTS} regions that this cluster requests, so the controller requests no \
             token for another one: correct the annotations that name these regions, and wait 5 minutes"
        );
        let error = TokenError::new(TokenErrorKind::Other, message);
        Some(KeyState::Failing { error, retry_at: now.after(Backoff::CALLS.cap) })
    }
}

impl CacheEntry {
    fn is_abandoned(&self, now: Now) -> bool {
        let retry_at = self.failed.as_ref().map(|(_, retry_at)| *retry_at);
        let forgotten = retry_at.and_then(|at| at.checked_add(FORGET_AFTER).ok());
        self.pending_since.is_none() && forgotten.is_some_and(|at| at < now.wall)
    }

    fn state(&self, policy: RefreshPolicy, now: Now) -> KeyState {
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
    fn is_older(&self, time: Timestamp) -> bool {
        self.token.as_ref().is_some_and(|token| !token.is_issued_after(time))
    }

    /// The state of a key whose token needs no renewal, but is older than an annotation requests.
    fn renewal_state(&mut self, renewal: RenewalRequest, now: Now) -> KeyState {
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
    fn accept(&mut self, reply: FetchedToken, now: Now) -> Result<Arc<Token>, TokenError> {
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
}
