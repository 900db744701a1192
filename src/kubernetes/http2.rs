//! The connection to the API server: HTTP/2, so that all requests and watches share one TLS connection. Without TLS, and
//! where the server or a load balancer before it does not offer HTTP/2, each running request has its own HTTP/1.1 connection.

use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt as _};
use kube::{Config, Error};
use tower::util::BoxService;
use tower::{BoxError, ServiceBuilder};

/// After this long without a frame from the server, the client sends a ping.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// How long the server may take for its answer to a ping. Then every request on the connection fails, and the next one
/// opens another connection.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of one response the client receives before a task reads it: what a watch that waits for the controller holds in
/// memory.
const STREAM_WINDOW: u32 = 128 * 1024;
/// The same for all responses together. It is larger, so that a watch that waits does not stop the responses to writes.
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;

/// A service that sends requests to the API server of `config`, with its credentials and headers.
pub(super) fn service(
    config: &Config,
) -> kube::Result<BoxService<Request<Body>, Response<Incoming>, BoxError>> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(config.connect_timeout);
    // Frames of several requests share a connection: none may wait for the acknowledgement of another one.
    http.set_nodelay(true);
    let mut connector =
        HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config()?).https_or_http();
    if let Some(name) = &config.tls_server_name {
        let name = name.clone().try_into().map_err(|error| Error::Service(Box::new(error)))?;
        connector = connector.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    let client = legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .build(connector.enable_all_versions().wrap_connector(http));
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client);
    Ok(BoxService::new(service))
}
