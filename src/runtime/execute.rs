//! Executes one effect. Only this module writes Secrets and service accounts.

use std::sync::Arc;

use tokio::time::Instant;

use crate::controller::error::RequestError;
use crate::controller::{ActionId, Input, Outcome, Request};
use crate::core::ObjectVersion;
use crate::core::grants::TokenRequest;
use crate::core::plan::{Observed, PullSecretChange, SecretDraft};
use crate::core::secret::{DockerConfig, TokenSource};
use crate::kubernetes::cluster::Cluster;

/// Requests a token.
pub(super) async fn fetch_token(source: Arc<dyn TokenSource>, request: TokenRequest) -> Input {
    let start = Instant::now();
    let result = source.fetch_token(&request).await;
    Input::TokenFetched { key: request.key, result, duration: start.elapsed() }
}

/// Executes an action.
pub(super) async fn act(cluster: Cluster, id: ActionId, namespace: Arc<str>, request: Request) -> Input {
    let start = Instant::now();
    let outcome = match request {
        Request::Write { base, draft } => {
            Outcome::Written(write(&cluster, &namespace, base.as_ref(), *draft).await)
        }
        Request::ReadSecret(name) => Outcome::SecretRead(cluster.read_secret(&namespace, &name).await),
        Request::ReadNamespace => Outcome::NamespaceRead(cluster.namespace_record(&namespace).await),
        Request::Delete(deletion) => Outcome::Deleted(cluster.delete(&namespace, &deletion).await),
        Request::SetPullSecret(PullSecretChange { service_account, secret, kept, .. }) => {
            let result = cluster.set_pull_secret(&namespace, &service_account, secret.as_deref(), &kept);
            Outcome::PullSecretSet(result.await)
        }
        Request::ListServiceAccounts => {
            Outcome::ServiceAccountsListed(cluster.list_service_accounts(&namespace).await)
        }
    };
    Input::ActionDone { id, outcome, duration: start.elapsed() }
}

async fn write(
    cluster: &Cluster,
    namespace: &str,
    base: Option<&ObjectVersion>,
    draft: SecretDraft,
) -> Result<Observed, RequestError> {
    let name = draft.applied.request.secret_name.clone();
    let current = match base {
        Some(base) if draft.keeps_entries() => cluster.entries(namespace, &name, base).await?,
        _ => DockerConfig::default(),
    };
    let Some(manifest) = draft.into_manifest(&cluster.settings, current, base) else {
        let message = "the secret would have no entry, because the token names no default registry (proxyEndpoint), or one that \
                       the identity does not serve: list the registries in ecr-pull-secrets.dev/registries";
        return Err(RequestError::Rejected(message.to_owned()));
    };
    cluster.apply(namespace, &name, &manifest, base.is_some()).await
}
