//! The shared token cache: one call at a time for each key, and one token for all namespaces with that key. Nothing
//! blocks on AWS: a namespace that needs a pending token is reconciled when the call ends.
//!
//! Each namespace has a share ([`share`]) of keys and new keys, and [`calls`] decides in which order calls start, so that no
//! namespace and no region delays another one. A key exists as long as the request of a namespace names it.

mod calls;
mod entry;
mod share;

use std::collections::{BTreeSet, HashMap};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use self::calls::{Calls, Group, Urgency};
use self::entry::CacheEntry;
use self::share::Share;
use super::tell::TokenExpiries;
use crate::core::aws::{Endpoint, skew};
use crate::core::grants::{Granted, TokenKey, TokenRequest};
use crate::core::planted::{Bug, planted};
use crate::core::secret::{FetchedToken, RefreshPolicy, Token, TokenError, TokenErrorKind, server_time};
use crate::core::{Jitter, Now};

/// The maximum number of keys.
const MAX_KEYS: usize = 16_384;
/// The minimum time between two successful calls for one key, however short the lifetime of its tokens is.
const MIN_INTERVAL: SignedDuration = SignedDuration::from_secs(5);
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
    /// No call may be made until then: the token is older than an annotation requests, but needs no renewal yet, or the
    /// namespace has used its share of new keys.
    Held { until: Timestamp },
}

/// A renewal that an annotation requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenewalRequest {
    /// The time before which the token may not have been issued.
    pub issued_after: Timestamp,
    /// Until when no call may be made for the namespace.
    pub held_until: Option<Timestamp>,
    /// Whether the entry in the Secret is older than requested.
    pub is_pending: bool,
}

/// A token that the Secret of a namespace needs.
#[derive(Clone, Copy)]
pub struct Want<'a> {
    pub request: &'a TokenRequest,
    /// When its entry in the Secret expires; `None` if it has none.
    pub expires_at: Option<Timestamp>,
    /// The renewal that the namespace requests.
    pub renewal: Option<RenewalRequest>,
}

/// Identifies a key as long as it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u64);

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

/// The tokens of all keys.
pub struct TokenCache {
    policy: RefreshPolicy,
    jitter: Jitter,
    ids: HashMap<TokenKey, KeyId>,
    entries: HashMap<KeyId, Box<CacheEntry>>,
    shares: HashMap<Arc<str>, Share>,
    calls: Calls,
    next_id: u64,
}

impl TokenCache {
    /// Returns an empty cache. Calls to the `configured` endpoints have permits of their own from the start.
    pub fn new(policy: RefreshPolicy, jitter: Jitter, configured: BTreeSet<Endpoint>) -> Self {
        Self {
            policy,
            jitter,
            ids: HashMap::new(),
            entries: HashMap::new(),
            shares: HashMap::new(),
            calls: Calls::new(policy.tokens_per_second, configured),
            next_id: 0,
        }
    }

