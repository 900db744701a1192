//! Authorization tokens with the AWS SDK: `GetAuthorizationToken` of private ECR
//! (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html>) and of public ECR
//! (<https://docs.aws.amazon.com/AmazonECRPublic/latest/APIReference/API_GetAuthorizationToken.html>).
//!
//! The SDK determines region, credentials and endpoints by its default chains and the `AWS_*` variables. Endpoints of
//! the configuration take precedence over the variables.

mod caller;
mod endpoints;
mod explain;
mod http;
mod one_call;
mod reload;
mod roots;
mod session;
#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::identity::IdentityCache;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, SdkConfig};
use aws_sdk_ecr::config::Region as AwsRegion;
use aws_sdk_ecr::primitives::DateTime;
use aws_types::origin::Origin;
use aws_types::sdk_config::Builder;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use self::explain::explain;
use self::http::ReplyDate;
use self::reload::Files;
use crate::core::aws::{Endpoint, NameError, Region};
use crate::core::grants::{CredentialSource, TokenRequest};
use crate::core::secret::{FetchedToken, TokenError, TokenErrorKind, TokenSource};

pub use self::endpoints::{Endpoints, SAFE_URL, Service, is_safe_url, shown as shown_endpoint};
pub use self::http::registry_connector;
pub use self::one_call::OneCall;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// The SDK's limit for one operation.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);

/// The limit for a whole request. The SDK's operation timeout does not include every way to load credentials.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// A setting of the environment or of the AWS profile is not valid.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    #[error("AWS_REGION, or the region of the profile or the instance metadata: {0}")]
    Region(NameError),
    /// Tokens or credentials would be sent without encryption.
    #[error("{name}: {url}: {SAFE_URL}")]
    Endpoint { name: String, url: String },
}

/// The region as the SDK's default chain finds it, without white space around it; `None` if there is none.
pub async fn region() -> Result<Option<Region>, EnvironmentError> {
    let config = aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(http::client());
    let config = config.no_credentials().load().await;
    parse_region(config.region())
}

/// The region in the environment or in the AWS profile, without a request to the instance metadata service.
pub async fn configured_region() -> Result<Option<Region>, EnvironmentError> {
    let chain = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new());
    parse_region(chain.or_else(ProfileFileRegionProvider::new()).region().await.as_ref())
}

fn parse_region(found: Option<&AwsRegion>) -> Result<Option<Region>, EnvironmentError> {
    let text = found.map(|region| region.as_ref().trim()).filter(|text| !text.is_empty());
    text.map(|text| text.parse().map_err(EnvironmentError::Region)).transpose()
}

/// The SDK's configuration for this region, with a new chain of credential providers. Loads no credentials.
async fn load(region: Option<&Region>) -> SdkConfig {
    loader(region).load().await
}

