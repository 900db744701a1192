//! Kubernetes: the connection, the watches and the index that they fill, writes, Events and the Lease.

pub mod client;
pub mod events;
pub mod index;
mod interner;
pub mod inventory;
pub mod lead;
pub mod lease;
mod objects;
pub mod observe;
pub mod watch;
pub mod write;
