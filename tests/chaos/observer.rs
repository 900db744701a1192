//! The readers: they look at the cluster, the controllers and the proxy until they are stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use testing::fault_proxy::FaultProxy;
use testing::tenants::NAME;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::judge::{Ages, Judge, Sight, Truth};
use crate::oracles::{Limits, Oracle, Report};

const LOOK: Duration = Duration::from_millis(100);
const VISIT: Duration = Duration::from_secs(1);
/// Failed probes in a row that count: two more than a kubelet allows by default, because the machine is busy.
const PROBES: usize = 5;

/// The addresses of running controllers, by name: the first is that of the metrics.
pub type Addresses = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

/// The running readers; stopped when this is dropped.
pub struct Observer {
    tasks: Vec<JoinHandle<()>>,
    looks: Arc<Mutex<Looks>>,
    belief: Arc<Mutex<Option<bool>>>,
}

/// How often the readers looked at every namespace, and for how long one of them lacked its Secret.
#[derive(Clone, Copy, Debug, Default)]
pub struct Looks {
    pub number: usize,
    pub longest_missing: Duration,
}

/// What the readers share.
#[derive(Clone)]
pub struct Sources {
    pub admin: Client,
    pub proxy: Arc<FaultProxy>,
    pub addresses: Addresses,
    pub report: Report,
    pub limits: Limits,
}

impl Observer {
    pub fn start(sources: &Sources) -> Self {
        let truth = Arc::new(Mutex::new(Truth::default()));
        let looks = Arc::<Mutex<Looks>>::default();
        let reader = tokio::spawn(read(sources.clone(), truth.clone(), looks.clone()));
        let belief = Arc::new(Mutex::new(None));
        let (failed, replied, sources) = (BTreeMap::new(), BTreeSet::new(), sources.clone());
        let visitor = Visitor { sources, truth, failed, replied, belief: belief.clone() };
        let follower = tokio::spawn(follow(visitor.sources.clone()));
        Self { tasks: vec![reader, follower, tokio::spawn(visitor.run())], looks, belief }
    }

    /// What the readers looked at so far.
    pub fn looks(&self) -> Looks {
        *lock(&self.looks)
    }

