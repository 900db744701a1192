//! The commands that diagnose, as programs, on a real API server.

mod check;
mod configuration;
mod explain;
#[allow(dead_code, reason = "the controller's tests use the rest of it")]
#[path = "../apiserver/harness/mod.rs"]
mod harness;
mod lease;
mod plugin;
mod render;
mod status;
mod users;
