//! The controller: a state machine without I/O.
//!
//! [`Controller::handle`] takes one [`Input`] and the time, and returns [`Effect`]s. [`runtime`](crate::runtime) executes the
//! effects and returns their outcomes as inputs; a test does the same without a cluster. The controller owns all state, so
//! nothing is locked.
//!
//! | file | what it does |
//! |---|---|
//! | [`index`] | holds the facts about each namespace, as the watches report them ([`change`]) |
//! | `reconcile` | plans the next step of a namespace and queues it ([`queue`]) |
//! | `dispatch` | starts queued steps, with tokens from the cache ([`tokens`]) |
//! | `removals` | limits the removals that follow from the configuration |
//! | `slots` | limits the actions that run at once |
//! | `outcome` | records the outcome of an action or a call, and reconciles again |
//! | `report` | composes the messages for logs, Events and the summary ([`tell`]) |
//!
//! Nothing here imports tokio, a Kubernetes client or the AWS SDK; see [`core`](crate::core).

pub mod change;
mod dispatch;
pub mod error;
pub mod index;
#[cfg(feature = "simulation")]
pub mod inspect;
mod outcome;
mod queue;
mod reconcile;
mod removals;
mod report;
mod slots;
pub mod tell;
pub mod tokens;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use self::change::{Change, MissedOptIn, WatchTarget};
use self::dispatch::RunningAction;
use self::error::RequestError;
use self::index::Index;
use self::queue::Queue;
use self::reconcile::REPORT_PERIOD;
use self::removals::Removals;
use self::report::Conditions;
use self::slots::Slots;
use self::tell::Tell;
use self::tokens::{FetchResult, TokenCache};
use crate::core::aws::AwsClock;
use crate::core::grants::{Granted, TokenKey, TokenRequest};
use crate::core::leader_election::Leadership;
use crate::core::plan::{Deletion, NamespaceRecord, Observed, PullSecretChange, PullSecretRefs, SecretDraft};
use crate::core::secret::server_time;
use crate::core::settings::Settings;
use crate::core::{Now, ObjectVersion};

/// How many namespaces with a misspelled key are reported again and again.
const MAX_MISSED: usize = 1_000;
/// The maximum time between two ticks. A tick counts the namespaces and detects a change of the wall clock.
const TICK: Duration = Duration::from_secs(5);

/// A larger difference between the clocks than before is a step of the wall clock.
const CLOCK_STEP: SignedDuration = SignedDuration::from_secs(2);

/// Identifies an action between its effect and its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActionId(u64);

/// An input of the state machine.
pub enum Input {
    /// A watch reported a change.
    Changed(Change),
    /// An action ended, after this time.
    ActionDone { id: ActionId, outcome: Outcome, duration: Duration },
    /// A token request succeeded or failed, after this time.
    TokenFetched { key: TokenKey, result: FetchResult, duration: Duration },
    /// The version of the Lease went back: the API server has older data than before.
    VersionsWentBack,
    /// The leader election granted, renewed or ended the leadership.
    LeadershipChanged(Leadership),
    /// Time passed.
    Tick,
    /// The controller must not start anything new.
    Stop,
}

impl Outcome {
    /// Why the request failed.
    fn error(&self) -> Option<&RequestError> {
        match self {
            Self::Written(result) => result.as_ref().err(),
            Self::SecretRead(result) | Self::Deleted(result) => result.as_ref().err(),
            Self::NamespaceRead(result) => result.as_ref().err(),
            Self::PullSecretSet(result) => result.as_ref().err(),
            Self::ServiceAccountsListed(result) => result.as_ref().err(),
        }
    }
}

/// How an action ended.
pub enum Outcome {
    /// The Secret after the write.
    Written(Result<Observed, RequestError>),
    /// The Secret as it is; `None` if it does not exist.
    SecretRead(Result<Option<Observed>, RequestError>),
    /// The Namespace as the API server returned it: `None` if it did not opt in, [`RequestError::NamespaceGone`] if it
    /// does not exist or is being deleted.
    NamespaceRead(Result<Option<NamespaceRecord>, RequestError>),
    /// `None`, or the Secret after the deletion if a finalizer holds it.
    Deleted(Result<Option<Observed>, RequestError>),
    /// The service account after the change, and whether it was changed; `None` if it does not exist.
    PullSecretSet(Result<Option<(PullSecretRefs, bool)>, RequestError>),
    /// The service accounts of the namespace, at most
    /// [`MAX_SERVICE_ACCOUNTS`](crate::core::plan::service_accounts::MAX_SERVICE_ACCOUNTS).
    ServiceAccountsListed(Result<Vec<(Arc<str>, PullSecretRefs)>, RequestError>),
}

