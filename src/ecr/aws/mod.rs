//! The mint port on the AWS SDK: `GetAuthorizationToken` of private ECR
//! (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html>) and of public
//! ECR (<https://docs.aws.amazon.com/AmazonECRPublic/latest/APIReference/API_GetAuthorizationToken.html>).
//!
//! Region, credentials and endpoints are the SDK's own: its default chains and the `AWS_*` variables.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_config::identity::IdentityCache;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_ecr::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_ecr::config::{ConfigBag, Intercept, Region as AwsRegion, RuntimeComponents};
use aws_sdk_ecr::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_ecr::primitives::DateTime;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{Builder, Connector, tls};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use zeroize::Zeroizing;

use super::{Mint, MintError, MintErrorKind, Minted};
use crate::core::identity::TokenKey;
use crate::core::one_line;
use crate::core::registry::{Endpoint, PUBLIC_REGION, Region};

/// One call, with the credentials' own calls, ends within this.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// ECR through the SDK.
pub struct AwsEcr {
    config: SdkConfig,
    custom_endpoint: bool,
}

impl AwsEcr {
    /// Loads region and credentials by the SDK's default chains. Asks no one for a token yet.
    pub async fn load() -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(4))
            .read_timeout(CALL_TIMEOUT)
            .operation_timeout(CALL_TIMEOUT)
            .build();
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(http_client())
            .identity_cache(IdentityCache::lazy().build())
            .timeout_config(timeouts)
            // The token cache backs off by itself, and counts what it asks.
            .retry_config(RetryConfig::disabled())
            .load()
            .await;
        let by_service = ["AWS_ENDPOINT_URL_ECR", "AWS_ENDPOINT_URL_ECR_PUBLIC"];
        let custom_endpoint =
            config.endpoint_url().is_some() || by_service.iter().any(|name| std::env::var_os(name).is_some());
        Self { config, custom_endpoint }
    }

    /// The controller's region, if there is one that is written as regions are.
    pub fn region(&self) -> Option<Region> {
        self.config.region()?.as_ref().parse().ok()
    }

    async fn private(&self, region: &Region, fips: bool) -> Result<Minted, MintError> {
        let date = ReplyDate::default();
        let config = aws_sdk_ecr::config::Builder::from(&self.config)
            .region(AwsRegion::new(region.as_str().to_owned()))
            // A custom endpoint is used as it is; the SDK refuses both together.
            .use_fips(fips && !self.custom_endpoint)
            .interceptor(date.clone());
        let client = aws_sdk_ecr::Client::from_conf(config.build());
        let reply = client.get_authorization_token().send().await.map_err(|error| explain(&error))?;
        let answer = reply.authorization_data.unwrap_or_default().into_iter().next().ok_or_else(no_data)?;
        minted(answer.authorization_token, answer.expires_at, answer.proxy_endpoint, &date)
    }

    async fn public(&self) -> Result<Minted, MintError> {
        let date = ReplyDate::default();
        let config = aws_sdk_ecrpublic::config::Builder::from(&self.config)
            .region(AwsRegion::new(PUBLIC_REGION))
            .interceptor(date.clone());
        let client = aws_sdk_ecrpublic::Client::from_conf(config.build());
        let reply = client.get_authorization_token().send().await.map_err(|error| explain(&error))?;
        let answer = reply.authorization_data.ok_or_else(no_data)?;
        minted(answer.authorization_token, answer.expires_at, None, &date)
    }
}

impl Mint for AwsEcr {
    fn mint<'a>(&'a self, key: &'a TokenKey) -> BoxFuture<'a, Result<Minted, MintError>> {
        async move {
            let call = async {
                match &key.endpoint {
                    Endpoint::Private(region) => self.private(region, false).await,
                    Endpoint::Fips(region) => self.private(region, true).await,
                    Endpoint::Public => self.public().await,
                }
            };
            // The SDK's operation timeout does not bound every way of getting credentials.
            tokio::time::timeout(CALL_TIMEOUT + Duration::from_secs(5), call).await.unwrap_or_else(|_| {
                Err(MintError::new(
                    MintErrorKind::Timeout,
                    "AWS did not answer in time, credentials included",
                ))
            })
        }
        .boxed()
    }
}