    /// Whether the metrics of the leader agreed with the cluster at the last visit.
    pub fn belief_is_right(&self) -> bool {
        *lock(&self.belief) == Some(true)
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks at each namespace and its Secret ten times a second.
async fn read(sources: Sources, truth: Arc<Mutex<Truth>>, looks: Arc<Mutex<Looks>>) {
    let namespaces: Api<Namespace> = Api::all(sources.admin.clone());
    let secrets: Api<Secret> = Api::all(sources.admin.clone());
    let pull_secrets = ListParams::default().fields("type=kubernetes.io/dockerconfigjson");
    let mut judge = Judge::new(sources.limits, sources.report.clone());
    loop {
        let params = ListParams::default();
        let both = async { tokio::join!(namespaces.list(&params), secrets.list(&pull_secrets)) };
        match timeout(2 * VISIT, both).await {
            Ok((Ok(namespaces), Ok(secrets))) => {
                let sights: Vec<Sight> = secrets.items.iter().map(Sight::of).collect();
                let seen = judge.look(&namespaces.items, &sights, Instant::now(), Timestamp::now());
                *lock(&truth) = seen;
                let mut looks = lock(&looks);
                *looks = Looks { number: looks.number + 1, longest_missing: judge.longest_missing };
            }
            _ => judge.blind(),
        }
        sleep(LOOK).await;
    }
}

/// Looks at every version of each Secret: one that is wrong may only last for milliseconds.
async fn follow(sources: Sources) {
    let secrets: Api<Secret> = Api::all(sources.admin.clone());
    let mut ages = Ages::new(sources.report.clone());
    let params = WatchParams::default().fields("type=kubernetes.io/dockerconfigjson");
    loop {
        let Ok(events) = secrets.watch(&params, "0").await else {
            sleep(LOOK).await;
            continue;
        };
        let mut events = events.boxed();
        while let Some(Ok(event)) = events.next().await {
            if let WatchEvent::Added(secret) | WatchEvent::Modified(secret) = event {
                ages.see(&Sight::of(&secret), Timestamp::now());
            }
        }
    }
}

/// Visits the controllers and the proxy once a second.
struct Visitor {
    sources: Sources,
    truth: Arc<Mutex<Truth>>,
    failed: BTreeMap<String, usize>,
    /// The first addresses of the controllers that have replied at one of theirs: the others may still be starting.
    replied: BTreeSet<String>,
    /// Whether the metrics of the leader agreed with the cluster; `None` before the first visit.
    belief: Arc<Mutex<Option<bool>>>,
}

impl Visitor {
    async fn run(mut self) {
        let mut judge = Judge::new(self.sources.limits, self.sources.report.clone());
        let mut requests = 0;
        loop {
            sleep(VISIT).await;
            let addresses = lock(&self.sources.addresses).clone();
            for (name, addresses) in addresses {
                self.probe(&addresses).await;
                let metrics = page(&addresses[0], "/metrics").await.unwrap_or_default();
                self.compare(&mut judge, &name, &metrics);
            }
            self.overdue();
            self.retry_after(&mut requests);
            self.pods().await;
        }
    }

    /// Requests `/livez` at each address, as a kubelet does.
    async fn probe(&mut self, addresses: &[String]) {
        for address in addresses {
            let failed = self.failed.entry(address.clone()).or_default();
            if page(address, "/livez").await.is_some() {
                *failed = 0;
                self.replied.insert(addresses[0].clone());
            } else if self.replied.contains(&addresses[0]) {
                *failed += 1;
            }
            if *failed >= PROBES && still_there(&self.sources.addresses, address) {
                let text = || format!("no reply from /livez at {address}, {PROBES} times in a row");
                self.sources.report.add(Oracle::Probe, address, text);
            }
        }
    }

    /// Compares the metrics of a leader with the cluster.
    fn compare(&self, judge: &mut Judge, name: &str, metrics: &str) {
        let belief = belief(metrics);
        let wrong = belief.is_some_and(|belief| belief != *lock(&self.truth));
        if belief.is_some() {
            *lock(&self.belief) = Some(!wrong);
        }
        judge.lasting(Oracle::Belief, name, wrong, Instant::now(), self.sources.limits.belief);
    }

    fn overdue(&self) {
        let Limits { unanswered, silent_watch, .. } = self.sources.limits;
        for exchange in self.sources.proxy.overdue(unanswered, silent_watch) {
            let streams = exchange.is_watch() && exchange.status.is_some();
            let (oracle, what) = if streams {
                (Oracle::SilentWatch, "was silent")
            } else {
                (Oracle::Unanswered, "has no reply")
            };
            let (method, path) = (&exchange.method, &exchange.path);
            self.sources.report.add(oracle, path, || format!("{method} {path} {what} for too long"));
        }
    }

    /// Looks for requests that were repeated before the time that the API server asked for.
    fn retry_after(&self, from: &mut usize) {
        let all = self.sources.proxy.exchanges();
        let target = |path: &str| path.split('?').next().unwrap_or_default().to_owned();
        for (n, first) in all.iter().enumerate().skip(*from) {
            let (Some(seconds), Some(ended)) = (first.retry_after, first.ended) else { continue };
            let early = ended + Duration::from_secs(seconds).saturating_sub(LOOK);
            let repeated = |it: &&testing::fault_proxy::Exchange| {
                it.agent == first.agent && target(&it.path) == target(&first.path) && it.started < early
            };
            if let Some(repeated) = all[n + 1..].iter().find(repeated) {
                let after = repeated.started.duration_since(ended);
                let text = || format!("{} was repeated after {after:?} instead of {seconds} s", first.path);
                self.sources.report.add(Oracle::RetryAfter, &target(&first.path), text);
            }
        }
        // A repetition may still come for the last ones.
        *from = all.len().saturating_sub(200);
    }

    /// Looks for pods without the reference that their namespace requests for every service account.
    async fn pods(&self) {
        const ACCOUNTS: &str = "ecr-pull-secrets.dev/service-accounts";
        let namespaces: Api<Namespace> = Api::all(self.sources.admin.clone());
        let pods: Api<Pod> = Api::all(self.sources.admin.clone());
        let params = ListParams::default();
        let Ok(Ok(pods)) = timeout(VISIT, pods.list(&params)).await else { return };
        if pods.items.is_empty() {
            return;
        }
        let Ok(Ok(namespaces)) = timeout(VISIT, namespaces.list(&params)).await else { return };
        let asks = |namespace: Namespace| {
            let all = namespace.metadata.annotations.unwrap_or_default();
            (all.get(ACCOUNTS).map(String::as_str) == Some("*")).then_some(namespace.metadata.name).flatten()
        };
        let asking: BTreeSet<String> = namespaces.items.into_iter().filter_map(asks).collect();
        for pod in pods.items {
            let name = pod.metadata.name.unwrap_or_default();
            let namespace = pod.metadata.namespace.unwrap_or_default();
            let references = pod.spec.and_then(|spec| spec.image_pull_secrets).unwrap_or_default();
            if asking.contains(&namespace) && references.iter().all(|reference| reference.name != NAME) {
                let text = || format!("the pod {namespace}/{name} has no reference to the Secret");
                self.sources.report.add(Oracle::Pod, &namespace, text);
            }
        }
    }
}

/// The numbers of namespaces in the metrics of a leader.
fn belief(metrics: &str) -> Option<Truth> {
    let value = |series: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.and_then(|number| number.parse::<usize>().ok())
    };
    let state = |state| value(&format!("ecr_pull_secrets_namespaces{{state=\"{state}\"}}")).unwrap_or(0);
    let opted_in = ["ready", "pending", "blocked", "expired"].into_iter().map(state).sum();
    (value("ecr_pull_secrets_leader") == Some(1)).then(|| Truth { opted_in, ready: state("ready") })
}

fn still_there(addresses: &Addresses, address: &str) -> bool {
    lock(addresses).values().flatten().any(|other| other == address)
}

/// The body of a page; `None` if the controller does not reply within a second.
async fn page(address: &str, path: &str) -> Option<String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let reply = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.ok()?;
        reply.starts_with("HTTP/1.1 200").then_some(reply)
    };
    timeout(VISIT, reply).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_belief_is_that_of_a_leader_only() {
        let metrics = |leader: u8| {
            format!(
                "ecr_pull_secrets_namespaces{{state=\"ready\"}} 3\n\
                 ecr_pull_secrets_namespaces{{state=\"expired\"}} 2\necr_pull_secrets_leader {leader}\n"
            )
        };
        assert_eq!(belief(&metrics(1)), Some(Truth { opted_in: 5, ready: 3 }));
        assert_eq!(belief(&metrics(0)), None);
    }
}
