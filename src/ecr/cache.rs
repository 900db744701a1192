//! The shared cache: one mint at a time for each key, and one token for all who need it.
//!
//! It is owned by the controller's loop and takes the time as an argument; only the calls themselves run
//! elsewhere. Nobody ever blocks on AWS: who asks too early is remembered, and named when the answer is there.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Ask, Mint, MintError, MintErrorKind, Minted};
use crate::core::backoff::Backoff;
use crate::core::identity::TokenKey;
use crate::core::token::{RefreshPolicy, Token, by_local_clock, skew};

/// Calls to AWS at the same time.
const CONCURRENT_MINTS: usize = 16;
/// Distinct keys that are remembered; beyond it those without a live token make room.
const MOST_KEYS: usize = 16_384;
/// Distinct endpoints without a live token that are asked; regions are names that a stranger may make up.
const MOST_ENDPOINTS: usize = 64;
/// No key asks again within this time of a success, however short its tokens live.
const FLOOR: SignedDuration = SignedDuration::from_secs(5);
/// A key that failed and was not asked for again within this time has no one who needs it.
const ABANDONED: SignedDuration = SignedDuration::from_mins(5);
/// How long a write waits for one slow endpoint before it goes on without it.
pub const PATIENCE: SignedDuration = SignedDuration::from_secs(2);

/// How the tokens of a key stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The token is as good as AWS gives them.
    Fresh,
    /// The last try failed; the token, if there is one, is an older or an expired one.
    Failing {
        /// Why.
        error: MintError,
        /// When the next try is due.
        retry_at: Timestamp,
    },
    /// A call is under way; the waiter will be named.
    Pending {
        /// Since when.
        since: Timestamp,
    },
}

/// The answer to who asks for a token.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// The best token there is.
    pub token: Option<Arc<Token>>,
    /// How that is.
    pub state: State,
}

/// A call that ended.
pub struct Finished {
    key: TokenKey,
    result: Result<Minted, MintError>,
    took: Duration,
}

/// What a call that ended means.
pub struct Outcome {
    /// What was asked for.
    pub key: TokenKey,
    /// The token that is in use now, or why there is no new one.
    pub result: Result<Arc<Token>, MintError>,
    /// How long the call took.
    pub took: Duration,
    /// How far AWS's clock is from ours, if it matters.
    pub skew: Option<Duration>,
    /// Who waited for it.
    pub waiters: HashSet<Arc<str>>,
}

#[derive(Default)]
struct Slot {
    token: Option<Arc<Token>>,
    since: Option<Timestamp>,
    failures: u32,
    failed: Option<(MintError, Timestamp)>,
    not_before: Option<Timestamp>,
    waiters: HashSet<Arc<str>>,
}

/// The tokens of all keys.
pub struct Tokens {
    mint: Arc<dyn Mint>,
    policy: RefreshPolicy,
    slots: HashMap<TokenKey, Slot>,
    calls: JoinSet<Finished>,
    permits: Arc<Semaphore>,
    interval: Duration,
    next_call: Instant,
}

impl Tokens {
    /// An empty cache in front of `mint`, which is asked at most so many times in a second: ten thousand namespaces
    /// may each have a restriction of their own.
    pub fn new(mint: Arc<dyn Mint>, policy: RefreshPolicy, mints_per_second: u32) -> Self {
        let permits = Arc::new(Semaphore::new(CONCURRENT_MINTS));
        let interval = Duration::from_secs(1) / mints_per_second.max(1);
        let (slots, calls, next_call) = (HashMap::new(), JoinSet::new(), Instant::now());
        Self { mint, policy, slots, calls, permits, interval, next_call }
    }

    /// The token that is asked for, starting a call when one is wanted and due. `waiter` is named in the
    /// [`Outcome`] of a call that is under way.
    pub fn lookup(&mut self, ask: &Ask, waiter: &Arc<str>, now: Timestamp) -> Lookup {
        let key = &ask.key;
        if !self.slots.contains_key(key)
            && let Some(refusal) = self.make_room(key, now)
        {
            return Lookup { token: None, state: refusal };
        }
        let slot = self.slots.entry(key.clone()).or_default();
        let state = slot.state(self.policy, now);
        let token = slot.token.clone();
        if let State::Pending { .. } = state {
            slot.waiters.insert(waiter.clone());
            if slot.since.is_none() {
                slot.since = Some(now);
                let turn = self.next_call.max(Instant::now());
                self.next_call = turn + self.interval;
                self.calls.spawn(call(self.mint.clone(), self.permits.clone(), ask.clone(), turn));
            }
        }
        Lookup { token, state }
    }

    /// Waits for the next call to end; for ever, while none is under way.
    pub async fn next(&mut self) -> Finished {
        match self.calls.join_next().await {
            Some(Ok(finished)) => finished,
            // A panic in a call is a bug, and takes the process with it like one anywhere else.
            Some(Err(error)) => panic!("a token call ended abnormally: {error}"),
            None => std::future::pending().await,
        }
    }

