//! `login`: writes tokens into the configuration of Docker or of other clients.

use super::auth_file::{AuthFile, docker_config};
use super::fetch::{choose, fetch, load};
use super::warn;
use crate::cli::LoginArgs;
use crate::commands::{CommandError, print_line};
use crate::core::grants::{Choice, Wanted};
use crate::core::secret::Token;

pub(super) async fn run(args: LoginArgs) -> Result<(), CommandError> {
    let config = load(args.identity.config.config.as_deref())?;
    let given = args.auth_file.filter(|path| !path.as_os_str().is_empty());
    let path = given.map_or_else(docker_config, Ok)?;
    // Hosts of one identity and region share a token.
    let mut tokens: Vec<(Choice, Token)> = vec![];
    let mut entries = vec![];
    for registry in args.registries {
        let choice = choose(&config, &Wanted::Registry(registry.clone()), &args.identity)?;
        let known = tokens.iter().position(|(known, _)| known.request.key == choice.request.key);
        if known.is_none() {
            let fetched = fetch(&config, &choice).await.map_err(|error| format!("{registry}: {error}"))?;
            tokens.push((choice, fetched.token));
        }
        let index = known.unwrap_or(tokens.len() - 1);
        entries.push((registry, index));
    }
    let mut file = AuthFile::open(&path).await?;
    for (registry, index) in &entries {
        if let Some(setting) = file.helper_of(registry) {
            warn(&format!(
                "{}: {setting} takes precedence over the entry of {registry}: remove it, or use login-password with the \
                 client's own login",
                path.display()
            ));
        }
        file.set(registry, &tokens[*index].1);
    }
    file.replace()?;
    for (registry, index) in entries {
        let expires_at = crate::core::whole_seconds(tokens[index].1.expires_at());
        print_line(format_args!("{registry}: logged in until {expires_at} ({})", path.display()));
    }
    Ok(())
}
