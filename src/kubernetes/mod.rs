//! Kubernetes: the connection, watches, reads and writes of single objects, Events and leader election.

pub mod client;
pub mod cluster;
pub mod errors;
pub mod events;
mod http2;
pub mod inventory;
pub mod leader_election;
mod merged;
mod namespaces;
pub mod observe;
pub mod overview;
mod pages;
mod reload;
mod scope;
mod secrets;
mod service_accounts;
pub mod watch;
mod watch_pace;
