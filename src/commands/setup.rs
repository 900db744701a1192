//! The common parts of `controller`, `sync` and `cleanup`: the connections, the Lease, and the runtime with its
//! watches.

use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::sync::Arc;

use indicatif::ProgressBar;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{info, warn};

use super::CommandError;
use super::signals::unless_stopped;
use crate::cli::{ClusterArgs, LeaseArgs};
use crate::clock::Clock;
use crate::config::Config;
use crate::controller::RunPolicy;
use crate::controller::change::Change;
use crate::core::Jitter;
use crate::core::settings::Settings;
use crate::ecr::aws::AwsEcr;
use crate::kubernetes::client::Connection;
use crate::kubernetes::cluster::Cluster;
use crate::kubernetes::events::Recorder;
use crate::kubernetes::leader_election::{Election, LeaseClient, WritePermit, leader_election_identity};
use crate::kubernetes::watch as watches;
use crate::runtime::reporter::Reporter;
use crate::runtime::{Parts, Runtime};
use crate::telemetry::http::Health;
use crate::telemetry::metrics::Metrics;

/// The maximum number of changes that wait for the controller. The watches pause while the queue is full.
const CHANGE_CAPACITY: usize = 256;

/// This process as a candidate for the Lease, and its connection to the cluster.
#[derive(Clone)]
pub(super) struct Candidate {
    pub connection: Connection,
    pub identity: String,
    pub clock: Clock,
    pub metrics: Metrics,
}

impl Candidate {
    /// `random` makes the identity unique.
    pub(super) fn new(args: &ClusterArgs, random: u64, metrics: Metrics) -> Self {
        let name = args.identity(std::env::var_os("POD_NAME"));
        let identity = leader_election_identity(name.as_deref(), random);
        let connection = Connection {
            kubeconfig: args.kubeconfig.clone(),
            context: args.context.clone(),
            namespace: args.namespace.clone(),
            identity: Some(identity.clone()),
        };
        Self { connection, identity, clock: Clock::start(), metrics }
    }

    /// Returns a client for the Lease with a separate connection, so that no other request delays a renewal.
    pub(super) async fn lease(&self, instance: &str) -> Result<LeaseClient, CommandError> {
        Ok(LeaseClient::new(self.connection.connect(self.metrics.clone()).await?, instance))
    }

    /// Acquires the Lease according to the flags. The election is `None` with `--force`.
    pub(super) async fn acquire(
        self,
        instance: &str,
        args: &LeaseArgs,
        stop: &watch::Receiver<bool>,
    ) -> Result<(Option<Election>, WritePermit), CommandError> {
        if args.force {
            warn!("running without the Lease (--force); a running controller may write at the same time");
            return Ok((None, WritePermit::unopposed(self.clock)));
        }
        let lease = self.lease(instance).await?;
        let acquired = Election::acquire(lease, self.identity, self.clock, args.timeout);
        let (election, permit) = Box::pin(unless_stopped(stop, acquired)).await??;
        Ok((Some(election), permit))
    }
}

/// The validated configuration, and the connections to AWS and to an API server that has responded.
pub(super) struct Connected {
    pub config: Config,
    pub settings: Arc<Settings>,
    pub candidate: Candidate,
    aws: AwsEcr,
    client: kube::Client,
    streaming: bool,
}

pub(super) async fn connect(args: &ClusterArgs, metrics: Metrics) -> Result<Connected, CommandError> {
    let config = Config::load(args.config.as_deref())?;
    let random = random();
    let aws = AwsEcr::load(config.endpoints()?).await;
    let token_file = std::env::var_os("AWS_WEB_IDENTITY_TOKEN_FILE");
    let token_file = token_file.as_deref().map(Path::new);
    let settings = Arc::new(config.settings(aws.region(), token_file, Jitter::new(random))?);
    let candidate = Candidate::new(args, random, metrics);
    let client = candidate.connection.connect(candidate.metrics.clone()).await?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        instance = settings.names.instance,
        identity = candidate.identity,
        secret_names = ?settings.names.secret_names,
        region = settings.region.as_ref().map_or("none: set AWS_REGION", |region| region.as_str()),
        "starting"
    );
    let version = || watches::streams_lists(&client);
    let streaming =
        watches::retry_until_ok("the API server does not respond", settings.jitter, version).await;
    Ok(Connected { config, settings, candidate, aws, client, streaming })
}

/// How a command runs the controller.
pub(super) struct RunOptions {
    pub policy: RunPolicy,
    pub confirm_removals: bool,
    pub health: Health,
    pub progress: ProgressBar,
}

/// A runtime that is ready to run. Its watches are already running.
pub(super) struct Started {
    pub runtime: Runtime,
    pub changes: mpsc::Receiver<Change>,
    pub watches: JoinSet<()>,
    /// Ends when the runtime is dropped and its last Event is written.
    pub events: JoinHandle<()>,
}

pub(super) fn assemble(connected: Connected, permit: WritePermit, options: RunOptions) -> Started {
    let Connected { config, settings, candidate, aws, client, streaming } = connected;
    let (sender, changes) = mpsc::channel(CHANGE_CAPACITY);
    let mut running = JoinSet::new();
    for target in watches::targets(&settings) {
        running.spawn(watches::run(client.clone(), target, settings.clone(), streaming, sender.clone()));
    }
    let (recorder, events) = Recorder::start(client.clone(), &settings.names.instance);
    let collects = !options.policy.repeat;
    let parts = Parts {
        writes_per_second: config.refresh.writes_per_second,
        tokens_per_second: config.refresh.tokens_per_second,
        policy: options.policy,
        confirm_removals: options.confirm_removals,
        cluster: Cluster::new(client, settings.clone(), permit.clone()),
        permit,
        source: Arc::new(aws),
        reporter: Reporter::new(recorder, candidate.metrics, options.progress, collects),
        health: options.health,
        clock: candidate.clock,
        settings,
    };
    Started { runtime: Runtime::new(parts), changes, watches: running, events }
}

/// The randomness of this process.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
