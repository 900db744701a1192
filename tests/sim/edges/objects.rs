//! How the service answers each shape from the store.

use ecr_pull_secrets::simulation::core::leader_election::LeaseRecord;
use ecr_pull_secrets::simulation::core::plan::PullSecretRefs;
use ecr_pull_secrets::simulation::core::plan::service_accounts::ATTACHED;
use ecr_pull_secrets::simulation::kubernetes::observe;
use http::{Method, Response};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::Status;
use serde_json::{Value, json};

use super::call::{Call, Shape};
use super::server::{Reply, State, failure, reply};
use crate::store::{Key, Kind, Object, annotation};

/// An object of the API with metadata only.
pub fn metadata(meta: &ObjectMeta) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": meta})
}

/// A watched object as the API shows it.
pub fn shown(key: &Key, object: &Object, instance: &str) -> Value {
    match object {
        Object::Namespace(object) => metadata(&object.meta(&key.name)),
        Object::Secret(object) => metadata(&object.meta(&key.namespace, &key.name)),
        Object::ServiceAccount(refs) => service_account(key, refs, instance),
        Object::Source(_) => unreachable!("the scenarios have no static sources"),
    }
}

fn service_account(key: &Key, refs: &PullSecretRefs, instance: &str) -> Value {
    let attached: Vec<_> = refs.attached.iter().map(|name| format!("{instance}/{name}")).collect();
    let annotations = (!attached.is_empty()).then(|| json!({annotation(ATTACHED): attached.join(",")}));
    let references: Vec<_> = refs.references.iter().map(|name| json!({"name": &**name})).collect();
    json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {
            "name": &*key.name, "namespace": &*key.namespace, "annotations": annotations,
            "resourceVersion": refs.resource_version.to_string(),
        },
        "imagePullSecrets": references,
    })
}

fn lease(record: &LeaseRecord) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "lease", "resourceVersion": record.resource_version},
        "spec": {
            "holderIdentity": record.holder,
            "leaseDurationSeconds": record.lease_duration.as_secs(),
            "leaseTransitions": record.transitions,
        },
    })
}

fn refused(status: &Status) -> Response<Reply> {
    reply(status.code, &json!(status))
}

fn not_found() -> Response<Reply> {
    failure(404, "NotFound", "not found")
}

impl State {
    pub fn carry_out(&mut self, shape: Shape, call: &Call) -> Response<Reply> {
        match shape {
            Shape::Observe | Shape::ListServiceAccounts => self.page(call),
            Shape::Namespace => {
                let name = call.names().0;
                let found = self.store.namespace(name).map(|object| metadata(&object.meta(name)));
                found.map_or_else(not_found, |found| reply(200, &found))
            }
            Shape::ReadSecret => self.read_secret(call),
            Shape::ApplySecret => self.apply_secret(call),
            Shape::DeleteSecret => self.delete_secret(call),
            Shape::Lease => self.change_lease(call),
            Shape::ServiceAccount => self.change_service_account(call),
            Shape::Event => self.put_event(call),
            Shape::Version => {
                let minor = self.minor.to_string();
                let version = format!("v1.{minor}.0");
                reply(
                    200,
                    &json!({
                        "major": "1", "minor": minor, "gitVersion": version, "gitCommit": "", "gitTreeState": "",
                        "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
                    }),
                )
            }
        }
    }

    fn read_secret(&self, call: &Call) -> Response<Reply> {
        let (namespace, name) = call.names();
        self.store
            .secret(namespace, name)
            .map_or_else(not_found, |secret| reply(200, &secret.whole(namespace, name)))
    }

    fn apply_secret(&mut self, call: &Call) -> Response<Reply> {
        let (namespace, name) = call.names();
        match self.store.apply_secret(namespace, name, &call.body, call.flag("force")) {
            Ok((secret, event)) => {
                if let Some(event) = event {
                    self.publish(&event);
                }
                reply(200, &metadata(&secret.meta(namespace, name)))
            }
            Err(status) => refused(&status),
        }
    }

