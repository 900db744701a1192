//! `credential-provider`: the kubelet's plugin for credentials of images
//! (<https://kubernetes.io/docs/reference/config-api/kubelet-credentialprovider.v1/>).

use std::collections::BTreeMap;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::fetch::{fetch, load};
use super::{print_result, read_input};
use crate::cli::CredentialProviderArgs;
use crate::clock::Clock;
use crate::commands::CommandError;
use crate::config::CommandLine;
use crate::core::aws::{Registry, RoleArn};
use crate::core::grants::{Choice, WebIdentityToken};
use crate::core::secret::Token;
use crate::core::{Now, quote};

const API_VERSION: &str = "credentialprovider.kubelet.k8s.io/v1";
const KIND: &str = "CredentialProviderRequest";
/// The annotations of a service account that name its role, in the order of precedence. The kubelet passes on only those that
/// its configuration lists. The last two are those of the AWS tools.
const ROLE_KEYS: [&str; 3] =
    ["ecr-pull-secrets.dev/role-arn", "eks.amazonaws.com/ecr-role-arn", "eks.amazonaws.com/role-arn"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    image: String,
    #[serde(default)]
    service_account_token: Option<WebIdentityToken>,
    #[serde(default)]
    service_account_annotations: BTreeMap<String, String>,
}

pub(super) async fn run(args: CredentialProviderArgs) -> Result<(), CommandError> {
    provide(&args).await.inspect_err(|_| {
        // The form of the protocol for an image without credentials.
        let _ = writeln!(std::io::stdout(), "{}", *response("0s", &Value::Null));
    })
}

async fn provide(args: &CredentialProviderArgs) -> Result<(), CommandError> {
    let input = read_input()?;
    let request = parse(&input)?;
    let host = request.image.split('/').next().unwrap_or_default();
    let registry = Registry::from_url(host).map_err(|error| {
        format!(
            "image {}: {error}; correct matchImages of the kubelet's CredentialProviderConfig",
            quote(&request.image)
        )
    })?;
    let config = load(args.config.config.as_deref())?;
    let choice = choose(&config, &registry, request, args.require_role)?;
    let token = fetch(&config, &choice).await?.token;
    let duration = cache_duration(&token, Clock::start().now());
    let credential = token.credential();
    let auth = json!({
        registry.to_string(): {"username": credential.username(), "password": *credential.password()},
    });
    print_result(&response(&duration, &auth))
}

fn parse(input: &str) -> Result<Request, CommandError> {
    let request: Request = serde_json::from_str(input).map_err(|_| {
        format!("standard input is not a {KIND} in JSON: only the kubelet calls this command")
    })?;
    if request.api_version != API_VERSION || request.kind != KIND {
        return Err(format!(
            "the request is {} of {}: expected {KIND} of {API_VERSION}; set this apiVersion for the provider in the \
             kubelet's CredentialProviderConfig",
            quote(&request.kind),
            quote(&request.api_version)
        )
        .into());
    }
    Ok(request)
}

/// The role of the service account, an identity that is granted to its namespace, or the identity of the node.
fn choose(
    config: &CommandLine,
    registry: &Registry,
    request: Request,
    require_role: bool,
) -> Result<Choice, CommandError> {
    let token = request.service_account_token.filter(|token| !token.as_str().is_empty());
    let account = token.as_ref().and_then(|token| ServiceAccount::of(token.as_str()));
    let namespace = account.as_ref().map(|account| &*account.namespace);
    let annotations = &request.service_account_annotations;
    let role = ROLE_KEYS.iter().find_map(|key| annotations.get_key_value(*key));
    if let (Some((key, arn)), Some(token)) = (role, token) {
        let arn: RoleArn = arn.trim().parse().map_err(|error| format!("annotation {key}: {error}"))?;
        return Ok(Choice::of_service_account(registry, arn, token, namespace)?);
    }
    let choice = config.grants.choose_for_pod(registry, namespace)?;
    if require_role && choice.request.session.is_none() {
        let name = account.map_or("the pod".to_owned(), |account| {
            format!("service account {}/{}", account.namespace, account.name)
        });
        return Err(format!(
            "{name} has no role for {registry}, and --require-role is set: annotate the service account with {}, or add an \
             identity with a role for its namespace",
            ROLE_KEYS[0]
        )
        .into());
    }
    Ok(choice)
}

/// The service account of a token. The kubelet has requested the token itself, so the signature is not verified here; STS
/// verifies it.
#[derive(Debug, PartialEq, Eq)]
struct ServiceAccount {
    namespace: String,
    name: String,
}

impl ServiceAccount {
    /// Parses the subject `system:serviceaccount:NAMESPACE:NAME`.
    fn of(token: &str) -> Option<Self> {
        let payload = token.split('.').nth(1)?;
        let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
        let claims: Value = serde_json::from_slice(&payload).ok()?;
        let (namespace, name) =
            claims["sub"].as_str()?.strip_prefix("system:serviceaccount:")?.split_once(':')?;
        Some(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

/// Half of the time that is left, so that a pull that begins at the end of it succeeds.
fn cache_duration(token: &Token, now: Now) -> String {
    format!("{}s", now.until(token.expires_at()).as_secs().max(0) / 2)
}

/// A response whose credentials count for every image of the registry.
fn response(cache_duration: &str, auth: &Value) -> Zeroizing<String> {
    let response = json!({
        "apiVersion": API_VERSION,
        "kind": "CredentialProviderResponse",
        "cacheKeyType": "Registry",
        "cacheDuration": cache_duration,
        "auth": auth,
    });
    Zeroizing::new(response.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &Value) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    #[test]
    fn the_service_account_is_the_subject_of_the_token() {
        let account = ServiceAccount::of(&token(&json!({"sub": "system:serviceaccount:team-a:app"})));
        let expected = ServiceAccount { namespace: "team-a".to_owned(), name: "app".to_owned() };
        assert_eq!(account, Some(expected));
        for text in
            ["", "a", "a.b.c", "a.e30.c", "..", &token(&json!({"sub": "system:node:x"})), &token(&json!([1]))]
        {
            assert_eq!(ServiceAccount::of(text), None, "{text}");
        }
    }

    #[test]
    fn requests_of_another_version_are_rejected_with_the_remedy() {
        let request = |version: &str| {
            let request = json!({"apiVersion": version, "kind": KIND, "image": "a/b"});
            parse(&request.to_string()).map(|request| request.image).map_err(|error| error.to_string())
        };
        assert_eq!(request(API_VERSION).as_deref(), Ok("a/b"));
        let error = request("credentialprovider.kubelet.k8s.io/v1beta1").expect_err("another version");
        assert!(error.contains("v1beta1") && error.contains("set this apiVersion"), "{error}");
        assert!(parse("{").is_err() && parse("[]").is_err());
    }
}
