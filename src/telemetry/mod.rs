//! Logs, metrics and probes.

pub mod http;
pub mod listener;
pub mod logs;
pub mod metrics;