fn loader(region: Option<&Region>) -> ConfigLoader {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(OPERATION_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    aws_config::defaults(BehaviorVersion::v2026_01_12())
        .region(region.map(|region| AwsRegion::new(region.as_str().to_owned())))
        .http_client(http::client())
        // All clients share one cache, so they load the controller's credentials once.
        .identity_cache(IdentityCache::lazy().build())
        .timeout_config(timeouts)
        // The token cache retries, and counts every request.
        .retry_config(RetryConfig::disabled())
}

/// The AWS APIs for authorization tokens.
pub struct AwsEcr {
    apis: Arc<Apis>,
    /// The task that keeps the credentials current. It ends with this value.
    reload: JoinSet<()>,
}

struct Apis {
    config: RwLock<SdkConfig>,
    region: Option<Region>,
    endpoints: Endpoints,
    /// AWS refused the controller's credentials, or there are none.
    refused: Notify,
}

impl AwsEcr {
    /// Loads the region and the credential providers with the SDK's default chains. Requests no token.
    pub async fn load(endpoints: Endpoints) -> Result<Self, EnvironmentError> {
        let files = Files::read().await;
        let mut aws = Self::load_once(endpoints).await?;
        aws.reload.spawn(reload::keep_current(aws.apis.clone(), files));
        Ok(aws)
    }

    /// As [`AwsEcr::load`], for a command that ends before its credentials change.
    pub async fn load_once(endpoints: Endpoints) -> Result<Self, EnvironmentError> {
        endpoints::check_environment()?;
        let region = region().await?;
        let config = load(region.as_ref()).await;
        endpoints::check_profile(&config)?;
        let config = RwLock::new(config);
        let apis = Arc::new(Apis { config, region, endpoints, refused: Notify::new() });
        Ok(Self { apis, reload: JoinSet::new() })
    }

    /// The controller's region; `None` if it was unknown.
    pub fn region(&self) -> Option<Region> {
        self.apis.region.clone()
    }
}

impl Apis {
    fn config(&self) -> SdkConfig {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, config: SdkConfig) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Fetches a token within the limit for a whole request.
    async fn fetch(&self, request: &TokenRequest) -> Result<FetchedToken, TokenError> {
        let message = "AWS did not respond in time, including the time to load credentials: check the network, the \
                       proxy settings and the source of the credentials";
        let result = tokio::time::timeout(REQUEST_TIMEOUT, self.token(request)).await;
        result.unwrap_or_else(|_| Err(TokenError::new(TokenErrorKind::Timeout, message)))
    }

    async fn token(&self, request: &TokenRequest) -> Result<FetchedToken, TokenError> {
        let endpoint = &request.key.endpoint;
        let is_fips = matches!(endpoint, Endpoint::Fips(_));
        let service = if *endpoint == Endpoint::Public { Service::EcrPublic } else { Service::Ecr };
        let mut config = self.service_config(service, endpoint.region(), is_fips, request.dual_stack);
        if let Some(session) = &request.session {
            config.set_credentials_provider(Some(self.assume_role(session, endpoint.region()).await?));
            // The shared cache has 64 entries: those of sessions would push the controller's credentials out.
            config.set_identity_cache(Some(IdentityCache::no_cache()));
        }
        let config = config.build();
        let date = ReplyDate::default();
        let result = match endpoint {
            Endpoint::Public => public_token(&config, &date).await,
            Endpoint::Private(_) | Endpoint::Fips(_) => private_token(&config, &date).await,
        };
        let mut fetched = result.map_err(|error| self.with_partition_hint(endpoint, error).at(date.get()))?;
        if let Some(max_age) = request.session.as_ref().and_then(|session| session.role.max_token_age) {
            fetched.expires_at = limit(fetched.expires_at, fetched.server_time, max_age);
        }
        Ok(fetched)
    }

    /// The configuration of a client of `service` in `region`. The SDK rejects a custom endpoint together with FIPS or
    /// dual stack.
    fn service_config(&self, service: Service, region: &str, fips: bool, dual_stack: bool) -> Builder {
        let url = endpoints::configured(&self.endpoints, service, region);
        let config = self.config();
        let uses_aws_endpoint = url.is_none() && !endpoints::is_set_by_environment(service, &config);
        let dual_stack = dual_stack || config.use_dual_stack() == Some(true);
        let mut config = config.into_builder();
        config.set_region(AwsRegion::new(region.to_owned()));
        config.set_use_fips(Some(uses_aws_endpoint && fips));
        config.set_use_dual_stack(Some(uses_aws_endpoint && dual_stack));
        if let Some(url) = url {
            config.set_endpoint_url(Some(url));
            // Otherwise the variable of the service takes precedence.
            config.insert_origin("endpoint_url", Origin::shared_config());
        }
        config
    }

    /// Credentials of one partition are unknown in another, and AWS's message does not mention partitions.
    fn with_partition_hint(&self, endpoint: &Endpoint, error: TokenError) -> TokenError {
        let (Some(own), Endpoint::Private(region) | Endpoint::Fips(region)) = (&self.region, endpoint) else {
            return error;
        };
        if own.partition() == region.partition() || error.kind != TokenErrorKind::Credentials {
            return error;
        }
        let message = format!(
            "{}; {region} is in AWS partition {}, but the environment's region {own} is in {}, and credentials are \
             valid in one partition only: add an identity with a role in that partition, and credentials for it",
            error.message,
            region.partition().name(),
            own.partition().name()
        );
        TokenError { message, ..error }
    }
}

impl TokenSource for AwsEcr {
    fn fetch_token<'a>(
        &'a self,
        request: &'a TokenRequest,
    ) -> BoxFuture<'a, Result<FetchedToken, TokenError>> {
        Box::pin(async move {
            let result = self.apis.fetch(request).await;
            if result.as_ref().is_err_and(|error| error.kind == TokenErrorKind::Credentials)
                && uses_own_credentials(request)
            {
                self.apis.refused.notify_one();
            }
            result
        })
    }
}

/// Whether the controller's own credentials sign the request, or that for the session.
fn uses_own_credentials(request: &TokenRequest) -> bool {
    let session = request.session.as_ref();
    session.is_none_or(|session| matches!(session.role.source, CredentialSource::Controller))
}

async fn private_token(config: &SdkConfig, date: &ReplyDate) -> Result<FetchedToken, TokenError> {
    let config = aws_sdk_ecr::config::Builder::from(config).interceptor(date.clone()).build();
    let call = aws_sdk_ecr::Client::from_conf(config).get_authorization_token();
    let reply = call.send().await.map_err(|error| explain(&error))?.authorization_data;
    let reply = reply.unwrap_or_default().into_iter().next().ok_or_else(no_token)?;
    fetched(reply.authorization_token, reply.expires_at, reply.proxy_endpoint, date)
}

async fn public_token(config: &SdkConfig, date: &ReplyDate) -> Result<FetchedToken, TokenError> {
    let config = aws_sdk_ecrpublic::config::Builder::from(config).interceptor(date.clone()).build();
    let call = aws_sdk_ecrpublic::Client::from_conf(config).get_authorization_token();
    let reply = call.send().await.map_err(|error| explain(&error))?.authorization_data;
    let reply = reply.ok_or_else(no_token)?;
    fetched(reply.authorization_token, reply.expires_at, None, date)
}

fn no_token() -> TokenError {
    TokenError::new(
        TokenErrorKind::InvalidResponse,
        "unexpected response from AWS: it contains no authorization token; check the configured endpoints",
    )
}

fn fetched(
    token: Option<String>,
    expires_at: Option<DateTime>,
    proxy_endpoint: Option<String>,
    date: &ReplyDate,
) -> Result<FetchedToken, TokenError> {
    let authorization = Zeroizing::new(token.ok_or_else(no_token)?);
    let expires_at = expires_at.and_then(|at| Timestamp::from_second(at.secs()).ok());
    Ok(FetchedToken { authorization, expires_at, server_time: date.get(), proxy_endpoint })
}

/// The expiry of a token that is used for at most `max_age`, by AWS's clock.
fn limit(
    expires_at: Option<Timestamp>,
    server_time: Option<Timestamp>,
    max_age: SignedDuration,
) -> Option<Timestamp> {
    let latest = server_time.unwrap_or_else(Timestamp::now).checked_add(max_age);
    expires_at.map(|at| latest.map_or(at, |latest| at.min(latest)))
}
