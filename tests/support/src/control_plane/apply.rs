//! Server-side apply of YAML.

use kube::api::{Api, DynamicObject, GroupVersionKind, Patch, PatchParams, ValidationDirective};
use kube::discovery::{self, Scope};
use kube::{Client, ResourceExt as _};
use serde_json::Value;

/// Applies every document, over whatever is there.
pub(super) async fn apply(client: &Client, yaml: &str) {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(yaml).unwrap_or_else(|error| panic!("this is no YAML: {error}\n{yaml}"));
    // A document of comments only is null.
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        let text = document.to_string();
        let object = serde_json::from_value(document);
        let object = object.unwrap_or_else(|error| panic!("this is no object: {error}\n{text}"));
        apply_one(client, &object).await;
    }
}

async fn apply_one(client: &Client, object: &DynamicObject) {
    let name = object.name_any();
    let types = object.types.as_ref().unwrap_or_else(|| panic!("{name} has no apiVersion or no kind"));
    let what = format!("{} {name}", types.kind);
    let kind = GroupVersionKind::try_from(types).unwrap_or_else(|error| panic!("{what}: {error}"));
    let known = discovery::pinned_kind(client, &kind).await;
    let (resource, capabilities) = known.unwrap_or_else(|error| panic!("{what}: {error}"));
    let api: Api<DynamicObject> = match (capabilities.scope, object.namespace()) {
        (Scope::Cluster, _) => Api::all_with(client.clone(), &resource),
        (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client.clone(), &namespace, &resource),
        (Scope::Namespaced, None) => Api::namespaced_with(client.clone(), "default", &resource),
    };
    // A field that does not exist is a mistake, and no warning.
    let params = PatchParams {
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::apply("tests").force()
    };
    let applied = api.patch(&name, &params, &Patch::Apply(object)).await;
    applied.unwrap_or_else(|error| panic!("{what} is refused: {error}"));
}