    /// Returns the tokens that the Secret of a namespace needs, and queues the calls that are due or requested. The namespace
    /// is returned when a pending call ends. Keys that it named before, and does not name any more, are dropped, except for
    /// those of `kept`.
    pub fn lookup(
        &mut self,
        namespace: &Arc<str>,
        wants: &[Want<'_>],
        kept: Option<&Granted>,
        now: Now,
    ) -> Vec<CachedToken> {
        let held_until = self.set_keys(namespace, wants, kept, now);
        wants.iter().map(|want| self.lookup_one(namespace, want, held_until, now)).collect()
    }

    fn lookup_one(
        &mut self,
        namespace: &Arc<str>,
        want: &Want<'_>,
        held_until: Option<Timestamp>,
        now: Now,
    ) -> CachedToken {
        let shared = planted(Bug::ShareTokens)
            .then(|| self.ids.keys().find(|key| key.endpoint == want.request.key.endpoint));
        let id = self.ids.get(shared.flatten().unwrap_or(&want.request.key)).copied();
        let Some((id, entry)) = id.and_then(|id| Some((id, self.entries.get_mut(&id)?))) else {
            let until = held_until.unwrap_or(now.wall);
            return CachedToken { token: None, state: KeyState::Held { until }, renews: false };
        };
        entry.used_at = now.mono;
        entry.wanted_names[usize::from(want.request.dual_stack)] = true;
        let mut state = entry.state(self.policy, now);
        let is_renewed = |renewal: &RenewalRequest| entry.is_older(renewal.issued_after);
        let mut renewal = want.renewal.filter(|_| state == KeyState::Fresh).filter(is_renewed);
        if let Some(renewal) = renewal {
            state = entry.renewal_state(renewal, now);
        } else if entry.needs_first_token(&state) {
            // If the Secret waits for a requested renewal, this call counts as one.
            renewal = want.renewal.filter(|renewal| renewal.is_pending);
            entry.renewed_at = renewal.map(|_| now.wall).or(entry.renewed_at);
        }
        let renews = renewal.is_some() && entry.renewed_at == Some(now.wall);
        let token = entry.token.clone();
        if let KeyState::Pending { .. } = state {
            entry.waiters.insert(namespace.clone());
            let urgency =
                if entry.is_denied() { Urgency::Denied(now.wall) } else { Urgency::of(want.expires_at, now) };
            if entry.pending_since.is_none() {
                entry.pending_since = Some(now.wall);
                entry.queued = Some(urgency);
                let dual_stack = entry.next_name(want.request.dual_stack);
                entry.request = Some(Box::new(TokenRequest { dual_stack, ..want.request.clone() }));
                let group = Group::of(&entry.key, dual_stack);
                self.calls.push(id, group, urgency, namespace, want.expires_at.is_some());
            } else if let Some(before) = entry.queued {
                if want.expires_at.is_some() {
                    self.calls.claim(id, namespace);
                }
                if urgency < before {
                    entry.queued = Some(urgency);
                    self.calls.raise(id, &entry.queued_group(), (before, urgency), namespace);
                }
            }
        }
        CachedToken { token, state, renews }
    }

    /// A namespace needs no token any more.
    pub fn release(&mut self, namespace: &str) {
        let keys = self.shares.get_mut(namespace).map(|share| mem::take(&mut share.keys));
        for id in keys.unwrap_or_default() {
            self.drop_use(id);
        }
    }

    /// Drops the keys of a namespace that none of these requests names.
    pub fn retain(&mut self, namespace: &str, requests: [Option<&Granted>; 2]) {
        if requests == [None, None] {
            return self.release(namespace);
        }
        let Some(share) = self.shares.get_mut(namespace) else { return };
        let is_named = |id: &KeyId| {
            let key = self.entries.get(id).map(|entry| &entry.key);
            let mut assignments = requests.iter().flatten().flat_map(|granted| &granted.assignments);
            assignments.any(|assignment| Some(&assignment.request.key) == key)
        };
        let (named, dropped) = mem::take(&mut share.keys).into_iter().partition::<Vec<_>, _>(is_named);
        share.keys = named.into();
        for id in dropped {
            self.drop_use(id);
        }
    }

    /// Drops the calls that wait: another process is the leader now.
    pub fn stop_waiting(&mut self) {
        for (id, entry) in &mut self.entries {
            if let Some(urgency) = entry.queued.take() {
                self.calls.remove(*id, &entry.queued_group(), urgency);
                (entry.pending_since, entry.request) = (None, None);
            }
        }
    }

    /// Drops the keys of namespaces that do not exist any more.
    pub fn release_others(&mut self, exists: impl Fn(&str) -> bool) {
        let gone: Vec<_> = self.shares.keys().filter(|namespace| !exists(namespace)).cloned().collect();
        for namespace in gone {
            self.release(&namespace);
        }
    }

    /// Forgets the shares that do not matter any more. Call this now and then.
    pub fn sweep(&mut self, now: Now) {
        self.shares.retain(|_, share| !share.is_over(now.mono));
    }

    /// Sets the keys that a namespace needs for a write, and for the other one that is `kept`. Returns until when it waits for
    /// new ones.
    fn set_keys(
        &mut self,
        namespace: &Arc<str>,
        wants: &[Want<'_>],
        kept: Option<&Granted>,
        now: Now,
    ) -> Option<Timestamp> {
        let kept = kept.iter().flat_map(|granted| &granted.assignments);
        // The other write belongs to the same request, so its keys are new at the same time.
        let named = wants.iter().map(|want| &want.request.key);
        let named: Vec<_> = named.chain(kept.map(|assignment| &assignment.request.key)).collect();
        let new = named.iter().copied().filter(|key| !self.ids.contains_key(*key));
        let new: Vec<_> = new.collect::<BTreeSet<_>>().into_iter().collect();
        let share = self.shares.entry(namespace.clone()).or_default();
        let wait = if new.is_empty() { None } else { share.wait(&new, now.mono) };
        if wait.is_none() && !new.is_empty() {
            share.spend(&new, now.mono);
            for key in named.iter().filter(|key| new.contains(key)) {
                self.create(key, namespace);
            }
        }
        let keys: BTreeSet<_> = named.iter().filter_map(|key| self.ids.get(*key)).copied().collect();
        let share = self.shares.entry(namespace.clone()).or_default();
        let before = mem::replace(&mut share.keys, keys.iter().copied().collect());
        for id in keys.iter().filter(|id| !before.contains(id)) {
            if let Some(entry) = self.entries.get_mut(id) {
                entry.users += 1;
            }
        }
        for id in before.into_iter().filter(|id| !keys.contains(id)) {
            self.drop_use(id);
        }
        wait.map(|until| now.after(until.saturating_sub(now.mono)))
    }

    fn create(&mut self, key: &TokenKey, namespace: &Arc<str>) {
        if self.ids.contains_key(key) {
            return;
        }
        if self.entries.len() >= MAX_KEYS && !self.evict(namespace) {
            return;
        }
        let id = KeyId(self.next_id);
        self.next_id += 1;
        self.ids.insert(key.clone(), id);
        self.entries.insert(id, Box::new(CacheEntry::new(key.clone())));
    }

    /// Evicts a key for one of `namespace`: of the namespace that has most keys for itself, the least recently
    /// used one. Returns whether there is one.
    fn evict(&mut self, namespace: &Arc<str>) -> bool {
        let is_own = |id: &&KeyId| self.entries.get(id).is_some_and(|entry| entry.users == 1);
        let own = |share: &Share| share.keys.iter().filter(is_own).count();
        let most = self.shares.iter().max_by_key(|(name, share)| (own(share), *name == namespace, *name));
        let Some((largest, share)) = most else { return false };
        let used_at = |id: &KeyId| self.entries.get(id).map(|entry| entry.used_at);
        let oldest = share.keys.iter().filter(is_own).min_by_key(|id| (used_at(id), **id));
        let Some(id) = oldest.copied() else { return false };
        let largest = largest.clone();
        if let Some(share) = self.shares.get_mut(&largest) {
            share.keys = share.keys.iter().copied().filter(|key| *key != id).collect();
        }
        self.drop_use(id);
        true
    }

    /// One namespace less needs a key.
    fn drop_use(&mut self, id: KeyId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.users = entry.users.saturating_sub(1);
        }
        self.drop_unused(id);
    }

    /// Drops a key that no namespace needs, unless its call is running.
    fn drop_unused(&mut self, id: KeyId) {
        let is_used = |entry: &CacheEntry| entry.users > 0 || entry.called_at.is_some();
        if self.entries.get(&id).is_none_or(|entry| is_used(entry)) {
            return;
        }
        let Some(entry) = self.entries.remove(&id) else { return };
        self.ids.remove(&entry.key);
        if let Some(urgency) = entry.queued {
            self.calls.remove(id, &entry.queued_group(), urgency);
        }
    }

    /// The next call to start, if one may start now.
    pub fn start_call(&mut self, now: Now) -> Option<TokenRequest> {
        let id = self.calls.start(now)?;
        let entry = self.entries.get_mut(&id)?;
        entry.called_at = Some(now.wall);
        entry.queued = None;
        let request = entry.request.take()?;
        entry.called_dual_stack = request.dual_stack;
        Some(*request)
    }

    /// How long until the next queued call may start; `None` if none may before another one ends.
    pub fn time_to_next_call(&self, now: Now) -> Option<Duration> {
        self.calls.time_to_next(now)
    }

    /// Records the result of a call.
    pub fn finish_call(&mut self, key: &TokenKey, result: FetchResult, now: Now) -> FetchOutcome {
        // AWS rejects requests of a clock that differs too much, so most of these replies are errors.
        let skew = server_time(&result).and_then(|at| skew(at, now.wall));
        let id = self.ids.get(key).copied();
        let Some((id, entry)) = id.and_then(|id| Some((id, self.entries.get_mut(&id)?))) else {
            let error = TokenError::new(TokenErrorKind::Other, "no namespace needs the token any more");
            return FetchOutcome { result: Err(error), skew, waiters: BTreeSet::new() };
        };
        let group = Group::of(key, entry.called_dual_stack);
        self.calls.finish(&group, result.as_ref().map(drop).map_err(|error| error.kind));
        entry.pending_since = None;
        let waiters = mem::take(&mut entry.waiters);
        let result = result.and_then(|reply| entry.accept(reply, now));
        entry.called_at = None;
        entry.record(result.as_ref().err(), self.jitter, now);
        self.drop_unused(id);
        FetchOutcome { result, skew, waiters }
    }

    /// The earliest expiry of the tokens of each identity for each endpoint.
    pub fn expiries(&self) -> TokenExpiries {
        let mut earliest = TokenExpiries::new();
        for entry in self.entries.values() {
            if let Some(token) = &entry.token {
                let TokenKey { identity, endpoint, .. } = &entry.key;
                let expires_at = token.expires_at();
                let first = earliest.entry((identity.clone(), endpoint.clone())).or_insert(expires_at);
                *first = expires_at.min(*first);
            }
        }
        earliest
    }

    #[cfg(feature = "simulation")]
    pub fn token(&self, key: &TokenKey) -> Option<&Token> {
        self.entries.get(self.ids.get(key)?)?.token.as_deref()
    }

    #[cfg(feature = "simulation")]
    pub fn key_count(&self) -> usize {
        self.entries.len()
    }

    /// Whether a call is queued or running.
    pub fn is_busy(&self) -> bool {
        self.calls.is_busy()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::grants::Restriction;
    use crate::core::testing::{HOST, JITTER, at, request, settings};

    /// The token of one repository.
    fn narrowed(repository: &str) -> TokenRequest {
        let (granted, _) = settings().grants.assign("team-a", &request(&[HOST])).expect("granted");
        let mut request = granted.assignments[0].request.clone();
        request.key.restriction = Restriction::Pull([repository.parse().expect("a pattern")].into());
        request
    }

    fn name_keys(cache: &mut TokenCache, namespace: &str, prefix: &str, count: usize) {
        let requests: Vec<_> = (0..count).map(|n| narrowed(&format!("{prefix}/{n}"))).collect();
        name(cache, namespace, &requests, at(0));
    }

    fn name(cache: &mut TokenCache, namespace: &str, requests: &[TokenRequest], now: Now) {
        let want = |request| Want { request, expires_at: None, renewal: None };
        cache.lookup(&namespace.into(), &requests.iter().map(want).collect::<Vec<_>>(), None, now);
    }

    /// The numbers of the missing ones among the first `count` keys of a prefix.
    fn missing(cache: &TokenCache, prefix: &str, count: usize) -> Vec<usize> {
        let is_missing = |n: &usize| !cache.ids.contains_key(&narrowed(&format!("{prefix}/{n}")).key);
        (0..count).filter(is_missing).collect()
    }

    #[test]
    fn the_number_of_keys_is_bounded_even_if_the_namespaces_with_most_of_them_share_theirs() {
        let mut cache = TokenCache::new(settings().refresh, JITTER, settings().endpoints());
        for namespace in ["a", "b"] {
            name_keys(&mut cache, namespace, "shared", 64);
        }
        for n in 0..270 {
            name_keys(&mut cache, &format!("team-{n}"), &format!("team-{n}"), 62);
        }
        assert_eq!(cache.entries.len(), MAX_KEYS);
        assert!(cache.shares["a"].keys.len() == 64 && cache.shares["team-269"].keys.len() == 62);
    }

    #[test]
    fn above_the_bound_the_namespace_with_most_keys_loses_the_least_recently_used_one() {
        let mut cache = TokenCache::new(settings().refresh, JITTER, settings().endpoints());
        name_keys(&mut cache, "most", "most", 64);
        // Another namespace uses the first two later, and leaves.
        let later: Vec<_> = (0..2).map(|n| narrowed(&format!("most/{n}"))).collect();
        name(&mut cache, "guest", &later, at(1));
        cache.release("guest");
        let others = (MAX_KEYS - 64) / 60;
        for n in 0..others {
            name_keys(&mut cache, &format!("team-{n}"), &format!("team-{n}"), 60);
        }
        assert_eq!((cache.entries.len(), MAX_KEYS - 64), (MAX_KEYS, others * 60), "the cache is full");
        name_keys(&mut cache, "new", "new", 2);
        assert_eq!(cache.entries.len(), MAX_KEYS);
        assert_eq!(missing(&cache, "most", 64), [2, 3], "the oldest ones that the guest did not use");
        assert_eq!(cache.shares["most"].keys.len(), 62);
        let intact = (0..others).all(|n| missing(&cache, &format!("team-{n}"), 60).is_empty());
        assert!(intact && missing(&cache, "new", 2).is_empty());
    }
}
