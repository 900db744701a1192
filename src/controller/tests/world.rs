//! An API server, AWS and any number of controllers, in one thread with simulated time. Requests succeed and watch
//! events arrive immediately. Time passes only in [`World::run`].

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::controller::change::{Change, MissedOptIn, Seen, WatchTarget};
use crate::controller::error::RequestError;
use crate::controller::index::Index;
use crate::controller::tell::Tell;
use crate::controller::{ActionId, Controller, Effect, Input, Outcome, Request, RunPolicy};
use crate::core::EventReason;
use crate::core::grants::TokenKey;
use crate::core::leader_election::{ElectionStep, LeaderElector, Leadership, LeaseRecord};
use crate::core::plan::{
    Mutability, NamespaceRecord, Observed, Owner, PullSecretChange, PullSecretRefs, SecretDraft,
};
use crate::core::request::{self, ParsedAnnotations, Times};
use crate::core::secret::{DockerConfig, FetchedToken, TokenError, TokenErrorKind};
use crate::core::settings::Settings;
use crate::core::testing::{HOST, HOUR, at, attach, observed, parsed, request_for, settings, target};
use crate::core::{Now, ObjectVersion, Uid};

/// How AWS replies.
#[derive(Clone, Copy)]
pub enum Reply {
    /// With a token that lives for this many seconds.
    Token(i64),
    Error(TokenErrorKind),
    /// Never.
    Hang,
}

/// Requests of one kind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    Deletions,
    AccountChanges,
    AccountLists,
}

/// A Secret as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    pub at: Timestamp,
    pub namespace: Arc<str>,
    /// The whole object, without what depends on the time.
    pub content: Value,
    pub expires_at: Timestamp,
}

/// One process.
struct Node {
    controller: Controller,
    elector: LeaderElector,
    is_alive: bool,
}

/// A write of a node that is not stored yet.
struct RunningWrite {
    node: usize,
    id: ActionId,
    namespace: Arc<str>,
    request: Request,
}

/// More inputs at one instant, and more steps in one run, than any test needs. A controller that writes without end
/// exceeds one of them.
const LIMIT: usize = 100_000;

/// The UID of the object of this number, in the form of a UID of the API server.
fn uid(number: u64) -> Uid {
    let digits = format!("{number:016x}");
    format!("00000000-0000-4000-{}-{}", &digits[..4], &digits[4..]).into()
}

type SecretKey = (Arc<str>, Arc<str>);

pub struct World {
    pub now: Now,
    pub settings: Arc<Settings>,
    /// Whether the API server responds.
    pub api_available: bool,
    /// How long the API server, which refuses every write, demands to wait.
    pub retry_after: Option<Duration>,
    /// Whether the API server does not reply.
    pub api_hangs: bool,
    /// How long the API server takes for each write of a Secret, and for each change or list of service accounts. Its response
    /// follows then.
    pub write_duration: Duration,
    /// The writes that are not stored yet, by when they are.
    writing: BTreeMap<(Duration, u64), RunningWrite>,
    /// The requests that fail each time.
    pub failing: Vec<Failing>,
    /// Whether service accounts cannot be listed.
    pub accounts_unavailable: bool,
    /// The limits of the next controllers.
    pub policy: RunPolicy,
    /// The reply of each endpoint that does not return tokens of 12 hours.
    pub replies: BTreeMap<String, Reply>,
    /// The requests that reached AWS.
    pub calls: Vec<TokenKey>,
    /// Successful writes: namespace, secret, and whether it was created.
    pub writes: Vec<(Arc<str>, Arc<str>, bool)>,
    /// The objects of these writes.
    pub written: Vec<Written>,
    /// The namespaces whose service accounts were listed, in this order.
    pub lists: Vec<Arc<str>>,
    /// The errors of writes to existing Secrets, and how many writes failed with them.
    pub refusals: BTreeMap<SecretKey, RequestError>,
    pub refused: usize,
    /// The error of each creation of a Secret.
    pub creations_fail: Option<RequestError>,
    pub tells: Vec<Tell>,
    /// The time of each message.
    pub told_at: Vec<Timestamp>,
    pub secrets: BTreeMap<SecretKey, Observed>,
    pub service_accounts: BTreeMap<SecretKey, PullSecretRefs>,
    namespaces: BTreeMap<Arc<str>, NamespaceRecord>,
    lease: LeaseRecord,
    version: u64,
    nodes: Vec<Node>,
    inputs: VecDeque<(usize, Input)>,
}

