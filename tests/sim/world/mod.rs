//! The world: an API server, AWS, and processes of the controller, in one thread with simulated time.
//!
//! Everything that happens is an entry of one queue, ordered by time. A delay is a choice, so every order of replies and
//! watch events is possible; the events of one watch keep their order. Nothing else is random.

mod actors;
mod aws;
mod faults;
mod lease;
mod process;
mod requests;
mod watches;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use ecr_pull_secrets::simulation::controller::Controller;
use ecr_pull_secrets::simulation::core::settings::Settings;
use jiff::{SignedDuration, Timestamp};

use self::aws::Aws;
use self::process::Process;
use self::requests::Running;
use crate::choices::Choices;
use crate::oracles::{Oracle, Oracles, Violation};
use crate::profile::{Profile, What};
use crate::store::{Event, Key, Kind, Name, Object, Store};

pub use self::actors::{FORGED, default_registry, variant};
pub use self::aws::{TokenInfo, is_invented, shows_a_token};

/// More events than any run needs. A controller that never pauses exceeds it.
const LIMIT: u64 = 40_000_000;
/// More events at one instant than any run needs.
const LIMIT_AT_ONCE: u64 = 100_000;

/// The choices of a planned action: the pause, what it is, and two arguments.
const CHOICES_PER_STEP: usize = 4;

/// Something that happens at a certain time.
#[derive(Debug)]
enum Happening {
    Planned(usize),
    /// The next event of a watch arrives.
    Watch {
        process: usize,
        epoch: u32,
        watch: usize,
        generation: u32,
    },
    /// The API server reads the current Secret for request `id`.
    Read(u64),
    Commit(u64),
    Reply(u64),
    GiveUp(u64),
    Token {
        process: usize,
        epoch: u32,
        call: u64,
    },
    Lease(lease::Stage),
    Restart {
        process: usize,
        without_region: bool,
    },
    RegionFound {
        process: usize,
        epoch: u32,
    },
    /// A fault ends that needs more than the passing of time.
    End(What, u32),
    /// A Secret may have expired or may be missing.
    Check(Name),
    /// Whether what is due was asked for, in every namespace.
    Patrol,
    /// A Secret that was deleted for its replacement exists.
    Replaced(Key),
}

struct Entry {
    at: Duration,
    number: u64,
    happening: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// An action or fault of the plan.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    at: Duration,
    what: What,
    args: [u32; 2],
}

/// The faults that last, each until a time.
#[derive(Default)]
struct Faults {
    api_down: Duration,
    namespace_hangs: BTreeMap<Name, Duration>,
    /// Until when deletions are refused, and changes of service accounts hang.
    refuses_deletions: BTreeMap<Name, Duration>,
    accounts_hang: BTreeMap<Name, Duration>,
    /// When the last fault that concerns every namespace ended.
    global_until: Duration,
    /// When the last fault of a namespace ended.
    until: BTreeMap<Name, Duration>,
}

pub struct World {
    pub profile: Profile,
    /// Time since the start.
    pub time: Duration,
    pub store: Store,
    pub aws: Aws,
    pub oracles: Oracles,
    /// What happened, if it is recorded.
    pub story: Option<Vec<String>>,
    pub choices: Choices,
    /// The configuration, as the truth about what is granted.
    pub settings: Arc<Settings>,
    processes: Vec<Process>,
    running: BTreeMap<u64, Running>,
    queue: BinaryHeap<Reverse<Entry>>,
    number: u64,
    plan: Vec<Planned>,
    faults: Faults,
    calm_at: Option<Duration>,
    happened: u64,
}

/// The wall clock at the start.
pub fn origin() -> Timestamp {
    Timestamp::from_second(1_700_000_000).expect("a time")
}

