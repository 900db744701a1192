//! The connection to the API server.

use std::path::PathBuf;
use std::task::{Context, Poll};
use std::time::Instant;

use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, header};
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::{Layer, Service};

use crate::telemetry::metrics::{KubernetesRequest, Metrics};

/// Which cluster, and as whom.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// A kubeconfig file; none: the service account in a pod, else the usual kubeconfig.
    pub kubeconfig: Option<PathBuf>,
    /// A context of it; none: its current one.
    pub context: Option<String>,
    /// The controller's own namespace; none: that of the service account or of the context.
    pub namespace: Option<String>,
    /// Which process asks, as audit logs show it; none: just the program.
    pub holder: Option<String>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig is not usable.
    #[error("kubeconfig: {0}; name one with --kubeconfig, or a context of it with --context")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// The pod's service account is not usable.
    #[error("in-cluster configuration: {0}")]
    InCluster(#[from] kube::config::InClusterError),
    /// The client could not be built.
    #[error("Kubernetes client: {0}")]
    Client(#[from] kube::Error),
}

impl Connection {
    /// Whether this process runs in a pod and was not told otherwise.
    pub fn is_in_cluster(&self) -> bool {
        self.kubeconfig.is_none()
            && self.context.is_none()
            && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
    }

    /// A client without retries of its own: the controller backs off by itself, and counts what it asks. In a
    /// pod the service account is used without a look at kubeconfig files or debug variables.
    pub async fn connect(&self, metrics: Metrics) -> Result<Client, ConnectError> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let mut config = match &self.kubeconfig {
            Some(path) => Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await?,
            None if self.is_in_cluster() => Config::incluster()?,
            None => Config::from_kubeconfig(&options).await?,
        };
        if let Some(url) = config.proxy_url.as_ref().filter(|url| is_of_environment(url)) {
            tracing::debug!(host = url.host(), "the proxy of the environment is not used for Kubernetes");
            config.proxy_url = None;
        }
        if let Some(namespace) = &self.namespace {
            config.default_namespace.clone_from(namespace);
        }
        let program = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
        let agent =
            self.holder.as_ref().map_or_else(|| program.to_owned(), |holder| format!("{program} ({holder})"));
        if let Ok(agent) = HeaderValue::try_from(agent) {
            config.headers.push((header::USER_AGENT, agent));
        }
        config.default_retry = false;
        Ok(ClientBuilder::try_from(config)?.with_layer(&Count(metrics)).build())
    }
}

/// Whether a proxy comes from the variables that are meant for AWS, and not from the kubeconfig: kube takes them
/// outside a cluster, without a look at `NO_PROXY`.
fn is_of_environment(proxy: &http::Uri) -> bool {
    ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"]
        .iter()
        .filter_map(|name| std::env::var(name).ok()?.parse::<http::Uri>().ok())
        .any(|named| named == *proxy)
}

/// Counts every request by verb, resource and code.
#[derive(Clone)]
struct Count(Metrics);

impl<S> Layer<S> for Count {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, metrics: self.0.clone() }
    }
}

#[derive(Clone)]
struct Counted<S> {
    inner: S,
    metrics: Metrics,
}

impl<S, B> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (verb, resource) = classify(request.method(), request.uri().path(), request.uri().query());
        let metrics = self.metrics.clone();
        let start = Instant::now();
        let reply = self.inner.call(request);
        Box::pin(async move {
            let reply = reply.await;
            let code = reply.as_ref().map_or(0, |reply| reply.status().as_u16());
            metrics.kubernetes_request(&KubernetesRequest { verb, resource, code }, start.elapsed());
            reply
        })
    }
}

/// Verb and resource of a request, from fixed lists: a path is never a label value.
fn classify(method: &Method, path: &str, query: Option<&str>) -> (&'static str, &'static str) {
    const RESOURCES: [&str; 4] = ["secrets", "events", "leases", "serviceaccounts"];
    let mut segments = path.split('/').skip(1);
    let resource =
        RESOURCES.into_iter().find(|resource| segments.clone().any(|segment| segment == *resource));
    let resource =
        resource.or_else(|| segments.any(|segment| segment == "namespaces").then_some("namespaces"));
    let verb = match *method {
        Method::GET if query.is_some_and(|query| query.contains("watch=true")) => "watch",
        Method::GET if resource.is_some_and(|resource| path.ends_with(resource)) => "list",
        Method::GET => "get",
        Method::POST => "create",
        Method::PATCH => "patch",
        Method::PUT => "update",
        Method::DELETE => "delete",
        _ => "other",
    };
    (verb, resource.unwrap_or("other"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_classified() {
        for (method, path, query, expected) in [
            (Method::GET, "/api/v1/namespaces", Some("watch=true"), ("watch", "namespaces")),
            (Method::GET, "/api/v1/namespaces", Some("limit=100"), ("list", "namespaces")),
            (Method::GET, "/api/v1/namespaces/secrets", None, ("list", "secrets")),
            (Method::GET, "/api/v1/secrets", Some("fieldSelector=x"), ("list", "secrets")),
            (Method::PATCH, "/api/v1/namespaces/a/secrets/ecr-pull", None, ("patch", "secrets")),
            (Method::POST, "/api/v1/namespaces/a/events", None, ("create", "events")),
            (Method::GET, "/version", None, ("get", "other")),
        ] {
            assert_eq!(classify(&method, path, query), expected, "{path}");
        }
    }
}
