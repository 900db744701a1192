//! Service accounts and the pods that use them.

use crate::world::World;

const RIGHTS: &str = include_str!("../../../deploy/rbac-service-accounts.yaml");

/// One apply creates a namespace, a service account and a pod. The admission of the API server gives a pod the
/// references that its service account has at that moment.
pub async fn one_apply(world: &mut World<'_>) {
    world.observe_missing(45);
    world.cluster.control_plane.apply(RIGHTS).await;
    let config = world.cluster.config("serviceAccounts: {enabled: true}");
    world.start("first", &["--config", &config]).await;
    for n in 0..3 {
        let objects = format!(
            "
apiVersion: v1
kind: Namespace
metadata:
  name: team-{n}
  annotations:
    ecr-pull-secrets.dev/registries: 123456789012.dkr.ecr.eu-central-1.amazonaws.com
    ecr-pull-secrets.dev/service-accounts: '*'
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: builder, namespace: team-{n}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: build, namespace: team-{n}}}
spec:
  serviceAccountName: builder
  containers: [{{name: build, image: example.com/build}}]
"
        );
        world.cluster.control_plane.apply(&objects).await;
    }
    world.watch_for(4).await;
}
