//! The HTTPS client of the SDK, and the one response header that is read.

use std::sync::{Arc, OnceLock};

use aws_sdk_ecr::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_ecr::config::{ConfigBag, Intercept, RuntimeComponents, SharedHttpClient};
use aws_sdk_ecr::error::BoxError;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{Builder, Connector, tls};
use jiff::Timestamp;
use jiff::fmt::rfc2822;

/// The SDK's HTTPS client on ring; unlike the SDK's default client, it honors `HTTPS_PROXY` and `NO_PROXY`.
pub(super) fn client() -> SharedHttpClient {
    Builder::new().build_with_connector_fn(|settings, components| {
        let mut connector = Connector::builder()
            .proxy_config(ProxyConfig::from_env())
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring));
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.build()
    })
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
