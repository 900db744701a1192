//! The connection to the API server.

use std::path::PathBuf;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt as _, Limited};
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::core::Status;
use kube::core::response::StatusDetails;
use kube::{Client, Config};
use tokio::time::{sleep, timeout};
use tower::layer::layer_fn;
use tower::timeout::error::Elapsed;
use tower::{BoxError, Service};
use tower_http::timeout::ResponseBodyTimeout;

use super::errors::plugin_failure;
use super::watch_pace::WatchPace;
use super::{http2, reload};
use crate::core::planted::call_limit;
use crate::telemetry::metrics::{KubernetesRequest, Metrics};

/// The limit for the head of a response, except to a write.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The limit for a write. Webhooks that do not respond delay it one after the other, and the API server ends it after 34 seconds
/// (`requestTimeoutUpperBound` in `k8s.io/apiserver/pkg/endpoints/handlers/rest.go`, 1.30 to 1.37). A client that gives up
/// earlier cancels the write, and so each retry.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(40);
/// The same for the head of its response, longer so that a caller without that limit is bounded, too.
const WRITE_HEAD_TIMEOUT: Duration = Duration::from_secs(45);
/// How long the API server keeps a watch open: each ends regularly, so that a connection on which nothing arrives is
/// noticed.
pub const WATCH_TIMEOUT: Duration = Duration::from_secs(35);
/// The limit for the pause between two parts of a response. A watch has ended by then.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(40);
/// The longest pause that an overloaded API server causes with `Retry-After`.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// The longest body of a refusal that is read, in bytes.
const MAX_REFUSAL: usize = 64 * 1024;

/// How to reach the API server.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// A kubeconfig file; `None` for the service account in a pod, or the default kubeconfig elsewhere.
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig; `None` for its current context.
    pub context: Option<String>,
    /// The controller's own namespace; `None` for the namespace of the service account or the context.
    pub namespace: Option<String>,
    /// The leader election identity, which audit logs show in the user agent.
    pub identity: Option<String>,
    /// Whether all requests share one HTTP/2 connection. A request that gets no response leaves that connection in use until
    /// a ping fails, while one on HTTP/1.1 closes its own, so the Lease uses HTTP/1.1.
    pub is_shared: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("kubeconfig: {0}; select a file with --kubeconfig and a context with --context")]
    Kubeconfig(KubeconfigError),
    #[error("kubeconfig: line {line}, column {column}: it is not a valid kubeconfig; correct the file")]
    InvalidKubeconfig { line: u64, column: u64 },
    #[error("in-cluster configuration: {0}")]
    InCluster(#[from] kube::config::InClusterError),
    #[error("{0}")]
    Plugin(String),
    #[error("Kubernetes client: {0}")]
    Client(kube::Error),
}

/// The text of the parser quotes the kubeconfig, and with it a token.
impl From<KubeconfigError> for ConnectError {
    fn from(error: KubeconfigError) -> Self {
        let KubeconfigError::Parse(error) = error else { return Self::Kubeconfig(error) };
        let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
        Self::InvalidKubeconfig { line, column }
    }
}

/// The output of a credential plugin may contain a token.
impl From<kube::Error> for ConnectError {
    fn from(error: kube::Error) -> Self {
        plugin_failure(&error).map_or(Self::Client(error), Self::Plugin)
    }
}

impl Connection {
    /// Whether the client uses the service account of the pod.
    pub fn is_in_cluster(&self) -> bool {
        self.kubeconfig.is_none()
            && self.context.is_none()
            && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
    }

    /// Outside a pod, sets the controller's own namespace to the name of the instance unless it was given: the namespace of
    /// the context is seldom the controller's, and a Lease there would not exclude the controller.
    #[must_use]
    pub fn in_namespace_of(mut self, instance: &str) -> Self {
        if !self.is_in_cluster() {
            self.namespace.get_or_insert_with(|| instance.to_owned());
        }
        self
    }

    /// Returns a client without retries, because the controller has its own backoff. In a pod, kubeconfig files and kube's
    /// debug variables are ignored. Elsewhere, the client follows changes of the kubeconfig, but not of its current context.
    pub async fn connect(&self, metrics: Metrics) -> Result<Client, ConnectError> {
        if self.is_in_cluster() {
            return reload::client(self.clone(), Config::incluster()?, metrics);
        }
        let context = self.context.clone().or(self.read()?.current_context);
        let connection = Self { context, ..self.clone() };
        let config = connection.load().await?;
        reload::client(connection, config, metrics)
    }

    fn read(&self) -> Result<Kubeconfig, KubeconfigError> {
        self.kubeconfig.as_ref().map_or_else(Kubeconfig::read, Kubeconfig::read_from)
    }

