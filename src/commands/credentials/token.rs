//! `token` and `login-password`: print a token, or its password.

use serde_json::json;
use zeroize::Zeroizing;

use super::fetch::{endpoint_url, fetch_for, load};
use super::print_result;
use crate::cli::{LoginPasswordArgs, OutputFormat, TokenArgs};
use crate::commands::CommandError;

pub(super) async fn print_token(args: TokenArgs) -> Result<(), CommandError> {
    let config = load(args.identity.config.config.as_deref())?;
    let fetched = fetch_for(&config, &args.registry, &args.identity).await?;
    let authorization = fetched.token.credential().auth();
    if args.output == OutputFormat::Text {
        return print_result(&authorization);
    }
    let document = json!({
        "authorizationToken": *authorization,
        "expiresAt": fetched.expires_at,
        "proxyEndpoint": endpoint_url(args.registry.registry.as_ref(), &fetched.token),
    });
    print_result(&Zeroizing::new(document.to_string()))
}

pub(super) async fn print_password(args: LoginPasswordArgs) -> Result<(), CommandError> {
    let config = load(args.identity.config.config.as_deref())?;
    let fetched = fetch_for(&config, &args.registry, &args.identity).await?;
    print_result(&fetched.token.credential().password())
}
