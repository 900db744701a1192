//! One version of one object, on which a write or a deletion is conditional.

use std::fmt;

use super::Uid;

/// A request with it fails with a conflict if the object was changed, deleted or replaced since
/// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>).
#[derive(Clone, PartialEq, Eq)]
pub struct ObjectVersion {
    pub uid: Uid,
    pub resource_version: u64,
}

impl fmt::Debug for ObjectVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.uid, self.resource_version)
    }
}
