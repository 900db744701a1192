//! The users' pods, and the Secrets that they pull with.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use super::World;

/// The image that is in the registry only.
pub(super) const APP: &str = "team/app:1";

impl World {
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
                    "containers": [{"name": "app", "image": format!("{host}/{APP}"), "imagePullPolicy": "Always"}],
                }},
            },
        });
        self.cluster.apply(&document.to_string()).await;
    }

    async fn pod(&self, namespace: &str, app: &str) -> Option<Pod> {
        let api: Api<Pod> = Api::namespaced(self.admin.clone(), namespace);
        let list = api.list(&ListParams::default().labels(&format!("app={app}"))).await;
        list.expect("the admin lists pods").items.into_iter().next()
    }

    /// Waits until the Deployment's pod runs.
    pub async fn runs(&self, namespace: &str, app: &str) {
        let ready = async || {
            let status = self.pod(namespace, app).await?.status?;
            status.container_statuses?.iter().all(|container| container.ready).then_some(())
        };
        self.wait(&format!("{namespace}/{app} to run"), ready).await;
    }

    /// Waits until the kubelet says so.
    pub async fn cannot_pull(&self, namespace: &str, app: &str) {
        let refused = async || {
            let status = self.pod(namespace, app).await?.status?.container_statuses?.pop()?;
            assert!(status.started != Some(true), "it runs");
            let waiting = status.state?.waiting?;
            (waiting.reason.as_deref() == Some("ErrImagePull")).then_some(())
        };
        self.wait(&format!("ErrImagePull of {namespace}/{app}"), refused).await;
    }

    /// How all pods stand, for a message.
    pub(super) async fn pods(&self) -> String {
        let api: Api<Pod> = Api::all(self.admin.clone());
        let pods = api.list(&ListParams::default()).await.expect("the admin lists pods").items;
        let line = |pod: Pod| format!("{:?}: {}\n", pod.metadata.name, json!(pod.status));
        pods.into_iter().map(line).collect()
    }

    /// The Secret of a name, if it is there.
    pub async fn look(&self, namespace: &str, name: &str) -> Option<Secret> {
        let api: Api<Secret> = Api::namespaced(self.admin.clone(), namespace);
        api.get_opt(name).await.expect("the admin reads secrets")
    }

    /// Waits for the Secret of a name.
    pub async fn secret(&self, namespace: &str, name: &str) -> Secret {
        let look = async || self.look(namespace, name).await;
        self.wait(&format!("secret {namespace}/{name}"), look).await
    }

    /// Waits until there is no Secret of a name.
    pub async fn no_secret(&self, namespace: &str, name: &str) {
        let gone = async || self.look(namespace, name).await.is_none().then_some(());
        self.wait(&format!("the end of {namespace}/{name}"), gone).await;
    }

    /// Waits until a Secret has another password for a host.
    pub async fn refreshed(&self, namespace: &str, name: &str, host: &str, old: &str) {
        let other = async || {
            let now = password(&self.look(namespace, name).await?, host)?;
            (now != old).then_some(())
        };
        self.wait("a refresh", other).await;
    }

    /// Deletes a Secret.
    pub async fn delete_secret(&self, namespace: &str, name: &str) {
        let api: Api<Secret> = Api::namespaced(self.admin.clone(), namespace);
        api.delete(name, &DeleteParams::default()).await.expect("the admin deletes secrets");
    }

    /// Deletes a service account.
    pub async fn delete_account(&self, namespace: &str, name: &str) {
        let api: Api<ServiceAccount> = Api::namespaced(self.admin.clone(), namespace);
        api.delete(name, &DeleteParams::default()).await.expect("the admin deletes service accounts");
    }

    /// Takes out of a namespace what a test put into it: Deployments, with their pods, and annotations.
    pub async fn forgets(&self, namespace: &str) {
        let api: Api<Deployment> = Api::namespaced(self.admin.clone(), namespace);
        let all = api.delete_collection(&DeleteParams::background(), &ListParams::default()).await;
        all.expect("the admin deletes Deployments");
        self.annotate(namespace, Value::Null).await;
    }
}

/// The password that a Secret has for a host.
pub fn password(secret: &Secret, host: &str) -> Option<String> {
    let data = secret.data.as_ref()?.get(".dockerconfigjson")?;
    let config: Value = serde_json::from_slice(&data.0).ok()?;
    Some(config["auths"][host]["password"].as_str()?.to_owned())
}

/// The value of an `Authorization` header.
pub fn basic(password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("AWS:{password}")))
}
