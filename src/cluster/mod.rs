//! Kubernetes: the connection, the watches and the index that they fill, writes and Events.

pub mod client;
pub mod events;
pub mod index;
mod interner;
mod objects;
pub mod observe;
pub mod watch;
pub mod write;
