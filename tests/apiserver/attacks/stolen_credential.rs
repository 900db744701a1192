//! An attacker with the controller's service account token, under the admission policies of the chart.

use std::sync::Arc;
use std::time::Duration;

use super::bystanders::{Attack, Bystanders, short_tokens};
use crate::admission::install_chart;
use crate::harness::cluster_test;

/// Each step fails with the reason that the admission policies give: see `testing::compromised_credential`.
#[test]
fn a_stolen_credential_blocks_no_secret_and_forges_no_event_m4() {
    cluster_test(async |cluster| {
        let stolen = Arc::new(install_chart(cluster).await);
        cluster.aws.set(short_tokens());
        cluster.run_controller().await;
        let bystanders = Bystanders::settle(cluster).await;
        cluster.opt_in("target").await;
        cluster.wait_for_secret("target").await;
        let mut attack = Attack::repeat(Duration::from_millis(200), move |turn| {
            let stolen = stolen.clone();
            async move {
                // Finalizers, owners, `immutable`, other keys, labels and annotations.
                for namespace in ["bystander-0", "bystander-1", "target"] {
                    stolen.adds_nothing(namespace).await;
                }
                if turn == 0 {
                    stolen.writes_only_its_own_events("kube-system").await;
                    stolen.changes_only_references("target").await;
                }
            }
        });
        bystanders.wait_for_renewals(cluster).await;
        cluster.wait_until("two turns", async || attack.turns() >= 2).await;
        bystanders.assert_unharmed(cluster, &mut attack).await;
    });
}
