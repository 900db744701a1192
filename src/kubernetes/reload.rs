//! A client that follows its kubeconfig, and the certificates and keys that it names. kube reads these once; a token file,
//! and the service account's token and CA in a pod, it reads again each minute by itself. It measures that minute by the wall
//! clock, so the client connects again when that is set. It also does when no write succeeds for minutes: another API server
//! may respond.

mod outage;

use std::time::{Duration, Instant};

use http::{Method, Request};
use jiff::{SignedDuration, Timestamp};
use kube::client::Body;
use kube::{Client, Config};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tower::service_fn;
use tracing::{debug, info, warn};
use zeroize::Zeroizing;

use self::outage::Outage;
use super::client::{ConnectError, Connection};
use super::errors::message;
use crate::core::one_line;
use crate::telemetry::metrics::Metrics;

/// How long a credential plugin may take.
const BUILD_TIMEOUT: Duration = Duration::from_mins(1);
const CHECK_PERIOD: Duration = Duration::from_secs(10);
/// How long a credential plugin is not run again because of a refused request.
const PLUGIN_PERIOD: Duration = Duration::from_mins(1);
/// By how much the wall clock must differ from the monotonic clock to count as set.
const CLOCK_STEP: SignedDuration = SignedDuration::from_secs(5);
/// How long before its expiry a certificate of a credential plugin is replaced.
const EXPIRY_MARGIN: SignedDuration = SignedDuration::from_secs(60);

/// A hash of everything that authenticates a connection.
type Fingerprint = [u8; 32];

/// The credentials of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Used {
    /// Constant in a pod, where kube reads the changes of the files.
    fingerprint: Fingerprint,
    has_plugin: bool,
}

impl Used {
    fn of(connection: &Connection, config: &Config) -> Self {
        let is_followed = !connection.is_in_cluster();
        let fingerprint = if is_followed { fingerprint(config) } else { Fingerprint::default() };
        Self { fingerprint, has_plugin: config.auth_info.exec.is_some() }
    }
}

/// Returns a client whose requests use the newest connection. All of them lead to the API server of `config`.
pub(super) fn client(
    connection: Connection,
    config: Config,
    metrics: Metrics,
) -> Result<Client, ConnectError> {
    let (url, used) = (config.cluster_url.clone(), Used::of(&connection, &config));
    let first = connection.build(config, &metrics)?;
    let namespace = first.default_namespace().to_owned();
    let (sender, current) = watch::channel(first);
    let outage = Outage::default();
    tokio::spawn(follow(connection, metrics, (url, used), outage.clone(), sender));
    // Requests in flight keep their connection.
    let newest = service_fn(move |request: Request<Body>| {
        let client = current.borrow().clone();
        let write = (request.method() == Method::PATCH).then(|| outage.begin(Instant::now()));
        async move {
            let response = client.send(request).await;
            if let (Some(write), Ok(response)) = (write, &response) {
                write.record(response.status().as_u16());
            }
            response
        }
    });
    Ok(Client::new(newest, namespace))
}

/// Sends a request with more time than one for the Lease has: kube runs a credential plugin as a part of a request, and drops its
/// token if the request ends first. Returns whether the API server refuses the credentials.
async fn refresh_token(client: Client) -> bool {
    let Err(error) = client.apiserver_version().await else { return false };
    debug!(error = message(&error), "the request that refreshes the token of the credential plugin failed");
    matches!(error, kube::Error::Api(status) if status.code == 401)
}

/// The difference between the wall clock and the monotonic clock.
struct ClockOffset {
    start: Instant,
    offset: SignedDuration,
}

impl ClockOffset {
    fn new() -> Self {
        Self { start: Instant::now(), offset: Timestamp::now().duration_since(Timestamp::UNIX_EPOCH) }
    }

    /// The difference now, if the wall clock was set since the recorded one.
    fn changed(&self) -> Option<SignedDuration> {
        let elapsed = SignedDuration::try_from(self.start.elapsed()).unwrap_or(SignedDuration::MAX);
        let now = Timestamp::now().duration_since(Timestamp::UNIX_EPOCH).saturating_sub(elapsed);
        (now.saturating_sub(self.offset).abs() > CLOCK_STEP).then_some(now)
    }
}

