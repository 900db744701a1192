//! `ecr-pull-secrets cleanup`: deletes everything that an instance created.

use std::sync::Arc;

use futures::{FutureExt as _, StreamExt as _, stream};
use kube::Client;

use super::configuration::Unused;
use super::setup::{Candidate, random, stop_on_signals, unless_stopped};
use super::{CommandError, print_line};
use crate::cli::CleanupArgs;
use crate::config::Config;
use crate::controller::error::RequestError;
use crate::core::plan::{DeleteReason, Deletion};
use crate::core::settings::Settings;
use crate::core::{Jitter, ObjectVersion, counted};
use crate::kubernetes::cluster::Cluster;
use crate::kubernetes::inventory::{self, InventoryError, OwnReference, OwnSecret};
use crate::telemetry::metrics::Metrics;

const MAX_CONCURRENT_REQUESTS: usize = 16;
/// Objects that changed while they were being removed are listed again, and removed in the next round.
const MAX_ROUNDS: usize = 3;

pub(super) async fn run(args: CleanupArgs) -> Result<(), CommandError> {
    let stop = stop_on_signals()?;
    let random = random();
    let config = Config::load(args.cluster.config.as_deref())?;
    let (names, election) = (config.owned_names()?, config.election()?);
    let mut settings = Settings::without_grants(names, election, Jitter::new(random));
    settings.namespace_selector = config.namespace_selector()?;
    let settings = Arc::new(settings);
    let candidate = Candidate::new(&args.cluster, &settings, random, Metrics::default());
    let client = candidate.connect().await?;
    let warning = Unused::warn(args.cluster.config.as_deref(), &candidate.connection, &client);
    unless_stopped(&stop, warning.map(Ok::<_, CommandError>)).await?;
    if !args.yes {
        return unless_stopped(&stop, print_plan(&client, &settings)).await;
    }
    let (election, permit) = candidate.acquire(&args.lease, &stop).await?;
    let cluster = Cluster::new(client.clone(), settings.clone(), permit.clone());
    let removed = tokio::select! {
        removed = unless_stopped(&stop, remove_all(&client, &cluster, &settings)) => removed,
        () = permit.lost() => Err("this process lost the Lease and stopped; run the command again".into()),
    };
    let Some(election) = election else { return removed };
    if removed.is_err() {
        election.stop().await;
        return removed;
    }
    election.delete_lease().await.map_err(|error| format!("cannot delete the Lease: {error}").into())
}

async fn list(
    client: &Client,
    settings: &Settings,
) -> Result<(Vec<OwnReference>, Vec<OwnSecret>), InventoryError> {
    Ok((inventory::references(client, settings).await?, inventory::secrets(client, settings).await?))
}

async fn print_plan(client: &Client, settings: &Settings) -> Result<(), CommandError> {
    let (references, secrets) = list(client, settings).await?;
    for reference in &references {
        print_line(format_args!("would remove the {}", label(reference)));
    }
    for OwnSecret { namespace, name, .. } in &secrets {
        print_line(format_args!("would delete secret {namespace}/{name}"));
    }
    let all = objects(references.len(), secrets.len());
    print_line(format_args!("would remove {all}; nothing was changed, run again with --yes"));
    Ok(())
}

async fn remove_all(client: &Client, cluster: &Cluster, settings: &Settings) -> Result<(), CommandError> {
    let (mut references, mut secrets, mut failures) = (0, 0, vec![]);
    for _ in 0..MAX_ROUNDS {
        let (found_references, found_secrets) = list(client, settings).await?;
        failures.clear();
        if found_references.is_empty() && found_secrets.is_empty() {
            break;
        }
        // References first: a pod that starts in between either finds its secret or does not refer to it.
        let removals = found_references.into_iter().map(|found| detach(cluster, found));
        references += remove(removals, &mut failures).await;
        let removals = found_secrets.into_iter().map(|found| delete(cluster, found));
        secrets += remove(removals, &mut failures).await;
    }
    for failure in &failures {
        print_line(format_args!("FAILED {failure}"));
    }
    let (instance, failed) = (&settings.names.instance, failures.len());
    let removed = objects(references, secrets);
    print_line(format_args!("{removed} of instance {instance:?} removed, {failed} failed"));
    if failed == 0 {
        return Ok(());
    }
    let failed = counted(failed, "object");
    Err(format!("could not remove {failed}; see the list above, and run the command again").into())
}

fn objects(references: usize, secrets: usize) -> String {
    format!("{} and {}", counted(references, "reference"), counted(secrets, "secret"))
}

/// Returns how many removals succeeded, and appends the others to `failures`.
async fn remove(
    removals: impl Iterator<Item = impl Future<Output = (String, Result<(), RequestError>)>>,
    failures: &mut Vec<String>,
) -> usize {
    let mut removed = 0;
    let mut results = stream::iter(removals).buffer_unordered(MAX_CONCURRENT_REQUESTS);
    while let Some((label, result)) = results.next().await {
        match result {
            Ok(()) => {
                removed += 1;
                print_line(format_args!("removed {label}"));
            }
            Err(error) => failures.push(format!("{label}: {error}")),
        }
    }
    removed
}

async fn detach(cluster: &Cluster, found: OwnReference) -> (String, Result<(), RequestError>) {
    let result = cluster.set_pull_secret(&found.namespace, &found.service_account, None, &[]).await;
    (label(&found), result.map(|_| ()))
}

async fn delete(cluster: &Cluster, found: OwnSecret) -> (String, Result<(), RequestError>) {
    let OwnSecret { namespace, name, uid, resource_version } = found;
    let label = format!("secret {namespace}/{name}");
    let version = ObjectVersion { uid, resource_version };
    let deletion = Deletion { name, version, reason: DeleteReason::OptedOut };
    let deleted = match cluster.delete(&namespace, &deletion).await {
        Ok(None) => Ok(()),
        Ok(Some(_)) => {
            let message = "a finalizer holds it: let the client that added the finalizer remove it";
            Err(RequestError::Rejected(message.to_owned()))
        }
        Err(error) => Err(error),
    };
    (label, deleted)
}

fn label(OwnReference { namespace, service_account }: &OwnReference) -> String {
    format!("reference in service account {namespace}/{service_account}")
}
