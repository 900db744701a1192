//! Objects of one namespace by name, each at the newest version that was seen: watches lag behind our own writes.

use std::sync::Arc;

use crate::core::plan::{Observed, PullSecretRefs};

/// A record with a resource version; the versions of one object only grow.
pub trait Versioned {
    fn resource_version(&self) -> u64;
}

impl Versioned for Observed {
    fn resource_version(&self) -> u64 {
        self.resource_version
    }
}

impl Versioned for PullSecretRefs {
    fn resource_version(&self) -> u64 {
        self.resource_version
    }
}

/// Inserts `new`, unless the same or a newer version is known. Returns whether it did.
pub fn upsert_newer<T: Versioned>(objects: &mut Vec<(Arc<str>, T)>, name: &Arc<str>, new: T) -> bool {
    match objects.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) if known.resource_version() >= new.resource_version() => return false,
        Some((_, known)) => *known = new,
        None => {
            // Most namespaces have one object; the default growth reserves four.
            objects.reserve_exact(1);
            objects.push((name.clone(), new));
        }
    }
    true
}

/// Removes the object that was deleted at `version`, unless a newer one is known. Returns whether it did.
pub fn remove_older<T: Versioned>(objects: &mut Vec<(Arc<str>, T)>, name: &Arc<str>, version: u64) -> bool {
    let before = objects.len();
    objects.retain(|(known, object)| known != name || object.resource_version() > version);
    objects.len() < before
}
