//! One process of the controller: its state machine, its watches, its candidate for the Lease, and its clocks.

use std::sync::Arc;
use std::time::Duration;

use ecr_pull_secrets::simulation::controller::index::Index;
use ecr_pull_secrets::simulation::controller::{Controller, Effect, Input, RunPolicy};
use ecr_pull_secrets::simulation::core::leader_election::{LeaderElector, Leadership};
use ecr_pull_secrets::simulation::core::settings::Settings;
use ecr_pull_secrets::simulation::core::{Jitter, Now};
use ecr_pull_secrets::simulation::kubernetes::watch::targets;
use jiff::SignedDuration;

use super::lease::Call;
use super::watches::Watch;
use super::{Happening, World, origin};

/// The longest time between two ticks, so that a controller without work still counts.
const TICK: Duration = Duration::from_mins(1);

/// A term of the Lease with its retries (20 s), and the longest write (40 s).
const SUSPENDED: Duration = Duration::from_mins(1);

/// When a process that started without a region finds it.
const REGION_FOUND: Duration = Duration::from_secs(90);

pub struct Process {
    pub name: String,
    pub epoch: u32,
    pub is_alive: bool,
    pub controller: Controller,
    pub elector: LeaderElector,
    pub leadership: Leadership,
    pub lease_call: Option<Call>,
    pub settings: Arc<Settings>,
    pub watches: Vec<Watch>,
    pub frozen_until: Duration,
    /// Without a connection to the API server until then.
    pub partitioned_until: Duration,
    /// How far its wall clock is ahead.
    pub skew: SignedDuration,
    /// How long its monotonic clock stood still.
    pub suspended: Duration,
    /// When it last ran again after that.
    pub resumed_at: Option<Duration>,
    wake_at: Duration,
    elect_at: Duration,
}

impl Process {
    pub fn now(&self, time: Duration) -> Now {
        let wall = origin() + SignedDuration::try_from(time).expect("a short run") + self.skew;
        let mono = Duration::from_secs(1_000_000) + time.saturating_sub(self.suspended);
        Now { wall, mono, skew: None }
    }

    pub fn is_frozen(&self, time: Duration) -> bool {
        self.frozen_until > time
    }

    pub fn is_leader(&self, time: Duration) -> bool {
        self.is_alive && self.leadership.left(self.now(time)).is_some()
    }

    /// When it next needs a tick or a step of its election.
    pub fn next_timer(&self, world: &World) -> Option<Duration> {
        if !self.is_alive {
            return None;
        }
        let elects = !world.is_lazy() || world.is_contested();
        let elect = (elects && self.lease_call.is_none()).then_some(self.elect_at);
        let next = elect.into_iter().chain([self.wake_at]).min();
        next.map(|at| at.max(self.frozen_until))
    }
}

impl World {
    /// Whether a process that ran again after a suspension may still write, although another one leads: for a term of the Lease,
    /// and until the last write that it sent is over.
    pub fn was_suspended(&self) -> bool {
        let mut resumed_at = self.processes.iter().filter_map(|process| process.resumed_at);
        resumed_at.any(|at| at + SUSPENDED > self.time)
    }

    /// Starts a process, or starts it again.
    pub fn start(&mut self, index: usize, without_region: bool) {
        let before = self.processes.get(index);
        let epoch = before.map_or(0, |before| before.epoch + 1);
        let skew = before.map_or(SignedDuration::ZERO, |before| before.skew);
        let mut settings = (self.profile.settings)();
        settings.jitter = Jitter::new(index as u64 * 1_000 + u64::from(epoch) + 11);
        if without_region {
            settings.region = None;
            settings.grants.default_region = None;
        }
        let settings = Arc::new(settings);
        let targets = targets(&settings);
        let policy = RunPolicy { repeat: true, delete: true, confirm_removals: None };
        let mut controller = Controller::new(settings.clone(), policy, Index::new(targets.clone()));
        controller.tick_every(self.profile.patrol);
        let name = format!("process {index}.{epoch}");
        self.tell(|| format!("{name} starts{}", if without_region { " without a region" } else { "" }));
        let process = Process {
            elector: LeaderElector::new(name.clone(), settings.election),
            name,
            epoch,
            is_alive: true,
            controller,
            leadership: Leadership::NotLeader,
            lease_call: None,
            settings,
            watches: targets.into_iter().map(Watch::new).collect(),
            frozen_until: Duration::ZERO,
            partitioned_until: Duration::ZERO,
            skew,
            suspended: Duration::ZERO,
            resumed_at: None,
            wake_at: self.time,
            elect_at: self.time,
        };
        if index < self.processes.len() {
            self.processes[index] = process;
        } else {
            self.processes.push(process);
        }
        for watch in 0..self.processes[index].watches.len() {
            self.list(index, watch, None);
        }
        if without_region {
            let found = self.time + REGION_FOUND;
            self.trouble(None, found + Duration::from_secs(10));
            self.schedule(found, Happening::RegionFound { process: index, epoch });
        }
    }

