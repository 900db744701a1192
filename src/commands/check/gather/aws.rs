//! AWS: the principal, tokens, and the registries with these tokens.

use jiff::Timestamp;
use serde_json::Value;

use super::samples::Samples;
use crate::commands::check::facts::{AwsFacts, Clocks, RegistryFact, RegistryPath, TokenFact};
use crate::core::aws::Registry;
use crate::core::grants::Assignment;
use crate::core::plan::entry_host;
use crate::core::secret::{Token, TokenError, TokenErrorKind, TokenSource as _, server_time};
use crate::ecr::aws::AwsEcr;
use crate::ecr::registry::RegistryClient;

/// The tag of an image whose repository has no tag that can be listed.
const LATEST: &str = "latest";

/// Requests a token for each sample, and its registry with the token. `repository` is `NAME` or `NAME:TAG`.
pub async fn gather(aws: &AwsEcr, samples: Samples, repository: Option<&str>) -> AwsFacts {
    let caller = aws.caller().await;
    let clock = match &caller {
        Ok(caller) => caller.as_ref().and_then(|caller| caller.server_time),
        Err(error) => error.server_time,
    };
    let mut facts = AwsFacts {
        caller: caller.map(|caller| caller.map(|caller| caller.arn)),
        clock: clock.map(|server| Clocks { server, local: Timestamp::now() }),
        tokens: vec![],
        registries: vec![],
        untested: samples.untested,
    };
    let client = RegistryClient::new();
    for assignment in &samples.assignments {
        let result = fetch(aws, assignment, &mut facts.clock).await;
        let key = &assignment.request.key;
        let role = assignment.request.session.as_ref().map(|session| &session.role);
        facts.tokens.push(TokenFact {
            identity: key.identity.as_str().to_owned(),
            endpoint: key.endpoint.to_string(),
            role: role.map(|role| (role.arn.to_string(), role.source.clone())),
            result: result.as_ref().map(Token::expires_at).map_err(Clone::clone),
        });
        let Ok(token) = result else { continue };
        let Some(registry) = entry_host(assignment, Some(&token)) else { continue };
        facts.registries.extend(ask(&client, assignment, &registry, &token, repository).await);
    }
    facts
}

async fn fetch(
    aws: &AwsEcr,
    assignment: &Assignment,
    clock: &mut Option<Clocks>,
) -> Result<Token, TokenError> {
    let asked = Timestamp::now();
    let reply = aws.fetch_token(&assignment.request).await;
    if let (None, Some(server)) = (&clock, server_time(&reply)) {
        *clock = Some(Clocks { server, local: Timestamp::now() });
    }
    let reply = reply?;
    let invalid =
        |error: &dyn std::fmt::Display| TokenError::new(TokenErrorKind::InvalidResponse, error.to_string());
    let token = Token::from_reply(reply, asked).map_err(|error| invalid(&error))?;
    if token.expires_at() <= asked {
        let message = "the token had expired, or had no expiry, when it arrived";
        return Err(TokenError::new(TokenErrorKind::ExpiredToken, message));
    }
    Ok(token)
}

/// The API version, and the tags and a manifest of the repository.
async fn ask(
    client: &RegistryClient,
    assignment: &Assignment,
    registry: &Registry,
    token: &Token,
    repository: Option<&str>,
) -> Vec<RegistryFact> {
    let fact = |path, result| RegistryFact {
        registry: registry.clone(),
        identity: assignment.request.key.identity.as_str().to_owned(),
        path,
        result,
    };
    let base = client.get(registry, "", token).await;
    let responds = base.is_ok();
    let mut facts = vec![fact(RegistryPath::Base, base)];
    let Some(repository) = repository.filter(|_| responds) else { return facts };
    let (name, tag) = repository.split_once(':').map_or((repository, None), |(name, tag)| (name, Some(tag)));
    let tags = client.get(registry, &format!("{name}/tags/list?n=1"), token).await;
    let listed = tags.as_ref().ok().filter(|tags| tags.status == 200);
    let listed = listed.and_then(|tags| serde_json::from_str::<Value>(&tags.body).ok());
    let first = listed.and_then(|tags| tags["tags"][0].as_str().map(str::to_owned));
    let tag = tag.map(str::to_owned).or(first).unwrap_or_else(|| LATEST.to_owned());
    let manifest = client.get(registry, &format!("{name}/manifests/{tag}"), token).await;
    facts.push(fact(RegistryPath::Tags(name.to_owned()), tags));
    facts.push(fact(RegistryPath::Manifest(name.to_owned(), tag), manifest));
    facts
}
