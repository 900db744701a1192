//! `ecr-pull-secrets sync`: one pass, and what came of it.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::{CommandError, Started, Writes, start, stop_on_signals};
use crate::cli::SyncArgs;
use crate::controller::{Mode, Summary};
use crate::telemetry::http::Health;
use crate::telemetry::metrics::Metrics;

/// How long the last Events are waited for.
const EVENTS: Duration = Duration::from_secs(10);

pub(super) async fn run(args: SyncArgs) -> Result<(), CommandError> {
    let stop = stop_on_signals()?;
    let mode = Mode::Once { prune: args.prune };
    let writes = if args.force { Writes::Alone } else { Writes::WhileNobodyElse };
    let started = start(&args.cluster, mode, writes, Metrics::default(), Health::default(), progress());
    let mut stopped = stop.clone();
    let Started { controller, changes, watches, events, .. } = tokio::select! {
        started = started => started?,
        _ = stopped.wait_for(|stop| *stop) => return Err(CommandError::Failed("interrupted".into())),
    };
    let summary =
        controller.run(changes, stop).await.map_err(|error| CommandError::Failed(error.to_string()))?;
    drop(watches);
    let _ = tokio::time::timeout(EVENTS, events).await;
    if *stopped.borrow() {
        return Err(CommandError::Failed("interrupted before every namespace was looked after".into()));
    }
    print(&summary);
    if summary.failures.is_empty() {
        return Ok(());
    }
    let count = summary.failures.len();
    Err(CommandError::Failed(format!(
        "{count} of the namespaces are not as they should be; see the list above"
    )))
}

fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} namespaces, {elapsed}");
    let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn print(summary: &Summary) {
    let Summary { settled, written, deleted, would_delete, failures } = summary;
    for (namespace, problems) in failures {
        for problem in problems {
            println!("FAILED {namespace}: {problem}");
        }
    }
    for secret in would_delete {
        println!("would delete {secret} (--prune does)");
    }
    println!("{settled} in order, {written} written, {deleted} deleted, {} failed", failures.len());
}
