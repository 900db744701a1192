//! What must hold in every scenario, and the record of what did not.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A property that must hold whatever happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Oracle {
    /// A namespace that opted in has its Secret.
    Missing,
    /// A Secret does not expire.
    Expired,
    /// A Secret is not created with a token that has expired.
    BornExpired,
    /// A Secret never gets an older token than it had.
    Older,
    /// A Secret keeps its entries as long as its namespace requests the same.
    EntryLost,
    /// A Secret has the labels of the controller, and its namespace opted in.
    Foreign,
    /// The number of writes of one object is bounded.
    Writes,
    /// A request has a deadline.
    Unanswered,
    /// A silent watch is noticed.
    SilentWatch,
    /// `Retry-After` is respected.
    RetryAfter,
    /// The metrics agree with the cluster.
    Belief,
    /// The probes reply, at each address of the pod.
    Probe,
    /// A repair is only reported if another client wrote the Secret.
    FalseAlarm,
    /// A pod gets the reference to the Secret.
    Pod,
    /// The network policy allows what the sources of credentials need.
    Egress,
}

/// For how long a property may be violated before that is reported.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub missing: Duration,
    pub expired: Duration,
    pub belief: Duration,
    pub unanswered: Duration,
    pub silent_watch: Duration,
    /// Writes of one object in ten minutes.
    pub writes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            missing: Duration::from_secs(45),
            expired: Duration::from_secs(1),
            belief: Duration::from_mins(1),
            unanswered: Duration::from_mins(1),
            silent_watch: Duration::from_secs(90),
            writes: 40,
        }
    }
}

/// A property that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub oracle: Oracle,
    /// What it is about; each oracle reports a subject once.
    pub subject: String,
    pub text: String,
}

/// The violations of a test, in the order in which they were found.
#[derive(Clone, Debug, Default)]
pub struct Report(Arc<Mutex<Vec<Violation>>>);

impl Report {
    pub fn add(&self, oracle: Oracle, subject: &str, text: impl FnOnce() -> String) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.iter().any(|it| it.oracle == oracle && it.subject == subject) {
            all.push(Violation { oracle, subject: subject.to_owned(), text: text() });
        }
    }

    pub fn all(&self) -> Vec<Violation> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
