//! `ecr-pull-secrets controller`: runs until it is stopped.

use indicatif::ProgressBar;
use tokio::sync::watch;
use tokio::task::JoinError;
use tracing::{error, info};

use super::CommandError;
use super::setup::{Candidate, Connected, RunOptions, Started, assemble, connect};
use super::signals::{stop_on_signals, unless_stopped};
use crate::cli::ControllerArgs;
use crate::controller::RunPolicy;
use crate::kubernetes::leader_election::{Election, WritePermit};
use crate::runtime::{RunError, Summary};
use crate::telemetry::http::{self, Health};
use crate::telemetry::metrics::Metrics;

pub(super) async fn run(args: ControllerArgs) -> Result<(), CommandError> {
    let stop = stop_on_signals()?;
    let (metrics, health) = (Metrics::default(), Health::default());
    let listener = http::bind(args.listen).await?;
    let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
    info!(address, "serving /livez, /readyz and /metrics");
    let server = http::serve(listener, health.clone(), metrics.clone());
    let controller = async {
        let connected = match Box::pin(unless_stopped(&stop, connect(&args.cluster, metrics))).await {
            Ok(connected) => connected?,
            Err(_) => return Ok(()),
        };
        control(connected, &args, health, stop.clone()).await
    };
    let mut server = tokio::spawn(server);
    tokio::select! {
        result = controller => result,
        ended = &mut server => Err(task_ended("the HTTP server", &ended)),
    }
}

async fn control(
    connected: Connected,
    args: &ControllerArgs,
    health: Health,
    stop: watch::Receiver<bool>,
) -> Result<(), CommandError> {
    let elects = args.leader_election.unwrap_or_else(|| connected.candidate.connection.is_in_cluster());
    let (mut election, permit) = if elects {
        let (election, permit) =
            start_election(&connected.candidate, &connected.settings.names.instance, health.clone()).await?;
        (Some(election), permit)
    } else {
        health.lease_reached();
        (None, WritePermit::unopposed(connected.candidate.clock))
    };
    let options = RunOptions {
        policy: RunPolicy { repeat: true, delete: true },
        confirm_removals: args.removals.confirm_removals,
        health,
        progress: ProgressBar::hidden(),
    };
    let result = supervise(assemble(connected, permit, options), &mut election, stop).await;
    // After an error, a write may still be in flight, so the Lease must expire.
    if result.is_ok()
        && let Some(election) = election
    {
        election.stop().await;
    }
    result
}

async fn start_election(
    candidate: &Candidate,
    instance: &str,
    health: Health,
) -> Result<(Election, WritePermit), CommandError> {
    let lease = candidate.lease(instance).await?;
    Ok(Election::start(lease, candidate.identity.clone(), candidate.clock, move || health.lease_reached()))
}

/// Runs until a signal arrives, or until a task ends unexpectedly.
async fn supervise(
    started: Started,
    election: &mut Option<Election>,
    stop: watch::Receiver<bool>,
) -> Result<(), CommandError> {
    let Started { runtime, changes, mut watches, events: _ } = started;
    let mut runtime = tokio::spawn(runtime.run(changes, stop.clone()));
    tokio::select! {
        ended = &mut runtime => finish(ended),
        ended = watches.join_next() => {
            // A watch ends when the runtime drops its receiver, shortly before the runtime itself ends.
            if *stop.borrow() { finish(runtime.await) } else { Err(task_ended("a watch", &ended)) }
        }
        how = ended(election) => Err(task_ended("the leader election", &how)),
    }
}

async fn ended(election: &mut Option<Election>) -> String {
    match election {
        Some(election) => election.ended().await,
        None => std::future::pending().await,
    }
}

fn finish(ended: Result<Result<Summary, RunError>, JoinError>) -> Result<(), CommandError> {
    match ended {
        Ok(result) => {
            result?;
            info!("stopped");
            Ok(())
        }
        Err(error) => Err(task_ended("the controller", &error)),
    }
}

fn task_ended(task: &'static str, how: &dyn std::fmt::Debug) -> CommandError {
    error!(task, ?how, "a task ended unexpectedly");
    CommandError::TaskEnded(task)
}