impl World {
    pub fn new(profile: Profile, choices: Choices) -> Self {
        let settings = Arc::new((profile.settings)());
        let mut world = Self {
            aws: Aws::new(profile.token_life),
            profile,
            time: Duration::ZERO,
            store: Store::default(),
            oracles: Oracles::default(),
            story: None,
            choices,
            settings,
            processes: vec![],
            running: BTreeMap::new(),
            queue: BinaryHeap::new(),
            number: 0,
            plan: vec![],
            faults: Faults::default(),
            calm_at: None,
            happened: 0,
        };
        world.make_plan();
        world
    }

    /// Records what happens, for a person to read.
    pub fn told(mut self) -> Self {
        self.story = Some(vec![]);
        self
    }

    /// The true wall clock.
    pub fn wall(&self) -> Timestamp {
        origin() + SignedDuration::try_from(self.time).expect("a short run")
    }

    /// The choices that the plan consists of. A run with these alone has no delays and no fates.
    pub fn plan_choices(&self) -> &[u32] {
        &self.choices.list()[..self.plan.len() * CHOICES_PER_STEP]
    }

    /// Draws the plan first, so that a shrunk list of choices drops actions before it changes delays.
    fn make_plan(&mut self) {
        let mut at = Duration::from_secs(1);
        for _ in 0..self.profile.steps {
            at += Duration::from_millis(*self.choices.of(self.profile.gaps));
            let what = *self.choices.of(&self.profile.what);
            let args = [self.choices.pick(1 << 16), self.choices.pick(1 << 16)];
            self.plan.push(Planned { at, what, args });
        }
    }

    /// Runs until the calm after the last fault has passed, or an oracle reports something.
    pub fn run(mut self) -> Self {
        self.populate();
        for process in 0..self.profile.processes {
            self.start(process, false);
        }
        for (index, planned) in self.plan.clone().into_iter().enumerate() {
            self.schedule(planned.at, Happening::Planned(index));
        }
        self.schedule_in(self.profile.patrol, Happening::Patrol);
        let last = self.plan.last().map_or(Duration::ZERO, |planned| planned.at);
        self.run_until(last + self.profile.tail);
        self.run_until(self.faults.global_until);
        self.calm_down();
        let calm = self.time;
        self.run_until(calm + Duration::from_mins(1));
        self.check_belief();
        self.run_until(calm + self.profile.calm);
        self.check_end();
        self
    }

    fn run_until(&mut self, end: Duration) {
        let mut at_once = 0;
        while self.oracles.violation.is_none() {
            let next = self.next_time().unwrap_or(Duration::MAX);
            if next > end {
                self.time = self.time.max(end);
                return;
            }
            at_once = if next > self.time { 0 } else { at_once + 1 };
            self.happened += 1;
            if at_once > LIMIT_AT_ONCE || self.happened > LIMIT {
                return self.report(Oracle::WriteBudget, "the controller never pauses".to_owned());
            }
            self.time = self.time.max(next);
            self.happen();
        }
    }

    /// When something happens next: an entry of the queue, a timer of a process, or a step of an election.
    fn next_time(&self) -> Option<Duration> {
        let queued = self.queue.peek().map(|Reverse(entry)| entry.at);
        let timers = self.processes.iter().filter_map(|process| process.next_timer(self));
        queued.into_iter().chain(timers).min()
    }

    fn happen(&mut self) {
        self.elect_all();
        if let Some(Reverse(entry)) = self.queue.peek()
            && entry.at <= self.time
        {
            let Reverse(entry) = self.queue.pop().expect("it was there");
            return self.execute(entry.happening);
        }
        self.tick_all();
    }

    fn execute(&mut self, happening: Happening) {
        match happening {
            Happening::Planned(index) => self.act(self.plan[index]),
            Happening::Watch { process, epoch, watch, generation } => {
                self.deliver(process, epoch, watch, generation);
            }
            Happening::Read(id) => self.read(id),
            Happening::Commit(id) => self.commit(id),
            Happening::Reply(id) => self.reply(id),
            Happening::GiveUp(id) => self.give_up(id),
            Happening::Token { process, epoch, call } => self.token_reply(process, epoch, call),
            Happening::Lease(stage) => self.lease_stage(stage),
            Happening::Restart { process, without_region } => self.start(process, without_region),
            Happening::RegionFound { process, epoch } => self.find_region(process, epoch),
            Happening::End(what, argument) => self.end_fault(what, argument),
            Happening::Check(namespace) => self.check_namespace(&namespace),
            Happening::Patrol => {
                for namespace in self.namespace_names() {
                    self.check_asked(&namespace);
                }
                self.schedule_in(self.profile.patrol, Happening::Patrol);
            }
            Happening::Replaced(key) => self.check_replaced(&key),
        }
    }

