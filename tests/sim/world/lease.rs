//! The Lease: requests of the candidates, and what the API server makes of them.

use std::time::Duration;

use ecr_pull_secrets::simulation::controller::Input;
use ecr_pull_secrets::simulation::core::Now;
use ecr_pull_secrets::simulation::core::leader_election::{ElectionStep, Leadership, LeaseRecord};

use super::{Happening, World};

/// How long the leadership lasts while nothing interferes with the Lease.
const LONG: Duration = Duration::from_hours(1);

/// A request of a candidate.
#[derive(Clone, Debug)]
pub struct Call {
    number: u64,
    step: ElectionStep,
    asked: Now,
    /// `None` if the version was another one.
    result: Option<LeaseRecord>,
}

#[derive(Clone, Copy, Debug)]
pub enum Stage {
    Commit { process: usize, call: u64 },
    Reply { process: usize, call: u64 },
    GiveUp { process: usize, call: u64 },
}

impl World {
    /// Lets a candidate act until it waits. Returns when it acts again.
    pub fn elect(&mut self, index: usize) -> Duration {
        for _ in 0..10 {
            let process = &self.processes[index];
            let now = process.now(self.time);
            let step = process.elector.next(now);
            if let ElectionStep::Wait(wait) = step {
                return self.time + wait;
            }
            let call = Call { number: self.number, step, asked: now, result: None };
            if !self.is_lazy() {
                self.send_lease(index, call);
                return Duration::MAX;
            }
            if self.is_unreachable(index) {
                self.processes[index].elector.request_failed(now);
                continue;
            }
            let call = Call { result: self.commit_lease(index, &call.step), ..call };
            self.lease_replied(index, call);
        }
        panic!("the elector never waits");
    }

    /// A fault begins: from now on the leadership ends as it does without renewals. One that ends sooner is not renewed.
    pub fn shorten_leases(&mut self) {
        for index in 0..self.processes.len() {
            let process = &mut self.processes[index];
            let left = process.leadership.left(process.now(self.time)).unwrap_or_default();
            let is_long = left > process.elector.timing().renew_deadline;
            if process.is_alive && !process.is_frozen(self.time) && is_long {
                process.leadership = Leadership::granted(process.now(self.time), process.elector.timing());
                let leadership = process.leadership;
                self.input(index, Input::LeadershipChanged(leadership));
            }
        }
    }

    pub fn is_unreachable(&self, index: usize) -> bool {
        self.faults.api_down > self.time || self.processes[index].partitioned_until > self.time
    }

    fn send_lease(&mut self, index: usize, call: Call) {
        let number = self.number;
        self.processes[index].lease_call = Some(call);
        let delays = self.profile.lease_delays;
        let [there, back] = [(); 2].map(|()| Duration::from_millis(*self.choices.of(delays)));
        if !self.is_unreachable(index) {
            self.schedule_in(there, Happening::Lease(Stage::Commit { process: index, call: number }));
            let lost = self.profile.fate_one_in > 0 && !self.is_calm() && self.choices.one_in(40);
            if !lost {
                let reply = Happening::Lease(Stage::Reply { process: index, call: number });
                self.schedule_in(there + back, reply);
            }
        }
        let limit = self.settings.election.request_timeout();
        self.schedule_in(limit, Happening::Lease(Stage::GiveUp { process: index, call: number }));
    }

    pub fn lease_stage(&mut self, stage: Stage) {
        let (Stage::Commit { process, call }
        | Stage::Reply { process, call }
        | Stage::GiveUp { process, call }) = stage;
        let current = self.processes[process].lease_call.as_ref();
        let Some(waiting) = current.filter(|waiting| waiting.number == call).cloned() else { return };
        let frozen_until = self.processes[process].frozen_until;
        if !matches!(stage, Stage::Commit { .. }) && frozen_until > self.time {
            return self.schedule(frozen_until, Happening::Lease(stage));
        }
        match stage {
            Stage::Commit { .. } => {
                let result = self.commit_lease(process, &waiting.step);
                self.processes[process].lease_call = Some(Call { result, ..waiting });
            }
            Stage::Reply { .. } => {
                self.processes[process].lease_call = None;
                self.lease_replied(process, waiting);
                self.elect_again(process);
            }
            Stage::GiveUp { .. } => {
                self.processes[process].lease_call = None;
                self.processes[process].elector.request_failed(waiting.asked);
                self.elect_again(process);
            }
        }
    }

    fn commit_lease(&mut self, index: usize, step: &ElectionStep) -> Option<LeaseRecord> {
        match step {
            ElectionStep::Write { resource_version, transitions, .. } => {
                if *resource_version != self.store.lease.resource_version {
                    return None;
                }
                let holder = self.processes[index].name.clone();
                let lease_duration = self.settings.election.lease_duration;
                let transitions = *transitions;
                self.store.put_lease(LeaseRecord {
                    holder: Some(holder),
                    lease_duration,
                    transitions,
                    ..LeaseRecord::default()
                });
                Some(self.store.lease.clone())
            }
            _ => Some(self.store.lease.clone()),
        }
    }

    fn lease_replied(&mut self, index: usize, call: Call) {
        let before = self.processes[index].elector.rewinds();
        self.record_lease(index, call);
        if self.processes[index].elector.rewinds() > before {
            self.input(index, Input::VersionsWentBack);
        }
    }

    fn record_lease(&mut self, index: usize, call: Call) {
        let lazy = self.is_lazy() && !self.is_contested();
        let process = &mut self.processes[index];
        let now = process.now(self.time);
        let Call { step, asked, result, .. } = call;
        let Some(record) = result else { return process.elector.request_failed(asked) };
        if let ElectionStep::Write { acquires, .. } = step {
            process.elector.wrote(record, asked, now);
            // Nothing interferes with a lazy Lease, so the leadership is granted for long, until a fault begins.
            if lazy && process.leadership.left(now).is_some_and(|left| left > LONG / 2) {
                return;
            }
            let end = Now { mono: now.mono + LONG, wall: now.after(LONG), ..now };
            process.leadership = if lazy {
                Leadership::Until(end)
            } else {
                Leadership::granted(asked, process.elector.timing())
            };
            if acquires {
                let name = process.name.clone();
                self.tell(|| format!("{name} acquires the Lease"));
            }
        } else {
            process.elector.observed(record, asked, now);
            if process.elector.other_leader().is_none() {
                return;
            }
            process.leadership = Leadership::NotLeader;
        }
        let leadership = self.processes[index].leadership;
        self.input(index, Input::LeadershipChanged(leadership));
    }
}
