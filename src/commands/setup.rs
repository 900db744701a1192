//! The common parts of `controller`, `sync` and `cleanup`: signals, the connections, the Lease, and the runtime with its
//! watches.

use std::hash::{BuildHasher as _, RandomState};
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::{CommandError, configuration};
use crate::cli::{ClusterArgs, LeaseArgs};
use crate::clock::Clock;
use crate::config::Config;
use crate::controller::RunPolicy;
use crate::core::leader_election::ElectionTiming;
use crate::core::settings::Settings;
use crate::ecr::aws::AwsEcr;
use crate::kubernetes::client::{ConnectError, Connection};
use crate::kubernetes::cluster::Cluster;
use crate::kubernetes::events::Recorder;
use crate::kubernetes::leader_election::{Election, LeaseClient, WritePermit, leader_election_identity};
use crate::kubernetes::watch::{self as watches, Relists, Watches};
use crate::runtime::reporter::Reporter;
use crate::runtime::{Parts, Runtime, Summary};
use crate::telemetry::http::Health;
use crate::telemetry::metrics::Metrics;

/// How long a single pass waits for its last Events before it exits.
const EVENT_FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) const INTERRUPTED: &str = "interrupted; run the command again";

/// The value becomes true at the first SIGTERM or SIGINT. The second one ends the process immediately.
pub(super) fn stop_on_signals() -> Result<watch::Receiver<bool>, CommandError> {
    let receive = |kind| signal(kind).map_err(|error| format!("cannot receive signals: {error}"));
    let mut terminate = receive(SignalKind::terminate())?;
    let mut interrupt = receive(SignalKind::interrupt())?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        let mut signal = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        signal().await;
        info!("stopping after the writes in flight; a second signal aborts them");
        stop.send_replace(true);
        signal().await;
        warn!("aborted by a second signal");
        std::process::exit(1);
    });
    Ok(stopped)
}

/// Runs `work` until it is done or a signal arrives.
pub(super) async fn unless_stopped<T, E: Into<CommandError>>(
    stop: &watch::Receiver<bool>,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, CommandError> {
    let mut stop = stop.clone();
    tokio::select! {
        done = work => done.map_err(Into::into),
        _ = stop.wait_for(|stop| *stop) => Err(INTERRUPTED.into()),
    }
}

/// The randomness of this process.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// The permit to write, and the election that renews it. Without an election, the permit has no limit.
pub(super) type Leader = (Option<Election>, WritePermit);

/// This process as a candidate for the Lease, and its connection to the cluster.
pub(super) struct Candidate {
    pub connection: Connection,
    pub clock: Clock,
    instance: String,
    pub election: ElectionTiming,
    identity: String,
    metrics: Metrics,
}

impl Candidate {
    /// `random` makes the identity unique.
    pub(super) fn new(args: &ClusterArgs, settings: &Settings, random: u64, metrics: Metrics) -> Self {
        let name = args.identity(std::env::var_os("POD_NAME"));
        let identity = leader_election_identity(name.as_deref(), random);
        let connection = Connection {
            kubeconfig: args.kubeconfig.file.clone(),
            context: args.kubeconfig.context.clone(),
            namespace: args.namespace.clone(),
            identity: Some(identity.clone()),
            is_shared: true,
        };
        let (instance, election) = (settings.names.instance.clone(), settings.election);
        let connection = connection.in_namespace_of(&instance);
        Self { connection, clock: Clock::start(), instance, election, identity, metrics }
    }

    pub(super) async fn connect(&self) -> Result<kube::Client, ConnectError> {
        self.connection.connect(self.metrics.clone()).await
    }

    /// The Lease has a separate connection, so that no other request delays a renewal.
    async fn lease(&self) -> Result<LeaseClient, ConnectError> {
        let connection = Connection { is_shared: false, ..self.connection.clone() };
        let client = connection.connect(self.metrics.clone()).await?;
        Ok(LeaseClient::new(client, &self.instance, self.election))
    }

    /// Starts the election.
    pub(super) async fn start_election(
        &self,
        on_contact: impl Fn() + Send + 'static,
    ) -> Result<Leader, ConnectError> {
        let lease = self.lease().await?;
        let (election, permit) = Election::start(lease, self.identity.clone(), self.clock, on_contact);
        Ok((Some(election), permit))
    }

    /// Acquires the Lease according to the flags. The election is `None` with `--force`.
    pub(super) async fn acquire(
        &self,
        args: &LeaseArgs,
        stop: &watch::Receiver<bool>,
    ) -> Result<Leader, CommandError> {
        if args.force {
            warn!("running without the Lease (--force); a running controller may write at the same time");
            return Ok((None, WritePermit::unopposed(self.clock)));
        }
        let lease = self.lease().await?;
        let acquired = Election::acquire(lease, self.identity.clone(), self.clock, args.timeout);
        let (election, permit) = unless_stopped(stop, Box::pin(acquired)).await?;
        Ok((Some(election), permit))
    }
}

/// The validated configuration, and the connections to AWS and to an API server that has responded.
pub(super) struct Connected {
    pub candidate: Candidate,
    settings: Arc<Settings>,
    aws: AwsEcr,
    pub client: kube::Client,
    streaming: bool,
}

pub(super) async fn connect(args: &ClusterArgs, metrics: Metrics) -> Result<Connected, CommandError> {
    let config = Config::load(args.config.as_deref())?;
    let random = random();
    let aws = Box::pin(AwsEcr::load(config.endpoints()?)).await?;
    let settings = configuration::settings(&config, aws.region(), random)?;
    let candidate = Candidate::new(args, &settings, random, metrics);
    let client = candidate.connect().await?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        instance = settings.names.instance,
        identity = candidate.identity,
        secret_names = ?settings.names.secret_names,
        region = settings.region.as_ref().map_or("unknown: set AWS_REGION", |region| region.as_str()),
        "starting"
    );
    if settings.grants.default_identity.is_some() {
        warn!(
            "every namespace that opts in can get tokens with the controller's whole scope, because the default identity is \
             \"controller\": to isolate namespaces, add identities with roles, and set defaults.identity to \"none\""
        );
    }
    let version = || watches::streams_lists(&client);
    let streaming =
        watches::retry_until_ok("the API server does not respond", settings.jitter, version).await;
    Ok(Connected { candidate, settings, aws, client, streaming })
}