impl World {
    pub fn new() -> Self {
        Self::with_settings(settings())
    }

    pub fn with_settings(settings: Settings) -> Self {
        Self {
            now: at(0),
            settings: Arc::new(settings),
            api_available: true,
            retry_after: None,
            api_hangs: false,
            write_duration: Duration::ZERO,
            writing: BTreeMap::new(),
            failing: vec![],
            accounts_unavailable: false,
            policy: RunPolicy { repeat: true, delete: true, confirm_removals: None },
            replies: BTreeMap::new(),
            calls: vec![],
            writes: vec![],
            written: vec![],
            lists: vec![],
            refusals: BTreeMap::new(),
            refused: 0,
            creations_fail: None,
            tells: vec![],
            told_at: vec![],
            secrets: BTreeMap::new(),
            service_accounts: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            lease: LeaseRecord::default(),
            version: 0,
            nodes: vec![],
            inputs: VecDeque::new(),
        }
    }

    /// Starts a controller, which lists everything and joins the election.
    pub fn start(&mut self, identity: &str) -> usize {
        let targets = self.targets();
        let index = Index::new(targets.clone());
        let controller = Controller::new(self.settings.clone(), self.policy.clone(), index);
        let elector = LeaderElector::new(identity.to_owned(), settings().election);
        self.nodes.push(Node { controller, elector, is_alive: true });
        let node = self.nodes.len() - 1;
        for target in targets {
            self.list(node, &target);
        }
        self.settle();
        node
    }

    /// Ends the world. Returns how many bytes its controllers held, and in how many blocks.
    pub fn held(mut self) -> (i64, i64) {
        let controllers: Vec<_> = self.nodes.drain(..).map(|node| node.controller).collect();
        // Objects that the world shares with them count.
        drop(self);
        let freed = allocation_counter::measure(|| drop(controllers));
        (-freed.bytes_current, -freed.count_current)
    }

