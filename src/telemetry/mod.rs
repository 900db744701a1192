//! What can be seen from outside: logs, metrics, probes.

pub mod http;
pub mod logs;
pub mod metrics;
