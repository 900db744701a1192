//! The calls to AWS that wait: in which order they start, and how many run at once.
//!
//! A call belongs to a [`Group`], the calls that fail together: one name of an endpoint with the credentials of one identity. Groups that
//! hang must not delay others, and namespace owners can invent regions, so a group that never gave a token in this process
//! shares a few permits with others of its kind. Regions of the configuration have permits of their own from the start, and
//! regions of Secrets that were applied before have others than invented ones.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::KeyId;
use crate::core::Now;
use crate::core::aws::Endpoint;
use crate::core::grants::{IdentityName, TokenKey};
use crate::core::plan::URGENT;
use crate::core::secret::TokenErrorKind;
use crate::core::turns::Turns;

/// The maximum number of concurrent calls.
pub const MAX_CALLS: usize = 40;
/// Of one group that works.
const MAX_OF_GROUP: usize = 16;
/// Of one group that fails, or that gave no token yet.
const MAX_OF_FAILING: usize = 2;
/// Of all groups together that gave no token yet: those with applied Secrets, and the others.
const MAX_OF_POOL: usize = 8;
/// One in so many starts is a call that AWS denied the last time, if one waits: its cause may have been corrected.
const DENIED_TURN: u32 = 8;
/// How many namespaces one search for a call looks at.
const MAX_SEARCH: usize = 64;

/// The calls that fail together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    endpoint: Endpoint,
    identity: IdentityName,
    is_dual_stack: bool,
}

impl Group {
    /// The group of a key whose call is to the dual-stack name, or not.
    pub fn of(key: &TokenKey, is_dual_stack: bool) -> Self {
        let TokenKey { endpoint, identity, .. } = key.clone();
        Self { endpoint, identity, is_dual_stack }
    }

    /// The name of its turn.
    fn turn(&self) -> Arc<str> {
        format!("{} {} {}", self.endpoint, self.identity.as_str(), self.is_dual_stack).into()
    }
}

/// How urgent a call is, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// A Secret has expired or will soon.
    Expiring(Timestamp),
    /// A namespace has no Secret.
    New,
    /// A Secret is renewed, which expires then.
    Renewal(Timestamp),
    /// AWS denied the last call, and this one was requested then: thousands of them must not delay others.
    Denied(Timestamp),
}

impl Urgency {
    /// The urgency for a Secret that expires at this time; `None` if there is none.
    pub fn of(expires_at: Option<Timestamp>, now: Now) -> Self {
        match expires_at {
            None => Self::New,
            Some(at) if now.until(at) <= URGENT => Self::Expiring(at),
            Some(at) => Self::Renewal(at),
        }
    }
}

/// The state of a group.
#[derive(Default)]
struct GroupState {
    running: usize,
    /// Whether it gave a token in this process, or is a part of the configuration.
    is_known: bool,
    /// Whether its Secrets were applied before.
    is_applied: bool,
    is_failing: bool,
    ordered: BTreeSet<(Urgency, KeyId)>,
    new: FairQueue,
}

impl GroupState {
    fn has_permit(&self) -> bool {
        self.running < if self.is_failing || !self.is_known { MAX_OF_FAILING } else { MAX_OF_GROUP }
    }

    /// The urgency of its most urgent call.
    fn first(&self) -> Option<Urgency> {
        let ordered = self.ordered.first().map(|(urgency, _)| *urgency);
        ordered.into_iter().chain((!self.new.is_empty()).then_some(Urgency::New)).min()
    }

    fn push(&mut self, id: KeyId, urgency: Urgency, namespace: &Arc<str>) {
        match urgency {
            Urgency::New => self.new.push(namespace, id),
            ordered => _ = self.ordered.insert((ordered, id)),
        }
    }

    fn pop(&mut self) -> Option<KeyId> {
        if self.first()? == Urgency::New { self.new.pop(|_| true) } else { Some(self.ordered.pop_first()?.1) }
    }
}

/// Groups that are not known share permits: those with applied Secrets in turn by group, because each of them may work, and
/// the others in turn by namespace, because namespaces can invent regions.
#[derive(Default)]
struct Pool {
    queue: FairQueue,
    /// Whether the last search found no call that may start. The end of a call or a new one ends that.
    is_blocked: bool,
}

impl Pool {
    fn push(&mut self, turn: &Arc<str>, id: KeyId) {
        self.queue.push(turn, id);
        self.is_blocked = false;
    }
}

/// A call in a pool.
struct Pooled {
    group: Group,
    urgency: Urgency,
    namespace: Arc<str>,
}

/// The calls that wait or run.
#[derive(Default)]
pub struct Calls {
    groups: BTreeMap<Group, GroupState>,
    /// Each key in a pool.
    pooled: HashMap<KeyId, Pooled>,
    applied: Pool,
    unknown: Pool,
    configured: BTreeSet<Endpoint>,
    running: usize,
    /// How many calls have started.
    starts: u32,
    interval: Duration,
    next_call: Duration,
}

