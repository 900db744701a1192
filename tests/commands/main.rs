//! The commands that diagnose, as programs, on a real API server.

mod check;
mod explain;
#[allow(dead_code, reason = "the controller's tests use the rest of it")]
#[path = "../apiserver/harness/mod.rs"]
mod harness;
mod plugin;
mod render;
mod status;
mod users;
