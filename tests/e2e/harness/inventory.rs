//! What is in the cluster, to tell what an installation left behind.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::discovery::ApiGroup;
use kube::{Api, Discovery};
use serde_json::Value;

use super::E2e;

/// Every object, by kind, namespace and name, with its content but for what counts its writes.
pub type Inventory = BTreeMap<String, Value>;

/// They pass by themselves, or are those of the node or of the API server, which make them some time after they are ready.
const PASSING: [&str; 4] = ["Event ", "CSINode ", "Lease kube-node-lease/", "Lease kube-system/apiserver-"];
/// Renewed for as long as their owners live, so that only their being there is compared.
const RENEWED: [&str; 2] = ["Node", "Lease"];

impl E2e {
    /// Waits until the cluster is as it was before the installation, object by object.
    pub async fn wait_until_as_before(&self) {
        let mut left = vec![];
        for _ in 0..120 {
            left = differences(&self.before, &self.objects().await);
            if left.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        panic!("a minute later this is not as it was before: {left:#?}");
    }

    /// How many objects there were before the installation.
    pub fn objects_before(&self) -> usize {
        self.before.len()
    }

    /// The inventory, once the cluster's own controllers have made what they make of a namespace.
    pub(super) async fn stable_objects(&self) -> Inventory {
        let mut last = self.objects().await;
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = self.objects().await;
            if now == last && is_complete(&now) {
                return now;
            }
            last = now;
        }
        panic!("the cluster's own objects do not come to rest");
    }

    async fn objects(&self) -> Inventory {
        let discovery = Discovery::new(self.admin.clone()).run().await;
        let discovery = discovery.expect("the API server lists its kinds");
        let mut found = Inventory::new();
        for (resource, capabilities) in discovery.groups().flat_map(ApiGroup::recommended_resources) {
            if capabilities.supports_operation("list") {
                found.extend(self.of_kind(&resource).await);
            }
        }
        found.retain(|key, _| !PASSING.iter().any(|start| key.starts_with(start)));
        found
    }

    async fn of_kind(&self, resource: &ApiResource) -> Inventory {
        let api: Api<DynamicObject> = Api::all_with(self.admin.clone(), resource);
        let list = api.list(&ListParams::default()).await;
        let list = list.unwrap_or_else(|error| panic!("{} cannot be listed: {error}", resource.kind));
        let entry = |object: DynamicObject| {
            let namespace = object.metadata.namespace.clone().unwrap_or_default();
            let name = object.metadata.name.clone().unwrap_or_default();
            (format!("{} {namespace}/{name}", resource.kind), content(&resource.kind, object))
        };
        list.items.into_iter().map(entry).collect()
    }
}

/// Whether each namespace has what kube-controller-manager makes in it, which it may do late.
fn is_complete(objects: &Inventory) -> bool {
    let mut namespaces = objects.keys().filter_map(|key| key.strip_prefix("Namespace /"));
    namespaces.all(|namespace| {
        let made = [("ServiceAccount", "default"), ("ConfigMap", "kube-root-ca.crt")];
        made.iter().all(|(kind, name)| objects.contains_key(&format!("{kind} {namespace}/{name}")))
    })
}

fn content(kind: &str, mut object: DynamicObject) -> Value {
    if RENEWED.contains(&kind) {
        return Value::Null;
    }
    object.metadata.resource_version = None;
    object.metadata.managed_fields = None;
    object.metadata.generation = None;
    serde_json::to_value(object).expect("an object serialises")
}

/// Names only: the contents may be secret.
fn differences(before: &Inventory, now: &Inventory) -> Vec<String> {
    let gone = before.keys().filter(|key| !now.contains_key(*key)).map(|key| format!("gone: {key}"));
    let other = now.iter().filter_map(|(key, content)| match before.get(key) {
        None => Some(format!("left behind: {key}")),
        Some(same) if same == content => None,
        Some(_) => Some(format!("changed: {key}")),
    });
    gone.chain(other).collect()
}
