//! Logs, metrics and probes.

pub mod http;
pub mod logs;
pub mod metrics;