    /// Takes in a call that ended.
    pub fn finish(&mut self, finished: Finished, now: Timestamp) -> Outcome {
        let Finished { key, result, took } = finished;
        let slot = self.slots.entry(key.clone()).or_default();
        slot.since = None;
        let waiters = mem::take(&mut slot.waiters);
        let skew = result.as_ref().ok().and_then(|minted| skew(minted.server_time?, now));
        let result = result.and_then(|minted| slot.accept(minted, now));
        match &result {
            Ok(_) => {
                slot.failures = 0;
                slot.failed = None;
                slot.not_before = now.checked_add(FLOOR).ok();
            }
            Err(error) => {
                slot.failures = slot.failures.saturating_add(1);
                let late = matches!(error.kind, MintErrorKind::Expired | MintErrorKind::ShorterLived);
                let backoff = if late { Backoff::EXPIRED_TOKENS } else { Backoff::CALLS };
                let retry_at = now.checked_add(backoff.delay(slot.failures, &key)).unwrap_or(now);
                slot.failed = Some((error.clone(), retry_at));
            }
        }
        Outcome { key, result, took, skew, waiters }
    }

    /// Every key that has a token, and when that expires.
    pub fn expirations(&self) -> impl Iterator<Item = (&TokenKey, Timestamp)> {
        self.slots.iter().filter_map(|(key, slot)| Some((key, slot.token.as_ref()?.expires_at())))
    }

    /// Whether a call is under way.
    pub fn is_busy(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Makes room for a new key, or refuses it.
    fn make_room(&mut self, key: &TokenKey, now: Timestamp) -> Option<State> {
        let is_live = |slot: &Slot| slot.token.as_ref().is_some_and(|token| token.is_live(now));
        if self.slots.len() >= MOST_KEYS {
            self.slots.retain(|_, slot| slot.since.is_some() || is_live(slot));
        }
        // Who still needs a token asks again as soon as it may; what nobody asked for since is not needed.
        self.slots.retain(|_, slot| is_live(slot) || !slot.is_abandoned(now));
        let dead = self.slots.iter().filter(|(_, slot)| !is_live(slot));
        let endpoints: HashSet<_> = dead.map(|(key, _)| &key.endpoint).collect();
        if endpoints.len() < MOST_ENDPOINTS || endpoints.contains(&key.endpoint) {
            return None;
        }
        let message = format!(
            "this cluster asks for tokens of more than {MOST_ENDPOINTS} regions that give none: correct the annotations \
             that name them; five minutes later there is room for others"
        );
        let retry_at = now.checked_add(Backoff::CALLS.cap).unwrap_or(now);
        Some(State::Failing { error: MintError::new(MintErrorKind::Other, message), retry_at })
    }
}

impl Slot {
    fn is_abandoned(&self, now: Timestamp) -> bool {
        let failed = self.failed.as_ref().and_then(|(_, retry_at)| retry_at.checked_add(ABANDONED).ok());
        self.since.is_none() && failed.is_some_and(|until| until < now)
    }

    fn state(&self, policy: RefreshPolicy, now: Timestamp) -> State {
        if let Some(token) = self.token.as_ref().filter(|token| token.is_live(now))
            && self.failed.is_none()
            && (now < token.renew_after(policy) || self.not_before.is_some_and(|floor| now < floor))
        {
            return State::Fresh;
        }
        if let Some(since) = self.since {
            return State::Pending { since };
        }
        if let Some((error, retry_at)) = &self.failed
            && *retry_at > now
        {
            return State::Failing { error: error.clone(), retry_at: *retry_at };
        }
        if let Some(retry_at) = self.not_before.filter(|floor| *floor > now) {
            let error =
                MintError::new(MintErrorKind::Expired, "the token lived no longer than a few seconds");
            return State::Failing { error, retry_at };
        }
        State::Pending { since: now }
    }

    /// Makes a token of the answer, and keeps it unless a better one lives.
    fn accept(&mut self, minted: Minted, now: Timestamp) -> Result<Arc<Token>, MintError> {
        let Minted { mut authorization, expires_at, server_time, proxy_endpoint } = minted;
        let expires_locally = expires_at.map(|at| by_local_clock(at, server_time, now));
        let token =
            Token::new(mem::take(&mut *authorization), now, expires_locally.unwrap_or(now), proxy_endpoint);
        let token =
            token.map_err(|error| MintError::new(MintErrorKind::Malformed, format!("AWS: {error}")))?;
        let token = Arc::new(token);
        let current = self.token.as_ref().filter(|current| current.is_live(now));
        if let Some(current) = current.filter(|current| current.expires_at() > token.expires_at()) {
            let message = format!(
                "AWS returned a token that ends before the one in use, which stays until {}",
                current.expires_at()
            );
            return Err(MintError::new(MintErrorKind::ShorterLived, message));
        }
        self.token = Some(token.clone());
        match expires_at {
            Some(_) if token.is_live(now) => Ok(token),
            Some(at) => Err(MintError::new(
                MintErrorKind::Expired,
                format!(
                    "AWS returned a token that expired at {at}, and nothing better lives: it is used as it is"
                ),
            )),
            None => Err(MintError::new(
                MintErrorKind::Expired,
                "AWS returned a token without expiresAt, and nothing better lives: it is used as it is",
            )),
        }
    }
}

async fn call(mint: Arc<dyn Mint>, permits: Arc<Semaphore>, ask: Ask, turn: Instant) -> Finished {
    tokio::time::sleep_until(turn).await;
    let _permit = permits.acquire_owned().await;
    let start = Instant::now();
    let result = mint.mint(&ask).await;
    Finished { key: ask.key, result, took: start.elapsed() }
}
