//! `ecr-pull-secrets sync`: one pass over all namespaces.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;

use super::setup::{Connected, RunOptions, Started, assemble, connect};
use super::signals::{stop_on_signals, unless_stopped};
use super::{CommandError, print_line};
use crate::cli::SyncArgs;
use crate::controller::RunPolicy;
use crate::kubernetes::leader_election::WritePermit;
use crate::runtime::Summary;
use crate::telemetry::http::Health;
use crate::telemetry::metrics::Metrics;

/// How long the exit waits for the last Events.
const EVENT_FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn run(args: SyncArgs) -> Result<(), CommandError> {
    let stop = stop_on_signals()?;
    let connected = Box::pin(unless_stopped(&stop, connect(&args.cluster, Metrics::default()))).await??;
    let candidate = connected.candidate.clone();
    let acquired = candidate.acquire(&connected.settings.names.instance, &args.lease, &stop);
    let (election, permit) = Box::pin(acquired).await?;
    let result = sync(connected, &args, permit, stop).await;
    if let Some(election) = election {
        election.stop().await;
    }
    result
}

async fn sync(
    connected: Connected,
    args: &SyncArgs,
    permit: WritePermit,
    stop: watch::Receiver<bool>,
) -> Result<(), CommandError> {
    let options = RunOptions {
        policy: RunPolicy { repeat: false, delete: args.prune },
        confirm_removals: args.removals.confirm_removals,
        health: Health::default(),
        progress: progress(),
    };
    let Started { runtime, changes, watches, events } = assemble(connected, permit, options);
    let summary = runtime.run(changes, stop.clone()).await?;
    drop(watches);
    let _ = tokio::time::timeout(EVENT_FLUSH_TIMEOUT, events).await;
    if *stop.borrow() {
        return Err(CommandError::Interrupted);
    }
    print(&summary);
    match summary.failures.len() {
        0 => Ok(()),
        failed => Err(CommandError::NamespacesFailed(failed)),
    }
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
    let Summary { in_sync, written, deleted, would_delete, failures } = summary;
    for (namespace, problems) in failures {
        for problem in problems {
            print_line(format_args!("FAILED {namespace}: {problem}"));
        }
    }
    for object in would_delete {
        print_line(format_args!("would delete {object} (with --prune)"));
    }
    let failed = failures.len();
    print_line(format_args!("{in_sync} up to date, {written} written, {deleted} deleted, {failed} failed"));
}
