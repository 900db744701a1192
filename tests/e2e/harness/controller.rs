//! The controller's own pods.

use std::time::Instant;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{EvictParams, ListParams};
use testing::compromised_credential::CompromisedCredential;
use testing::control_plane::AuditEntry;
use testing::tenants::{Tenants, USER};

use super::{E2e, RELEASE};

impl E2e {
    fn own_pods(&self) -> Api<Pod> {
        self.api(RELEASE)
    }

    /// The holder of the Lease, whose name begins with that of its pod.
    pub async fn leader(&self) -> Option<String> {
        let api: Api<Lease> = self.api(RELEASE);
        let lease = api.get_opt(RELEASE).await.expect("the admin reads leases")?;
        lease.spec?.holder_identity.filter(|holder| !holder.is_empty())
    }

    /// Waits until another process than `before` leads, and so many pods are ready, none of them about to end.
    pub async fn wait_for_leader(&self, before: Option<&str>, pods: usize) -> String {
        let look = async || {
            let leader = self.leader().await.filter(|leader| Some(&**leader) != before)?;
            let all = self.own_pods().list(&ListParams::default().labels("helm.sh/chart")).await;
            let all = all.expect("the admin lists pods").items;
            (all.len() == pods && all.iter().all(ready)).then_some(leader)
        };
        self.wait_for("a new leader, and all pods ready", look).await
    }

    /// The container that runs the controller in the pod of a holder of the Lease.
    pub async fn container(&self, holder: &str) -> String {
        let pod = self.own_pods().get(pod_of(holder)).await.expect("the leader's pod");
        let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
        statuses.into_iter().find_map(|status| status.container_id).expect("a container")
    }

    /// Evicts the pod of a holder of the Lease, as a drain of its node does.
    pub async fn evict(&self, holder: &str) {
        let allowed = async || match self.own_pods().evict(pod_of(holder), &EvictParams::default()).await {
            // The budget has not yet heard that both pods are ready.
            Err(kube::Error::Api(status)) if status.code == 429 => None,
            other => {
                other.expect("an eviction");
                Some(())
            }
        };
        self.wait_for("the budget to allow an eviction", allowed).await;
    }

    /// Waits until a holder of the Lease no longer holds it: that moment.
    pub async fn wait_until_released(&self, holder: &str) -> Instant {
        let gone = async || (self.leader().await.as_deref() != Some(holder)).then(Instant::now);
        self.wait_for("the Lease to be given back", gone).await
    }

    /// The token of the controller, taken from its pod.
    pub async fn steal_credential(&self) -> CompromisedCredential {
        let leader = self.wait_for_leader(None, 2).await;
        let container = self.container(&leader).await;
        let token = self.node.file(&container, "/var/run/secrets/kubernetes.io/serviceaccount/token");
        let client = self.cluster.client_with(&token).await;
        CompromisedCredential { client, tenants: Tenants::clone(self) }
    }

    /// The controllers' writes of Secrets, as the API server audited them.
    pub fn writes(&self) -> Vec<AuditEntry> {
        self.cluster.requests(USER, "patch", "secrets")
    }
}

fn pod_of(holder: &str) -> &str {
    holder.rsplit_once('_').expect("a name of a process").0
}

fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().any(|all| all.type_ == "Ready" && all.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}