/// An output of the state machine. The runtime returns one [`Input::ActionDone`] for each action, identified by an ID,
/// and one [`Input::TokenFetched`] for each fetch.
#[derive(Debug)]
pub enum Effect {
    Act {
        id: ActionId,
        namespace: Arc<str>,
        request: Request,
    },
    FetchToken(Box<TokenRequest>),
    /// Lists the objects of a watch again.
    Relist(WatchTarget),
    Tell(Tell),
}

/// A request to the API server about objects in one namespace.
#[derive(Debug)]
pub enum Request {
    /// Apply a Secret: create it, or, with a base, change only that version of it.
    Write { base: Option<ObjectVersion>, draft: Box<SecretDraft> },
    /// Read the metadata of a Secret, because a refused request shows that the index is not up to date.
    ReadSecret(Arc<str>),
    /// Read the Namespace before something in it is removed.
    ReadNamespace,
    /// Delete a Secret.
    Delete(Deletion),
    /// Make a service account refer to a Secret, or to no Secret that we added.
    SetPullSecret(PullSecretChange),
    /// Read the service accounts of the namespace, because it opted in after the watch reported them.
    ListServiceAccounts,
}

/// The limits of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunPolicy {
    /// Whether the controller continues after one pass, with retries and renewals.
    pub repeat: bool,
    /// Whether the controller deletes Secrets and references that are no longer requested.
    pub delete: bool,
    /// The ID of the set of Secrets that the configuration may remove although they are many.
    pub confirm_removals: Option<Arc<str>>,
}

pub struct Controller {
    settings: Arc<Settings>,
    policy: RunPolicy,
    index: Index,
    queue: Queue,
    tokens: TokenCache,
    conditions: Conditions,
    granted: index::Interner<Granted>,
    actions: BTreeMap<ActionId, RunningAction>,
    slots: Slots,
    /// The namespaces whose last request was not answered.
    slow: BTreeSet<Arc<str>>,
    next_id: u64,
    leadership: Leadership,
    /// Whether this process was the leader at the last input.
    is_leader: bool,
    is_stopping: bool,
    /// The namespaces that did not opt in because of a misspelled key.
    missed: BTreeMap<Arc<str>, Box<MissedOptIn>>,
    /// When the leader reports them again.
    next_missed: Duration,
    /// How far the wall clock is ahead of the monotonic clock, as of the last step.
    wall_offset: Option<SignedDuration>,
    /// AWS's clock, as of its last reply.
    clock: AwsClock,
    removals: Removals,
    tick: Duration,
    next_tick: Duration,
    effects: Vec<Effect>,
}

impl Controller {
    /// Returns a controller that is not the leader. `index` is empty.
    pub fn new(settings: Arc<Settings>, policy: RunPolicy, index: Index) -> Self {
        Self {
            tokens: TokenCache::new(settings.refresh, settings.jitter, settings.endpoints()),
            queue: Queue::new(settings.refresh.writes_per_second),
            removals: Removals::new(policy.confirm_removals.clone()),
            settings,
            policy,
            index,
            conditions: Conditions::default(),
            granted: index::Interner::default(),
            actions: BTreeMap::new(),
            slots: Slots::new(),
            slow: BTreeSet::new(),
            next_id: 0,
            leadership: Leadership::NotLeader,
            is_leader: false,
            is_stopping: false,
            missed: BTreeMap::new(),
            next_missed: Duration::ZERO,
            wall_offset: None,
            clock: AwsClock::default(),
            tick: TICK,
            next_tick: Duration::ZERO,
            effects: vec![],
        }
    }

    /// Handles an input and returns the effects to execute. Equal sequences of inputs and times give equal effects.
    pub fn handle(&mut self, input: Input, now: Now) -> Vec<Effect> {
        if let Input::TokenFetched { result, .. } = &input {
            self.clock.follow(server_time(result), now);
        }
        let now = self.clock.compare(now);
        match input {
            Input::Changed(change) => self.changed(change, now),
            Input::ActionDone { id, outcome, duration } => self.action_done(id, outcome, duration, now),
            Input::TokenFetched { key, result, duration } => self.token_fetched(key, result, duration, now),
            Input::VersionsWentBack => self.index.rewind(),
            Input::LeadershipChanged(leadership) => self.leadership = leadership,
            Input::Tick => {}
            Input::Stop => self.is_stopping = true,
        }
        for target in self.index.take_relists() {
            self.effects.push(Effect::Relist(target));
        }
        self.follow_leadership(now);
        self.follow_wall_clock(now);
        for namespace in self.queue.wake(now) {
            self.reconcile(&namespace, now);
        }
        self.dispatch(now);
        while !self.is_stopping
            && let Some(request) = self.tokens.start_call(now)
        {
            self.effects.push(Effect::FetchToken(Box::new(request)));
        }
        if now.mono >= self.next_tick {
            self.next_tick = now.mono + self.tick;
            self.report_held_removals(now);
            if self.is_leader && now.mono >= self.next_missed {
                self.report_missed_opt_ins(now);
            }
            self.count_namespaces(now);
        }
        mem::take(&mut self.effects)
    }

