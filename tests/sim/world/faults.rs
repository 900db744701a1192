//! The beginnings and ends of faults.

use std::time::Duration;

use ecr_pull_secrets::simulation::core::secret::TokenErrorKind;
use jiff::SignedDuration;

use super::aws::Behaviour;
use super::{Happening, World};
use crate::profile::What;

/// How long a fault lasts, in seconds.
const LENGTHS: [u64; 5] = [1, 5, 30, 90, 400];
/// How far a clock jumps, in hours.
const JUMPS: [i64; 3] = [10, 1, 30];

impl World {
    pub fn begin_fault(&mut self, what: What, first: u32, second: u32) {
        if self.profile.lazy_lease {
            self.shorten_leases();
        }
        let length = Duration::from_secs(LENGTHS[second as usize % LENGTHS.len()]);
        let end = self.time + length;
        let process = first as usize % self.processes.len();
        let namespace = self.name(first);
        let endpoint = if first.is_multiple_of(2) { "eu-central-1" } else { "eu-west-1" };
        match what {
            What::AwsFails => {
                let kind = if second.is_multiple_of(2) {
                    TokenErrorKind::Throttled
                } else {
                    TokenErrorKind::AccessDenied
                };
                self.aws.fail(endpoint, Behaviour::Error(kind), end);
            }
            What::AwsHangs => self.aws.fail(endpoint, Behaviour::Hang, end),
            What::AwsAway => {
                let life = Duration::from_secs(u64::try_from(self.aws.life).expect("positive"));
                self.aws.fail("", Behaviour::Error(TokenErrorKind::Unreachable), self.time + life * 2);
            }
            What::ShortLives => self.aws.life = i64::from(60 + second % 4 * 60),
            What::ApiDown => {
                self.faults.api_down = end;
                self.trouble(None, end);
            }
            What::NamespaceHangs => {
                let end = self.time + length * 4;
                self.faults.namespace_hangs.insert(namespace.clone(), end);
                self.trouble(Some(&namespace), end);
            }
            What::MostHang => {
                for n in (0..self.profile.namespaces).filter(|n| n % 10 != 0) {
                    let (name, end) = (self.name(n), self.time + Duration::from_mins(30));
                    self.trouble(Some(&name), end);
                    self.faults.namespace_hangs.insert(name, end);
                }
            }
            What::Quota => {
                self.store.full.push(namespace.clone());
                self.trouble(Some(&namespace), end);
                self.schedule(end, Happening::End(what, first));
            }
            // These last for several lifetimes of a token, and must not delay its renewal.
            What::RefuseDeletions => {
                self.faults.refuses_deletions.insert(namespace, self.time + length * 40);
            }
            What::AccountsHang => _ = self.faults.accounts_hang.insert(namespace, self.time + length * 40),
            What::BreakWatch | What::StaleWatch => {
                let watch = second as usize % self.processes[process].watches.len();
                let behind = (what == What::StaleWatch).then_some(u64::from(second / 4 % 12));
                if self.processes[process].is_alive {
                    self.list(process, watch, behind);
                }
            }
            What::SourceUnreadable => {
                for (name, _) in self.source_names() {
                    self.put_source(&name, &[], 0);
                }
                self.schedule(end, Happening::End(what, first));
            }
            What::RestoreEtcd => self.restore_etcd(second),
            _ => self.begin_process_fault(what, process, end, second),
        }
    }

    fn begin_process_fault(&mut self, what: What, process: usize, end: Duration, second: u32) {
        if matches!(what, What::ClockAhead | What::ClockBehind | What::Suspend) {
            self.clock_moved();
        }
        let hours = JUMPS[second as usize / 8 % JUMPS.len()];
        match what {
            What::Crash | What::RestartWithoutRegion => {
                if self.processes[process].is_alive {
                    self.crash(process);
                }
                let end = end.min(self.time + Duration::from_mins(1));
                let without_region = what == What::RestartWithoutRegion;
                self.trouble(None, end + Duration::from_secs(10));
                self.schedule(end, Happening::Restart { process, without_region });
            }
            What::Freeze => {
                let until = &mut self.processes[process].frozen_until;
                *until = end.max(*until);
                self.trouble(None, end + Duration::from_secs(10));
            }
            What::Partition => {
                let until = &mut self.processes[process].partitioned_until;
                *until = end.max(*until);
                self.trouble(None, end + Duration::from_secs(10));
            }
            What::Suspend => {
                let time = self.time;
                let this = &mut self.processes[process];
                let from = this.frozen_until.max(time);
                this.suspended += end.saturating_sub(from);
                this.frozen_until = end.max(from);
                this.resumed_at = Some(this.frozen_until);
                self.trouble(None, end + Duration::from_secs(10));
            }
            What::ClockAhead | What::ClockBehind => {
                let sign = if what == What::ClockAhead { 1 } else { -1 };
                self.processes[process].skew = SignedDuration::from_hours(sign * hours);
                let argument = u32::try_from(process).expect("few");
                self.trouble(None, end);
                self.schedule(end, Happening::End(what, argument));
            }
            other => unreachable!("{other:?} is an action"),
        }
    }

    pub fn end_fault(&mut self, what: What, argument: u32) {
        self.tell(|| format!("{what:?} ends"));
        match what {
            What::Quota => {
                let namespace = self.name(argument);
                self.store.full.retain(|full| *full != namespace);
            }
            What::SourceUnreadable => self.restore_sources(),
            What::TerminateNamespace => {
                let namespace = self.name(argument);
                self.revive(&namespace);
            }
            _ => self.processes[argument as usize].skew = SignedDuration::ZERO,
        }
    }

    /// etcd's folder is put back: objects and versions are as they were, and no watch hears of it.
    fn restore_etcd(&mut self, second: u32) {
        let back = u64::from(3 + second % 30).min(self.store.history.len() as u64);
        // A backup is older than the last renewals of the Lease.
        let Some(renewal) = self.store.leases.iter().rev().nth(2).map(|(version, _)| *version) else {
            return;
        };
        let version = self.store.version.saturating_sub(back).min(renewal);
        let before: Vec<_> = self.store.secrets().map(|(key, _)| key.clone()).collect();
        self.store.objects = self.store.at(version);
        self.store.history.retain(|event| event.version <= version);
        self.store.version = version;
        self.store.restore_lease(version);
        for namespace in self.namespace_names() {
            self.namespace_changed(&namespace);
        }
        let after: Vec<_> = self.store.secrets().map(|(key, _)| key.clone()).collect();
        before.iter().chain(&after).for_each(|key| self.edited(key));
        self.trouble(None, self.time);
    }
}
