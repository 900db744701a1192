//! Events, which the credential may write in every namespace.

use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::{CompromisedCredential, outcome, typed};
use crate::tenants::INSTANCE;

/// An Event of a component about an object of a kind.
fn event(namespace: &str, name: &str, (source, reporting): (&str, &str), kind: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": {"apiVersion": "v1", "kind": kind, "name": "x", "namespace": namespace},
        "reason": "Failed", "message": "run this command", "type": "Warning", "count": 1,
        "source": {"component": source}, "reportingComponent": reporting, "reportingInstance": "x",
    })
}

const OWN: (&str, &str) = (INSTANCE, INSTANCE);
const COMPONENTS: &str = "source.component and reportingComponent";
const KIND: &str = "involvedObject.kind";

impl CompromisedCredential {
    fn events(&self, namespace: &str) -> Api<Event> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn create_event(&self, namespace: &str, event: Value) -> String {
        outcome(self.events(namespace).create(&PostParams::default(), &typed(event)).await)
    }

    /// Forges an Event of the kubelet, without effect.
    pub(super) async fn forge_event_dry(&self, namespace: &str) -> String {
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let event = event(namespace, "dry", ("kubelet", "kubelet"), "Namespace");
        outcome(self.events(namespace).create(&dry, &typed(event)).await)
    }

    /// It forges no Event of another component and rewrites none: the policy refuses it.
    ///
    /// Leaves Events in the namespace.
    pub async fn writes_only_its_own_events(&self, namespace: &str) {
        for (components, kind, reason) in [
            (("kubelet", "kubelet"), "Namespace", COMPONENTS),
            (("kubelet", INSTANCE), "Secret", COMPONENTS),
            ((INSTANCE, "kubelet"), "ServiceAccount", COMPONENTS),
            ((INSTANCE, ""), "Namespace", COMPONENTS),
            (OWN, "Pod", KIND),
            (OWN, "Node", KIND),
        ] {
            let said = self.create_event(namespace, event(namespace, "forged", components, kind)).await;
            assert!(said.starts_with("policy: ") && said.contains(reason), "{components:?} {kind}: {said}");
        }
        let of_kubelet = event(namespace, "of-the-kubelet", ("kubelet", "kubelet"), "Pod");
        self.tenants.create::<Event>(namespace, of_kubelet).await;
        let own = event(namespace, "own", OWN, "Namespace");
        assert_eq!(self.create_event(namespace, own).await, "allowed");
        let finalizers = json!({"metadata": {"finalizers": ["example.com/keep"]}});
        for (name, patch, reason) in [
            ("of-the-kubelet", json!({"message": "rewritten"}), COMPONENTS),
            // Of the old object too: it does not become the controller's by the same request.
            ("of-the-kubelet", event(namespace, "of-the-kubelet", OWN, "Namespace"), COMPONENTS),
            ("own", json!({"source": {"component": "kubelet"}}), COMPONENTS),
            ("own", json!({"involvedObject": {"kind": "Pod"}}), KIND),
            ("own", finalizers, "metadata.finalizers"),
        ] {
            let params = PatchParams::default();
            let said = outcome(self.events(namespace).patch(name, &params, &Patch::Merge(&patch)).await);
            assert!(said.starts_with("policy: ") && said.contains(reason), "{name} {patch}: {said}");
        }
        let count = Patch::Merge(json!({"count": 2}));
        let said = outcome(self.events(namespace).patch("own", &PatchParams::default(), &count).await);
        assert_eq!(said, "allowed", "the next count of its own Event");
    }
}