    /// Reads the kubeconfig, or the files of the service account in a pod.
    pub(super) async fn load(&self) -> Result<Config, ConnectError> {
        if self.is_in_cluster() {
            return Ok(Config::incluster()?);
        }
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        Ok(Config::from_custom_kubeconfig(self.read()?, &options).await?)
    }

    pub(super) fn build(&self, mut config: Config, metrics: &Metrics) -> Result<Client, ConnectError> {
        if let Some(url) = config.proxy_url.as_ref().filter(|url| is_from_environment(url)) {
            tracing::debug!(host = url.host(), "ignoring the proxy from the environment for Kubernetes");
            config.proxy_url = None;
        }
        if config.accept_invalid_certs {
            tracing::warn!(
                host = config.cluster_url.host(),
                "the kubeconfig switches off the verification of the API server's certificate (insecure-skip-tls-verify), \
                 so an attacker on the network can read and change every secret: set certificate-authority instead"
            );
        }
        if let Some(namespace) = &self.namespace {
            config.default_namespace.clone_from(namespace);
        }
        let program = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
        let agent = match &self.identity {
            Some(identity) => format!("{program} ({identity})"),
            None => program.to_owned(),
        };
        if let Ok(agent) = HeaderValue::try_from(agent) {
            config.headers.push((header::USER_AGENT, agent));
        }
        config.default_retry = false;
        // Only kube's own stack shows when the certificate of a credential plugin expires. It uses HTTP/1.1.
        if !self.is_shared || config.auth_info.exec.is_some() || config.proxy_url.is_some() {
            let ours = layer_fn(|inner| with_layers(inner, metrics.clone()));
            return Ok(ClientBuilder::try_from(config)?.with_layer(&ours).build());
        }
        Ok(Client::new(with_layers(http2::service(&config)?, metrics.clone()), config.default_namespace))
    }
}

/// A service whose requests are counted and end within a bounded time.
pub type Layered<S> = Measured<ResponseBodyTimeout<S>>;

/// Adds our layers to the service that sends requests. The simulation has its own service and uses them, too.
pub fn with_layers<S>(inner: S, metrics: Metrics) -> Layered<S> {
    let inner = ResponseBodyTimeout::new(inner, call_limit(SILENCE_TIMEOUT));
    Measured { inner, metrics, pace: WatchPace::new() }
}

/// Whether a proxy comes from the environment, which configures AWS, and not from the kubeconfig. Outside a cluster,
/// kube uses those variables and ignores `NO_PROXY`.
fn is_from_environment(proxy: &http::Uri) -> bool {
    ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"]
        .iter()
        .filter_map(|name| std::env::var(name).ok()?.parse::<http::Uri>().ok())
        .any(|named| named == *proxy)
}

/// Counts and times every request, and limits the time until the head of its response.
pub struct Measured<S> {
    inner: S,
    metrics: Metrics,
    pace: WatchPace,
}

impl<S, B> Service<Request<Body>> for Measured<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
    S::Error: Into<BoxError> + Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (path, query) = (request.uri().path(), request.uri().query());
        let (verb, resource) = classify(request.method(), path, query);
        let watch = (verb == "watch").then(|| watch_of(path, query));
        let pause = watch.as_deref().map_or(Duration::ZERO, |watch| self.pace.start(watch));
        let pace = self.pace.clone();
        let metrics = self.metrics.clone();
        let start = Instant::now();
        let limit = if matches!(verb, "patch" | "delete") { WRITE_HEAD_TIMEOUT } else { HEAD_TIMEOUT };
        let response = timeout(call_limit(limit), self.inner.call(request));
        let is_repeated = matches!(verb, "list" | "watch");
        Box::pin(async move {
            let response = match response.await {
                Ok(response) => response.map_err(Into::into),
                Err(_) => Err(Elapsed::new().into()),
            };
            let code = response.as_ref().map_or(0, |response| response.status().as_u16());
            metrics.kubernetes_request(&KubernetesRequest { verb, resource, code }, start.elapsed());
            let response = response?;
            match retry_after(&response) {
                // The watcher repeats these without regard to the header, and does not show it.
                Some(demanded) if is_repeated => sleep(demanded.min(MAX_RETRY_AFTER)).await,
                Some(demanded) => return Err(refusal(response, demanded).await.into()),
                None => {}
            }
            if let Some(watch) = watch
                && response.status().is_success()
            {
                pace.wait(&watch, pause).await;
            }
            Ok(response)
        })
    }
}

/// The path of a watch, and the object that it selects.
fn watch_of(path: &str, query: Option<&str>) -> String {
    let mut pairs = query.unwrap_or_default().split('&');
    let selector = pairs.find(|pair| pair.starts_with("fieldSelector="));
    selector.map_or_else(|| path.to_owned(), |selector| format!("{path}?{selector}"))
}