    /// How long until [`Input::Tick`] is needed, if no other input comes first.
    pub fn time_to_next(&self, now: Now) -> Duration {
        let tick = self.next_tick.saturating_sub(now.mono);
        let earlier = [self.leadership.left(now), self.time_to_work(now)];
        earlier.into_iter().flatten().fold(tick, Duration::min)
    }

    /// How long until a namespace is due, or until the rate limit allows a step or a call.
    fn time_to_work(&self, now: Now) -> Option<Duration> {
        let calls = self.tokens.time_to_next_call(now).filter(|_| !self.is_stopping);
        let due = [self.queue.time_to_next_wake(now), self.time_to_dispatch(now), calls];
        due.into_iter().flatten().min()
    }

    /// Whether a single pass is complete.
    pub fn is_finished(&self) -> bool {
        !self.policy.repeat
            && self.index.is_synced()
            && self.is_leader
            && !self.queue.has_steps()
            && !self.queue.has_wakes()
            && self.actions.is_empty()
            && !self.tokens.is_busy()
    }

    /// Whether an action is running.
    pub fn is_acting(&self) -> bool {
        !self.actions.is_empty()
    }

    fn changed(&mut self, change: Change, now: Now) {
        let was_synced = self.index.is_synced();
        if let Change::Namespace { namespace, .. } | Change::MissedOptIn { namespace, .. } = &change {
            self.missed.remove(namespace);
        }
        match &change {
            Change::MissedOptIn { namespace, missed } => {
                if self.is_leader {
                    self.report_missed_opt_in(namespace, missed);
                }
                if self.missed.len() < MAX_MISSED {
                    self.missed.insert(namespace.clone(), missed.clone());
                }
            }
            // The list reports those that are left.
            Change::ListStarted(WatchTarget::Namespaces) => self.missed.clear(),
            Change::ListUnavailable(target) => {
                let is_complete = self.index.has_listed(target);
                self.tell(Tell::Listed { target: target.clone(), is_complete });
            }
            Change::ListDone(target) => self.tell(Tell::Listed { target: target.clone(), is_complete: true }),
            _ => {}
        }
        let changed = self.index.apply(change);
        for namespace in changed.iter().filter(|namespace| self.index.get(namespace).is_none()) {
            self.conditions.forget(namespace);
            self.slow.remove(namespace);
        }
        if was_synced {
            for namespace in changed {
                self.reconcile(&namespace, now);
            }
        } else if self.index.is_synced() {
            self.tell(Tell::Synced { namespaces: self.index.names().count() });
            self.reconcile_all(now);
        }
    }

    fn report_missed_opt_ins(&mut self, now: Now) {
        self.next_missed = now.mono + REPORT_PERIOD;
        let missed = mem::take(&mut self.missed);
        for (namespace, missed) in &missed {
            self.report_missed_opt_in(namespace, missed);
        }
        self.missed = missed;
    }

    /// Forgets a namespace of which nothing is left, after the last action in it.
    fn forget(&mut self, namespace: &Arc<str>) {
        self.conditions.forget(namespace);
        self.slow.remove(namespace);
        self.removals.set(namespace, vec![]);
        self.tokens.release(namespace);
    }

    /// Detects whether the leadership was gained or lost, or has expired.
    fn follow_leadership(&mut self, now: Now) {
        let leader = self.leadership.left(now).is_some();
        if leader == self.is_leader {
            return;
        }
        self.is_leader = leader;
        self.tell(Tell::LeadershipChanged { leader });
        if leader {
            // Another process may have written since, also while the last outcomes of the previous term arrived.
            self.index.forget_histories();
            self.report_missed_opt_ins(now);
            self.reconcile_all(now);
        } else {
            self.queue.clear();
            self.removals.clear();
            self.tokens.stop_waiting();
        }
    }

    /// Plans again every namespace that waits, if the wall clock was set or the machine was suspended.
    fn follow_wall_clock(&mut self, now: Now) {
        let offset = now.wall_offset();
        let before = *self.wall_offset.get_or_insert(offset);
        if (offset - before).abs() > CLOCK_STEP {
            self.wall_offset = Some(offset);
            for namespace in self.queue.wake_all() {
                self.reconcile(&namespace, now);
            }
        }
    }

    fn tell(&mut self, tell: Tell) {
        self.effects.push(Effect::Tell(tell));
    }
}
