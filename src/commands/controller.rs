//! `ecr-pull-secrets controller`: for ever.

use indicatif::ProgressBar;
use tokio::task::JoinError;
use tracing::info;

use super::{CommandError, Started, Writes, start, stop_on_signals, task_ended};
use crate::cli::ControllerArgs;
use crate::cluster::lease::{self, Election};
use crate::controller::{Mode, Summary, WatchEnded};
use crate::telemetry::http::{self, Health};
use crate::telemetry::metrics::Metrics;

pub(super) async fn run(args: ControllerArgs) -> Result<(), CommandError> {
    let mut stop = stop_on_signals()?;
    let (metrics, health) = (Metrics::default(), Health::default());
    let listener = http::bind(args.listen).await.map_err(CommandError::Usage)?;
    let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
    info!(address, "serving /livez, /readyz and /metrics");
    let mut server = tokio::spawn(http::serve(listener, health.clone(), metrics.clone()));
    let elects = args.leader_election.unwrap_or_else(|| args.cluster.connection().is_in_cluster());
    let writes = if elects { Writes::Elected(lease::holder(&args.holder)) } else { Writes::Alone };
    let starting = start(&args.cluster, Mode::Forever, writes, metrics, health, ProgressBar::hidden());
    let Started { controller, changes, mut watches, mut election, .. } = tokio::select! {
        started = starting => started?,
        _ = stop.wait_for(|stop| *stop) => return Ok(()),
    };
    let stopped = stop.clone();
    let mut controller = tokio::spawn(controller.run(changes, stop));
    let result = tokio::select! {
        ended = &mut controller => finish(ended),
        ended = watches.join_next() => {
            // A watch ends when the loop no longer listens, a moment before the loop itself is done.
            if *stopped.borrow() { finish(controller.await) } else { Err(task_ended("a watch", &ended)) }
        }
        ended = &mut server => Err(task_ended("the HTTP server", &ended)),
        how = ended(&mut election) => Err(task_ended("the election", &how)),
    };
    // Only now, when nothing is written any more.
    if let Some(election) = election.filter(|_| result.is_ok()) {
        election.stop().await;
    }
    result
}

async fn ended(election: &mut Option<Election>) -> String {
    match election {
        Some(election) => election.ended().await,
        None => std::future::pending().await,
    }
}

fn finish(ended: Result<Result<Summary, WatchEnded>, JoinError>) -> Result<(), CommandError> {
    match ended {
        Ok(Ok(_)) => {
            info!("stopped");
            Ok(())
        }
        Ok(Err(error)) => Err(CommandError::Failed(error.to_string())),
        Err(error) => Err(task_ended("the controller's loop", &error)),
    }
}
