//! The mint port on the AWS SDK: `GetAuthorizationToken` of private ECR
//! (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html>) and of public
//! ECR (<https://docs.aws.amazon.com/AmazonECRPublic/latest/APIReference/API_GetAuthorizationToken.html>).
//!
//! Region, credentials and endpoints are the SDK's own: its default chains and the `AWS_*` variables. What the
//! configuration says of endpoints comes before the variables.

mod explain;
mod http;
mod session;

use std::collections::HashMap;
use std::time::Duration;

use aws_config::identity::IdentityCache;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_ecr::config::{Region as AwsRegion, SharedCredentialsProvider};
use aws_sdk_ecr::primitives::DateTime;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use self::explain::explain;
use self::http::ReplyDate;
use super::{Ask, Mint, MintError, MintErrorKind, Minted};
use crate::core::identity::{Identity, IdentityName};
use crate::core::policy::session_policy;
use crate::core::registry::{Endpoint, PUBLIC_REGION, Region};

/// One call, with the credentials' own calls, ends within this.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// An API that has endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// Private ECR.
    Ecr,
    /// Public ECR.
    EcrPublic,
    /// STS.
    Sts,
}

/// Endpoints that stand in place of AWS's own: for one region, or (`None`) for every other one.
pub type Endpoints = HashMap<(Service, Option<String>), String>;

