//! The users' pods, and the Secrets that they pull with.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;
use testing::tenants::password;

use super::E2e;

/// The image that is in the registry only.
const APP: &str = "team/app:1";

/// Its name in this registry.
pub fn app_image(host: &str) -> String {
    format!("{host}/{APP}")
}

impl E2e {
    /// A Deployment of one pod that pulls its image from `host` each time, with these pull secrets.
    pub async fn deploy(&self, namespace: &str, name: &str, host: &str, secrets: &[&str]) {
        let secrets: Vec<_> = secrets.iter().map(|name| json!({"name": name})).collect();
        let document = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}}, "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "imagePullSecrets": secrets,
                    "containers": [{"name": "app", "image": app_image(host), "imagePullPolicy": "Always"}],
                }},
            },
        });
        self.cluster.apply(&document.to_string()).await;
    }

    async fn pod(&self, namespace: &str, app: &str) -> Option<Pod> {
        let api: Api<Pod> = self.api(namespace);
        let list = api.list(&ListParams::default().labels(&format!("app={app}"))).await;
        list.expect("the admin lists pods").items.into_iter().next()
    }

    /// Waits until the Deployment's pod runs.
    pub async fn wait_until_running(&self, namespace: &str, app: &str) {
        let ready = async || {
            let status = self.pod(namespace, app).await?.status?;
            status.container_statuses?.iter().all(|container| container.ready).then_some(())
        };
        self.wait_for(&format!("{namespace}/{app} to run"), ready).await;
    }

    /// Waits until the kubelet cannot pull the image of the Deployment's pod.
    pub async fn wait_until_pull_fails(&self, namespace: &str, app: &str) {
        let refused = async || {
            let status = self.pod(namespace, app).await?.status?.container_statuses?.pop()?;
            assert!(status.started != Some(true), "it runs");
            let waiting = status.state?.waiting?;
            // The kubelet goes from one to the other and back.
            let failed = ["ErrImagePull", "ImagePullBackOff"];
            waiting.reason.is_some_and(|reason| failed.contains(&&*reason)).then_some(())
        };
        self.wait_for(&format!("a failed pull of {namespace}/{app}"), refused).await;
    }

    /// The status of all pods, for a message.
    pub(super) async fn pods(&self) -> String {
        let api: Api<Pod> = Api::all(self.admin.clone());
        let pods = api.list(&ListParams::default()).await.expect("the admin lists pods").items;
        let line = |pod: Pod| format!("{:?}: {}\n", pod.metadata.name, json!(pod.status));
        pods.into_iter().map(line).collect()
    }

    /// Waits until a Secret has another password for a host.
    pub async fn wait_for_renewal(&self, namespace: &str, name: &str, host: &str, old: &str) {
        let other = async || {
            let now = password(&self.secret_named(namespace, name).await?, host)?;
            (now != old).then_some(())
        };
        self.wait_for("a renewal", other).await;
    }

    /// Deletes a Secret.
    pub async fn delete_secret(&self, namespace: &str, name: &str) {
        let api: Api<Secret> = self.api(namespace);
        api.delete(name, &DeleteParams::default()).await.expect("the admin deletes secrets");
    }

    /// Deletes a service account.
    pub async fn delete_service_account(&self, namespace: &str, name: &str) {
        let api: Api<ServiceAccount> = self.api(namespace);
        api.delete(name, &DeleteParams::default()).await.expect("the admin deletes service accounts");
    }

    /// Takes out of a namespace what a test put into it: Deployments, with their pods, and annotations.
    pub async fn clear(&self, namespace: &str) {
        let api: Api<Deployment> = self.api(namespace);
        let all = api.delete_collection(&DeleteParams::background(), &ListParams::default()).await;
        all.expect("the admin deletes Deployments");
        self.patch_metadata(namespace, json!({"annotations": null})).await;
    }
}

/// The value of an `Authorization` header.
pub fn basic(password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("AWS:{password}")))
}