/// The pause that the header of a refusal demands.
fn retry_after<B>(response: &Response<B>) -> Option<Duration> {
    let is_busy = matches!(response.status().as_u16(), 429 | 500..);
    let header = response.headers().get(header::RETRY_AFTER).filter(|_| is_busy)?;
    let seconds: u32 = header.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.into()))
}

/// The error that kube returns for a refusal, with the pause. kube drops the header, which alone has it if the body is not a
/// Status, as that of priority and fairness, or of a proxy.
async fn refusal<B>(response: Response<B>, retry_after: Duration) -> kube::Error
where
    B: hyper::body::Body,
    B::Error: Into<BoxError>,
{
    let code = response.status().as_u16();
    let body = Limited::new(response.into_body(), MAX_REFUSAL).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let mut status: Status = serde_json::from_slice(&body).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(&body);
        Status::failure(text.trim(), "the body is not a Status").with_code(code)
    });
    if status.code == 0 {
        // Each field of a Status is optional, so any object can be read as one.
        status.code = code;
    }
    let details = status.details.take();
    let details = details.map_or_else(|| serde_json::from_str("{}"), Ok);
    status.details = details.ok().map(|details: StatusDetails| StatusDetails {
        retry_after_seconds: u32::try_from(retry_after.as_secs()).unwrap_or(u32::MAX),
        ..details
    });
    kube::Error::Api(Box::new(status))
}

/// The verb and the resource of a request, from fixed lists: a path is never a label value.
fn classify(method: &Method, path: &str, query: Option<&str>) -> (&'static str, &'static str) {
    let resource = resource_of(path);
    let collection = matches!(resource, Some((_, false)));
    let watch = query.is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"));
    let verb = match *method {
        Method::GET if collection && watch => "watch",
        Method::GET if collection => "list",
        Method::GET => "get",
        Method::POST => "create",
        Method::PATCH => "patch",
        Method::PUT => "update",
        Method::DELETE => "delete",
        _ => "other",
    };
    (verb, resource.map_or("other", |(resource, _)| resource))
}

/// The resource of `/api/v1[/namespaces/NAMESPACE]/RESOURCE[/NAME]` or `/apis/GROUP/VERSION/…`, and whether the path names
/// one object.
fn resource_of(path: &str) -> Option<(&'static str, bool)> {
    const RESOURCES: [&str; 5] = ["namespaces", "secrets", "events", "leases", "serviceaccounts"];
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let (["api", _, rest @ ..] | ["apis", _, _, rest @ ..]) = &*segments else { return None };
    let (resource, named) = match rest {
        ["namespaces", _, resource, name @ ..] | [resource, name @ ..] => (resource, !name.is_empty()),
        [] => return None,
    };
    let known = RESOURCES.into_iter().find(|known| known == resource)?;
    Some((known, named))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// N45
    #[tokio::test]
    async fn an_invalid_kubeconfig_is_not_quoted() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config");
        for text in [
            "users:\n- name: a\n  user:\n    token: hunter2\n    token: [hunter2\n",
            "users:\n- name: a\n  user:\n\ttoken: hunter2\n",
            "users: hunter2",
        ] {
            std::fs::write(&path, text).expect("a file");
            let connection = Connection { kubeconfig: Some(path.clone()), ..Connection::default() };
            let error = connection.connect(Metrics::default()).await.err().expect("it is invalid");
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("hunter2") && shown.contains("line"), "{shown}");
        }
    }

    #[test]
    fn requests_are_classified() {
        for (method, path, query, expected) in [
            (Method::GET, "/api/v1/namespaces", Some("watch=true"), ("watch", "namespaces")),
            (Method::GET, "/api/v1/namespaces", Some("limit=100"), ("list", "namespaces")),
            (Method::GET, "/api/v1/namespaces/secrets", None, ("get", "namespaces")),
            (Method::GET, "/api/v1/namespaces/events/secrets/ecr-pull", None, ("get", "secrets")),
            (Method::PATCH, "/api/v1/namespaces/leases/secrets/events", None, ("patch", "secrets")),
            (Method::GET, "/api/v1/namespaces/a/secrets", Some("watch=true&x=y"), ("watch", "secrets")),
            (Method::GET, "/api/v1/namespaces/a/secrets/watch=true", None, ("get", "secrets")),
            (Method::GET, "/apis/coordination.k8s.io/v1/namespaces/a/leases/b", None, ("get", "leases")),
            (Method::GET, "/apis/events/v1/unknown", None, ("get", "other")),
            (Method::GET, "/api/v1/secrets", Some("fieldSelector=x"), ("list", "secrets")),
            (Method::PATCH, "/api/v1/namespaces/a/secrets/ecr-pull", None, ("patch", "secrets")),
            (Method::POST, "/api/v1/namespaces/a/events", None, ("create", "events")),
            (Method::GET, "/version", None, ("get", "other")),
        ] {
            assert_eq!(classify(&method, path, query), expected, "{path}");
        }
    }
}
