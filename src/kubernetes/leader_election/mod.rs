//! Leader election by a Lease: only the process that holds it writes.

mod elector;
mod lease;
mod permit;

#[cfg(test)]
mod tests;

pub use self::elector::Election;
pub use self::lease::LeaseClient;
pub use self::permit::WritePermit;

/// The identity of this process: `name` (default: the host name) and a random suffix, because no two processes may have
/// the same identity.
pub fn leader_election_identity(name: Option<&str>, suffix: u64) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = Some(host.trim()).filter(|host| !host.is_empty());
    format!("{}_{:08x}", name.or(host).unwrap_or(env!("CARGO_PKG_NAME")), suffix >> 32)
}
