//! `ecr-pull-secrets cleanup`: deletes everything that an instance created.

use std::sync::Arc;

use futures::{StreamExt as _, stream};
use kube::Client;

use super::setup::{Candidate, random};
use super::signals::{stop_on_signals, unless_stopped};
use super::{CommandError, print_line};
use crate::cli::CleanupArgs;
use crate::config::Config;
use crate::controller::error::WriteError;
use crate::core::Jitter;
use crate::core::plan::{DeleteReason, Deletion};
use crate::core::request::OwnedNames;
use crate::core::settings::Settings;
use crate::kubernetes::cluster::Cluster;
use crate::kubernetes::inventory::{self, InventoryError, OwnReference, OwnSecret};
use crate::kubernetes::leader_election::WritePermit;
use crate::telemetry::metrics::Metrics;

const MAX_CONCURRENT_REQUESTS: usize = 16;
/// Objects that changed while they were being removed are listed again, and removed in the next round.
const MAX_ROUNDS: usize = 3;

pub(super) async fn run(args: CleanupArgs) -> Result<(), CommandError> {
    let stop = stop_on_signals()?;
    let random = random();
    let names = Config::load(args.cluster.config.as_deref())?.owned_names()?;
    let settings = Arc::new(Settings::without_grants(names, Jitter::new(random)));
    let candidate = Candidate::new(&args.cluster, random, Metrics::default());
    let client = candidate.connection.connect(candidate.metrics.clone()).await?;
    if !args.yes {
        return unless_stopped(&stop, print_plan(&client, &settings.names)).await?;
    }
    let (election, permit) =
        Box::pin(candidate.acquire(&settings.names.instance, &args.lease, &stop)).await?;
    let removed = tokio::select! {
        removed = unless_stopped(&stop, remove_all(client, settings, permit.clone())) => removed.flatten(),
        () = permit.lost() => Err(CommandError::LeaseLost),
    };
    match election {
        Some(election) if removed.is_ok() => election.delete_lease().await.map_err(CommandError::DeleteLease),
        Some(election) => {
            election.stop().await;
            removed
        }
        None => removed,
    }
}

struct Inventory {
    references: Vec<OwnReference>,
    secrets: Vec<OwnSecret>,
}

async fn list(client: &Client, names: &OwnedNames) -> Result<Inventory, InventoryError> {
    Ok(Inventory {
        references: inventory::references(client, names).await?,
        secrets: inventory::secrets(client, names).await?,
    })
}

async fn print_plan(client: &Client, names: &OwnedNames) -> Result<(), CommandError> {
    let Inventory { references, secrets } = list(client, names).await?;
    for OwnReference { namespace, service_account } in &references {
        print_line(format_args!(
            "would remove the reference in service account {namespace}/{service_account}"
        ));
    }
    for OwnSecret { namespace, name, .. } in &secrets {
        print_line(format_args!("would delete secret {namespace}/{name}"));
    }
    let (references, secrets) = (references.len(), secrets.len());
    print_line(format_args!(
        "would remove {references} references and {secrets} secrets; nothing was changed, run again with --yes"
    ));
    Ok(())
}

async fn remove_all(
    client: Client,
    settings: Arc<Settings>,
    permit: WritePermit,
) -> Result<(), CommandError> {
    let names = &settings.names;
    let cluster = Cluster::new(client.clone(), settings.clone(), permit);
    let (mut references, mut secrets) = (Progress::default(), Progress::default());
    for _ in 0..MAX_ROUNDS {
        let found = list(&client, names).await?;
        (references.failures, secrets.failures) = (vec![], vec![]);
        if found.references.is_empty() && found.secrets.is_empty() {
            break;
        }
        // References first: a pod that starts in between either finds its secret or does not refer to it.
        references.run(found.references.into_iter().map(|found| detach(&cluster, found))).await;
        secrets.run(found.secrets.into_iter().map(|found| delete(&cluster, found))).await;
    }
    for failure in references.failures.iter().chain(&secrets.failures) {
        print_line(format_args!("FAILED {failure}"));
    }
    let failed = references.failures.len() + secrets.failures.len();
    print_line(format_args!(
        "{} references and {} secrets of instance {:?} removed, {failed} failed",
        references.removed, secrets.removed, names.instance
    ));
    if failed == 0 { Ok(()) } else { Err(CommandError::NotRemoved(failed)) }
}

async fn detach(cluster: &Cluster, found: OwnReference) -> (String, Result<(), WriteError>) {
    let OwnReference { namespace, service_account } = found;
    let result = cluster.set_pull_secret(&namespace, &service_account, None).await;
    (format!("reference in service account {namespace}/{service_account}"), result.map(|_| ()))
}

async fn delete(cluster: &Cluster, found: OwnSecret) -> (String, Result<(), WriteError>) {
    let OwnSecret { namespace, name, uid, resource_version } = found;
    let label = format!("secret {namespace}/{name}");
    let deletion = Deletion { name, uid, resource_version, reason: DeleteReason::OptedOut };
    (label, cluster.delete(&namespace, &deletion).await)
}

/// The removals of one kind: the successful ones of all rounds, and the failed ones of the last round.
#[derive(Default)]
struct Progress {
    removed: usize,
    failures: Vec<String>,
}

impl Progress {
    async fn run(
        &mut self,
        removals: impl Iterator<Item = impl Future<Output = (String, Result<(), WriteError>)>>,
    ) {
        let mut results = stream::iter(removals).buffer_unordered(MAX_CONCURRENT_REQUESTS);
        while let Some((label, result)) = results.next().await {
            match result {
                Ok(()) => {
                    self.removed += 1;
                    print_line(format_args!("removed {label}"));
                }
                Err(error) => self.failures.push(format!("{label}: {error}")),
            }
        }
    }
}
