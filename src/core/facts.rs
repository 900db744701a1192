//! What is known of a namespace when a decision is taken: what its annotations say, what stands in it, and what
//! this process did there.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::accounts::Account;
use super::annotations::Reading;
use super::request::Accepted;
use super::statics::Sources;
use super::tries::Tries;

/// The 12 hours of a token, and room for clocks that differ.
const LONGEST_LIFETIME: SignedDuration = SignedDuration::from_hours(13);
/// Whose a Secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This instance's.
    Ours,
    /// Another instance's, named.
    Instance(Box<str>),
    /// Somebody else's.
    Stranger,
}

/// The times of a Secret, as its annotations have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// When its earliest live entry expires.
    pub expires_at: Timestamp,
    /// When it is due for a rewrite.
    pub refresh_after: Timestamp,
}

impl Times {
    /// Whether they can be those of a token: none of ECR lives longer than 12 hours.
    pub fn is_believable(&self, now: Timestamp) -> bool {
        let bound = |time: Timestamp| time.duration_since(now) <= LONGEST_LIFETIME;
        bound(self.expires_at) && bound(self.refresh_after)
    }
}

/// What is known of a Secret of an allowed name, all of it from its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Its UID.
    pub uid: Box<str>,
    /// Its resource version, comparable within one cluster
    /// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>).
    pub resource_version: u64,
    /// Whose it is.
    pub owner: Owner,
    /// Our Apply entry owns every field that we apply.
    pub intact: bool,
    /// Our Apply entry owns the data, whatever of the metadata was changed.
    pub data_intact: bool,
    /// Somebody set the field `immutable`.
    pub immutable: bool,
    /// Its times, if both are as we applied them.
    pub times: Option<Times>,
    /// What was applied, if it can be read and names this instance.
    pub applied: Option<Arc<Accepted>>,
}

/// Why a Secret is written. The order is the order of urgency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WriteCause {
    /// There is none.
    Create,
    /// Another request is in force.
    Change,
    /// Somebody edited it.
    Repair,
    /// The entries of other registries changed.
    Static,
    /// Its token is due.
    Refresh,
}

/// What this process remembers of its own doings in a namespace. Empty after a start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// What our last write left: the Secret's name, and its resource version.
    pub written: Option<(Arc<str>, u64)>,
    /// Which tokens it wrote.
    pub fingerprint: Option<u64>,
    /// When what it wrote is due, whatever the annotations say by now.
    pub due: Option<Timestamp>,
    /// What was tried on the Secret.
    pub tries: Tries,
    /// What was tried on service accounts, by their names.
    pub accounts: BTreeMap<Arc<str>, Tries>,
}

/// Everything that is known of a namespace.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Its name.
    pub namespace: &'a str,
    /// What its annotations say; `None`: not opted in, or gone.
    pub reading: Option<&'a Reading>,
    /// The Secrets of allowed names in it.
    pub secrets: &'a [(Arc<str>, Observed)],
    /// The service accounts in it; none, unless they are watched.
    pub accounts: &'a [(Arc<str>, Account)],
    /// The sources of other registries' entries.
    pub sources: &'a Sources,
    /// What we did.
    pub history: &'a History,
}

impl History {
    /// Takes note of a write of `cause` that succeeded and left `observed`. A Secret that has to be created
    /// again was deleted by somebody: that counts as a repair.
    pub fn wrote(
        &mut self,
        cause: WriteCause,
        name: &Arc<str>,
        observed: &Observed,
        fingerprint: u64,
        now: Timestamp,
    ) {
        let again = cause == WriteCause::Create && self.due.is_some();
        if again || cause == WriteCause::Repair {
            self.tries.repaired(now);
        }
        self.written = Some((name.clone(), observed.resource_version));
        self.fingerprint = Some(fingerprint);
        self.due = observed.times.map(|times| times.refresh_after);
        self.tries.forgive();
    }

    /// Takes note that we deleted what we wrote: when it is asked for again, that is no repair.
    pub fn deleted(&mut self) {
        self.written = None;
        self.fingerprint = None;
        self.due = None;
    }

    /// Until when a repair waits, so that a second writer cannot make us spin. A refresh that has become due since
    /// the last one, by our own reckoning, does not wait for it.
    pub fn repair_after(&self, namespace: &str, now: Timestamp) -> Option<Timestamp> {
        let (last, later) = self.tries.repair_after(namespace, now)?;
        let later = self.due.filter(|due| *due > last).map_or(later, |due| later.min(due));
        Some(later).filter(|later| *later > now)
    }
}
