//! `ecr-pull-secrets sync`: one pass over all namespaces.

use futures::FutureExt as _;

use super::configuration::Unused;
use super::setup::{INTERRUPTED, connect, stop_on_signals, unless_stopped};
use super::{CommandError, print_line};
use crate::cli::SyncArgs;
use crate::controller::RunPolicy;
use crate::core::counted;
use crate::runtime::Summary;
use crate::telemetry::http::Health;
use crate::telemetry::metrics::Metrics;

pub(super) async fn run(args: SyncArgs) -> Result<(), CommandError> {
    let stop = stop_on_signals()?;
    let connected = unless_stopped(&stop, connect(&args.cluster, Metrics::default())).await?;
    let file = args.cluster.config.as_deref();
    let warning = Unused::warn(file, &connected.candidate.connection, &connected.client);
    unless_stopped(&stop, warning.map(Ok::<_, CommandError>)).await?;
    let leader = connected.candidate.acquire(&args.lease, &stop).await?;
    let confirm_removals = args.removals.confirm_removals;
    let policy = RunPolicy { repeat: false, delete: args.prune, confirm_removals };
    let summary = connected.run(leader, policy, Health::default(), stop.clone()).await?;
    if *stop.borrow() {
        return Err(INTERRUPTED.into());
    }
    print(&summary);
    match (summary.failures.len(), summary.unlisted.is_empty()) {
        (0, true) => Ok(()),
        (0, false) => Err("the pass is not complete; see the list above".into()),
        (failed, _) => Err(format!("{} failed; see the list above", counted(failed, "namespace")).into()),
    }
}

fn print(summary: &Summary) {
    let Summary { in_sync, written, deleted, would_delete, failures, unlisted } = summary;
    for what in unlisted {
        print_line(format_args!(
            "FAILED: the API server did not return the {what}, and the pass went on; the log has the reason"
        ));
    }
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
