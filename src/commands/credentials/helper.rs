//! `credential-helper`: Docker's protocol for credential helpers. Its messages belong on standard output
//! (<https://docs.docker.com/reference/cli/docker/login/#credential-helper-protocol>).

use std::collections::BTreeMap;
use std::io::Write as _;

use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::cache::{Cache, Key};
use super::fetch::{choose, connect, fetch, fetch_with, load};
use super::{print_result, read_input, warn};
use crate::cli::{CredentialHelperArgs, HelperAction, IdentityArgs};
use crate::clock::Clock;
use crate::commands::CommandError;
use crate::config::CommandLine;
use crate::core::aws::Registry;
use crate::core::grants::{Choice, ChoiceError, CredentialSource, Wanted};
use crate::core::secret::Token;

/// The message by which clients recognize that there is no credential, which is not an error for them.
const NOT_FOUND: &str = "credentials not found in native keychain";
const USERNAME: &str = "AWS";

/// There is no credential for a host. Clients then request the registry without one.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotFound(String);

/// The credential of `store`, of which only the host is read.
#[derive(Deserialize)]
struct Stored {
    #[serde(rename = "ServerURL")]
    server_url: String,
}

pub(super) async fn run(args: CredentialHelperArgs) -> Result<(), CommandError> {
    let result = match args.action {
        HelperAction::Get => get(&args.identity).await,
        HelperAction::Store => store(),
        HelperAction::Erase => erase(&args.identity).await,
        HelperAction::List => list(&args.identity),
    };
    result.inspect_err(|error| {
        let message = if error.is::<NotFound>() { NOT_FOUND.to_owned() } else { error.to_string() };
        let _ = writeln!(std::io::stdout(), "{message}");
    })
}

async fn get(args: &IdentityArgs) -> Result<(), CommandError> {
    let input = read_input()?;
    let url = input.trim();
    // Before the configuration is read: a client may call the helper for every registry.
    let registry = Registry::from_url(url).map_err(|error| NotFound(error.to_string()))?;
    let config = load(args.config.config.as_deref())?;
    let choice = choose(&config, &Wanted::Registry(registry.clone()), args).map_err(not_found)?;
    let token = token(&config, &choice).await?;
    let credential = token.credential();
    let reply =
        json!({"ServerURL": url, "Username": credential.username(), "Secret": *credential.password()});
    print_result(&Zeroizing::new(reply.to_string()))
}

fn not_found(error: ChoiceError) -> CommandError {
    match error {
        ChoiceError::NotServed(_) => NotFound(error.to_string()).into(),
        other => other.into(),
    }
}

/// A token of the cache, if the configuration has one, or a new one.
async fn token(config: &CommandLine, choice: &Choice) -> Result<Token, CommandError> {
    let Some(path) = &config.cache_file else { return Ok(fetch(config, choice).await?.token) };
    let cache = Cache::new(path.clone(), config.refresh);
    let aws = connect(config, choice).await?;
    let session = choice.request.session.as_ref();
    let is_own = session.is_none_or(|session| session.role.source == CredentialSource::Controller);
    let access_key = if is_own { Some(aws.access_key().await?) } else { None };
    let key = Key::new(choice, access_key.as_deref());
    let clock = Clock::start();
    if let Some(token) = cache.fresh(&key, clock.now()) {
        return Ok(token);
    }
    let lock = cache.lock().await;
    // Another helper may have fetched it in the meantime.
    if let Some(token) = cache.fresh(&key, clock.now()) {
        return Ok(token);
    }
    match fetch_with(&aws, choice).await {
        Ok(fetched) => {
            if let Some(lock) = &lock {
                cache.keep(lock, key, &choice.request.key.endpoint, &fetched.token, clock.now());
            }
            Ok(fetched.token)
        }
        Err(error) => {
            let Some(token) = cache.live(&key, clock.now()) else { return Err(error) };
            warn(&format!("using a token of the cache that is due for renewal: {error}"));
            Ok(token)
        }
    }
}

/// Accepts a credential of ECR, which clients pass on after a login, and does not keep it.
fn store() -> Result<(), CommandError> {
    let input = read_input()?;
    let credential: Stored =
        serde_json::from_str(&input).map_err(|_| "standard input is not a JSON object with ServerURL")?;
    Registry::from_url(&credential.server_url).map_err(|error| {
        format!(
            "{error}; this helper only supports Amazon ECR: configure another helper for the host, or none"
        )
    })?;
    warn("the credential is not stored: this helper fetches tokens when they are needed");
    Ok(())
}

async fn erase(args: &IdentityArgs) -> Result<(), CommandError> {
    let input = read_input()?;
    let Ok(registry) = Registry::from_url(&input) else { return Ok(()) };
    let config = load(args.config.config.as_deref())?;
    let Some(path) = config.cache_file else { return Ok(()) };
    let cache = Cache::new(path, config.refresh);
    match cache.lock().await {
        Some(lock) => cache.erase(&lock, &registry.endpoint()),
        None => return Err("the token was not removed from the cache: see the warning above".into()),
    }
    Ok(())
}

fn list(args: &IdentityArgs) -> Result<(), CommandError> {
    let config = load(args.config.config.as_deref())?;
    let hosts: BTreeMap<_, _> = config.hosts.iter().map(|host| (host.to_string(), USERNAME)).collect();
    print_result(&json!(hosts).to_string())
}
