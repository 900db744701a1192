//! From the configuration to a token.

use std::path::Path;

use jiff::Timestamp;

use crate::cli::{IdentityArgs, RegistryArgs};
use crate::clock::Clock;
use crate::commands::CommandError;
use crate::commands::configuration::web_identity_token_file;
use crate::config::{CommandLine, Config, ConfigError};
use crate::core::aws::{Endpoint, Region, Registry};
use crate::core::grants::{Choice, ChoiceError, Wanted};
use crate::core::secret::Token;
use crate::ecr::aws::OneCall;

/// A token, and its expiry by AWS's clock.
pub(super) struct Fetched {
    pub token: Token,
    pub expires_at: Option<Timestamp>,
}

/// Reads and validates the configuration.
pub(super) fn load(given: Option<&Path>) -> Result<CommandLine, ConfigError> {
    let token_file = web_identity_token_file();
    Config::load(Config::user_file(given).as_deref())?.command_line(token_file.as_deref())
}

/// Fetches a token for the registry of the flags.
pub(super) async fn fetch_for(
    config: &CommandLine,
    registry: &RegistryArgs,
    identity: &IdentityArgs,
) -> Result<Fetched, CommandError> {
    let wanted = match (&registry.registry, &registry.region) {
        (Some(registry), _) => Wanted::Registry(registry.clone()),
        (None, Some(region)) => Wanted::Region(region.clone()),
        (None, None) => Wanted::Region(own_region(config, identity).await?),
    };
    fetch(config, &choose(config, &wanted, identity)?).await
}

pub(super) fn choose(
    config: &CommandLine,
    wanted: &Wanted,
    args: &IdentityArgs,
) -> Result<Choice, ChoiceError> {
    config.grants.choose(wanted, args.namespace.as_deref(), args.identity.as_deref())
}

/// The region of the environment, or of the identity's profile.
async fn own_region(config: &CommandLine, args: &IdentityArgs) -> Result<Region, CommandError> {
    let named = config
        .grants
        .identities
        .iter()
        .find(|identity| args.identity.as_ref().is_some_and(|name| identity.is_called(name)));
    let profile = named.and_then(|identity| identity.profile.as_deref());
    let region = OneCall::region(profile).await?;
    region.ok_or_else(|| "the region is unknown: set --registry, --region or AWS_REGION".into())
}

/// Fetches a token from AWS.
pub(super) async fn fetch(config: &CommandLine, choice: &Choice) -> Result<Fetched, CommandError> {
    fetch_with(&connect(config, choice).await?, choice).await
}

/// The APIs of AWS with the credentials of a choice.
pub(super) async fn connect(config: &CommandLine, choice: &Choice) -> Result<OneCall, CommandError> {
    let region = match &choice.request.key.endpoint {
        Endpoint::Private(region) | Endpoint::Fips(region) => Some(region.clone()),
        Endpoint::Public => choice.request.key.endpoint.region().parse().ok(),
    };
    Ok(OneCall::load(config.endpoints.clone(), choice.profile.as_deref(), region).await?)
}

pub(super) async fn fetch_with(aws: &OneCall, choice: &Choice) -> Result<Fetched, CommandError> {
    let asked = Clock::start().now().wall;
    let reply = aws.fetch(&choice.request).await?;
    let expires_at = reply.expires_at;
    Ok(Fetched { token: Token::from_reply(reply, asked)?, expires_at })
}

/// The URL of a registry, or that of the reply.
pub(super) fn endpoint_url(registry: Option<&Registry>, token: &Token) -> Option<String> {
    registry.map(|host| format!("https://{host}")).or_else(|| token.proxy_endpoint().map(str::to_owned))
}
