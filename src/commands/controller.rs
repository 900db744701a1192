//! `ecr-pull-secrets controller`: runs until it is stopped.

use tokio::sync::watch;
use tracing::info;

use super::CommandError;
use super::setup::{connect, stop_on_signals, task_ended, unless_stopped};
use crate::cli::ControllerArgs;
use crate::controller::RunPolicy;
use crate::kubernetes::leader_election::WritePermit;
use crate::telemetry::http::{self, Health};
use crate::telemetry::metrics::Metrics;

pub(super) async fn run(args: ControllerArgs) -> Result<(), CommandError> {
    let stop = stop_on_signals()?;
    let (metrics, health) = (Metrics::default(), Health::default());
    let listener = http::bind(args.listen).await?;
    let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
    info!(address, "serving /livez, /readyz and /metrics");
    let mut server = tokio::spawn(http::serve(listener, health.clone(), metrics.clone()));
    tokio::select! {
        result = control(&args, metrics, health, stop) => result,
        ended = &mut server => Err(task_ended("the HTTP server", &ended)),
    }
}

async fn control(
    args: &ControllerArgs,
    metrics: Metrics,
    health: Health,
    stop: watch::Receiver<bool>,
) -> Result<(), CommandError> {
    let connected = unless_stopped(&stop, connect(&args.cluster, metrics)).await;
    if *stop.borrow() {
        return Ok(());
    }
    let connected = connected?;
    let candidate = &connected.candidate;
    let leader = if args.leader_election.unwrap_or_else(|| candidate.connection.is_in_cluster()) {
        let health = health.clone();
        candidate.start_election(move || health.lease_reached()).await?
    } else {
        health.lease_reached();
        (None, WritePermit::unopposed(candidate.clock))
    };
    let policy = RunPolicy { repeat: true, delete: true, confirm_removals: args.removals.confirm_removals };
    connected.run(leader, policy, health, stop).await?;
    info!("stopped");
    Ok(())
}
