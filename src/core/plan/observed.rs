//! The records of a Namespace and of its Secrets, made from their metadata.

use std::sync::Arc;

use crate::core::request::{AppliedState, ParsedAnnotations, Times};
use crate::core::{Now, ObjectVersion, Uid};

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
    /// Whether a client set the field `immutable`.
    pub immutable: bool,
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

    /// The version to which a write or a deletion must apply.
    pub fn version(&self) -> ObjectVersion {
        ObjectVersion { uid: self.uid.clone(), resource_version: self.resource_version }
    }
}
