//! One process of the controller on the service, put together as `commands::setup` does: the real client layers, watches,
//! elector, Event recorder and runtime. AWS is simulated.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ecr_pull_secrets::simulation::controller::RunPolicy;
use ecr_pull_secrets::simulation::core::grants::TokenRequest;
use ecr_pull_secrets::simulation::core::secret::{FetchedToken, TokenError, TokenErrorKind, TokenSource};
use ecr_pull_secrets::simulation::kubernetes::cluster::Cluster;
use ecr_pull_secrets::simulation::kubernetes::events::Recorder;
use ecr_pull_secrets::simulation::kubernetes::leader_election::{Election, LeaseClient, WritePermit};
use ecr_pull_secrets::simulation::kubernetes::watch as watches;
use ecr_pull_secrets::simulation::runtime::reporter::Reporter;
use ecr_pull_secrets::simulation::runtime::{Parts, Runtime};
use ecr_pull_secrets::simulation::telemetry::http::Health;
use ecr_pull_secrets::simulation::telemetry::metrics::Metrics;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use indicatif::ProgressBar;
use jiff::SignedDuration;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::server::Server;

const AWS_LATENCY: Duration = Duration::from_millis(50);

/// An AWS that issues tokens, and remembers them for the oracles.
pub struct Aws {
    pub server: Server,
    pub life: SignedDuration,
    /// The regions that throttle.
    pub failing: Mutex<BTreeSet<String>>,
}

impl TokenSource for Aws {
    fn fetch_token<'a>(
        &'a self,
        request: &'a TokenRequest,
    ) -> BoxFuture<'a, Result<FetchedToken, TokenError>> {
        async {
            tokio::time::sleep(AWS_LATENCY).await;
            if self.failing.lock().expect("no panic").contains(request.key.endpoint.region()) {
                return Err(TokenError::new(TokenErrorKind::Throttled, "Rate exceeded"));
            }
            let mut state = self.server.state();
            let password = format!("password{}", state.tokens.len());
            let now = state.clock.now().wall;
            let expires_at = now + self.life;
            state.tokens.insert(password.clone(), expires_at);
            Ok(FetchedToken {
                authorization: STANDARD.encode(format!("AWS:{password}")).into(),
                expires_at: Some(expires_at),
                server_time: Some(now),
                proxy_endpoint: None,
            })
        }
        .boxed()
    }
}

/// A process that runs. If it is dropped, it is killed.
pub struct Process {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Process {
    pub fn start(server: &Server, aws: &Arc<Aws>, name: &str, elects: bool) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn_local(run(server.clone(), aws.clone(), name.to_owned(), elects, stopped));
        Self { stop, tasks }
    }

    /// Stops it as SIGTERM does.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        self.tasks.join_next().await;
    }
}

async fn run(server: Server, aws: Arc<Aws>, name: String, elects: bool, stopped: watch::Receiver<bool>) {
    let (settings, clock) = {
        let state = server.state();
        (state.settings.clone(), state.clock)
    };
    let (metrics, health) = (Metrics::default(), Health::default());
    let client = server.client(&name, metrics.clone());
    let version = || watches::streams_lists(&client);
    let streaming = watches::retry_until_ok("no version", settings.jitter, version).await;
    let (election, permit) = if elects {
        let lease = LeaseClient::new(
            server.client(&name, metrics.clone()),
            &settings.names.instance,
            settings.election,
        );
        let (election, permit) = Election::start(lease, name, clock, || ());
        (Some(election), permit)
    } else {
        (None, WritePermit::unopposed(clock))
    };
    let running = watches::start(&client, &settings, streaming, !elects);
    let (relists, changes) = (running.relists, running.changes);
    let _running = (running.tasks, running.sender);
    let (recorder, _) = Recorder::start(client.clone(), &settings.names.instance);
    let reporter = Reporter::new(recorder, metrics, ProgressBar::hidden(), false);
    let policy = RunPolicy { repeat: true, delete: true, confirm_removals: None };
    let cluster = Cluster::new(client, settings, permit.clone());
    let parts = Parts { policy, cluster, permit, source: aws, reporter, health, relists, clock };
    Runtime::new(parts).run(changes, stopped).await.expect("the runtime runs until it is stopped");
    if let Some(election) = election {
        election.stop().await;
    }
}
