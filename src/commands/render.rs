//! `ecr-pull-secrets render`: the Secret that the controller would write for registries.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::document::print_document;
use super::setup::{random, stop_on_signals, unless_stopped};
use super::view::facts;
use super::{CommandError, configuration};
use crate::cli::diagnosis::RenderArgs;
use crate::clock::Clock;
use crate::config::Config;
use crate::controller::index::NamespaceState;
use crate::core::PREFIX;
use crate::core::grants::{Granted, TokenKey};
use crate::core::plan::{Step, compose, plan};
use crate::core::request::Problem;
use crate::core::request::annotations::{self, REGISTRIES, REPOSITORIES, ROLE, SECRET_NAME};
use crate::core::secret::{DockerConfig, StaticSources, Token, TokenSource as _};
use crate::ecr::aws::AwsEcr;

/// The request of the flags is invalid or not granted.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("\n"))]
pub struct InvalidRequest(Vec<Problem>);

pub(super) async fn run(args: RenderArgs) -> Result<(), CommandError> {
    let stop = stop_on_signals()?;
    let config = Config::load(args.config.as_deref())?;
    let aws = Box::pin(AwsEcr::load_once(config.endpoints()?)).await?;
    let settings = configuration::settings(&config, aws.region(), random())?;
    let parsed = annotations::parse(&annotations(&args), false, settings.request_rules())
        .ok_or_else(|| InvalidRequest(vec![]))?;
    if !parsed.problems.is_empty() {
        return Err(InvalidRequest(parsed.problems).into());
    }
    // The static sources are in the controller's namespace.
    let (nothing, sources) = (NamespaceState::default(), StaticSources::new());
    let facts = facts(&args.namespace, Some(&parsed), false, &nothing, &sources);
    let clock = Clock::start();
    let planned = plan(&facts, &settings, clock.now());
    let write = match planned.step {
        Step::Write(write) if planned.problems.is_empty() => write,
        _ => return Err(InvalidRequest(planned.problems).into()),
    };
    let tokens = unless_stopped(&stop, fetch(&aws, &write.granted)).await?;
    let none = "AWS returned no token that can be used: the token had expired, or names no default registry";
    let draft = compose(&write, &tokens, &facts, &settings, clock.now()).ok_or(none)?;
    let manifest = draft.into_manifest(&settings, DockerConfig::default(), None).ok_or(none)?;
    let mut object = if args.reveal { manifest.reveal() } else { manifest.redact() };
    object["metadata"]["namespace"] = args.namespace.into();
    print_document(&object, args.output);
    Ok(())
}

/// The flags as annotations, which have the same grammar.
fn annotations(args: &RenderArgs) -> BTreeMap<String, String> {
    let registries = Some(args.registries.join(","));
    let set = [
        (REGISTRIES, registries),
        (SECRET_NAME, args.secret_name.clone()),
        (ROLE, args.role.clone()),
        (REPOSITORIES, args.repositories.clone()),
    ];
    set.into_iter().filter_map(|(key, value)| Some((format!("{PREFIX}{key}"), value?))).collect()
}

/// The token of each assignment, in their order.
async fn fetch(aws: &AwsEcr, granted: &Granted) -> Result<Vec<Option<Arc<Token>>>, CommandError> {
    let mut known: BTreeMap<&TokenKey, Arc<Token>> = BTreeMap::new();
    let mut tokens = vec![];
    for assignment in &granted.assignments {
        let key = &assignment.request.key;
        if !known.contains_key(key) {
            let asked = Timestamp::now();
            let reply = aws.fetch_token(&assignment.request).await;
            let failed = |error: &dyn std::fmt::Display| {
                let (identity, target) = (key.identity.as_str(), &assignment.target);
                format!(
                    "could not fetch a token for {target} ({}, identity {identity:?}): {error}",
                    key.endpoint
                )
            };
            let reply = reply.map_err(|error| failed(&error))?;
            let token = Token::from_reply(reply, asked).map_err(|error| failed(&error))?;
            known.insert(key, Arc::new(token));
        }
        tokens.push(known.get(key).cloned());
    }
    Ok(tokens)
}