    pub fn happened(&self) -> u64 {
        self.happened
    }

    fn schedule(&mut self, at: Duration, happening: Happening) {
        self.number += 1;
        self.queue.push(Reverse(Entry { at, number: self.number, happening }));
    }

    fn schedule_in(&mut self, delay: Duration, happening: Happening) {
        self.schedule(self.time + delay, happening);
    }

    /// A delay of the network.
    fn delay(&mut self) -> Duration {
        Duration::from_millis(*self.choices.of(self.profile.delays))
    }

    pub fn is_calm(&self) -> bool {
        self.calm_at.is_some()
    }

    pub fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(format!("{:>10.3} s  {}", self.time.as_secs_f64(), line()));
        }
    }

    pub fn report(&mut self, oracle: Oracle, text: String) {
        self.tell(|| format!("VIOLATION of {oracle:?}: {text}"));
        if self.oracles.violation.is_none() {
            self.oracles.violation = Some(Violation { oracle, at: self.time, text });
        }
    }

    /// Stores a change that a client or the controller made, and sends it to every watch.
    fn publish(&mut self, event: &Event) {
        self.touched(&event.key);
        for process in 0..self.processes.len() {
            self.notify(process, event);
        }
    }

    fn put(&mut self, key: &Key, object: Option<Object>) {
        let event = self.store.put(key, object);
        self.publish(&event);
    }

    /// A process that runs, with its name.
    pub fn alive(&self, process: usize) -> Option<(String, &Controller)> {
        let process = self.processes.get(process).filter(|process| process.is_alive)?;
        Some((process.name.clone(), &process.controller))
    }

    /// How often a process was started before.
    pub fn epoch(&self, process: usize) -> u32 {
        self.processes[process].epoch
    }

    /// Checks the namespace at `at`.
    pub fn schedule_check(&mut self, namespace: &Name, at: Duration) {
        self.schedule(at, Happening::Check(namespace.clone()));
    }

    /// Checks after a minute that the Secret was replaced.
    pub fn schedule_replaced(&mut self, key: Key) {
        self.schedule_in(Duration::from_mins(1), Happening::Replaced(key));
    }

    pub fn namespace_names(&self) -> Vec<Name> {
        let is_namespace = |key: &&Key| key.kind == Kind::Namespace;
        self.store.objects.keys().filter(is_namespace).map(|key| key.name.clone()).collect()
    }

    /// A fault concerns a namespace, or all, until `end`.
    fn trouble(&mut self, namespace: Option<&Name>, end: Duration) {
        let until = match namespace {
            Some(namespace) => self.faults.until.entry(namespace.clone()).or_default(),
            None => &mut self.faults.global_until,
        };
        *until = (*until).max(end);
    }

    /// When the last fault that concerned this namespace ended.
    pub fn last_trouble(&self, namespace: &str) -> Duration {
        let own = self.faults.until.get(namespace).copied().unwrap_or_default();
        own.max(self.faults.global_until)
    }

    /// Ends every fault: what follows must converge.
    fn calm_down(&mut self) {
        self.tell(|| "every fault ends".to_owned());
        self.calm_at = Some(self.time);
        let ended = std::mem::take(&mut self.faults);
        self.faults.until = ended.until.into_keys().map(|name| (name, self.time)).collect();
        self.faults.global_until = self.time;
        self.store.full.clear();
        self.aws.recover(self.time);
        self.restore_sources();
        for process in 0..self.processes.len() {
            self.recover_process(process);
        }
    }
}