/// The SDK's HTTPS client on ring; unlike its default one it honours `HTTPS_PROXY` and `NO_PROXY`.
fn http_client() -> aws_sdk_ecr::config::SharedHttpClient {
    Builder::new().build_with_connector_fn(|settings, components| {
        let mut connector = Connector::builder()
            .proxy_config(ProxyConfig::from_env())
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring));
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.build()
    })
}

fn no_data() -> MintError {
    MintError::new(MintErrorKind::Malformed, "AWS answered without authorization data")
}

fn minted(
    token: Option<String>,
    expires_at: Option<DateTime>,
    proxy_endpoint: Option<String>,
    date: &ReplyDate,
) -> Result<Minted, MintError> {
    let authorization = Zeroizing::new(token.ok_or_else(no_data)?);
    let expires_at = expires_at.and_then(|at| Timestamp::from_second(at.secs()).ok());
    Ok(Minted { authorization, expires_at, server_time: date.0.get().copied(), proxy_endpoint })
}

/// The `Date` of the reply: AWS's clock.
#[derive(Clone, Debug, Default)]
struct ReplyDate(Arc<OnceLock<Timestamp>>);

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

/// Turns the SDK's error into a kind and a sentence. Never prints a raw reply, which may hold a token.
fn explain<E, R>(error: &SdkError<E, R>) -> MintError
where
    E: ProvideErrorMetadata + Error + 'static,
    R: fmt::Debug,
{
    let (kind, message) = match error {
        SdkError::TimeoutError(_) => (MintErrorKind::Timeout, "AWS did not answer in time".to_owned()),
        SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
            Some(error) if error.is_timeout() => {
                (MintErrorKind::Timeout, format!("AWS did not answer in time: {}", chain(error)))
            }
            Some(error) => (MintErrorKind::Unreachable, format!("AWS cannot be reached: {}", chain(error))),
            None => (MintErrorKind::Unreachable, "AWS cannot be reached".to_owned()),
        },
        SdkError::ConstructionFailure(failure) => {
            // Its Display names no cause, its Debug may hold anything: where it is about credentials is all we say.
            let text = format!("{failure:?}").to_lowercase();
            if text.contains("credential") || text.contains("identity") {
                (MintErrorKind::Credentials, "no AWS credentials could be loaded: check the AWS_* variables, the mounted profile or the service account's role".to_owned())
            } else {
                (
                    MintErrorKind::Other,
                    "the request to AWS could not be built: check AWS_REGION and AWS_ENDPOINT_URL".to_owned(),
                )
            }
        }
        SdkError::ServiceError(refusal) => refused(refusal.err()),
        _ => {
            (MintErrorKind::Malformed, "AWS answered with something that is no answer of this API".to_owned())
        }
    };
    MintError::new(kind, one_line(&message))
}

fn refused(error: &impl ProvideErrorMetadata) -> (MintErrorKind, String) {
    const THROTTLING: [&str; 5] = [
        "ThrottlingException",
        "Throttling",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "LimitExceededException",
    ];
    let Some(code) = error.code() else {
        return (MintErrorKind::ServerError, "AWS answered with an error that has no code".to_owned());
    };
    let kind = match code {
        code if THROTTLING.contains(&code) => MintErrorKind::Throttled,
        "AccessDenied" | "AccessDeniedException" => MintErrorKind::AccessDenied,
        "ServerException"
        | "InternalFailure"
        | "InternalServerError"
        | "ServiceUnavailable"
        | "ServiceUnavailableException" => MintErrorKind::ServerError,
        "UnrecognizedClientException"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "MissingAuthenticationTokenException" => MintErrorKind::Credentials,
        _ => MintErrorKind::Other,
    };
    (kind, format!("AWS refused: {code}: {}", error.message().unwrap_or("no message")))
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
