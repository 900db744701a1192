//! The records of a Namespace and of its Secrets, made from their metadata.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::DATE_RESOLUTION;
use crate::core::aws::Registry;
use crate::core::request::applied::{AppliedEntry, MAX_LIFETIME};
use crate::core::request::{AppliedState, ParsedAnnotations, Request, Target, Times};
use crate::core::{Now, ObjectVersion, Uid};

/// A Secret that expires within this time is urgent.
pub const URGENT: SignedDuration = SignedDuration::from_mins(30);

/// An entry that expired this long ago is not urgent any more.
const ABANDONED: SignedDuration = SignedDuration::from_hours(24);

/// The record of a Namespace that opted in.
#[derive(Clone, Debug, PartialEq)]
pub struct NamespaceRecord {
    /// Events refer to it.
    pub uid: Uid,
    pub parsed: Arc<ParsedAnnotations>,
}

/// The manager of a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This instance.
    This,
    /// Another instance of this tool, by name.
    OtherInstance(Box<str>),
    /// No instance of this tool.
    Unmanaged,
    /// No instance of this tool, and the configuration lets the controller adopt it.
    Adoptable,
    /// As [`Owner::Adoptable`], but this prevents the adoption.
    NotAdoptable(Obstacle),
}

/// Why a Secret cannot be adopted although a rule of the configuration matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The first of its owner references, as `KIND/NAME`: the garbage collector would delete the Secret with its owner.
    OwnerReference(Box<str>),
    /// Its type, which the API server never changes.
    Type,
    /// `immutable: true`.
    Immutable,
}

/// Whether the data of a Secret can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutability {
    /// No client set the field `immutable`.
    Mutable,
    /// A client set the field. Metadata do not contain its value, which may be `false`.
    Unknown,
    /// It has `immutable: true`, because the API server rejected a write for that reason. The value never changes
    /// (<https://kubernetes.io/docs/concepts/configuration/secret/#secret-immutable>).
    Immutable,
}

/// The record of a Secret of an allowed name, read from its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a separate property of the object")]
pub struct Observed {
    pub uid: Uid,
    /// Comparable within one cluster
    /// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>).
    pub resource_version: u64,
    pub owner: Owner,
    /// Whether it has our Apply entry. Labels alone may be copied.
    pub is_applied: bool,
    /// Whether our Apply entry owns every field that we apply.
    pub intact: bool,
    /// Whether our Apply entry owns the data, even if another client changed the metadata.
    pub data_intact: bool,
    /// Whether it was deleted, and only a finalizer holds it.
    pub is_deleting: bool,
    pub mutability: Mutability,
    /// `None` if another client wrote one of the two annotations.
    pub times: Option<Times>,
    /// `None` if the annotation is missing, cannot be parsed, or names another instance.
    pub applied: Option<Arc<AppliedState>>,
}

impl Observed {
    /// Whether its earliest live entry has not expired.
    pub fn is_live(&self, now: Now) -> bool {
        self.times.is_some_and(|times| times.expires_at > now.wall)
    }

    /// Whether it or an entry of it has expired, or it will within half an hour and in the last quarter of its lifetime.
    pub fn is_urgent(&self, now: Now) -> bool {
        // One that expired long ago waits for a person, and must not make every renewal urgent.
        let has_expired = |entry: &AppliedEntry| {
            entry.expires_at.is_some_and(|at| at <= now.wall && now.wall.duration_since(at) < ABANDONED)
        };
        if self.intact && self.entries().any(has_expired) {
            return true;
        }
        self.urgent_at(now).is_some_and(|at| at <= now.wall)
    }

    /// When it becomes urgent, unless an entry has expired; `None` if its times are not known.
    pub fn urgent_at(&self, now: Now) -> Option<Timestamp> {
        let times = self.times?;
        let last_quarter = self.last_quarter(times, now).clamp(SignedDuration::ZERO, URGENT);
        self.first_expiry(times, now).checked_sub(last_quarter).ok()
    }

    /// Its entries, as they are recorded.
    pub fn entries(&self) -> impl Iterator<Item = &AppliedEntry> {
        self.applied.iter().flat_map(|applied| applied.entries.iter().flatten())
    }

