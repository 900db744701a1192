//! Tenants that keep the controller from writing the Secrets of others.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use testing::fault_proxy::{Action, FaultProxy, Rule};
use testing::tenants::{HOST, REGISTRIES};

use super::bystanders::{Attack, Bystanders, short_tokens};
use crate::harness::cluster_test;

/// As behind a webhook that matches the namespaces of one tenant and never replies.
#[test]
fn creations_that_hang_in_four_hundred_namespaces_delay_no_other_r6() {
    const NAMESPACES: usize = 400;
    cluster_test(async |cluster| {
        let proxy = FaultProxy::start(&cluster.control_plane);
        let hang = Rule::new(Action::Hang).method("PATCH").path("/namespaces/preview-*/secrets/");
        let hangs = proxy.add(hang);
        cluster.kubeconfig = proxy.kubeconfig(&cluster.kubeconfig);
        cluster.aws.set(short_tokens());
        cluster.run_controller().await;
        let bystanders = Bystanders::settle(cluster).await;
        let names = (0..NAMESPACES).map(|number| format!("preview-{number}"));
        let opted_in = stream::iter(names).map(async |name| cluster.opt_in(&name).await).buffer_unordered(16);
        opted_in.collect::<Vec<_>>().await;
        let mut attack = Attack::annotate(cluster, Duration::from_millis(100), |turn| {
            let registries = if turn % 2 == 0 { format!("{HOST},public.ecr.aws") } else { HOST.to_owned() };
            (format!("preview-{}", turn % NAMESPACES), vec![(REGISTRIES, Some(registries))])
        });
        bystanders.wait_for_renewals(cluster).await;
        cluster.wait_until("creations that hang", async || hangs.hits() >= 48).await;
        println!("{} creations hang or hung", hangs.hits());
        bystanders.assert_unharmed(cluster, &mut attack).await;
    });
}
