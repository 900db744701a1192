//! The part of the cluster that the configuration restricts the controller to.

use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Client, Resource};

use crate::core::settings::Settings;

/// Access to a kind of objects: in the whole cluster, or in each namespace of single-namespace mode.
pub fn apis<K>(client: &Client, settings: &Settings) -> Vec<Api<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    let selector = &settings.namespace_selector;
    if selector.is_single() {
        return selector.only.iter().map(|name| Api::namespaced(client.clone(), name)).collect();
    }
    vec![Api::all(client.clone())]
}
