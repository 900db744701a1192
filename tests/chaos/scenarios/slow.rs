//! An API server that is slow, but replies.

use std::time::Duration;

use testing::fault_proxy::{Action, Rule};
use tokio::net::{TcpListener, TcpStream};

use crate::world::World;

const WRITES: &str = "/secrets/ecr-pull";

/// Each write of a Secret takes 4 seconds, and the controller has to be the leader.
pub async fn writes(world: &mut World<'_>) {
    let slow = Action::DelayRequest(Duration::from_secs(4));
    world.proxy.add(Rule::new(slow).method("PATCH").path(WRITES));
    creation_by_a_leader(world).await;
}

/// A policy engine that is down, with a mutating and a validating webhook: each holds every write of a Secret for 10 seconds,
/// one after the other, and then lets it pass.
pub async fn webhooks(world: &mut World<'_>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let accepts = tokio::spawn(async move {
        let mut open: Vec<TcpStream> = vec![];
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
        }
    });
    for kind in ["Mutating", "Validating"] {
        let configuration = format!(
            "
apiVersion: admissionregistration.k8s.io/v1
kind: {kind}WebhookConfiguration
metadata: {{name: down}}
webhooks:
  - name: down.example.com
    clientConfig: {{url: 'https://127.0.0.1:{port}'}}
    rules: [{{apiGroups: [''], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [secrets]}}]
    failurePolicy: Ignore
    timeoutSeconds: 10
    sideEffects: None
    admissionReviewVersions: [v1]
"
        );
        world.cluster.control_plane.apply(&configuration).await;
    }
    creation_by_a_leader(world).await;
    accepts.abort();
}

async fn creation_by_a_leader(world: &mut World<'_>) {
    world.observe_missing(60);
    world.spawn("first", &["--leader-election"]);
    world.cluster.wait_until_leader("first").await;
    world.cluster.opt_in("team-a").await;
    world.cluster.wait_for_secret("team-a").await;
    world.watch_for(2).await;
}

/// Each reply about the Lease takes 1.2 seconds.
pub async fn lease(world: &mut World<'_>) {
    world.observe_missing(60);
    let slow = Action::DelayReply(Duration::from_millis(1200));
    world.proxy.add(Rule::new(slow).path("/leases/"));
    world.spawn("first", &["--leader-election"]);
    world.cluster.opt_in("team-a").await;
    world.cluster.wait_for_secret("team-a").await;
    world.watch_for(2).await;
}

/// A server that carries out 16 writes a second, one after another, and 60 namespaces that opt in at once.
pub async fn serial_writes(world: &mut World<'_>) {
    world.observe_missing(60);
    world.spawn("first", &["--leader-election"]);
    world.cluster.wait_until_leader("first").await;
    world.proxy.add(Rule::new(Action::PerSecond(16)).method("PATCH"));
    world.cluster.opt_in_teams(0..60).await;
    world.cluster.wait_for_secrets(60).await;
    world.watch_for(1).await;
}
