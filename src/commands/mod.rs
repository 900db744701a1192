//! One file a subcommand, and what they share: exit codes, signals, the start of everything.

mod cleanup;
mod controller;
mod probe;
mod sync;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use indicatif::ProgressBar;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{error, info, warn};

use crate::cli::{Cli, ClusterArgs, Command};
use crate::clock::Clock;
use crate::cluster::events::Recorder;
use crate::cluster::index::Index;
use crate::cluster::lead::Lead;
use crate::cluster::lease::{Election, LeaseObject};
use crate::cluster::watch as watches;
use crate::cluster::write::Cluster;
use crate::config::Config;
use crate::controller::report::Reporter;
use crate::controller::{Controller, Mode, Parts};
use crate::core::quote;
use crate::ecr::aws::AwsEcr;
use crate::ecr::cache::Tokens;
use crate::telemetry::http::Health;
use crate::telemetry::logs;
use crate::telemetry::metrics::Metrics;

/// The JSON schema of the configuration file, made from its types by `make generate`.
const SCHEMA: &str = include_str!("../../docs/config.schema.json");

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Wrong usage or configuration: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Failed at work: exit code 1.
    #[error("{0}")]
    Failed(String),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(message) = logs::start(cli.global.log_format, &cli.global.log_level) {
        eprintln!("error: {message}");
        return ExitCode::from(2);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime could not be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = match cli.command {
        Command::Controller(args) => runtime.block_on(controller::run(args)),
        Command::Sync(args) => runtime.block_on(sync::run(args)),
        Command::Cleanup(args) => runtime.block_on(cleanup::run(args)),
        Command::Probe(args) => runtime.block_on(probe::run(args)),
        Command::ConfigSchema => {
            print!("{SCHEMA}");
            Ok(())
        }
    };
    // Nothing that still hangs on a connection holds up the exit.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(if matches!(error, CommandError::Usage(_)) { 2 } else { 1 })
        }
    }
}

/// A controller that is set up, with its watches running.
struct Started {
    controller: Controller,
    changes: mpsc::Receiver<watches::Change>,
    watches: JoinSet<()>,
    /// Ends once the controller is gone and its last Event is written.
    events: JoinHandle<()>,
    election: Option<Election>,
}

/// With which right it writes.
enum Writes {
    /// As if there were nobody else.
    Alone,
    /// If nobody else does so now.
    WhileNobodyElse,
    /// While it holds the Lease, under this name.
    Elected(String),
}

async fn start(
    args: &ClusterArgs,
    mode: Mode,
    writes: Writes,
    metrics: Metrics,
    health: Health,
    progress: ProgressBar,
) -> Result<Started, CommandError> {
    let usage = |error: &dyn std::fmt::Display| CommandError::Usage(error.to_string());
    let config = Config::load(args.config.as_deref()).map_err(|error| usage(&error))?;
    // Wrong values are told before anyone is asked for a region or credentials.
    let aws = AwsEcr::load().await;
    let settings = Arc::new(config.settings(aws.region()).map_err(|error| usage(&error))?);
    let endpoints = config.endpoints().map_err(|error| usage(&error))?;
    let aws = aws.with(settings.grants.identities.clone(), endpoints);
    let mut connection = args.connection();
    if let Writes::Elected(holder) = &writes {
        connection.holder = Some(holder.clone());
    }
    let client = connection.connect(metrics.clone()).await.map_err(|error| usage(&error))?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        instance = settings.instance,
        secret_names = ?settings.secret_names,
        region = settings.region.as_ref().map_or("none: set AWS_REGION", |region| region.as_str()),
        "starting"
    );
    let asked = || watches::streams_lists(&client);
    let streaming = watches::insist("the API server does not answer", asked).await;
    if let Writes::WhileNobodyElse = writes {
        leading(&LeaseObject::new(client.clone(), &settings.instance)).await?;
    }
    let sources = watches::sources(&settings);
    let (sender, changes) = mpsc::channel(256);
    let mut running = JoinSet::new();
    for source in sources.clone() {
        running.spawn(watches::run(client.clone(), source, settings.clone(), streaming, sender.clone()));
    }
    let (election, lead) = match writes {
        Writes::Elected(holder) => {
            // A client of its own: nothing that is written here holds up a renewal.
            let own = connection.connect(metrics.clone()).await.map_err(|error| usage(&error))?;
            let health = health.clone();
            let (election, lead) =
                Election::start(LeaseObject::new(own, &settings.instance), holder, move || health.elects());
            (Some(election), lead)
        }
        Writes::WhileNobodyElse | Writes::Alone => {
            health.elects();
            (None, Lead::endless())
        }
    };
    let (recorder, events) = Recorder::start(client.clone(), &settings.instance);
    let parts = Parts {
        writes_per_second: config.refresh.writes_per_second,
        cluster: Cluster::new(client, settings.clone(), lead.clone()),
        lead,
        tokens: Tokens::new(Arc::new(aws), settings.refresh, config.refresh.mints_per_second),
        index: Index::new(sources),
        reporter: Reporter::new(recorder, progress, mode != Mode::Forever),
        clock: Clock::Wall,
        settings,
        metrics,
        health,
        mode,
        confirm_removals: args.confirm_removals,
    };
    Ok(Started { controller: Controller::new(parts), changes, watches: running, events, election })
}

/// Refuses while a controller holds the Lease.
async fn leading(lease: &LeaseObject) -> Result<(), CommandError> {
    match lease.live_holder().await {
        Ok(None) => Ok(()),
        Ok(Some(holder)) => Err(CommandError::Failed(format!(
            "a controller of this instance is running ({}): stop it, or use --force",
            quote(&holder)
        ))),
        Err(error) => Err(CommandError::Failed(format!(
            "whether a controller of this instance is running cannot be told: {error}; or use --force"
        ))),
    }
}

/// Turns true at the first SIGTERM or SIGINT; the second one ends the process at once.
fn stop_on_signals() -> Result<watch::Receiver<bool>, CommandError> {
    let failed = |error| CommandError::Failed(format!("signals cannot be received: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first {
                info!("stopping: writes in flight are finished; a second signal aborts");
                stop.send_replace(true);
            } else {
                warn!("aborted by a second signal");
                std::process::exit(1);
            }
        }
    });
    Ok(stopped)
}

/// Says that a task that must never end has ended.
fn task_ended(what: &str, how: &dyn std::fmt::Debug) -> CommandError {
    error!(task = what, ?how, "a critical task ended");
    CommandError::Failed(format!("{what} ended, and the process with it"))
}
