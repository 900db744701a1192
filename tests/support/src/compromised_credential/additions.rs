//! What may be added to the controller's Secret: a tenant may, the controller's credential may not.

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::{CompromisedCredential, TYPE, outcome, secret};
use crate::tenants::{INSTANCE, NAME};

/// Something that is added to a Secret.
pub struct Addition {
    /// Its name in a namespace's.
    pub name: &'static str,
    /// A merge patch that adds it.
    pub patch: Value,
    /// How a denial names it.
    pub key: &'static str,
    /// How a denial names the remedy.
    pub remedy: &'static str,
}

const EXCLUDE: &str = "exclude its secrets from the mutation";
const ALLOW: &str = "admissionPolicy.allowedMetadata";
/// With it, a well-known controller copies a Secret into every namespace.
const REFLECTED: &str = "reflector.v1.k8s.emberstack.com/reflection-auto-enabled";

/// One of each kind.
pub fn additions() -> Vec<Addition> {
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "missing", "uid": "0a0a0a0a-0000-4000-8000-000000000000"});
    let addition = |name, patch, key, remedy| Addition { name, patch, key, remedy };
    vec![
        addition(
            "finalizer",
            json!({"metadata": {"finalizers": ["example.com/keep"]}}),
            "metadata.finalizers",
            EXCLUDE,
        ),
        addition(
            "owner",
            json!({"metadata": {"ownerReferences": [owner]}}),
            "metadata.ownerReferences",
            EXCLUDE,
        ),
        addition("immutable", json!({"immutable": true}), "immutable", "admissionPolicy.allowImmutable"),
        addition("data-key", json!({"data": {"extra": "e30="}}), "data key extra", EXCLUDE),
        addition(
            "label",
            json!({"metadata": {"labels": {"example.com/added": "x"}}}),
            "label example.com/added",
            ALLOW,
        ),
        addition("annotation", json!({"metadata": {"annotations": {REFLECTED: "true"}}}), REFLECTED, ALLOW),
    ]
}

/// Merges `patch` into `body`, as far as maps go.
fn merge(body: &mut Value, patch: &Value) {
    match (body.as_object_mut(), patch.as_object()) {
        (Some(body), Some(patch)) => {
            for (key, value) in patch {
                merge(body.entry(key).or_insert(json!({})), value);
            }
        }
        _ => *body = patch.clone(),
    }
}

fn assert_denied(said: &str, key: &str, remedy: &str) {
    assert!(said.starts_with("policy: ") && said.contains(key) && said.contains(remedy), "{key}: {said}");
    assert!(said.len() < 400, "an Event has all of it: {said}");
}

impl CompromisedCredential {
    async fn merge(&self, namespace: &str, patch: &Value) -> String {
        let params = PatchParams::default();
        outcome(self.secrets(namespace).patch(NAME, &params, &Patch::Merge(patch)).await)
    }

    /// A Secret that it creates has nothing that the controller's has not: the policy refuses it, and names what it is
    /// and the remedy.
    ///
    /// The namespace opted in, and has no Secret of that name.
    pub async fn creates_nothing_with_an_addition(&self, namespace: &str) {
        for Addition { patch, key, remedy, .. } in additions() {
            let mut body = secret(NAME, TYPE, INSTANCE);
            merge(&mut body, &patch);
            assert_denied(&self.apply(namespace, NAME, body).await, key, remedy);
        }
    }

    /// To the controller's Secret, which is there, it adds nothing.
    pub async fn adds_nothing(&self, namespace: &str) {
        for Addition { patch, key, remedy, .. } in additions() {
            assert_denied(&self.merge(namespace, &patch).await, key, remedy);
            let mut body = secret(NAME, TYPE, INSTANCE);
            merge(&mut body, &patch);
            assert_denied(&self.apply(namespace, NAME, body).await, key, remedy);
        }
    }

    /// What a tenant added to the controller's Secret, it neither changes nor removes.
    ///
    /// The namespace opted in, has no Secret of that name, and has none afterwards; no controller runs.
    pub async fn leaves_additions_of_the_tenant_alone(&self, namespace: &str) {
        for Addition { name, patch, key, remedy } in additions() {
            assert_eq!(self.apply(namespace, NAME, secret(NAME, TYPE, INSTANCE)).await, "allowed");
            self.tenants.edit(namespace, patch.clone()).await;
            let renewal = json!({"data": {".dockerconfigjson": "eyJhdXRocyI6e319"}});
            if name != "immutable" {
                assert_eq!(self.merge(namespace, &renewal).await, "allowed", "{name}: a renewal");
                for value in [json!(null), json!("b3RoZXIh")] {
                    let is_list = name == "finalizer" || name == "owner";
                    if is_list && !value.is_null() {
                        continue;
                    }
                    assert_denied(&self.merge(namespace, &with_leaves(&patch, &value)).await, key, remedy);
                }
            }
            self.tenants.edit(namespace, json!({"metadata": {"finalizers": null}})).await;
            let secrets = self.tenants.secrets(namespace);
            secrets.delete(NAME, &DeleteParams::default()).await.expect("it is deleted");
        }
    }
}

/// The patch with another value for what it sets.
fn with_leaves(patch: &Value, value: &Value) -> Value {
    match patch.as_object() {
        Some(map) => map.iter().map(|(key, inner)| (key.clone(), with_leaves(inner, value))).collect(),
        None => value.clone(),
    }
}
