//! Whether a namespace can pull at every moment.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::ListParams;
use testing::aws::Stub;
use testing::tenants::{Tenants, live_token};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::harness::E2e;

/// Reads the Secrets of a namespace every 50 ms, until it is stopped.
pub struct AvailabilityProbe {
    stop: watch::Sender<bool>,
    task: JoinHandle<Availability>,
}

/// What a probe found.
#[derive(Default)]
pub struct Availability {
    /// The number of reads.
    pub reads: usize,
    /// The UIDs of all Secrets.
    pub secrets: BTreeSet<String>,
    gaps: Vec<String>,
}

impl E2e {
    /// Probes from now on whether `namespace` has a live token for `host`, in a Secret of any name.
    pub fn probe_availability(&self, namespace: &'static str, host: &'static str) -> AvailabilityProbe {
        let (stop, mut stopped) = watch::channel(false);
        let (tenants, aws) = (Tenants::clone(self), Arc::clone(&self.aws));
        let task = tokio::spawn(async move {
            let mut seen = Availability::default();
            while !*stopped.borrow() {
                read(&mut seen, &tenants, &aws, namespace, host).await;
                let _ = tokio::time::timeout(Duration::from_millis(50), stopped.changed()).await;
            }
            seen
        });
        AvailabilityProbe { stop, task }
    }
}

impl AvailabilityProbe {
    /// Stops the probe, and asserts that it found no gap.
    pub async fn finish(self) -> Availability {
        self.stop.send_replace(true);
        let seen = self.task.await.expect("it does not panic");
        assert_eq!(seen.gaps, Vec::<String>::new(), "of {} reads", seen.reads);
        seen
    }
}

async fn read(seen: &mut Availability, tenants: &Tenants, aws: &Stub, namespace: &str, host: &str) {
    let now = Timestamp::now();
    let secrets = tenants.secrets(namespace).list(&ListParams::default()).await;
    let secrets = secrets.expect("the admin lists secrets").items;
    if !secrets.iter().any(|secret| live_token(aws, secret, host).is_some()) {
        seen.gaps.push(format!("{now}: of {} secrets in {namespace} none has a live token", secrets.len()));
    }
    seen.secrets.extend(secrets.into_iter().filter_map(|secret| secret.metadata.uid));
    seen.reads += 1;
}
