//! `ecr-pull-secrets controller`: runs until it is stopped.

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::info;

use super::CommandError;
use super::setup::{Connected, connect, random, stop_on_signals, task_ended, unless_stopped};
use crate::cli::ControllerArgs;
use crate::controller::RunPolicy;
use crate::core::Jitter;
use crate::core::plan::Backoff;
use crate::ecr::aws::region;
use crate::kubernetes::leader_election::WritePermit;
use crate::telemetry::http::{Health, pages};
use crate::telemetry::listener;
use crate::telemetry::metrics::Metrics;

pub(super) async fn run(args: ControllerArgs) -> Result<(), CommandError> {
    let stop = stop_on_signals()?;
    let (metrics, health) = (Metrics::default(), Health::default());
    let listener = listener::bind(args.listen)?;
    let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
    info!(address, "serving /livez, /readyz and /metrics");
    let mut server = tokio::spawn(listener::serve(listener, pages(health.clone(), metrics.clone())));
    tokio::select! {
        result = control(&args, metrics, health, stop) => result,
        ended = &mut server => Err(task_ended("the HTTP server", &ended)),
    }
}

/// Runs the controller until a signal arrives. If the region is unknown at first, it starts again once it is known.
async fn control(
    args: &ControllerArgs,
    metrics: Metrics,
    health: Health,
    stop: watch::Receiver<bool>,
) -> Result<(), CommandError> {
    loop {
        // An earlier round may have been the leader, and its lists are out of date.
        health.reset();
        metrics.leader(false);
        let connected = unless_stopped(&stop, connect(&args.cluster, metrics.clone())).await;
        if *stop.borrow() {
            return Ok(());
        }
        let connected = connected?;
        let (end, ended) = watch::channel(false);
        let (knows_region, mut stopped) = (connected.knows_region(), stop.clone());
        let ending = tokio::spawn(async move {
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => {}
                region = found_region(), if !knows_region => info!(region, "the region is known, starting again"),
            }
            end.send_replace(true);
        });
        let result = run_once(args, connected, &health, ended).await;
        ending.abort();
        result?;
        if *stop.borrow() {
            info!("stopped");
            return Ok(());
        }
    }
}

/// Returns the region once it is known, as when the instance metadata service comes up after the controller.
async fn found_region() -> String {
    let (jitter, mut failures) = (Jitter::new(random()), 0);
    loop {
        failures += 1;
        sleep(Backoff::CALLS.delay(failures, jitter, &"region")).await;
        if let Ok(Some(region)) = region().await {
            return region.as_str().to_owned();
        }
    }
}

async fn run_once(
    args: &ControllerArgs,
    connected: Connected,
    health: &Health,
    stop: watch::Receiver<bool>,
) -> Result<(), CommandError> {
    let candidate = &connected.candidate;
    let leader = if args.leader_election.unwrap_or_else(|| candidate.connection.is_in_cluster()) {
        let health = health.clone();
        let duration = candidate.election.lease_duration;
        candidate.start_election(move || health.lease_reached(duration)).await?
    } else {
        health.lease_not_used();
        (None, WritePermit::unopposed(candidate.clock))
    };
    let policy =
        RunPolicy { repeat: true, delete: true, confirm_removals: args.removals.confirm_removals.clone() };
    connected.run(leader, policy, health.clone(), stop).await?;
    Ok(())
}
