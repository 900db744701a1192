//! The commands that diagnose, as programs, on a real API server.

#[allow(dead_code, reason = "the controller's tests use the rest of it")]
#[path = "../apiserver/harness/mod.rs"]
mod harness;
mod status;
mod users;
