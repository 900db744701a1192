//! The tenants that do not attack: what they notice of an attack.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use testing::aws::{Behaviour, Minted};
use testing::tenants::{HOST, Tenants, live_token, password};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::harness::TestCluster;

/// How long a new namespace waits for its Secret at most.
pub const MAX_WAIT: Duration = Duration::from_secs(30);
/// The default `timeoutSeconds` of a kubelet's probe, within which most probes end, also on a busy machine.
const MAX_PROBE: Duration = Duration::from_secs(1);
/// Within this time each of them ends.
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);
const PROBES: usize = 20;
/// Half of the memory limit of the chart, less the maximum size of the program (`make image`), whose pages do not count: those
/// of a debug build are many.
const MAX_PEAK_KIB: u64 = (64 - 16) * 1024;
const READ_INTERVAL: Duration = Duration::from_millis(250);

const SHORT: Duration = Duration::from_secs(24);

/// Tokens that are renewed after about 12 seconds, for attacks on renewals.
pub fn short_tokens() -> Behaviour {
    Behaviour::living(SHORT)
}

/// An attacker that takes one turn after another until it is dropped.
pub struct Attack {
    task: JoinSet<()>,
    turns: Arc<AtomicUsize>,
}

impl Attack {
    /// Starts it. `turn` gets the number of the turn, and `pause` is the time between two turns.
    pub fn repeat<F>(pause: Duration, mut turn: impl FnMut(usize) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let turns = Arc::new(AtomicUsize::new(0));
        let count = turns.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            for number in 0.. {
                turn(number).await;
                count.fetch_add(1, Ordering::SeqCst);
                sleep(pause).await;
            }
        });
        Self { task, turns }
    }

    /// Changes the annotations of a namespace, which exists, in each turn.
    pub fn annotate(
        cluster: &TestCluster,
        pause: Duration,
        change: impl Fn(usize) -> (String, Vec<(&'static str, Option<String>)>) + Send + 'static,
    ) -> Self {
        let tenants = Tenants::clone(cluster);
        Self::repeat(pause, move |number| {
            let (tenants, (namespace, values)) = (tenants.clone(), change(number));
            async move {
                let values: Vec<_> = values.iter().map(|(key, value)| (*key, value.as_deref())).collect();
                tenants.annotate(&namespace, &values).await;
            }
        })
    }

    /// The turns that it completed.
    pub fn turns(&self) -> usize {
        self.turns.load(Ordering::SeqCst)
    }

    fn assert_running(&mut self) {
        assert!(self.task.try_join_next().is_none(), "the attacker stopped after {} turns", self.turns());
    }
}

/// The password that a namespace had at a time.
type Sight = (Timestamp, String, Option<String>);

/// Two namespaces that have a Secret before the attack, and are read all the time.
pub struct Bystanders {
    reader: JoinSet<()>,
    seen: Arc<Mutex<Vec<Sight>>>,
}

impl Bystanders {
    const NAMES: [&str; 2] = ["bystander-0", "bystander-1"];

    /// Opts them in and waits for their Secrets. A controller runs.
    pub async fn settle(cluster: &TestCluster) -> Self {
        for name in Self::NAMES {
            cluster.opt_in(name).await;
        }
        for name in Self::NAMES {
            // There may be a Secret of an earlier round.
            let fresh = async || {
                let token = live_token(&cluster.aws, &cluster.secret(name).await?, HOST)?;
                (token.expires_at? > Timestamp::now() + SHORT / 2).then_some(())
            };
            cluster.wait_for(&format!("a fresh token in {name}"), fresh).await;
        }
        let (seen, tenants) = (Arc::<Mutex<Vec<Sight>>>::default(), Tenants::clone(cluster));
        let sights = seen.clone();
        let mut reader = JoinSet::new();
        reader.spawn(async move {
            loop {
                for name in Self::NAMES {
                    let now = Timestamp::now();
                    let found = tenants.secret(name).await.and_then(|secret| password(&secret, HOST));
                    let mut sights = sights.lock().unwrap_or_else(PoisonError::into_inner);
                    sights.push((now, name.to_owned(), found));
                }
                sleep(READ_INTERVAL).await;
            }
        });
        Self { reader, seen }
    }

    /// Waits until each of them has got another token since it settled.
    pub async fn wait_for_renewals(&self, cluster: &TestCluster) {
        let renewed = async || Self::NAMES.iter().all(|name| self.tokens_of(name) > 1);
        cluster.wait_until("the renewals of the bystanders", renewed).await;
    }

    /// How many tokens this one has had.
    fn tokens_of(&self, name: &str) -> usize {
        let sights = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let own = sights.iter().filter(|(_, other, _)| other == name);
        own.filter_map(|(.., password)| password.as_ref()).collect::<BTreeSet<_>>().len()
    }

    /// Asserts the four figures, while the attacker runs: a new namespace is served in time, no Secret has expired, each
    /// probe succeeds, and the controller's memory is bounded.
    pub async fn assert_unharmed(mut self, cluster: &mut TestCluster, attack: &mut Attack) {
        attack.assert_running();
        let waited = served_after(cluster, "bystander-new").await;
        let url = cluster.page("");
        let probes = tokio::task::spawn_blocking(move || probes(&url)).await.expect("the probes");
        let (median, slowest) = (probes[PROBES / 2], probes[PROBES - 1]);
        let peak = peak_kib(cluster.controller().pid());
        attack.assert_running();
        assert!(self.reader.try_join_next().is_none(), "the reader of the Secrets stopped");
        let sights = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        let expired = expired(&sights, &cluster.aws.minted());
        println!(
            "after {} turns of the attacker: a new namespace was served after {waited:.1?}, {} of {} reads found no live \
             token, {PROBES} probes took {median:.1?}, the slowest {slowest:.1?}, the controller's memory peaked at {} MiB",
            attack.turns(),
            expired.len(),
            sights.len(),
            peak / 1024,
        );
        assert!(waited < MAX_WAIT, "a new namespace waited {waited:?}");
        assert!(sights.len() >= 2 * Self::NAMES.len(), "{} reads", sights.len());
        assert!(expired.is_empty(), "without a live token: {expired:?}");
        assert!(median < MAX_PROBE, "most probes took longer than {median:?}");
        assert!(peak < MAX_PEAK_KIB, "{peak} KiB");
    }
}

/// How long a namespace that opts in waits for a live token.
pub async fn served_after(cluster: &TestCluster, namespace: &str) -> Duration {
    let start = Instant::now();
    cluster.opt_in(namespace).await;
    let secret = cluster.wait_for_secret(namespace).await;
    let waited = start.elapsed();
    live_token(&cluster.aws, &secret, HOST).expect("a live token");
    waited
}

/// The reads that found no token, or one that AWS had let expire.
fn expired(sights: &[Sight], minted: &[Minted]) -> Vec<(Timestamp, String)> {
    let ends: BTreeMap<_, _> = minted.iter().map(|token| (&*token.password, token.expires_at)).collect();
    let is_live = |(at, _, password): &&Sight| {
        let end = password.as_deref().and_then(|password| *ends.get(password)?);
        end.is_some_and(|end| end > *at)
    };
    sights.iter().filter(|sight| !is_live(sight)).map(|(at, name, _)| (*at, name.clone())).collect()
}

/// The durations of the probes in ascending order, each on a connection of its own, as a kubelet sends them. It blocks its
/// thread, so that the other tasks of the test do not delay it.
fn probes(url: &str) -> Vec<Duration> {
    let address = url.strip_prefix("http://").and_then(|address| address.parse().ok()).expect("an address");
    let mut durations = vec![];
    for attempt in 0..PROBES {
        let start = Instant::now();
        let reply = probe(address);
        durations.push(start.elapsed());
        let is_ok = reply.as_ref().is_ok_and(|reply| reply.starts_with("HTTP/1.1 200 OK"));
        assert!(is_ok, "probe {attempt} of {PROBES} failed after {:?}: {reply:?}", start.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    durations.sort_unstable();
    durations
}

fn probe(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PROBE_TIMEOUT)?;
    stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    Ok(reply)
}

/// The most resident memory that a process has had, without the pages of its program, in KiB.
fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the status of the controller");
    let kib = |key: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a line of the status");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    };
    kib("VmHWM:").saturating_sub(kib("RssFile:"))
}
