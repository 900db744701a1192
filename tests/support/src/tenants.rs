//! Tenants' namespaces and the pull secrets in them, as an admin edits and reads them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Range;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::{Event, Namespace, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::aws::{Minted, Stub};

/// The registry of [`crate::aws::Stub::ACCOUNT`] in [`crate::aws::Stub::REGION`].
pub const HOST: &str = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";
/// The annotation with which a namespace opts in.
pub const REGISTRIES: &str = "ecr-pull-secrets.dev/registries";
/// The default name of the controller's Secrets.
pub const NAME: &str = "ecr-pull";
/// The default instance; also its namespace, its service account and its Lease.
pub const INSTANCE: &str = "ecr-pull-secrets";
/// The controller's user.
pub const USER: &str = "system:serviceaccount:ecr-pull-secrets:ecr-pull-secrets";

/// Every namespace of a cluster, through an admin's eyes.
#[derive(Clone)]
pub struct Tenants {
    /// A client that may do everything.
    pub admin: Client,
    timeout: Duration,
}

impl Tenants {
    /// Waits are limited to one minute.
    pub fn new(admin: Client) -> Self {
        Self { admin, timeout: Duration::from_mins(1) }
    }

    /// Sets another limit for waits.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The objects of one kind in a namespace.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.admin.clone(), namespace)
    }

    /// Creates an object from JSON; `apiVersion` and `kind` may be missing.
    pub async fn create<K>(&self, namespace: &str, object: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + Debug + DeserializeOwned + Serialize,
    {
        let object = serde_json::from_value(object).expect("an object of this kind");
        self.api::<K>(namespace).create(&PostParams::default(), &object).await.expect("the object is created")
    }

    /// Sets annotations of a namespace, which it creates if necessary; `None` removes an annotation.
    pub async fn annotate(&self, namespace: &str, annotations: &[(&str, Option<&str>)]) {
        let api: Api<Namespace> = Api::all(self.admin.clone());
        let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "annotations": annotations}});
        let patched = api.patch(namespace, &PatchParams::default(), &Patch::Merge(&body)).await;
        match patched {
            Err(kube::Error::Api(status)) if status.code == 404 => {
                let body = serde_json::from_value(body).expect("a namespace");
                api.create(&PostParams::default(), &body).await.expect("the namespace is created");
            }
            other => drop(other.expect("the namespace is annotated")),
        }
    }

    /// Merges a patch into the metadata of an existing namespace.
    pub async fn patch_metadata(&self, namespace: &str, metadata: Value) {
        let api: Api<Namespace> = Api::all(self.admin.clone());
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        api.patch(namespace, &PatchParams::default(), &patch).await.expect("the namespace is patched");
    }

    /// Sets labels of an existing namespace; null removes a label.
    pub async fn label(&self, namespace: &str, labels: Value) {
        self.patch_metadata(namespace, json!({ "labels": labels })).await;
    }

    /// Waits until the API server allows what the `spec` of a `SubjectAccessReview` describes: it applies new rules a
    /// moment later, because it learns of them by a watch.
    pub async fn wait_until_allowed(&self, spec: Value) {
        let what = format!("the API server to allow {spec}");
        let review: SubjectAccessReview = serde_json::from_value(json!({ "spec": spec })).expect("a review");
        let reviews: Api<SubjectAccessReview> = Api::all(self.admin.clone());
        let allowed = async || {
            let reviewed = reviews.create(&PostParams::default(), &review).await;
            reviewed.expect("the admin creates reviews").status.expect("a status").allowed
        };
        self.wait_until(&what, allowed).await;
    }

    /// Requests [`HOST`] for a namespace.
    pub async fn opt_in(&self, namespace: &str) {
        self.request(namespace, HOST).await;
    }

    /// Requests [`HOST`] for the namespaces `team-N`.
    pub async fn opt_in_teams(&self, numbers: Range<usize>) {
        for n in numbers {
            self.opt_in(&format!("team-{n}")).await;
        }
    }

    /// Requests registries for a namespace.
    pub async fn request(&self, namespace: &str, registries: &str) {
        self.annotate(namespace, &[(REGISTRIES, Some(registries))]).await;
    }

    /// Removes the annotation that requests registries.
    pub async fn opt_out(&self, namespace: &str) {
        self.annotate(namespace, &[(REGISTRIES, None)]).await;
    }

    /// The Secrets of a namespace.
    pub fn secrets(&self, namespace: &str) -> Api<Secret> {
        self.api(namespace)
    }

    /// The Secret of this name, if it exists.
    pub async fn secret_named(&self, namespace: &str, name: &str) -> Option<Secret> {
        self.secrets(namespace).get_opt(name).await.expect("the admin reads secrets")
    }

    /// The Secret [`NAME`], if it exists.
    pub async fn secret(&self, namespace: &str) -> Option<Secret> {
        self.secret_named(namespace, NAME).await
    }

    /// The Secret [`NAME`], which exists at any time.
    pub async fn existing_secret(&self, namespace: &str) -> Secret {
        self.secret(namespace).await.unwrap_or_else(|| panic!("{namespace}: the secret is missing"))
    }

    /// Waits for the Secret [`NAME`].
    pub async fn wait_for_secret(&self, namespace: &str) -> Secret {
        self.wait_for(&format!("a secret in {namespace}"), async || self.secret(namespace).await).await
    }

    /// Waits until the Secret [`NAME`] does not exist.
    pub async fn wait_for_no_secret(&self, namespace: &str) {
        let what = format!("no secret in {namespace}");
        self.wait_until(&what, async || self.secret(namespace).await.is_none()).await;
    }

    /// Every Secret [`NAME`], by namespace.
    pub async fn all_secrets(&self) -> BTreeMap<String, Secret> {
        let all: Api<Secret> = Api::all(self.admin.clone());
        let only = ListParams::default().fields(&format!("metadata.name={NAME}"));
        let list = all.list(&only).await.expect("the admin lists secrets");
        list.items.into_iter().map(|s| (s.metadata.namespace.clone().unwrap_or_default(), s)).collect()
    }

    /// Waits until so many namespaces have a Secret [`NAME`].
    pub async fn wait_for_secrets(&self, count: usize) {
        let found = async || self.all_secrets().await.len() == count;
        self.wait_until(&format!("{count} secrets"), found).await;
    }

    /// Merges a patch into the Secret [`NAME`] with another field manager than the controller's.
    pub async fn edit(&self, namespace: &str, patch: Value) -> Secret {
        let params = PatchParams { field_manager: Some("somebody-else".into()), ..PatchParams::default() };
        let patch = Patch::Merge(patch);
        self.secrets(namespace).patch(NAME, &params, &patch).await.expect("the secret is edited")
    }

    /// Deletes the Secret [`NAME`].
    pub async fn delete(&self, namespace: &str) {
        self.secrets(namespace).delete(NAME, &DeleteParams::default()).await.expect("the secret is deleted");
    }

    /// The Events of a namespace, as `kubectl get events -n NAMESPACE` lists them.
    pub async fn events(&self, namespace: &str) -> Vec<Event> {
        self.api(namespace).list(&ListParams::default()).await.expect("the admin lists events").items
    }

    /// The Events of a namespace with this reason.
    pub async fn events_of(&self, namespace: &str, reason: &str) -> Vec<Event> {
        let mut events = self.events(namespace).await;
        events.retain(|event| event.reason.as_deref() == Some(reason));
        events
    }

    /// Waits for the Event with this reason, and asserts that there is only one.
    pub async fn wait_for_event(&self, namespace: &str, reason: &str) -> Event {
        let found = async || {
            let mut events = self.events_of(namespace, reason).await;
            assert!(events.len() <= 1, "one lasting condition is one Event: {events:?}");
            events.pop()
        };
        self.wait_for(&format!("an Event {reason} in {namespace}"), found).await
    }

    /// Waits for the Event with this reason, asserts that there is only one, and returns its message.
    pub async fn wait_for_message(&self, namespace: &str, reason: &str) -> String {
        self.wait_for_event(namespace, reason).await.message.expect("an Event has a message")
    }

    /// Calls `read` until it returns a value.
    pub async fn wait_for<T>(&self, what: &str, mut read: impl AsyncFnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + self.timeout;
        loop {
            if let Some(found) = read().await {
                return found;
            }
            assert!(Instant::now() < deadline, "waited {:?} for {what}, in vain", self.timeout);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Calls `condition` until it is true.
    pub async fn wait_until(&self, what: &str, mut condition: impl AsyncFnMut() -> bool) {
        self.wait_for(what, async || condition().await.then_some(())).await;
    }
}

/// The entries of a pull secret, by host.
pub fn auths(secret: &Secret) -> BTreeMap<String, Value> {
    let data = &secret.data.as_ref().expect("data")[".dockerconfigjson"].0;
    let config: Value = serde_json::from_slice(data).expect("JSON");
    serde_json::from_value(config["auths"].clone()).expect("entries by host")
}

/// The hosts of a pull secret, in alphabetical order.
pub fn hosts(secret: &Secret) -> Vec<String> {
    auths(secret).into_keys().collect()
}

/// The password of a pull secret for a host; `None` also if its data is not that of a pull secret.
pub fn password(secret: &Secret, host: &str) -> Option<String> {
    let data = secret.data.as_ref()?.get(".dockerconfigjson")?;
    let config: Value = serde_json::from_slice(&data.0).ok()?;
    Some(config["auths"][host]["password"].as_str()?.to_owned())
}

/// The value of one of the controller's annotations.
pub fn annotation<'a>(secret: &'a Secret, key: &str) -> &'a str {
    let annotations = secret.metadata.annotations.as_ref().expect("annotations");
    &annotations[&format!("ecr-pull-secrets.dev/{key}")]
}

/// The time in one of the controller's annotations.
pub fn time(secret: &Secret, key: &str) -> Timestamp {
    annotation(secret, key).parse().expect("RFC 3339")
}

/// The UID of a Secret.
pub fn uid(secret: &Secret) -> String {
    secret.metadata.uid.clone().expect("a UID")
}

/// The resource version of a Secret.
pub fn version(secret: &Secret) -> String {
    secret.metadata.resource_version.clone().expect("a resource version")
}

/// Asserts that nobody wrote the Secret in between.
pub fn assert_untouched(before: &Secret, after: &Secret) {
    assert_eq!(uid(before), uid(after), "another object");
    assert_eq!(version(before), version(after), "it was written");
}

/// The token that a pull secret has for a host, as AWS issued it.
pub fn token(aws: &Stub, secret: &Secret, host: &str) -> Option<Minted> {
    let password = password(secret, host)?;
    aws.minted().into_iter().find(|token| token.password == password)
}

/// The token that a pull secret has for a host, which AWS did not let expire.
pub fn live_token(aws: &Stub, secret: &Secret, host: &str) -> Option<Minted> {
    let now = Timestamp::now();
    token(aws, secret, host).filter(|token| token.expires_at.is_some_and(|end| end > now))
}
