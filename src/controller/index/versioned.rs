//! Objects of one namespace by name, each at the newest version that was seen: watches lag behind our own writes. The
//! resource versions of one object only grow.

use std::sync::Arc;

type Objects<T> = Vec<(Arc<str>, T)>;

/// Inserts `new`, unless the same or a newer version is known. Returns whether it did.
pub fn upsert_newer<T>(objects: &mut Objects<T>, name: &Arc<str>, new: T, version: fn(&T) -> u64) -> bool {
    match objects.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) if version(known) >= version(&new) => return false,
        Some((_, known)) => *known = new,
        None => {
            // Most namespaces have one object; the default growth reserves four.
            objects.reserve_exact(1);
            objects.push((name.clone(), new));
        }
    }
    true
}

/// Removes the object, unless `is_newer` holds for it. Returns whether it did.
pub fn remove_older<T>(objects: &mut Objects<T>, name: &Arc<str>, is_newer: impl Fn(&T) -> bool) -> bool {
    let before = objects.len();
    objects.retain(|(known, object)| known != name || is_newer(object));
    objects.len() < before
}