impl Connected {
    pub(super) fn knows_region(&self) -> bool {
        self.settings.region.is_some()
    }

    /// Runs the controller until a signal arrives, its single pass is complete, or a task ends unexpectedly. Then
    /// releases the Lease.
    pub(super) async fn run(
        self,
        (mut election, permit): Leader,
        policy: RunPolicy,
        health: Health,
        stop: watch::Receiver<bool>,
    ) -> Result<Summary, CommandError> {
        let Watches { mut tasks, sender, changes, relists } =
            watches::start(&self.client, &self.settings, self.streaming, election.is_none());
        let (recorder, events) = Recorder::start(self.client.clone(), &self.candidate.instance);
        let progress = if policy.repeat { ProgressBar::hidden() } else { progress() };
        let reporter = Reporter::new(recorder, self.candidate.metrics.clone(), progress, !policy.repeat);
        let runtime = self.runtime(permit, policy.clone(), health, reporter, relists);
        let mut runtime = tokio::spawn(runtime.run(changes, stop));
        let ended = tokio::select! {
            ended = &mut runtime => ended,
            ended = tasks.join_next() => {
                // A watch also ends when the runtime drops its receiver, shortly before the runtime itself ends.
                if !sender.is_closed() {
                    return Err(task_ended("a watch", &ended));
                }
                runtime.await
            }
            how = ended(&mut election) => return Err(task_ended("the leader election", &how)),
        };
        // After an error, a write may still be in flight, so the Lease must expire.
        let summary = ended.map_err(|error| task_ended("the controller", &error))??;
        if let Some(election) = election {
            election.stop().await;
        }
        if !policy.repeat {
            let _ = tokio::time::timeout(EVENT_FLUSH_TIMEOUT, events).await;
        }
        Ok(summary)
    }

    fn runtime(
        self,
        permit: WritePermit,
        policy: RunPolicy,
        health: Health,
        reporter: Reporter,
        relists: Relists,
    ) -> Runtime {
        Runtime::new(Parts {
            policy,
            cluster: Cluster::new(self.client, self.settings, permit.clone()),
            permit,
            source: Arc::new(self.aws),
            reporter,
            health,
            relists,
            clock: self.candidate.clock,
        })
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

async fn ended(election: &mut Option<Election>) -> String {
    match election {
        Some(election) => election.ended().await,
        None => std::future::pending().await,
    }
}

pub(super) fn task_ended(task: &str, how: &dyn std::fmt::Debug) -> CommandError {
    error!(task, ?how, "a task ended unexpectedly");
    format!("{task} ended unexpectedly").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every container is process 1.
    #[test]
    fn random_numbers_differ_although_the_process_number_is_the_same() {
        assert_ne!(random(), random());
    }
}