/// ECR through the SDK.
pub struct AwsEcr {
    config: SdkConfig,
    /// Services whose endpoint the environment sets.
    custom: Vec<Service>,
    endpoints: Endpoints,
    identities: HashMap<IdentityName, Identity>,
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
            .http_client(http::client())
            // One cache, and so one set of the controller's credentials, for whatever is signed with them.
            .identity_cache(IdentityCache::lazy().build())
            .timeout_config(timeouts)
            // The token cache backs off by itself, and counts what it asks.
            .retry_config(RetryConfig::disabled())
            .load()
            .await;
        let by_service = [
            (Service::Ecr, "AWS_ENDPOINT_URL_ECR"),
            (Service::EcrPublic, "AWS_ENDPOINT_URL_ECR_PUBLIC"),
            (Service::Sts, "AWS_ENDPOINT_URL_STS"),
        ];
        let is_set = |name: &str| config.endpoint_url().is_some() || std::env::var_os(name).is_some();
        let custom =
            by_service.into_iter().filter(|(_, name)| is_set(name)).map(|(service, _)| service).collect();
        Self { config, custom, endpoints: Endpoints::new(), identities: HashMap::new() }
    }

    /// The controller's region, if there is one that is written as regions are.
    pub fn region(&self) -> Option<Region> {
        self.config.region()?.as_ref().parse().ok()
    }

    /// The same for these identities and endpoints.
    #[must_use]
    pub fn with(mut self, identities: impl IntoIterator<Item = Identity>, endpoints: Endpoints) -> Self {
        self.identities = identities.into_iter().map(|identity| (identity.name.clone(), identity)).collect();
        self.endpoints = endpoints;
        self
    }

    async fn token(&self, ask: &Ask) -> Result<Minted, MintError> {
        let identity = self.identities.get(&ask.key.identity);
        let session = match identity.and_then(|identity| Some((identity, identity.role.as_ref()?))) {
            Some((identity, role)) => {
                let policy = session_policy(identity, &ask.key);
                Some(self.assume(role, policy, ask.key.endpoint.region()).await?)
            }
            None => None,
        };
        let asked = match &ask.key.endpoint {
            Endpoint::Private(region) => self.private(region, false, ask.dual_stack, session).await,
            Endpoint::Fips(region) => self.private(region, true, ask.dual_stack, session).await,
            Endpoint::Public => self.public(ask.dual_stack, session).await,
        };
        let mut minted = asked.map_err(|error| self.with_partition(&ask.key.endpoint, error))?;
        let longest = identity.and_then(|identity| identity.role.as_ref()?.max_token_age);
        minted.expires_at = bounded(minted.expires_at, minted.server_time, longest);
        Ok(minted)
    }

    async fn private(
        &self,
        region: &Region,
        fips: bool,
        dual_stack: bool,
        session: Option<SharedCredentialsProvider>,
    ) -> Result<Minted, MintError> {
        let date = ReplyDate::default();
        let endpoint = self.endpoint(Service::Ecr, region.as_str());
        // A custom endpoint is used as it is; the SDK refuses it together with either of the two.
        let own = !self.is_custom(Service::Ecr, endpoint);
        let mut config = aws_sdk_ecr::config::Builder::from(&self.config)
            .region(AwsRegion::new(region.as_str().to_owned()))
            .use_fips(fips && own)
            .use_dual_stack(own && (dual_stack || self.config.use_dual_stack() == Some(true)))
            .interceptor(date.clone());
        if let Some(endpoint) = endpoint {
            config.set_endpoint_url(Some(endpoint.to_owned()));
        }
        if let Some(session) = session {
            config.set_credentials_provider(Some(session));
        }
        let client = aws_sdk_ecr::Client::from_conf(config.build());
        let reply = client.get_authorization_token().send().await.map_err(|error| explain(&error))?;
        let answer = reply.authorization_data.unwrap_or_default().into_iter().next().ok_or_else(no_data)?;
        minted(answer.authorization_token, answer.expires_at, answer.proxy_endpoint, &date)
    }

    async fn public(
        &self,
        dual_stack: bool,
        session: Option<SharedCredentialsProvider>,
    ) -> Result<Minted, MintError> {
        let date = ReplyDate::default();
        let endpoint = self.endpoint(Service::EcrPublic, PUBLIC_REGION);
        let own = !self.is_custom(Service::EcrPublic, endpoint);
        let mut config = aws_sdk_ecrpublic::config::Builder::from(&self.config)
            .region(AwsRegion::new(PUBLIC_REGION))
            .use_fips(false)
            .use_dual_stack(own && (dual_stack || self.config.use_dual_stack() == Some(true)))
            .interceptor(date.clone());
        if let Some(endpoint) = endpoint {
            config.set_endpoint_url(Some(endpoint.to_owned()));
        }
        if let Some(session) = session {
            config.set_credentials_provider(Some(session));
        }
        let client = aws_sdk_ecrpublic::Client::from_conf(config.build());
        let reply = client.get_authorization_token().send().await.map_err(|error| explain(&error))?;
        let answer = reply.authorization_data.ok_or_else(no_data)?;
        minted(answer.authorization_token, answer.expires_at, None, &date)
    }

    /// What is unknown to AWS may be known in another partition: the controller's region tells which one is its own.
    fn with_partition(&self, endpoint: &Endpoint, error: MintError) -> MintError {
        let (Some(home), Endpoint::Private(region) | Endpoint::Fips(region)) = (self.region(), endpoint)
        else {
            return error;
        };
        let (own, other) = (home.partition(), region.partition());
        if own == other || error.kind != MintErrorKind::Credentials {
            return error;
        }
        let hint = format!(
            "{}; {region} is in partition {}, and the controller's region {home} in {}: credentials of one are unknown in \
             the other, an identity with a role of that partition and credentials for it are needed",
            error.message,
            other.name(),
            own.name()
        );
        MintError::new(error.kind, hint)
    }

    /// The endpoint that the configuration names.
    fn endpoint(&self, service: Service, region: &str) -> Option<&str> {
        let named = |region: Option<String>| self.endpoints.get(&(service, region));
        named(Some(region.to_owned())).or_else(|| named(None)).map(String::as_str)
    }

    fn is_custom(&self, service: Service, endpoint: Option<&str>) -> bool {
        endpoint.is_some() || self.custom.contains(&service)
    }
}

impl Mint for AwsEcr {
    fn mint<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<Minted, MintError>> {
        async move {
            // The SDK's operation timeout does not bound every way of getting credentials.
            let bound = CALL_TIMEOUT + Duration::from_secs(5);
            tokio::time::timeout(bound, self.token(ask)).await.unwrap_or_else(|_| {
                Err(MintError::new(
                    MintErrorKind::Timeout,
                    "AWS did not answer in time, credentials included",
                ))
            })
        }
        .boxed()
    }
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
    Ok(Minted { authorization, expires_at, server_time: date.get(), proxy_endpoint })
}

/// The end of a token that counts for `longest` at most, by AWS's clock.
fn bounded(
    expires_at: Option<Timestamp>,
    server_time: Option<Timestamp>,
    longest: Option<SignedDuration>,
) -> Option<Timestamp> {
    let Some(longest) = longest else { return expires_at };
    let latest = server_time.unwrap_or_else(Timestamp::now).checked_add(longest);
    expires_at.map(|at| latest.map_or(at, |latest| at.min(latest)))
}
