//! Many clusters of one AWS account and region: what their controllers cost its quotas, in `docs/performance.md`.
//!
//! Each cluster has the production token cache, with its pacing, backoff and jitter, and a seed of its own. Its Secrets are
//! due as the production code computes it. The API server is left out: a write takes no time. AWS is a token bucket for each
//! service (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html>,
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html>).

mod aws;
mod table;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use ecr_pull_secrets::simulation::controller::tokens::{FetchResult, KeyState, TokenCache, Want};
use ecr_pull_secrets::simulation::core::grants::{TokenKey, TokenRequest};
use ecr_pull_secrets::simulation::core::secret::{RefreshPolicy, after_fraction};
use ecr_pull_secrets::simulation::core::settings::Settings;
use ecr_pull_secrets::simulation::core::{Jitter, Now, testing};
use jiff::{SignedDuration, Timestamp};

use self::aws::{Aws, Quota};
use crate::store::Name;
use crate::world::origin;

/// How long a call to one service takes.
const LATENCY: Duration = Duration::from_millis(100);
/// AWS documents 12 hours (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html>).
const LIFETIME: SignedDuration = SignedDuration::from_hours(12);
/// The age of the tokens if all Secrets are fresh at the start.
const FRESH_AGE: SignedDuration = SignedDuration::from_hours(3);
/// The start of the clock, so that tokens can be older than the process.
const START: Duration = Duration::from_secs(1_000_000);

/// A fleet whose controllers start at the same moment.
#[derive(Clone)]
struct Scenario {
    name: &'static str,
    clusters: u32,
    namespaces: u32,
    settings: fn() -> Settings,
    refresh: RefreshPolicy,
    /// Whether all Secrets exist and are fresh at the start.
    is_fresh: bool,
    ecr: Quota,
}

/// Something that happens in one cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    /// A namespace is reconciled.
    Reconcile(usize),
    /// Calls that wait may start.
    Dispatch,
    /// The reply of a call arrives.
    Reply(usize),
}

struct Cluster {
    tokens: TokenCache,
    jitter: Jitter,
    /// When the Secret of each namespace expires; `None` without a Secret.
    expiries: Vec<Option<Timestamp>>,
    dispatch_at: Option<Duration>,
}

/// A running simulation.
struct Fleet {
    clusters: Vec<Cluster>,
    /// The names of the namespaces and the tokens that they need, which are the same in each cluster.
    namespaces: Vec<(Name, TokenRequest)>,
    refresh: RefreshPolicy,
    aws: Aws,
    replies: Vec<Option<(TokenKey, FetchResult)>>,
    queue: BinaryHeap<Reverse<(Duration, usize, usize, Happening)>>,
    number: usize,
    /// When the last Secret of the fleet got its first token.
    complete: Duration,
}

fn now(time: Duration) -> Now {
    let wall = origin() + SignedDuration::try_from(time).expect("a short run");
    Now { wall, mono: START + time, skew: None }
}

impl Fleet {
    fn start(scenario: &Scenario) -> Self {
        let settings = Settings { refresh: scenario.refresh, ..(scenario.settings)() };
        let request = testing::request(&[testing::HOST]);
        let namespaces = (0..scenario.namespaces).map(|n| {
            let name: Name = format!("team-{n}").into();
            let granted = settings.grants.assign(&name, &request).expect("every namespace is granted it").0;
            (name, granted.assignments[0].request.clone())
        });
        let mut fleet = Self {
            clusters: vec![],
            namespaces: namespaces.collect(),
            refresh: scenario.refresh,
            aws: Aws::new(scenario.ecr),
            replies: vec![],
            queue: BinaryHeap::new(),
            number: 0,
            complete: Duration::ZERO,
        };
        for seed in 0..scenario.clusters {
            fleet.start_cluster(&settings, u64::from(seed), scenario.is_fresh);
        }
        fleet
    }

    fn start_cluster(&mut self, settings: &Settings, seed: u64, is_fresh: bool) {
        let jitter = Jitter::new(seed);
        let cluster = self.clusters.len();
        self.clusters.push(Cluster {
            tokens: TokenCache::new(self.refresh, jitter, settings.endpoints()),
            jitter,
            expiries: vec![None; self.namespaces.len()],
            dispatch_at: None,
        });
        self.aws.start_process(Duration::ZERO);
        let issued = now(Duration::ZERO).wall - FRESH_AGE;
        // The process before had another seed.
        let before = Jitter::new(!seed);
        for namespace in 0..self.namespaces.len() {
            let mut due = Duration::ZERO;
            if is_fresh {
                let fraction = self.refresh.secret_fraction(before, &self.namespaces[namespace].0);
                let expiry = issued + LIFETIME;
                self.clusters[cluster].expiries[namespace] = Some(expiry);
                due = since_start(after_fraction(issued, expiry, fraction));
            }
            self.schedule(due, cluster, Happening::Reconcile(namespace));
        }
    }

