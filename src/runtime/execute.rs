//! Executes one effect. Only this module writes Secrets and service accounts.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::controller::error::WriteError;
use crate::controller::{ActionId, Effect, Input, Outcome};
use crate::core::grants::{TokenKey, TokenRequest};
use crate::core::plan::{Observed, SecretDraft};
use crate::core::secret::{DockerConfig, FetchedToken, Manifest, TokenError};
use crate::core::settings::Settings;
use crate::ecr::TokenSource;
use crate::kubernetes::cluster::Cluster;

/// An effect that was executed.
pub(super) enum Done {
    Action { id: ActionId, outcome: Outcome, duration: Duration },
    Fetch { key: TokenKey, result: Result<FetchedToken, TokenError>, duration: Duration },
}

impl From<Done> for Input {
    fn from(done: Done) -> Self {
        match done {
            Done::Action { id, outcome, duration } => Self::ActionDone { id, outcome, duration },
            Done::Fetch { key, result, duration } => Self::TokenFetched { key, result, duration },
        }
    }
}

/// Requests a token.
pub(super) async fn fetch_token(source: Arc<dyn TokenSource>, request: TokenRequest) -> Done {
    let start = Instant::now();
    let result = source.fetch_token(&request).await;
    Done::Fetch { key: request.key, result, duration: start.elapsed() }
}

/// Executes an action.
pub(super) async fn act(cluster: Cluster, settings: Arc<Settings>, effect: Effect) -> Done {
    let start = Instant::now();
    let (id, outcome) = match effect {
        Effect::Write { id, namespace, uid, draft } => {
            let instance = &settings.names.instance;
            (id, Outcome::Written(write(&cluster, instance, &namespace, uid.as_deref(), *draft).await))
        }
        Effect::ReadNamespace { id, namespace } => {
            (id, Outcome::NamespaceRead(cluster.namespace_record(&namespace).await))
        }
        Effect::Delete { id, namespace, deletion } => {
            (id, Outcome::Deleted(cluster.delete(&namespace, &deletion).await))
        }
        Effect::SetPullSecret { id, namespace, service_account, secret } => {
            let result = cluster.set_pull_secret(&namespace, &service_account, secret.as_deref()).await;
            (id, Outcome::PullSecretSet(result))
        }
        Effect::FetchToken(_) | Effect::Tell(_) => unreachable!("not an action"),
    };
    Done::Action { id, outcome, duration: start.elapsed() }
}

async fn write(
    cluster: &Cluster,
    instance: &str,
    namespace: &str,
    uid: Option<&str>,
    draft: SecretDraft,
) -> Result<Observed, WriteError> {
    let name = draft.applied.request.secret_name.clone();
    let current = match uid {
        Some(uid) if draft.keeps_entries() => cluster.entries(namespace, &name, uid).await?,
        _ => DockerConfig::default(),
    };
    let config = DockerConfig::from_draft(draft.entries, current);
    if config.is_empty() {
        let message = "the secret would have no entry, because the token names no default registry (proxyEndpoint): list the \
                       registries in ecr-pull-secrets.dev/registries";
        return Err(WriteError::Rejected(message.to_owned()));
    }
    let manifest = Manifest::new(instance, &draft.applied, draft.times, &config, uid);
    cluster.apply(namespace, &name, &manifest, uid.is_some()).await
}