    /// When the newest of its tokens was issued, according to its record.
    pub fn issued_at(&self) -> Option<Timestamp> {
        self.entries().filter_map(|entry| entry.issued_at).max()
    }

    /// When the first of its live entries expires. `times` have a later expiry if a wall clock that was ahead took this entry
    /// for an expired one.
    pub fn first_expiry(&self, times: Times, now: Now) -> Timestamp {
        let live = self.entries().filter(|entry| entry.is_live(now));
        live.filter_map(|entry| entry.expires_at).fold(times.expires_at, Timestamp::min)
    }

    /// When the last quarter of its lifetime begins.
    pub fn last_quarter_at(&self, times: Times, now: Now) -> Option<Timestamp> {
        self.first_expiry(times, now).checked_sub(self.last_quarter(times, now)).ok()
    }

    /// How long the last quarter of its lifetime is. The lifetime is that of the entry that expires first; if it is unknown, a
    /// renewal is due near half of it.
    fn last_quarter(&self, times: Times, now: Now) -> SignedDuration {
        let expires_at = self.first_expiry(times, now);
        let first = self.entries().find(|entry| entry.expires_at == Some(expires_at));
        first
            .and_then(AppliedEntry::last_quarter)
            .unwrap_or_else(|| expires_at.duration_since(times.refresh_after) / 2)
    }

    /// Whether it may be live and its record cannot be read, so that a write without a token for each registry may lose
    /// entries.
    pub fn hides_entries(&self, now: Now) -> bool {
        let may_be_live = self.times.is_some_and(|times| !now.has_certainly_passed(times.expires_at));
        self.data_intact && self.applied.is_none() && may_be_live
    }

    /// Whether all its entries have expired for certain. `times` has the expiry of the one that expires first.
    pub fn is_expired(&self, now: Now) -> bool {
        let is_recorded = self.intact && self.applied.is_some();
        let all = is_recorded && self.entries().all(|entry| entry.has_expired(now));
        self.times.is_some_and(|times| {
            let last = times.expires_at.checked_add(MAX_LIFETIME).unwrap_or(Timestamp::MAX);
            now.has_certainly_passed(times.expires_at) && (all || now.has_certainly_passed(last))
        })
    }

    /// Whether it has a live entry for each registry of `request` for which `old`, a Secret of another name, may have one, and
    /// none that ends soon and sooner: its renewal may fail. The record of an `old` that another client changed does not
    /// exclude any.
    pub fn replaces(&self, old: &Self, request: &Request, now: Now) -> bool {
        let is_live = |entry: Option<&AppliedEntry>| entry.is_some_and(|entry| entry.is_live(now));
        let applied = self.applied.as_ref();
        let has_host = |host: &Registry| is_live(applied.and_then(|applied| applied.entry_of(host)));
        let has_successor = |old: &AppliedEntry| {
            let new = applied.and_then(|applied| applied.entry_of(&old.host));
            new.is_some_and(|new| new.is_live(now) && outlasts(new, old, now))
        };
        let has = |target: &Target| match target {
            Target::Host(host) => has_host(host),
            Target::Default => is_live(applied.and_then(|applied| applied.entry(target))),
        };
        if !old.intact || old.applied.is_none() {
            return request.registries.iter().all(has);
        }
        // The requests may name the same host in different ways.
        let is_requested = |host: &Registry| {
            request.registries.iter().any(|target| match target {
                Target::Host(requested) => requested == host,
                // It may be that host.
                Target::Default => !has(target),
            })
        };
        old.entries()
            .all(|entry| entry.has_expired(now) || has_successor(entry) || !is_requested(&entry.host))
    }

    /// The version to which a write or a deletion must apply.
    pub fn version(&self) -> ObjectVersion {
        ObjectVersion { uid: self.uid.clone(), resource_version: self.resource_version }
    }
}

/// Whether a live entry makes another one of the same host unnecessary.
fn outlasts(new: &AppliedEntry, old: &AppliedEntry, now: Now) -> bool {
    let ends_no_sooner = |(old, new): (Timestamp, Timestamp)| old.duration_since(new) <= DATE_RESOLUTION;
    // If the scopes differ, the grant of the old token may have been revoked.
    new.scope != old.scope
        || !new.may_be_in_last_quarter(now)
        || old.expires_at.zip(new.expires_at).is_none_or(ends_no_sooner)
}
