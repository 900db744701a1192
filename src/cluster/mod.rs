//! Kubernetes: the connection, the two metadata watches and the index that they fill, writes and Events.

pub mod client;
pub mod events;
pub mod index;
pub mod observe;
pub mod watch;
pub mod write;
