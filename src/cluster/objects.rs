//! Objects of one namespace by name, each at the newest version that was seen: a watch lags behind our own writes.

use std::sync::Arc;

use crate::core::accounts::Account;
use crate::core::facts::Observed;

/// A record that has a resource version.
pub trait Versioned {
    /// It; versions of one object only grow.
    fn version(&self) -> u64;
}

impl Versioned for Observed {
    fn version(&self) -> u64 {
        self.resource_version
    }
}

impl Versioned for Account {
    fn version(&self) -> u64 {
        self.resource_version
    }
}

/// Puts a record in, unless one of its version or a newer one is there. Says whether it did.
pub fn put<T: Versioned>(objects: &mut Vec<(Arc<str>, T)>, name: &Arc<str>, new: T) -> bool {
    match objects.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) if known.version() >= new.version() => return false,
        Some((_, known)) => *known = new,
        None => objects.push((name.clone(), new)),
    }
    true
}

/// Takes out what is gone since `version`, unless a newer one is there. Says whether it did.
pub fn take<T: Versioned>(objects: &mut Vec<(Arc<str>, T)>, name: &Arc<str>, version: u64) -> bool {
    let before = objects.len();
    objects.retain(|(known, object)| known != name || object.version() > version);
    objects.len() < before
}
