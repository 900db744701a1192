//! The HTTPS client of the SDK, and the one response header that is read.

use std::fmt;
use std::sync::{Arc, LazyLock, OnceLock};

use aws_sdk_ecr::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_ecr::config::{ConfigBag, Intercept, RuntimeComponents, SharedHttpClient};
use aws_sdk_ecr::error::BoxError;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{Builder, Connector, tls};
use aws_smithy_runtime_api::client::http::{
    HttpClient as _, HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use jiff::Timestamp;
use jiff::fmt::rfc2822;

use super::endpoints::{SAFE_URL, is_local};
use super::roots;
use crate::core::quote;

/// The SDK's HTTPS client on ring; unlike the SDK's default client, it honors `HTTPS_PROXY` and `NO_PROXY`.
///
/// Services of the node that provide credentials are never requested through a proxy: it would get the token of the pod, and
/// could return other credentials.
pub(super) fn client() -> SharedHttpClient {
    let (direct, proxied) = (with_proxy(ProxyConfig::disabled()), with_proxy(ProxyConfig::from_env()));
    http_client_fn(move |settings, components| {
        let connector = |client: &SharedHttpClient| {
            let (client, settings, components) = (client.clone(), settings.clone(), components.clone());
            let build = move || client.http_connector(&settings, &components);
            LazyLock::new(Box::new(build) as BuildConnector)
        };
        SharedHttpConnector::new(Route { direct: connector(&direct), proxied: connector(&proxied) })
    })
}

fn with_proxy(proxy: ProxyConfig) -> SharedHttpClient {
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder()
            .proxy_config(proxy.clone())
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .tls_context(roots::tls_context());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.build()
    })
}

/// Connects to registries, which are on the internet.
pub fn registry_connector() -> Connector {
    Connector::builder()
        .proxy_config(ProxyConfig::from_env())
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .tls_context(roots::tls_context())
        .build()
}

type BuildConnector = Box<dyn FnOnce() -> SharedHttpConnector + Send>;
/// Built for its first request, because a connector parses every CA certificate of the machine.
type LazyConnector = LazyLock<SharedHttpConnector, BuildConnector>;

/// Chooses the connection of each request by its host.
struct Route {
    direct: LazyConnector,
    proxied: LazyConnector,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Route")
    }
}

impl HttpConnector for Route {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let url = request.uri().parse::<http::Uri>().unwrap_or_default();
        if url.host().is_some_and(is_local) {
            self.direct.call(request)
        } else if url.scheme_str() == Some("https") {
            self.proxied.call(request)
        } else {
            let host = url.host().unwrap_or_default();
            let message = format!("{} would be requested without encryption: {SAFE_URL}", quote(host));
            HttpConnectorFuture::ready(Err(ConnectorError::user(message.into())))
        }
    }
}

/// The `Date` of the reply: AWS's clock.
#[derive(Clone, Debug, Default)]
pub(super) struct ReplyDate(Arc<OnceLock<Timestamp>>);

impl ReplyDate {
    /// The date, once a reply with a date has arrived.
    pub(super) fn get(&self) -> Option<Timestamp> {
        self.0.get().copied()
    }
}

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for ReplyDate {
    fn name(&self) -> &'static str {
        "ReplyDate"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").and_then(|date| rfc2822::parse(date).ok());
        if let Some(date) = date {
            let _ = self.0.set(date.timestamp());
        }
        Ok(())
    }
}
