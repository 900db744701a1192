//! What must hold, whatever happens. Each oracle is general: it knows the truth of the world and no scenario.

mod end;
mod namespaces;
mod writes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ecr_pull_secrets::simulation::controller::Effect;
use ecr_pull_secrets::simulation::controller::tell::Tell;
use ecr_pull_secrets::simulation::core::grants::{Granted, TokenKey};
use ecr_pull_secrets::simulation::core::plan::WriteReason;

use crate::store::secret::SecretObject;
use crate::store::{Key, Name};
use crate::world::{World, shows_a_token};

/// The oracles of `docs/reliability.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, strum::VariantArray)]
pub enum Oracle {
    /// Within 60 s of the last fault, the index equals the API server, and the world converges.
    Belief,
    /// No Secret is expired or missing where AWS and the API server answered for that namespace.
    NoneExpired,
    /// No good Secret or entry is taken away unless the namespace or the configuration asked for it.
    NoneTaken,
    /// No object is written more often than a bound in ten minutes, and converged objects are not written.
    WriteBudget,
    /// Every request has a deadline. The edges show it.
    Deadline,
    /// What is due is asked for within 60 s of monotonic time.
    Progress,
    /// While a namespace names a key, at most one token is fetched for it in each half-life, and one in five minutes for
    /// requested renewals.
    TokenBudget,
    /// No Secret holds a token of a wider scope than granted.
    Scope,
    /// What is remembered is bounded by what exists.
    Memory,
    /// The end equals that of the run without faults, and each repeat has an explanation.
    Differential,
    /// No byte of a token is in a message.
    Redaction,
}

#[derive(Clone, Debug)]
pub struct Violation {
    pub oracle: Oracle,
    pub at: Duration,
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} after {:.3} s: {}", self.oracle, self.at.as_secs_f64(), self.text)
    }
}

/// What a controller read of a Namespace.
#[derive(Clone)]
pub struct Read {
    /// The version of the Namespace; `None` if it did not exist.
    version: Option<u64>,
    /// The name of the Secret that it wants, if it wants one.
    wanted: Option<Name>,
    is_invalid: bool,
}

/// What the oracles remember.
#[derive(Default)]
pub struct Oracles {
    pub violation: Option<Violation>,
    /// The requests for each Secret in the last ten minutes.
    requests: BTreeMap<Key, VecDeque<Duration>>,
    /// When something was last requested in a namespace.
    active: BTreeMap<Name, Duration>,
    /// When a namespace last changed, and how often in all.
    changed: BTreeMap<Name, VecDeque<Duration>>,
    /// When each Secret last changed.
    touched: BTreeMap<Key, Duration>,
    /// When another client last edited a Secret.
    edited: BTreeMap<Key, Duration>,
    /// When a deletion was executed after its time limit.
    pub deleted_late: BTreeMap<Key, Duration>,
    /// Secrets that another client changed since a controller last wrote them.
    unrepaired: BTreeSet<Key>,
    /// When an immutable Secret was last deleted for its replacement, and what it was.
    replaced: BTreeMap<Key, (Duration, SecretObject)>,
    /// How many writes of a Secret, of which no process has told yet, found a change of another client.
    repaired: BTreeMap<Key, u32>,
    /// What each namespace wants, by the version of the Namespace.
    wanted: BTreeMap<Name, (u64, Option<Arc<Granted>>)>,
    /// When each namespace is checked next.
    checks: BTreeMap<Name, Duration>,
    /// What each process last read of each Namespace.
    read: BTreeMap<(usize, Name), Read>,
    /// How many new token keys each namespace may have named.
    named: BTreeMap<Name, u32>,
    /// The times that annotations named.
    requested: Vec<Duration>,
    /// When each process, by number and epoch, last asked early for a token of a key, because a namespace requested a renewal.
    renewed: BTreeMap<(usize, u32, TokenKey), Duration>,
    /// Whether the wall clocks were always right.
    clocks_moved: bool,
    /// The number of Secrets that were written, for the figures of a run.
    pub writes: u64,
}

impl World {
    /// Looks at a message of a controller.
    pub fn told_by(&mut self, process: usize, tell: &Tell) {
        if self.story.is_some() && !matches!(tell, Tell::Counted(_) | Tell::InSync { .. }) {
            self.tell(|| format!("process {process} tells {tell:?}"));
        }
        if let Tell::SecretWritten { namespace, secret, reason, .. } = tell
            && reason.is_repair()
        {
            let key = crate::store::secret_key(namespace, secret);
            let clock = *reason == WriteReason::ImplausibleTimes && self.oracles.clocks_moved;
            let found = self.oracles.repaired.get_mut(&key).filter(|count| **count > 0);
            let is_explained = found.map(|count| *count -= 1).is_some();
            if !clock && !is_explained && !self.was_suspended() {
                let text = format!("{namespace}/{secret} was repaired ({reason:?}), but nobody edited it");
                self.report(Oracle::Differential, text);
            }
        }
    }

    /// No output of a controller shows a token, not even its `Debug` form.
    pub fn check_redaction(&mut self, effect: &Effect) {
        if !matches!(effect, Effect::Tell(Tell::Counted(_))) && shows_a_token(&format!("{effect:?}")) {
            self.report(Oracle::Redaction, "the output of a controller shows a token".to_owned());
        }
    }

    /// Another client edited, deleted or created a Secret.
    pub fn edited(&mut self, key: &Key) {
        self.oracles.edited.insert(key.clone(), self.time);
        self.oracles.unrepaired.insert(key.clone());
    }

    /// A namespace named new token keys.
    pub fn named_new_keys(&mut self, namespace: &Name, count: u32) {
        *self.oracles.named.entry(namespace.clone()).or_default() += count;
    }

    /// A namespace asked for a renewal.
    pub fn renewal_requested(&mut self, namespace: &str) {
        let time = self.renewal_time(namespace);
        self.oracles.requested.extend(time);
    }

    /// A Secret changed.
    pub fn touched(&mut self, key: &Key) {
        if key.kind == crate::store::Kind::Secret {
            self.oracles.touched.insert(key.clone(), self.time);
        }
    }

    pub fn clock_moved(&mut self) {
        self.oracles.clocks_moved = true;
    }
}
