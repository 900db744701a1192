//! What must hold at the edges. The service sees every request, so these oracles know no scenario.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ecr_pull_secrets::simulation::core::request::OptIn;
use ecr_pull_secrets::simulation::kubernetes::observe;
use tokio::time::Instant;

use super::call::Call;
use super::server::State;
use crate::oracles::Oracle;
use crate::store::{Kind, Name, Store};

/// The longest time that a client waits for the reply of one request.
const REPLY: Duration = Duration::from_mins(1);
/// The longest time that a client trusts a watch on which nothing arrives. The service sends bookmarks more often.
const SILENCE: Duration = Duration::from_secs(90);
/// How long the API server must answer before each namespace must be served (design, invariant 3).
const SERVED: Duration = Duration::from_mins(5);
const MINUTE: Duration = Duration::from_mins(1);

/// What an oracle of the edges reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// An oracle of the world: `Deadline`, `NoneExpired` or `Belief`.
    World(Oracle),
    /// A client repeats a refused request more often than once in each `Retry-After`.
    RetryAfter,
    /// The program sends a request that the service does not know.
    UnknownRequest,
}

#[derive(Clone, Debug)]
pub struct Violation {
    pub broken: Broken,
    /// Paused time since the start.
    pub at: Duration,
    pub text: String,
}

/// A request that has no reply yet, or a watch that is open.
struct Open {
    what: String,
    /// When it was sent, or when something last arrived on the watch.
    since: Instant,
    is_watch: bool,
}

pub struct Oracles {
    start: Instant,
    pub violation: Option<Violation>,
    open: BTreeMap<u64, Open>,
    refused: BTreeMap<String, VecDeque<Instant>>,
    /// When the API server last left a request without an answer, or refused one.
    trouble: Instant,
    /// Since when each namespace is not as it should be.
    wrong: BTreeMap<Name, Instant>,
}

impl Oracles {
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            start: now,
            violation: None,
            open: BTreeMap::new(),
            refused: BTreeMap::new(),
            trouble: now,
            wrong: BTreeMap::new(),
        }
    }

    pub fn report(&mut self, broken: Broken, text: String) {
        let at = self.start.elapsed();
        self.violation.get_or_insert(Violation { broken, at, text });
    }

    pub fn sent(&mut self, id: u64, call: &Call) {
        let open = Open { what: call.describe(), since: Instant::now(), is_watch: false };
        self.open.insert(id, open);
    }

    /// The head of a watch was answered, or something arrived on it.
    pub fn arrived(&mut self, id: u64) {
        if let Some(open) = self.open.get_mut(&id) {
            (open.since, open.is_watch) = (Instant::now(), true);
        }
    }

    /// The client has the reply, or dropped the request.
    pub fn ended(&mut self, id: u64) {
        self.open.remove(&id);
    }

    pub fn not_answered(&mut self) {
        self.trouble = Instant::now();
    }

    /// A request is refused. In any minute, a client may send it once in each `Retry-After`, and once more.
    pub fn refuse(&mut self, call: &Call, retry_after: u32) {
        let selector = call.query.get("fieldSelector").cloned().unwrap_or_default();
        let what = format!("{} {selector}", call.describe());
        let (times, now) = (self.refused.entry(what.clone()).or_default(), Instant::now());
        times.push_back(now);
        while times.front().is_some_and(|at| *at + MINUTE < now) {
            times.pop_front();
        }
        let (count, most) = (times.len(), 60 / retry_after as usize + 1);
        if count > most {
            let text = format!("{count} requests in a minute with Retry-After {retry_after}: {what}");
            self.report(Broken::RetryAfter, text);
        }
    }

    fn check_open(&mut self) {
        let is_late = |open: &&Open| open.since.elapsed() > if open.is_watch { SILENCE } else { REPLY };
        let Some(late) = self.open.values().find(is_late) else { return };
        let (what, seconds) = (late.what.clone(), late.since.elapsed().as_secs());
        let how = if late.is_watch { "is open and silent" } else { "has no reply and was not given up" };
        self.report(Broken::World(Oracle::Deadline), format!("{what} {how} after {seconds} s"));
    }
}

impl State {
    /// Looks at every open request.
    pub fn check_requests(&mut self) {
        self.oracles.check_open();
    }

    /// Looks at the Secret of every namespace.
    pub fn check_namespaces(&mut self) {
        let namespaces = self.store.objects.keys().filter(|key| key.kind == Kind::Namespace);
        let namespaces: Vec<Name> = namespaces.map(|key| key.name.clone()).collect();
        for namespace in namespaces {
            let Some((oracle, text)) = self.wrong(&namespace) else {
                self.oracles.wrong.remove(&namespace);
                continue;
            };
            let since = *self.oracles.wrong.entry(namespace.clone()).or_insert_with(Instant::now);
            if since.max(self.oracles.trouble).elapsed() > SERVED {
                let text = format!("{namespace} {text}, although the API server answers");
                self.oracles.report(Broken::World(oracle), text);
            }
        }
    }

    /// What is wrong with the Secret of a namespace.
    fn wrong(&self, namespace: &str) -> Option<(Oracle, &'static str)> {
        let object = self.store.namespace(namespace).filter(|object| !object.terminating)?;
        let record = observe::namespace(&object.meta(namespace), &self.settings);
        let Some(record) = record else {
            let mut secrets = self.store.secrets();
            let left = secrets.any(|(key, secret)| *key.namespace == *namespace && secret.ours.is_some());
            return left.then_some((Oracle::Belief, "did not opt in and has a Secret"));
        };
        let OptIn::In(request) = &record.parsed.opt_in else { return None };
        let Some(secret) = self.store.secret(namespace, &request.secret_name) else {
            return Some((Oracle::NoneExpired, "has no Secret"));
        };
        let passwords = secret.passwords();
        let now = self.clock.now().wall;
        let is_live = |password| self.tokens.get(password).is_some_and(|expires| *expires > now);
        let good = Store::is_ours(secret) && !passwords.is_empty() && passwords.values().all(is_live);
        (!good).then_some((Oracle::NoneExpired, "has a Secret that is expired or not intact"))
    }
}