impl Calls {
    /// At most this many calls start in a second. Calls to the `configured` endpoints do not wait for others.
    pub fn new(per_second: u32, configured: BTreeSet<Endpoint>) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { configured, interval, ..Self::default() }
    }

    /// Whether a call waits or runs.
    pub fn is_busy(&self) -> bool {
        self.running > 0
            || !self.pooled.is_empty()
            || self.groups.values().any(|group| group.first().is_some())
    }

    /// Queues a call for a namespace. `is_applied` is set if the namespace had a token of this endpoint before.
    pub fn push(
        &mut self,
        id: KeyId,
        group: Group,
        urgency: Urgency,
        namespace: &Arc<str>,
        is_applied: bool,
    ) {
        let is_configured = self.configured.contains(&group.endpoint);
        let state = self.groups.entry(group.clone()).or_default();
        state.is_known |= is_configured;
        state.is_applied |= is_applied;
        if state.is_known {
            return state.push(id, urgency, namespace);
        }
        if state.is_applied {
            self.applied.push(&group.turn(), id);
        } else {
            self.unknown.push(namespace, id);
        }
        self.pooled.insert(id, Pooled { group, urgency, namespace: namespace.clone() });
    }

    /// A namespace that had a token of this endpoint before waits for a queued call, which another one may have queued behind
    /// its invented regions.
    pub fn claim(&mut self, id: KeyId, namespace: &Arc<str>) {
        let Some(pooled) = self.pooled.get_mut(&id) else { return };
        if self.unknown.queue.remove(id) {
            pooled.namespace = namespace.clone();
            self.groups.entry(pooled.group.clone()).or_default().is_applied = true;
            self.applied.push(&pooled.group.turn(), id);
        }
    }

    /// A queued call has become more urgent.
    pub fn raise(
        &mut self,
        id: KeyId,
        group: &Group,
        (before, urgency): (Urgency, Urgency),
        namespace: &Arc<str>,
    ) {
        if let Some(pooled) = self.pooled.get_mut(&id) {
            pooled.urgency = urgency;
            return;
        }
        let Some(state) = self.groups.get_mut(group) else { return };
        if state.new.remove(id) || state.ordered.remove(&(before, id)) {
            state.push(id, urgency, namespace);
        }
    }

    /// Drops a queued call.
    pub fn remove(&mut self, id: KeyId, group: &Group, urgency: Urgency) {
        if self.pooled.remove(&id).is_some() {
            self.applied.queue.remove(id);
            self.unknown.queue.remove(id);
        } else if let Some(state) = self.groups.get_mut(group) {
            state.ordered.remove(&(urgency, id));
            state.new.remove(id);
        }
        self.forget_idle(group);
    }

    /// The next call to start, if one may start now.
    pub fn start(&mut self, now: Now) -> Option<KeyId> {
        if self.running >= MAX_CALLS || self.next_call > now.mono {
            return None;
        }
        self.starts = self.starts.wrapping_add(1);
        let is_turn_of_denied = self.starts.is_multiple_of(DENIED_TURN);
        let denied = if is_turn_of_denied { self.pop_denied() } else { None };
        let id = denied.or_else(|| self.next())?;
        self.running += 1;
        self.next_call = self.next_call.max(now.mono) + self.interval;
        Some(id)
    }

    fn next(&mut self) -> Option<KeyId> {
        let open = |(group, state): (&Group, &GroupState)| {
            Some((state.first().filter(|_| state.has_permit())?, state.running, group.clone()))
        };
        // Of equally urgent groups, the one with fewer calls comes first.
        let rank = |(urgency, running, group): &(Urgency, usize, Group)| {
            let class = match urgency {
                Urgency::Expiring(_) => 0,
                Urgency::New => 1,
                Urgency::Renewal(_) => 2,
                Urgency::Denied(_) => 3,
            };
            (class, *running, *urgency, group.clone())
        };
        let best = self.groups.iter().filter_map(open).min_by_key(rank);
        let is_expiring = matches!(best, Some((Urgency::Expiring(_), ..)));
        if let Some((.., group)) = best.as_ref().filter(|_| is_expiring) {
            return self.pop(&group.clone());
        }
        if self.has_permit(true) {
            let pooled = Self::search(&mut self.applied, &mut self.groups, &mut self.pooled);
            if pooled.is_some() {
                return pooled;
            }
        }
        if let Some((.., group)) = best.as_ref().filter(|(urgency, ..)| *urgency == Urgency::New) {
            return self.pop(&group.clone());
        }
        if self.has_permit(false) {
            let pooled = Self::search(&mut self.unknown, &mut self.groups, &mut self.pooled);
            if pooled.is_some() {
                return pooled;
            }
        }
        self.pop(&best?.2)
    }

    /// Whether the groups that gave no token yet have a permit: those with applied Secrets, or the others.
    fn has_permit(&self, applied: bool) -> bool {
        let pooled = self.groups.values().filter(|state| !state.is_known && state.is_applied == applied);
        pooled.map(|state| state.running).sum::<usize>() < MAX_OF_POOL
    }

    fn pop(&mut self, group: &Group) -> Option<KeyId> {
        let state = self.groups.get_mut(group)?;
        let id = state.pop()?;
        state.running += 1;
        Some(id)
    }

    /// The call that has waited longest of those that AWS denied the last time.
    fn pop_denied(&mut self) -> Option<KeyId> {
        let first = (Urgency::Denied(Timestamp::MIN), KeyId(0));
        let open = self.groups.values_mut().filter(|state| state.has_permit());
        let oldest = open.filter_map(|state| Some((*state.ordered.range(first..).next()?, state)));
        let (call, state) = oldest.min_by_key(|(call, _)| *call)?;
        state.ordered.remove(&call);
        state.running += 1;
        Some(call.1)
    }

    /// The next call of a pool whose group has a permit.
    fn search(
        pool: &mut Pool,
        groups: &mut BTreeMap<Group, GroupState>,
        pooled: &mut HashMap<KeyId, Pooled>,
    ) -> Option<KeyId> {
        if pool.is_blocked {
            return None;
        }
        let may_start = |id: KeyId| {
            let group = pooled.get(&id).and_then(|pooled| groups.get(&pooled.group));
            group.is_some_and(GroupState::has_permit)
        };
        let found = pool.queue.pop(may_start);
        pool.is_blocked = found.is_none();
        let id = found?;
        let Pooled { group, .. } = pooled.remove(&id)?;
        groups.entry(group).or_default().running += 1;
        Some(id)
    }

    /// A call of this group ended.
    pub fn finish(&mut self, group: &Group, result: Result<(), TokenErrorKind>) {
        self.running = self.running.saturating_sub(1);
        let state = self.groups.entry(group.clone()).or_default();
        state.running = state.running.saturating_sub(1);
        (self.applied.is_blocked, self.unknown.is_blocked) = (false, false);
        match result {
            Ok(()) => {
                state.is_failing = false;
                if !state.is_known {
                    state.is_known = true;
                    self.promote(group);
                }
            }
            Err(
                TokenErrorKind::Timeout
                | TokenErrorKind::Unreachable
                | TokenErrorKind::ServerError
                | TokenErrorKind::Throttled,
            ) => state.is_failing = true,
            Err(_) => {}
        }
        self.forget_idle(group);
    }

    /// A group gave its first token: its queued calls no longer wait for others.
    fn promote(&mut self, group: &Group) {
        let Some(state) = self.groups.get_mut(group) else { return };
        for (id, Pooled { urgency, namespace, .. }) in
            self.pooled.extract_if(|_, pooled| pooled.group == *group)
        {
            self.applied.queue.remove(id);
            self.unknown.queue.remove(id);
            state.push(id, urgency, &namespace);
        }
    }

    /// Forgets a group without calls that never gave a token.
    fn forget_idle(&mut self, group: &Group) {
        let is_idle = |state: &GroupState| !state.is_known && state.running == 0;
        if self.groups.get(group).is_some_and(is_idle)
            && !self.pooled.values().any(|pooled| pooled.group == *group)
        {
            self.groups.remove(group);
        }
    }

    /// How long until the next queued call may start; `None` if none may before another one ends.
    pub fn time_to_next(&self, now: Now) -> Option<Duration> {
        let is_open =
            |pool: &Pool, applied| !pool.queue.is_empty() && !pool.is_blocked && self.has_permit(applied);
        let is_ready = |state: &GroupState| state.has_permit() && state.first().is_some();
        let is_pooled = || is_open(&self.applied, true) || is_open(&self.unknown, false);
        let may_start = is_pooled() || self.groups.values().any(is_ready);
        (may_start && self.running < MAX_CALLS).then(|| self.next_call.saturating_sub(now.mono))
    }
}

/// Calls in turn by their owner, each of which can be removed.
#[derive(Default)]
struct FairQueue {
    turns: Turns<KeyId>,
    owners: HashMap<KeyId, Arc<str>>,
}

impl FairQueue {
    fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    fn push(&mut self, owner: &Arc<str>, id: KeyId) {
        if self.owners.insert(id, owner.clone()).is_none() {
            self.turns.push(owner, id);
        }
    }

    /// The next call that may start.
    fn pop(&mut self, may_start: impl Fn(KeyId) -> bool) -> Option<KeyId> {
        let id = self.turns.pop_where(MAX_SEARCH, |id| may_start(*id))?;
        self.owners.remove(&id);
        Some(id)
    }

    /// Removes a call. Returns whether it was queued.
    fn remove(&mut self, id: KeyId) -> bool {
        let Some(owner) = self.owners.remove(&id) else { return false };
        self.turns.remove(&owner, |queued| *queued == id);
        true
    }
}