/// Replaces the connection when its kubeconfig has changed, its credentials end, the wall clock was set or no write succeeds,
/// until the client is dropped. An invalid file replaces nothing.
async fn follow(
    connection: Connection,
    metrics: Metrics,
    (url, mut used): (http::Uri, Used),
    outage: Outage,
    current: watch::Sender<Client>,
) {
    let (mut warned, mut clock, mut refused_at) = (None, ClockOffset::new(), None);
    loop {
        tokio::select! {
            () = current.closed() => return,
            () = sleep(CHECK_PERIOD) => {}
        }
        let is_outage = outage.is_long(Instant::now());
        let mut credentials_end = expires_soon(&current.borrow());
        if is_outage {
            // The next attempt follows after as many failures.
            outage.end();
        }
        if used.has_plugin {
            let client = current.borrow().clone();
            let is_refused = refresh_token(client).await;
            // kube keeps the credentials of a plugin that does not say when they end.
            if is_refused && refused_at.is_none_or(|at: Instant| at.elapsed() >= PLUGIN_PERIOD) {
                (credentials_end, refused_at) = (true, Some(Instant::now()));
            }
        }
        let step = clock.changed();
        let renews = credentials_end || is_outage || step.is_some();
        match next_client(&connection, &metrics, &url, used, renews).await {
            Ok(None) => warned = None,
            Ok(Some((client, new))) => {
                current.send_replace(client);
                if new == used {
                    debug!("the credentials end, the clock was set or no write succeeds: connecting again");
                } else {
                    info!(
                        "the kubeconfig, or a file that it names, changed: connecting with the new credentials"
                    );
                }
                clock.offset = step.unwrap_or(clock.offset);
                (used, warned) = (new, None);
            }
            Err(error) if is_outage => debug!(error, "no other connection succeeds either"),
            Err(error) if warned.as_ref() == Some(&error) => {}
            Err(error) if credentials_end => {
                warn!(error, "the credentials end or are refused, and new ones do not succeed");
                warned = Some(error);
            }
            Err(error) => {
                let path = connection.kubeconfig.as_deref();
                warn!(
                    kubeconfig = ?path,
                    error,
                    "cannot use the changed kubeconfig, keeping the connection: correct the file"
                );
                warned = Some(error);
            }
        }
    }
}

fn expires_soon(client: &Client) -> bool {
    client.valid_until().is_some_and(|until| until.duration_since(Timestamp::now()) < EXPIRY_MARGIN)
}

/// A client that reached the API server with the credentials that the kubeconfig has now; `None` if they are those in use
/// and `renews` is false.
async fn next_client(
    connection: &Connection,
    metrics: &Metrics,
    url: &http::Uri,
    used: Used,
    renews: bool,
) -> Result<Option<(Client, Used)>, String> {
    if connection.is_in_cluster() && !renews {
        return Ok(None);
    }
    let config = connection.load().await.map_err(|error| one_line(&error.to_string()))?;
    if config.cluster_url != *url {
        let other = config.cluster_url;
        return Err(format!("it names another API server, {other}: restart the controller to use that one"));
    }
    let new = Used::of(connection, &config);
    if new == used && !renews {
        return Ok(None);
    }
    let (connection, metrics) = (connection.clone(), metrics.clone());
    // A credential plugin is a process that this waits for.
    let plugin = tokio::task::spawn_blocking(move || connection.build(config, &metrics));
    let built =
        timeout(BUILD_TIMEOUT, plugin).await.map_err(|_| "the credential plugin does not end".to_owned())?;
    let client = built.map_err(|error| error.to_string())?.map_err(|error| one_line(&error.to_string()))?;
    // The file may have a new CA before the API server has its new certificate, or a certificate that it does not accept.
    client.apiserver_version().await.map_err(|error| message(&error))?;
    Ok(Some((client, new)))
}

fn fingerprint(config: &Config) -> Fingerprint {
    let auth = &config.auth_info;
    let mut parts = vec![Zeroizing::new(serde_json::to_vec(auth).unwrap_or_default())];
    parts.extend(config.root_cert.iter().flatten().cloned().map(Zeroizing::new));
    let files = [&auth.client_certificate, &auth.client_key].into_iter().flatten();
    parts.extend(files.map(|path| Zeroizing::new(std::fs::read(path).unwrap_or_default())));
    let mut hash = Sha256::new();
    for part in &parts {
        hash.update(part.len().to_be_bytes());
        hash.update(&**part);
    }
    hash.finalize().into()
}
