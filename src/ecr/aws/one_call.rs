//! AWS for a command that runs without a cluster: a single token, with the credentials of the environment or of a
//! profile. Nothing keeps the credentials current, and the instance metadata service is not requested for what the
//! environment has.

use std::env;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::meta::region::ProvideRegion;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_sdk_ecr::config::{ProvideCredentials as _, SharedCredentialsProvider};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::explain::explain_command_line;
use super::{
    Apis, AwsRegion, Endpoints, EnvironmentError, REQUEST_TIMEOUT, endpoints, http, loader, parse_region,
    uses_own_credentials,
};
use crate::core::aws::Region;
use crate::core::grants::TokenRequest;
use crate::core::secret::{FetchedToken, TokenError, TokenErrorKind};

/// The variables with which the environment names a source of credentials other than a profile
/// (<https://docs.aws.amazon.com/sdkref/latest/guide/environment-variables.html>).
const SOURCES: [&str; 4] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];
/// How long the instance metadata service may take to return the region.
const METADATA_TIMEOUT: Duration = Duration::from_secs(3);

/// The AWS APIs, for one token.
pub struct OneCall {
    apis: Apis,
    /// The profile of the credentials; `None`: the SDK's default chain.
    profile: Option<String>,
}

impl OneCall {
    /// Prepares a request with the credentials of `profile`, or else of the environment. `region` is that of the registry,
    /// which STS is called in if the environment names none.
    pub async fn load(
        endpoints: Endpoints,
        profile: Option<&str>,
        region: Option<Region>,
    ) -> Result<Self, EnvironmentError> {
        endpoints::check_environment()?;
        let profile = profile.map(str::to_owned).or_else(selected_profile);
        let region = configured_region(profile.as_deref()).await?.or(region);
        let mut loader = loader(region.as_ref());
        if let Some(profile) = &profile {
            let aws_region = region.as_ref().map(|region| AwsRegion::new(region.as_str().to_owned()));
            let config =
                ProviderConfig::without_region().with_region(aws_region).with_http_client(http::client());
            let provider =
                ProfileFileCredentialsProvider::builder().configure(&config).profile_name(profile).build();
            loader = loader.profile_name(profile).credentials_provider(provider);
        }
        let config = loader.load().await;
        endpoints::check_profile(&config)?;
        let apis = Apis { config: config.into(), region, endpoints, refused: Notify::new() };
        Ok(Self { apis, profile })
    }

    /// The region of the environment, of the profile, or of the instance; `None` if there is none.
    pub async fn region(profile: Option<&str>) -> Result<Option<Region>, EnvironmentError> {
        let profile = profile.map(str::to_owned).or_else(selected_profile);
        if let Some(region) = configured_region(profile.as_deref()).await? {
            return Ok(Some(region));
        }
        let has_source = SOURCES.iter().any(|name| is_set(name));
        if has_source || profile.is_some() {
            return Ok(None);
        }
        let config = ProviderConfig::without_region().with_http_client(http::client());
        let provider = ImdsRegionProvider::builder().configure(&config).build();
        let region = timeout(METADATA_TIMEOUT, provider.region()).await.ok().flatten();
        parse_region(region.as_ref())
    }

    /// Loads the credentials once, and returns their access key.
    pub async fn access_key(&self) -> Result<String, TokenError> {
        let config = self.apis.config();
        let Some(provider) = config.credentials_provider() else {
            return Err(TokenError::new(TokenErrorKind::Credentials, "no AWS credential providers"));
        };
        let loaded = timeout(REQUEST_TIMEOUT, provider.provide_credentials()).await;
        let message = "the source of the AWS credentials did not respond in time: check the network and the proxy settings";
        let loaded = loaded.map_err(|_| TokenError::new(TokenErrorKind::Timeout, message))?;
        let credentials = loaded.map_err(|error| explain_command_line(self.profile.as_deref(), &error))?;
        let access_key = credentials.access_key_id().to_owned();
        let provider = SharedCredentialsProvider::new(credentials);
        self.apis.replace(config.into_builder().credentials_provider(provider).build());
        Ok(access_key)
    }

    /// Fetches a token.
    pub async fn fetch(&self, request: &TokenRequest) -> Result<FetchedToken, TokenError> {
        if uses_own_credentials(request) {
            self.access_key().await?;
        }
        self.apis.fetch(request).await
    }
}

/// The profile of `AWS_PROFILE`, unless the variables contain the credentials. The SDK's chain would skip a profile that
/// does not exist, and use the credentials of the instance.
fn selected_profile() -> Option<String> {
    if is_set("AWS_ACCESS_KEY_ID") {
        return None;
    }
    env::var("AWS_PROFILE").ok().filter(|profile| !profile.is_empty())
}

fn is_set(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// The region of the variables or of the profile.
async fn configured_region(profile: Option<&str>) -> Result<Option<Region>, EnvironmentError> {
    let region = EnvironmentVariableRegionProvider::new().region().await;
    if let Some(region) = parse_region(region.as_ref())? {
        return Ok(Some(region));
    }
    let mut provider = ProfileFileRegionProvider::builder();
    if let Some(profile) = profile {
        provider = provider.profile_name(profile);
    }
    parse_region(provider.build().region().await.as_ref())
}
