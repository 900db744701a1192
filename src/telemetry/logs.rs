//! Logs: one line a decision, as text or JSON, on standard error.
//!
//! Two libraries print what must not be seen, whatever filter the user sets: kube's client warns with the
//! whole body of an answer that it cannot read, and the AWS SDK traces replies with their tokens. Both are
//! capped below that level by directives that come after the user's.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, FilterFn, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What no filter can lift.
const CAPS: [(&str, LevelFilter); 5] = [
    ("kube_client::client", LevelFilter::ERROR),
    ("aws", LevelFilter::INFO),
    ("hyper", LevelFilter::INFO),
    ("rustls", LevelFilter::INFO),
    ("h2", LevelFilter::INFO),
];

/// Starts logging. `filter` is an `EnvFilter` directive list such as `info` or `ecr_pull_secrets=debug`.
pub fn start(format: LogFormat, filter: &str) -> Result<(), String> {
    let filter = EnvFilter::builder().parse(filter).map_err(|error| {
        format!("--log-level {filter:?}: {error}; expected info, debug or target=level,…")
    })?;
    let registry = tracing_subscriber::registry().with(filter);
    let started = match format {
        LogFormat::Text => {
            let ansi = std::io::stderr().is_terminal();
            let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(ansi).with_target(false);
            registry.with(layer.with_filter(cap())).try_init()
        }
        LogFormat::Json => {
            let layer =
                fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
            registry.with(layer.with_writer(std::io::stderr).with_filter(cap())).try_init()
        }
    };
    started.map_err(|error| format!("logging could not be started: {error}"))
}

fn cap() -> FilterFn<impl Fn(&tracing::Metadata<'_>) -> bool> {
    let caps = Targets::new().with_default(LevelFilter::TRACE).with_targets(CAPS);
    FilterFn::new(move |metadata| caps.would_enable(metadata.target(), metadata.level()))
        .with_max_level_hint(Level::TRACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_prints_replies_is_capped_whatever_the_user_asks_for() {
        let caps = Targets::new().with_default(LevelFilter::TRACE).with_targets(CAPS);
        assert!(!caps.would_enable("kube_client::client", &Level::WARN));
        for target in [
            "aws_smithy_runtime::client::orchestrator",
            "aws_sdk_ecr::client",
            "aws_config",
            "hyper_util::client",
        ] {
            assert!(!caps.would_enable(target, &Level::TRACE), "{target}");
            assert!(!caps.would_enable(target, &Level::DEBUG), "{target}");
        }
        assert!(caps.would_enable("ecr_pull_secrets::controller", &Level::TRACE));
    }
}
