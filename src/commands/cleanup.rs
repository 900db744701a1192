//! `ecr-pull-secrets cleanup`: removes all that an instance made.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use tokio::time::Instant;
use tracing::info;

use super::{CommandError, leading, stop_on_signals};
use crate::cli::CleanupArgs;
use crate::cluster::inventory::{self, OwnReference, OwnSecret};
use crate::cluster::lead::Lead;
use crate::cluster::lease::LeaseObject;
use crate::cluster::write::{Cluster, WriteError};
use crate::config::Config;
use crate::telemetry::metrics::Metrics;

/// Calls under way at the same time.
const CONCURRENT: usize = 16;
/// Rounds: what somebody changed while it was being deleted is listed and deleted again.
const ROUNDS: usize = 3;

pub(super) async fn run(args: CleanupArgs) -> Result<(), CommandError> {
    let mut stop = stop_on_signals()?;
    tokio::select! {
        done = cleanup(&args) => done,
        _ = stop.wait_for(|stop| *stop) => Err(CommandError::Failed("interrupted; run it again for the rest".into())),
    }
}

async fn cleanup(args: &CleanupArgs) -> Result<(), CommandError> {
    let usage = |error: &dyn std::fmt::Display| CommandError::Usage(error.to_string());
    let config = Config::load(args.cluster.config.as_deref()).map_err(|error| usage(&error))?;
    let settings = Arc::new(config.names().map_err(|error| usage(&error))?);
    let client =
        args.cluster.connection().connect(Metrics::default()).await.map_err(|error| usage(&error))?;
    let lease = LeaseObject::new(client.clone(), &settings.instance);
    if args.yes && !args.force {
        nobody_leads(&lease, Duration::from_secs(args.wait)).await?;
    }
    let cluster = Cluster::new(client.clone(), settings.clone(), Lead::endless());
    let mut counts = (0, 0);
    let mut failures = vec![];
    for _ in 0..ROUNDS {
        let references = inventory::references(&client, &settings).await.map_err(CommandError::Failed)?;
        let secrets = inventory::secrets(&client, &settings).await.map_err(CommandError::Failed)?;
        if !args.yes {
            tell(&references, &secrets);
            return Ok(());
        }
        if references.is_empty() && secrets.is_empty() {
            failures.clear();
            break;
        }
        // References first: a pod that starts in between finds its secret, or asks for none.
        failures = detach(&cluster, references, &mut counts.0).await;
        failures.extend(delete(&cluster, secrets, &mut counts.1).await);
    }
    for failure in &failures {
        println!("FAILED {failure}");
    }
    if failures.is_empty() {
        forget_lease(&lease, args.force).await?;
    }
    println!(
        "{} references and {} secrets of instance {:?} removed, {} failed",
        counts.0,
        counts.1,
        settings.instance,
        failures.len()
    );
    if failures.is_empty() {
        return Ok(());
    }
    Err(CommandError::Failed("not all is removed; see the list above, and run it again".into()))
}

/// Waits for a controller that is about to end, and refuses while one goes on.
async fn nobody_leads(lease: &LeaseObject, wait: Duration) -> Result<(), CommandError> {
    let deadline = Instant::now() + wait;
    loop {
        match leading(lease).await {
            Err(_) if Instant::now() < deadline => {
                info!("waiting for the controller of this instance to end");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            result => return result,
        }
    }
}

fn tell(references: &[OwnReference], secrets: &[OwnSecret]) {
    for OwnReference { namespace, account } in references {
        println!("would take the reference out of service account {namespace}/{account}");
    }
    for OwnSecret { namespace, name, .. } in secrets {
        println!("would delete secret {namespace}/{name}");
    }
    println!(
        "{} references and {} secrets would be removed; nothing was changed, --yes does it",
        references.len(),
        secrets.len()
    );
}

async fn detach(cluster: &Cluster, all: Vec<OwnReference>, removed: &mut usize) -> Vec<String> {
    let calls = all.into_iter().map(|OwnReference { namespace, account }| async move {
        let result = cluster.attach(&namespace, &account, None).await;
        (format!("service account {namespace}/{account}"), result.map(|_| ()))
    });
    collect(calls, removed).await
}

async fn delete(cluster: &Cluster, all: Vec<OwnSecret>, removed: &mut usize) -> Vec<String> {
    let calls = all.into_iter().map(|OwnSecret { namespace, name, uid, version }| async move {
        let result = cluster.delete(&namespace, &name, &uid, version).await;
        (format!("secret {namespace}/{name}"), result)
    });
    collect(calls, removed).await
}

async fn collect(
    calls: impl Iterator<Item = impl Future<Output = (String, Result<(), WriteError>)>>,
    removed: &mut usize,
) -> Vec<String> {
    let mut results = stream::iter(calls).buffer_unordered(CONCURRENT);
    let mut failures = vec![];
    while let Some((what, result)) = results.next().await {
        match result {
            Ok(()) => {
                *removed += 1;
                println!("removed: {what}");
            }
            Err(error) => failures.push(format!("{what}: {error}")),
        }
    }
    failures
}

async fn forget_lease(lease: &LeaseObject, force: bool) -> Result<(), CommandError> {
    let failed = |error| CommandError::Failed(format!("the Lease cannot be deleted: {error}"));
    let seen = lease.look().await.map_err(failed)?;
    // Whoever forces it may have a controller that goes on.
    let Some(version) = seen.version.filter(|_| !force) else { return Ok(()) };
    lease.delete(&version).await.map_err(failed).map(|_| ())
}
