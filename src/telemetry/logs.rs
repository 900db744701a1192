//! Logs on standard error, as text or JSON.
//!
//! Two libraries log secrets: kube's client logs the body of a response that it cannot parse, as a warning, and the AWS
//! SDK traces responses with their tokens. Maximum levels, which the user's filter cannot raise, suppress those lines.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, FilterFn, ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer as _, fmt};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Human-readable lines.
    Text,
    /// One JSON object per line.
    Json,
}

/// The maximum level of a target. The user's filter cannot raise it.
const MAX_LEVELS: [(&str, LevelFilter); 8] = [
    ("kube_client::client", LevelFilter::ERROR),
    // It logs errors with all they contain, such as the output of a credential plugin. The watches report them without that.
    ("kube_runtime", LevelFilter::INFO),
    // Its warnings say that certificates are not verified or not current.
    ("kube_client::client::tls", LevelFilter::WARN),
    ("aws", LevelFilter::INFO),
    // Its warnings contain raw replies of the instance metadata service. The controller reports a missing region and missing
    // credentials itself.
    ("aws_config", LevelFilter::ERROR),
    ("hyper", LevelFilter::INFO),
    ("rustls", LevelFilter::INFO),
    ("h2", LevelFilter::INFO),
];

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("--log-level {filter:?}: {error}; expected a level such as info or debug, or target=level,…")]
    Filter { filter: String, error: ParseError },
    #[error("cannot start logging: {0}")]
    Start(#[from] TryInitError),
}

/// Starts logging. `filter` is an `EnvFilter` directive list such as `info` or `ecr_pull_secrets=debug`.
pub fn start(format: LogFormat, filter: &str) -> Result<(), LogError> {
    let filter = EnvFilter::builder()
        .parse(filter)
        .map_err(|error| LogError::Filter { filter: filter.to_owned(), error })?;
    let limits = level_limits();
    let limits = FilterFn::new(move |event| limits.would_enable(event.target(), event.level()));
    let layer = fmt::layer().with_writer(std::io::stderr);
    let layer = match format {
        LogFormat::Text => layer.with_ansi(std::io::stderr().is_terminal()).with_target(false).boxed(),
        LogFormat::Json => {
            layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
    };
    Ok(tracing_subscriber::registry()
        .with(filter)
        .with(layer.with_filter(limits.with_max_level_hint(LevelFilter::TRACE)))
        .try_init()?)
}

fn level_limits() -> Targets {
    Targets::new().with_default(LevelFilter::TRACE).with_targets(MAX_LEVELS)
}

/// The log of one test.
#[cfg(test)]
pub mod testing {
    use std::io;
    use std::sync::{Arc, Mutex, Once};

    use tracing::subscriber::DefaultGuard;

    #[derive(Clone, Default)]
    pub struct Log(Arc<Mutex<Vec<u8>>>);

    impl Log {
        /// Records what this thread logs at level info or above, until the guard is dropped.
        pub fn capture(&self) -> DefaultGuard {
            // Without a global subscriber, a message that another thread logs at this moment may count as never enabled.
            static GLOBAL: Once = Once::new();
            GLOBAL
                .call_once(|| drop(tracing::subscriber::set_global_default(tracing_subscriber::registry())));
            let log = self.clone();
            let lines = tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone());
            tracing::subscriber::set_default(lines.finish())
        }

        pub fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("no panic").clone()).expect("UTF-8")
        }
    }

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn no_filter_enables_logs_that_contain_responses() {
        let limits = level_limits();
        assert!(!limits.would_enable("kube_client::client", &Level::WARN));
        assert!(limits.would_enable("kube_client::client::tls::rustls_tls", &Level::WARN));
        assert!(!limits.would_enable("kube_client::client::tls::rustls_tls", &Level::INFO));
        for target in [
            "aws_smithy_runtime::client::orchestrator",
            "aws_sdk_ecr::client",
            "aws_config",
            "hyper_util::client",
            "kube_runtime::watcher",
        ] {
            assert!(!limits.would_enable(target, &Level::TRACE), "{target}");
            assert!(!limits.would_enable(target, &Level::DEBUG), "{target}");
        }
        assert!(!limits.would_enable("aws_config::imds::region", &Level::WARN));
        assert!(limits.would_enable("ecr_pull_secrets::controller", &Level::TRACE));
    }
}