    fn schedule(&mut self, at: Duration, cluster: usize, happening: Happening) {
        self.number += 1;
        self.queue.push(Reverse((at, self.number, cluster, happening)));
    }

    fn run_until(&mut self, end: Duration) {
        while let Some(Reverse((time, _, cluster, happening))) = self.queue.peek().copied()
            && time < end
        {
            self.queue.pop();
            match happening {
                Happening::Reconcile(namespace) => self.reconcile(cluster, namespace, time),
                Happening::Dispatch => self.clusters[cluster].dispatch_at = None,
                Happening::Reply(call) => self.reply(cluster, call, time),
            }
            self.dispatch(cluster, time);
        }
    }

    /// What the controller does with a namespace that is due: it writes the Secret, or waits for its token.
    fn reconcile(&mut self, cluster: usize, namespace: usize, time: Duration) {
        let (name, request) = &self.namespaces[namespace];
        let Cluster { tokens, jitter, expiries, .. } = &mut self.clusters[cluster];
        let want = Want { request, expires_at: expiries[namespace], renewal: None };
        let cached = tokens.lookup(name, &[want], None, now(time)).remove(0);
        let next = match (cached.state, cached.token) {
            (KeyState::Fresh, Some(token)) => {
                if expiries[namespace].replace(token.expires_at()).is_none() {
                    self.complete = time;
                }
                token.after_fraction(self.refresh.secret_fraction(*jitter, name))
            }
            (KeyState::Failing { retry_at, .. }, _) => retry_at,
            (KeyState::Held { until }, _) => until,
            // The reply wakes the namespace.
            (KeyState::Fresh | KeyState::Pending { .. }, _) => return,
        };
        let next = since_start(next).max(time + Duration::from_millis(1));
        self.schedule(next, cluster, Happening::Reconcile(namespace));
    }

    /// Starts the calls that may start.
    fn dispatch(&mut self, cluster: usize, time: Duration) {
        while let Some(request) = self.clusters[cluster].tokens.start_call(now(time)) {
            let calls = if request.session.is_some() { 2 } else { 1 };
            let result = self.aws.fetch(&request, time, now(time).wall);
            self.replies.push(Some((request.key, result)));
            let reply = Happening::Reply(self.replies.len() - 1);
            self.schedule(time + LATENCY * calls, cluster, reply);
        }
        let this = &mut self.clusters[cluster];
        if let Some(wait) = this.tokens.time_to_next_call(now(time)) {
            let at = time + wait.max(Duration::from_millis(1));
            if this.dispatch_at.is_none_or(|planned| at < planned) {
                this.dispatch_at = Some(at);
                self.schedule(at, cluster, Happening::Dispatch);
            }
        }
    }

    fn reply(&mut self, cluster: usize, call: usize, time: Duration) {
        let (key, result) = self.replies[call].take().expect("each call has one reply");
        let waiters: Vec<Arc<str>> =
            self.clusters[cluster].tokens.finish_call(&key, result, now(time)).waiters.into_iter().collect();
        for waiter in waiters {
            let number = waiter.strip_prefix("team-").and_then(|number| number.parse().ok());
            self.schedule(time, cluster, Happening::Reconcile(number.expect("a name of this fleet")));
        }
    }
}

impl Fleet {
    /// Whether each Secret has a token that lives, an hour after the last event.
    fn all_are_valid(&self) -> bool {
        let end = self.queue.peek().map_or(Duration::MAX, |Reverse((at, ..))| *at);
        let is_live = |expiry: &Option<Timestamp>| expiry.is_some_and(|at| since_start(at) > end);
        self.clusters.iter().flat_map(|cluster| &cluster.expiries).all(is_live)
    }
}

/// The simulated time of a point of the wall clock.
fn since_start(wall: Timestamp) -> Duration {
    Duration::try_from(wall.duration_since(origin())).unwrap_or_default()
}