    /// Kills a process, which releases nothing.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].is_alive = false;
    }

    /// Kills every process.
    pub fn kill_all(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.is_alive = false);
    }

    /// Opts a namespace in, or changes its request.
    pub fn annotate(&mut self, namespace: &str, request: request::Request) {
        self.set_annotations(namespace, parsed(request));
    }

    pub fn set_annotations(&mut self, namespace: &str, parsed: ParsedAnnotations) {
        let record = NamespaceRecord {
            uid: uid(BuildHasherDefault::<DefaultHasher>::default().hash_one(namespace)),
            parsed: Arc::new(parsed),
        };
        self.namespaces.insert(namespace.into(), record.clone());
        self.broadcast(|| Change::Namespace {
            namespace: namespace.into(),
            record: Some(record.clone()),
            terminating: false,
        });
    }

    /// The watch reports a namespace that did not opt in because of a misspelled key.
    pub fn miss_opt_in(&mut self, namespace: &str) {
        let problem = request::Problem {
            reason: EventReason::InvalidAnnotation,
            subject: "registry".to_owned(),
            message: "unknown key".to_owned(),
        };
        let missed = Box::new(MissedOptIn { uid: uid(1), problem });
        self.broadcast(|| Change::MissedOptIn { namespace: namespace.into(), missed: missed.clone() });
    }

    /// Removes the annotations.
    pub fn opt_out(&mut self, namespace: &str) {
        self.namespaces.remove(namespace);
        self.broadcast(|| Change::Namespace {
            namespace: namespace.into(),
            record: None,
            terminating: false,
        });
    }

    /// Changes a Secret as another client would.
    pub fn edit(&mut self, namespace: &str, name: &str, change: impl FnOnce(&mut Observed)) {
        let key = (namespace.into(), name.into());
        let mut observed = self.secrets.get(&key).cloned().expect("the secret exists");
        change(&mut observed);
        self.store(&key, observed);
    }

    /// Deletes a Secret as another client would.
    pub fn delete(&mut self, namespace: &str, name: &str) {
        self.remove(&(namespace.into(), name.into()));
    }

    /// Creates or changes a service account as another client would.
    pub fn set_service_account(&mut self, namespace: &str, name: &str, refs: PullSecretRefs) {
        self.store_service_account(&(namespace.into(), name.into()), refs);
    }

    pub fn secret(&self, namespace: &str, name: &str) -> Option<&Observed> {
        self.secrets.get(&(namespace.into(), name.into()))
    }

    /// Whether the single pass of the last process is complete.
    pub fn is_finished(&self) -> bool {
        self.nodes.last().is_some_and(|node| node.controller.is_finished())
    }

    /// Whether the Secret exists with a token that has not expired.
    pub fn is_valid(&self, namespace: &str, name: &str) -> bool {
        let times = self.secret(namespace, name).and_then(|observed| observed.times);
        times.is_some_and(|times| times.expires_at > self.now.wall)
    }

    /// The calls to AWS for one endpoint.
    pub fn calls_to(&self, endpoint: &str) -> usize {
        self.calls.iter().filter(|key| key.endpoint.to_string() == endpoint).count()
    }

    /// How often a condition was reported, and how often as a new one.
    pub fn conditions(&self, reason: EventReason) -> (usize, usize) {
        let told = self.tells.iter().filter_map(|tell| match tell {
            Tell::Notice { event, first } if event.reason == reason => Some(*first),
            _ => None,
        });
        told.fold((0, 0), |(all, new), first| (all + 1, new + usize::from(first)))
    }

    /// Lets time pass until the next work is due, at most `step` at once, and calls `check` after each step. Ticks and
    /// renewals of the Lease happen at each step, so that a month takes few of them.
    pub fn run(&mut self, duration: SignedDuration, step: Duration, mut check: impl FnMut(&Self)) {
        let end = self.now.after(duration);
        self.settle();
        let mut steps = 0;
        while self.now.wall < end {
            steps += 1;
            assert!(steps < LIMIT, "the controllers do not settle: {} writes", self.writes.len());
            let left = Duration::try_from(self.now.until(end)).expect("time is left");
            let alive = self.nodes.iter().filter(|node| node.is_alive);
            let work = alive.filter_map(|node| node.controller.time_to_work(self.now)).min();
            let stored = self.writing.keys().next().map_or(step, |(at, _)| at.saturating_sub(self.now.mono));
            let pause = work.unwrap_or(step).min(step).min(stored).min(left) + Duration::from_millis(1);
            self.now = Now { wall: self.now.after(pause), mono: self.now.mono + pause, ..self.now };
            self.settle();
            check(self);
        }
    }

    /// Delivers everything that is due now.
    fn settle(&mut self) {
        for node in 0..self.nodes.len() {
            self.elect(node);
            self.inputs.push_back((node, Input::Tick));
        }
        let mut stored = std::mem::take(&mut self.writing);
        self.writing = stored.split_off(&(self.now.mono, u64::MAX));
        for RunningWrite { node, id, namespace, request } in stored.into_values() {
            let outcome = self.act(namespace, request);
            self.inputs.push_back((node, Input::ActionDone { id, outcome, duration: self.write_duration }));
        }
        let mut delivered = 0;
        while let Some((node, input)) = self.inputs.pop_front() {
            delivered += 1;
            assert!(delivered < LIMIT, "the controllers do not settle: {} writes", self.writes.len());
            if !self.nodes[node].is_alive {
                continue;
            }
            for effect in self.nodes[node].controller.handle(input, self.now) {
                if let Some(input) = self.execute(node, effect) {
                    self.inputs.push_back((node, input));
                }
            }
        }
    }

    fn elect(&mut self, node: usize) {
        if !self.nodes[node].is_alive {
            return;
        }
        for _ in 0..10 {
            let now = self.now;
            let elector = &mut self.nodes[node].elector;
            match elector.next(now) {
                ElectionStep::Wait(_) => return,
                _ if !self.api_available => return elector.request_failed(now),
                ElectionStep::Read => {
                    elector.observed(self.lease.clone(), now, now);
                    if elector.other_leader().is_some() {
                        self.inputs.push_back((node, Input::LeadershipChanged(Leadership::NotLeader)));
                    }
                }
                ElectionStep::Write { resource_version, .. }
                    if resource_version != self.lease.resource_version =>
                {
                    return elector.request_failed(now);
                }
                ElectionStep::Write { transitions, .. } => {
                    self.version += 1;
                    self.lease = LeaseRecord {
                        resource_version: Some(self.version.to_string()),
                        holder: Some(elector.identity().to_owned()),
                        lease_duration: elector.timing().lease_duration,
                        transitions,
                    };
                    elector.wrote(self.lease.clone(), now, now);
                    self.inputs.push_back((
                        node,
                        Input::LeadershipChanged(Leadership::granted(now, elector.timing())),
                    ));
                }
            }
        }
        panic!("the elector never waits");
    }

    /// Executes an effect, and returns its outcome. A call to AWS that hangs has none.
    fn execute(&mut self, node: usize, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Tell(tell) => {
                self.tells.push(tell);
                self.told_at.push(self.now.wall);
                None
            }
            Effect::FetchToken(request) => self.fetch_token(request.key),
            Effect::Relist(target) => panic!("{target:?} is listed again"),
            Effect::Act { .. } if self.api_hangs => None,
            Effect::Act {
                id,
                namespace,
                request:
                    request @ (Request::Write { .. } | Request::SetPullSecret(_) | Request::ListServiceAccounts),
            } if !self.write_duration.is_zero() => {
                let at = (self.now.mono + self.write_duration, id.0);
                self.writing.insert(at, RunningWrite { node, id, namespace, request });
                None
            }
            Effect::Act { id, namespace, request } => {
                let outcome = self.act(namespace, request);
                Some(Input::ActionDone { id, outcome, duration: Duration::ZERO })
            }
        }
    }

    fn fails(&self, request: Failing) -> bool {
        self.failing.contains(&request)
    }

    fn act(&mut self, namespace: Arc<str>, request: Request) -> Outcome {
        let unavailable = || RequestError::unavailable("the API server does not respond");
        let available = self.api_available;
        match request {
            Request::Write { .. } if !available => Outcome::Written(Err(unavailable())),
            Request::Write { .. } if self.retry_after.is_some() => {
                self.refused += 1;
                let (message, retry_after) = ("too many requests".to_owned(), self.retry_after);
                Outcome::Written(Err(RequestError::Unavailable { message, retry_after }))
            }
            Request::Write { base, draft } => Outcome::Written(self.write(&namespace, base.as_ref(), *draft)),
            Request::ReadSecret(_) if !available => Outcome::SecretRead(Err(unavailable())),
            Request::ReadSecret(name) => {
                Outcome::SecretRead(Ok(self.secrets.get(&(namespace, name)).cloned()))
            }
            Request::ReadNamespace if !available => Outcome::NamespaceRead(Err(unavailable())),
            Request::ReadNamespace => Outcome::NamespaceRead(Ok(self.namespaces.get(&namespace).cloned())),
            Request::Delete(_) if !available || self.fails(Failing::Deletions) => {
                Outcome::Deleted(Err(unavailable()))
            }
            Request::Delete(deletion) => {
                let key = (namespace, deletion.name);
                if self.secrets.get(&key).map(Observed::version) == Some(deletion.version) {
                    self.remove(&key);
                    Outcome::Deleted(Ok(None))
                } else {
                    Outcome::Deleted(Err(RequestError::Conflict("another version".to_owned())))
                }
            }
            Request::SetPullSecret(_) if !available || self.fails(Failing::AccountChanges) => {
                Outcome::PullSecretSet(Err(unavailable()))
            }
            Request::SetPullSecret(change) => {
                let key = (namespace, change.service_account.clone());
                Outcome::PullSecretSet(Ok(self.attach(&key, &change)))
            }
            Request::ListServiceAccounts => {
                self.lists.push(namespace.clone());
                if !available || self.fails(Failing::AccountLists) {
                    return Outcome::ServiceAccountsListed(Err(unavailable()));
                }
                let found = self.service_accounts.iter().filter(|((of, _), _)| *of == namespace);
                let found = found.map(|((_, name), refs)| (name.clone(), refs.clone()));
                Outcome::ServiceAccountsListed(Ok(found.collect()))
            }
        }
    }

    fn fetch_token(&mut self, key: TokenKey) -> Option<Input> {
        self.calls.push(key.clone());
        let reply = self.replies.get(&key.endpoint.to_string()).copied().unwrap_or(Reply::Token(12 * HOUR));
        let result = match reply {
            Reply::Hang => return None,
            Reply::Error(kind) => Err(TokenError::new(kind, "injected by the test")),
            Reply::Token(life) => Ok(FetchedToken {
                authorization: STANDARD.encode(format!("AWS:{key:?}")).into(),
                expires_at: Some(self.now.after(SignedDuration::from_secs(life))),
                server_time: Some(self.now.wall),
                proxy_endpoint: Some(format!(
                    "https://123456789012.dkr.ecr.{}.amazonaws.com",
                    key.endpoint.region()
                )),
            }),
        };
        Some(Input::TokenFetched { key, result, duration: Duration::ZERO })
    }

    /// A server-side apply: without a base it only creates.
    fn write(
        &mut self,
        namespace: &Arc<str>,
        base: Option<&ObjectVersion>,
        draft: SecretDraft,
    ) -> Result<Observed, RequestError> {
        let name: Arc<str> = draft.applied.request.secret_name.as_str().into();
        let key = (namespace.clone(), name.clone());
        let current = self.secrets.get(&key).map(Observed::version);
        if current.as_ref() != base {
            return Err(RequestError::Conflict("another version".to_owned()));
        }
        if let Some(error) = self.creations_fail.as_ref().filter(|_| base.is_none()) {
            return Err(error.clone());
        }
        if let Some(error) = self.refusals.get(&key).filter(|_| base.is_some()) {
            self.refused += 1;
            return Err(error.clone());
        }
        self.writes.push((namespace.clone(), name, base.is_none()));
        self.written.push(Written {
            at: self.now.wall,
            namespace: namespace.clone(),
            content: content(&draft, &self.settings),
            expires_at: draft.times.expires_at,
        });
        let uid = current.map_or_else(|| uid(self.version), |current| current.uid);
        Ok(self.store(
            &key,
            Observed {
                uid,
                resource_version: 0,
                owner: Owner::This,
                is_applied: true,
                intact: true,
                data_intact: true,
                is_deleting: false,
                mutability: Mutability::Mutable,
                times: Some(draft.times),
                applied: Some(Arc::new(draft.applied)),
            },
        ))
    }

    fn attach(&mut self, key: &SecretKey, change: &PullSecretChange) -> Option<(PullSecretRefs, bool)> {
        let mut refs = self.service_accounts.get(key)?.clone();
        let changed = refs.differs(change.secret.as_deref(), &change.kept);
        if changed {
            attach(&mut refs, change);
            refs = self.store_service_account(key, refs);
        }
        Some((refs, changed))
    }

    fn store(&mut self, key: &SecretKey, observed: Observed) -> Observed {
        self.version += 1;
        let observed = Observed { resource_version: self.version, ..observed };
        self.secrets.insert(key.clone(), observed.clone());
        let change = || {
            let (namespace, name) = key.clone();
            Change::Secret { namespace, name, seen: Seen::Present(observed.clone()) }
        };
        self.broadcast(change);
        observed
    }

    /// Another client creates a Secret with the labels and the Apply entry of this instance.
    pub fn forge(&mut self, namespace: &str, name: &str) {
        self.store(&(namespace.into(), name.into()), observed(&request_for(vec![target(HOST)])));
        self.settle();
    }

    /// Another client writes a Secret that this instance may adopt.
    pub fn put_foreign(&mut self, namespace: &str, name: &str, uid: &str) {
        let none = observed(&request_for(vec![target(HOST)]));
        let owner = Owner::Adoptable;
        let foreign = Observed { is_applied: false, intact: false, data_intact: false, times: None, ..none };
        let foreign = Observed { uid: uid.into(), owner, applied: None, ..foreign };
        self.store(&(namespace.into(), name.into()), foreign);
        self.settle();
    }

    fn remove(&mut self, key: &SecretKey) {
        self.version += 1;
        self.secrets.remove(key).expect("the secret exists");
        let version = self.version;
        self.broadcast(|| {
            let (namespace, name) = key.clone();
            Change::Secret { namespace, name, seen: Seen::Deleted(version) }
        });
    }

    fn store_service_account(&mut self, key: &SecretKey, refs: PullSecretRefs) -> PullSecretRefs {
        self.version += 1;
        let refs = PullSecretRefs { resource_version: self.version, ..refs };
        self.service_accounts.insert(key.clone(), refs.clone());
        self.broadcast(|| {
            let (namespace, name) = key.clone();
            Change::ServiceAccount { namespace, name, seen: Seen::Present(refs.clone()) }
        });
        refs
    }

    fn broadcast(&mut self, change: impl Fn() -> Change) {
        for node in 0..self.nodes.len() {
            self.inputs.push_back((node, Input::Changed(change())));
        }
    }

    fn targets(&self) -> Vec<WatchTarget> {
        let secrets = self.settings.names.all().cloned().map(WatchTarget::Secrets);
        [WatchTarget::Namespaces, WatchTarget::ServiceAccounts].into_iter().chain(secrets).collect()
    }

    /// The watch of the service accounts lists them.
    pub fn list_accounts(&mut self, node: usize) {
        self.list(node, &WatchTarget::ServiceAccounts);
    }

    fn list(&mut self, node: usize, target: &WatchTarget) {
        let mut changes = vec![Change::ListStarted(target.clone())];
        if *target == WatchTarget::ServiceAccounts && self.accounts_unavailable {
            changes.push(Change::ListUnavailable(target.clone()));
            return self.inputs.extend(changes.into_iter().map(|change| (node, Input::Changed(change))));
        }
        match target {
            WatchTarget::Namespaces => {
                changes.extend(self.namespaces.iter().map(|(namespace, record)| Change::Namespace {
                    namespace: namespace.clone(),
                    record: Some(record.clone()),
                    terminating: false,
                }));
            }
            WatchTarget::Secrets(wanted) => {
                let found = self.secrets.iter().filter(|((_, name), _)| name == wanted);
                changes.extend(found.map(|((namespace, name), observed)| Change::Secret {
                    namespace: namespace.clone(),
                    name: name.clone(),
                    seen: Seen::Present(observed.clone()),
                }));
            }
            WatchTarget::ServiceAccounts => {
                changes.extend(self.service_accounts.iter().map(|((namespace, name), refs)| {
                    let (namespace, name) = (namespace.clone(), name.clone());
                    Change::ServiceAccount { namespace, name, seen: Seen::Present(refs.clone()) }
                }));
            }
            WatchTarget::StaticSource(_) => {}
        }
        changes.push(Change::ListDone(target.clone()));
        self.inputs.extend(changes.into_iter().map(|change| (node, Input::Changed(change))));
    }
}

/// A new Secret as a draft describes it, without the times of its tokens.
fn content(draft: &SecretDraft, settings: &Settings) -> Value {
    let mut draft = draft.clone();
    for entry in draft.applied.entries.iter_mut().flatten() {
        (entry.issued_at, entry.expires_at) = (None, None);
    }
    draft.times = Times { expires_at: Timestamp::UNIX_EPOCH, refresh_after: Timestamp::UNIX_EPOCH };
    let manifest = draft.into_manifest(settings, DockerConfig::default(), None);
    serde_json::to_value(manifest).expect("a manifest serializes")
}