    /// The process starts again with the region.
    pub fn find_region(&mut self, index: usize, epoch: u32) {
        if self.processes[index].epoch == epoch && self.processes[index].is_alive {
            self.crash(index);
            self.start(index, false);
        }
    }

    /// Kills a process: nothing is released, and requests that were sent may still be stored.
    pub fn crash(&mut self, index: usize) {
        let name = self.processes[index].name.clone();
        self.tell(|| format!("{name} crashes"));
        self.processes[index].is_alive = false;
        self.processes[index].lease_call = None;
    }

    /// After the last fault: the clocks are right, and every process runs.
    pub fn recover_process(&mut self, index: usize) {
        let time = self.time;
        let process = &mut self.processes[index];
        process.frozen_until = time;
        process.partitioned_until = time;
        process.skew = SignedDuration::ZERO;
        if !process.is_alive {
            return self.start(index, false);
        }
        if process.settings.region.is_none() && self.settings.region.is_some() {
            self.crash(index);
            self.start(index, false);
        }
        for watch in 0..self.processes[index].watches.len() {
            self.thaw_watch(index, watch);
        }
    }

    /// Ticks every process that is due, and lets it elect.
    pub fn tick_all(&mut self) {
        for index in 0..self.processes.len() {
            let process = &self.processes[index];
            if process.is_alive && !process.is_frozen(self.time) && process.wake_at <= self.time {
                self.input(index, Input::Tick);
            }
        }
    }

    /// Lets every elector act that is due, the holder first: with a lazy Lease, its renewal counts before another
    /// candidate looks.
    pub fn elect_all(&mut self) {
        let holder = self.store.lease.holder.as_ref();
        let first = self.processes.iter().position(|process| Some(&process.name) == holder).unwrap_or(0);
        for offset in 0..self.processes.len() {
            let index = (first + offset) % self.processes.len();
            let process = &self.processes[index];
            let may = process.is_alive && !process.is_frozen(self.time) && process.lease_call.is_none();
            if may && process.elect_at <= self.time {
                let next = self.elect(index);
                self.processes[index].elect_at = next;
            }
        }
    }

    /// Whether the Lease is renewed only when something else happens: nothing then interferes with it.
    pub fn is_lazy(&self) -> bool {
        self.profile.lazy_lease || self.is_calm()
    }

    /// Whether the holder of the Lease may not renew it, so that each step of the election counts.
    pub fn is_contested(&self) -> bool {
        let holder = self.store.lease.holder.as_ref();
        let found = self.processes.iter().find(|process| Some(&process.name) == holder);
        let reaches = |process: &Process| {
            process.is_alive && !process.is_frozen(self.time) && process.partitioned_until <= self.time
        };
        !found.is_some_and(reaches) || self.faults.api_down > self.time
    }

    pub fn elect_again(&mut self, index: usize) {
        self.processes[index].elect_at = self.time;
    }

    /// Hands an input to a controller, and executes the effects.
    pub fn input(&mut self, index: usize, input: Input) {
        let lazy = self.is_lazy();
        let process = &mut self.processes[index];
        if !process.is_alive {
            return;
        }
        let now = process.now(self.time);
        let effects = process.controller.handle(input, now);
        let work = process.controller.next_work(now).unwrap_or(TICK).min(TICK);
        let lease = if lazy { None } else { process.leadership.left(now) };
        let wait = work.min(lease.unwrap_or(TICK)) + Duration::from_millis(1);
        process.wake_at = self.time + wait;
        for effect in effects {
            self.execute_effect(index, effect);
        }
    }

    fn execute_effect(&mut self, index: usize, effect: Effect) {
        if self.profile.checks_messages {
            self.check_redaction(&effect);
        }
        match effect {
            Effect::Tell(tell) => self.told_by(index, &tell),
            Effect::FetchToken(request) => self.fetch_token(index, *request),
            Effect::Relist(target) => self.relist(index, &target),
            Effect::Act { id, namespace, request } => self.send(index, id, namespace, request),
        }
    }
}
