//! Faults and actors. What they may lead to is up to the oracles.

pub mod aws;
pub mod listener;
pub mod neighbours;
pub mod replies;
pub mod silence;
pub mod slow;
pub mod state;

use testing::tenants::Tenants;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/ecr-pull-secrets");

/// Opts namespaces in and waits for their Secrets.
pub async fn serve(tenants: &Tenants, namespaces: &[&str]) {
    for namespace in namespaces {
        tenants.opt_in(namespace).await;
    }
    for namespace in namespaces {
        tenants.wait_for_secret(namespace).await;
    }
}