    fn delete_secret(&mut self, call: &Call) -> Response<Reply> {
        let (namespace, name) = call.names();
        let preconditions = &call.body["preconditions"];
        let uid = preconditions["uid"].as_str().expect("the shape has a UID");
        let version = preconditions["resourceVersion"].as_str().and_then(|version| version.parse().ok());
        match self.store.delete_secret(namespace, name, uid, version.unwrap_or(0)) {
            Ok(event) => {
                self.publish(&event);
                reply(200, &json!({"apiVersion": "v1", "kind": "Status", "status": "Success"}))
            }
            Err(status) => refused(&status),
        }
    }

    fn change_lease(&mut self, call: &Call) -> Response<Reply> {
        let current = self.store.lease.resource_version.clone();
        let version = if call.method == Method::DELETE {
            &call.body["preconditions"]["resourceVersion"]
        } else {
            &call.body["metadata"]["resourceVersion"]
        };
        if call.method == Method::GET {
            return if current.is_some() { reply(200, &lease(&self.store.lease)) } else { not_found() };
        }
        if version.as_str() != current.as_deref() {
            return failure(409, "Conflict", "the Lease was changed");
        }
        if call.method == Method::DELETE {
            self.store.lease = LeaseRecord::default();
            return reply(200, &json!({"apiVersion": "v1", "kind": "Status", "status": "Success"}));
        }
        let spec = &call.body["spec"];
        let seconds = spec["leaseDurationSeconds"].as_u64().unwrap_or_default();
        self.store.lease = LeaseRecord {
            resource_version: Some(self.store.next_version().to_string()),
            holder: spec["holderIdentity"].as_str().map(str::to_owned),
            lease_duration: std::time::Duration::from_secs(seconds),
            transitions: spec["leaseTransitions"].as_i64().and_then(|n| n.try_into().ok()).unwrap_or(0),
        };
        reply(200, &lease(&self.store.lease))
    }

    fn change_service_account(&mut self, call: &Call) -> Response<Reply> {
        let (namespace, name) = call.names();
        let instance = self.settings.names.instance.clone();
        let key = Key { kind: Kind::ServiceAccount, namespace: namespace.into(), name: name.into() };
        let Some(refs) = self.store.service_account(namespace, name) else { return not_found() };
        let mut shown = service_account(&key, refs, &instance);
        if call.method == Method::PATCH {
            if call.body["metadata"]["resourceVersion"] != shown["metadata"]["resourceVersion"] {
                return failure(409, "Conflict", "the object has been modified");
            }
            shown["imagePullSecrets"] = call.body["imagePullSecrets"].clone();
            shown["metadata"]["annotations"] = call.body["metadata"]["annotations"].clone();
            if shown["metadata"]["annotations"][annotation(ATTACHED)].is_null() {
                shown["metadata"]["annotations"] = Value::Null;
            }
            let account: ServiceAccount = serde_json::from_value(shown).expect("a service account");
            let refs = observe::service_account(&account, &self.settings.names);
            let event = self.store.put(&key, Some(Object::ServiceAccount(refs)));
            self.publish(&event);
            let refs = self.store.service_account(namespace, name).expect("it was stored");
            shown = service_account(&key, refs, &instance);
        }
        reply(200, &shown)
    }

    fn put_event(&mut self, call: &Call) -> Response<Reply> {
        let (namespace, name) = call.names();
        let is_new = call.method == Method::POST;
        let name = if is_new { call.body["metadata"]["name"].as_str().unwrap_or_default() } else { name };
        let path = format!("{namespace}/{name}");
        match self.events.get_mut(&path) {
            Some(_) if is_new => failure(409, "AlreadyExists", "the Event exists"),
            None if !is_new => not_found(),
            _ if self.store.namespace(namespace).is_none() => not_found(),
            Some(event) => {
                let changes = call.body.as_object().into_iter().flatten();
                for (key, value) in changes {
                    event[key] = value.clone();
                }
                reply(200, event)
            }
            None => {
                self.events.insert(path, call.body.clone());
                reply(201, &call.body)
            }
        }
    }
}
