//! The API server of the model: a versioned store of the objects that the controller reads and writes, with the rules
//! that decide whether a write succeeds. `conformance.rs` compares it with a real API server.

mod foreign;
pub mod secret;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ecr_pull_secrets::simulation::core::leader_election::LeaseRecord;
use ecr_pull_secrets::simulation::core::plan::PullSecretRefs;
use ecr_pull_secrets::simulation::core::secret::StaticSource;
use ecr_pull_secrets::simulation::core::{PREFIX, SECRET_TYPE};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::core::Status;
use serde_json::{Value, json};

use self::secret::{ALL, Computed, SecretObject};

/// How many changes the store remembers for lists from an older version.
const HISTORY: usize = 4_096;

/// How many versions of the Lease it remembers.
const LEASES: usize = 64;

pub type Name = Arc<str>;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct NamespaceObject {
    pub uid: String,
    pub version: u64,
    pub annotations: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub terminating: bool,
}

impl NamespaceObject {
    pub fn meta(&self, name: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            uid: Some(self.uid.clone()),
            resource_version: Some(self.version.to_string()),
            labels: Some(self.labels.clone()),
            annotations: Some(self.annotations.clone()),
            deletion_timestamp: self
                .terminating
                .then(|| Time("2026-01-01T00:00:00Z".parse().expect("a time"))),
            ..ObjectMeta::default()
        }
    }
}

/// The kinds of objects that are watched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Namespace,
    Secret,
    ServiceAccount,
    /// A Secret with static entries, in the controller's own namespace.
    Source,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub kind: Kind,
    /// Empty for a Namespace and a source.
    pub namespace: Name,
    pub name: Name,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    Namespace(NamespaceObject),
    Secret(SecretObject),
    ServiceAccount(PullSecretRefs),
    Source(StaticSource),
}

impl Object {
    pub fn as_secret(&self) -> Option<&SecretObject> {
        if let Self::Secret(secret) = self { Some(secret) } else { None }
    }
}

/// A change of one object: what it was, and what it is.
#[derive(Clone, Debug)]
pub struct Event {
    pub key: Key,
    pub version: u64,
    pub before: Option<Arc<Object>>,
    pub after: Option<Arc<Object>>,
}

/// How a rule of writes can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokenRule {
    /// An apply that changes nothing gets a new version.
    NoOpGrows,
    /// An apply without force overwrites what others own.
    ConflictsOverwritten,
    /// An apply may carry a version that is not the present one.
    StaleVersionAccepted,
    /// An update takes no field over.
    UpdateOwnsNothing,
    /// An apply takes over what others own with the same value.
    ApplyOwnsAlone,
    /// The data of an immutable Secret can be changed.
    ImmutableChanged,
    /// A deletion ignores its preconditions.
    PreconditionsIgnored,
}

#[derive(Clone, Default)]
pub struct Store {
    pub version: u64,
    pub objects: BTreeMap<Key, Arc<Object>>,
    pub lease: LeaseRecord,
    /// The latest versions of the Lease, oldest first.
    pub leases: VecDeque<(u64, LeaseRecord)>,
    /// The latest changes, oldest first.
    pub history: VecDeque<Event>,
    /// Namespaces that accept no new Secret, by a quota.
    pub full: Vec<Name>,
    /// A rule that does not hold, to show that the comparison with a real API server notices it.
    pub broken: Option<BrokenRule>,
}

pub fn namespace_key(name: &str) -> Key {
    Key { kind: Kind::Namespace, namespace: "".into(), name: name.into() }
}

pub fn secret_key(namespace: &str, name: &str) -> Key {
    Key { kind: Kind::Secret, namespace: namespace.into(), name: name.into() }
}

impl Store {
    pub fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// Creates, changes or deletes an object, and returns the change.
    pub fn put(&mut self, key: &Key, object: Option<Object>) -> Event {
        let version = self.next_version();
        let after = object.map(|mut object| {
            match &mut object {
                Object::Namespace(object) => object.version = version,
                Object::Secret(object) => {
                    object.version = version;
                    object.record = Computed::default();
                    object.read = Computed::default();
                }
                Object::ServiceAccount(object) => object.resource_version = version,
                Object::Source(object) => object.version = version,
            }
            Arc::new(object)
        });
        let before = match &after {
            Some(after) => self.objects.insert(key.clone(), after.clone()),
            None => self.objects.remove(key),
        };
        let event = Event { key: key.clone(), version, before, after };
        self.history.push_back(event.clone());
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
        event
    }

    /// Writes the Lease. In a real cluster, thousands of other writes lie between two backups of etcd.
    pub fn put_lease(&mut self, lease: LeaseRecord) {
        self.version += 1_000;
        let version = self.version;
        self.lease = LeaseRecord { resource_version: Some(version.to_string()), ..lease };
        self.leases.push_back((version, self.lease.clone()));
        if self.leases.len() > LEASES {
            self.leases.pop_front();
        }
    }

    /// The Lease is as it was at `version`.
    pub fn restore_lease(&mut self, version: u64) {
        self.leases.retain(|(at, _)| *at <= version);
        self.lease = self.leases.back().map(|(_, lease)| lease.clone()).unwrap_or_default();
    }

    pub fn namespace(&self, name: &str) -> Option<&NamespaceObject> {
        match &**self.objects.get(&namespace_key(name))? {
            Object::Namespace(object) => Some(object),
            _ => None,
        }
    }

    pub fn secret(&self, namespace: &str, name: &str) -> Option<&SecretObject> {
        match &**self.objects.get(&secret_key(namespace, name))? {
            Object::Secret(object) => Some(object),
            _ => None,
        }
    }

    /// The Secret as it is stored, and as watches share it.
    pub fn shared_secret(&self, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.objects.get(&secret_key(namespace, name)).cloned()
    }

    pub fn service_account(&self, namespace: &str, name: &str) -> Option<&PullSecretRefs> {
        let key = Key { kind: Kind::ServiceAccount, namespace: namespace.into(), name: name.into() };
        match &**self.objects.get(&key)? {
            Object::ServiceAccount(refs) => Some(refs),
            _ => None,
        }
    }

    /// The service accounts of a namespace.
    pub fn service_accounts(&self, namespace: &str) -> impl Iterator<Item = (&Name, &PullSecretRefs)> {
        self.objects.iter().filter(move |(key, _)| *key.namespace == *namespace).filter_map(
            |(key, object)| match &**object {
                Object::ServiceAccount(refs) => Some((&key.name, refs)),
                _ => None,
            },
        )
    }

    pub fn secrets(&self) -> impl Iterator<Item = (&Key, &SecretObject)> {
        self.objects.iter().filter_map(|(key, object)| match &**object {
            Object::Secret(secret) => Some((key, secret)),
            _ => None,
        })
    }

    /// The objects as they were at `version`, as far as the history reaches.
    pub fn at(&self, version: u64) -> BTreeMap<Key, Arc<Object>> {
        let mut objects = self.objects.clone();
        for event in self.history.iter().rev().take_while(|event| event.version > version) {
            match &event.before {
                Some(before) => objects.insert(event.key.clone(), before.clone()),
                None => objects.remove(&event.key),
            };
        }
        objects
    }

    /// A server-side apply of a Secret under our manager
    /// (<https://kubernetes.io/docs/reference/using-api/server-side-apply/>). Returns the Secret, and the change unless
    /// nothing changed.
    #[expect(clippy::result_large_err, reason = "the callers classify the status as the client's")]
    pub fn apply_secret(
        &mut self,
        namespace: &str,
        name: &str,
        body: &Value,
        force: bool,
    ) -> Result<(SecretObject, Option<Event>), Status> {
        let uid = body["metadata"]["uid"].as_str();
        let version = body["metadata"]["resourceVersion"].as_str();
        let key = secret_key(namespace, name);
        let Some(current) = self.secret(namespace, name).cloned() else {
            // A version alone does not keep an apply from creating the object.
            if uid.is_some() {
                return Err(status(409, "Conflict", "uid mismatch: the object does not exist"));
            }
            self.accept_new(namespace)?;
            let uid = format!("uid-{}", self.version + 1);
            let new = SecretObject { uid, ..SecretObject::default().applied(body) };
            return Ok(self.store(&key, new));
        };
        if !force && current.conflicts(body) != 0 && self.keeps(BrokenRule::ConflictsOverwritten) {
            let cause = json!({"field": ".data", "reason": "FieldManagerConflict"});
            return Err(status_with(409, "Conflict", "Apply failed with conflicts", &cause));
        }
        let is_stale = version.is_some_and(|version| version != current.version.to_string());
        if is_stale && self.keeps(BrokenRule::StaleVersionAccepted) {
            return Err(status(409, "Conflict", "the object has been modified"));
        }
        if uid.is_some_and(|uid| uid != current.uid) {
            return Err(status(409, "Conflict", "uid mismatch: another object has this name"));
        }
        let mut new = current.applied(body);
        if !self.keeps(BrokenRule::ApplyOwnsAlone) {
            (new.others, new.taken) = (0, 0);
        }
        self.replace(namespace, name, current, new)
    }

    fn keeps(&self, rule: BrokenRule) -> bool {
        self.broken != Some(rule)
    }

    fn store(&mut self, key: &Key, new: SecretObject) -> (SecretObject, Option<Event>) {
        let event = self.put(key, Some(Object::Secret(new)));
        let stored = self.secret(&key.namespace, &key.name).expect("it was stored").clone();
        (stored, Some(event))
    }

    /// A DELETE with both preconditions.
    #[expect(clippy::result_large_err, reason = "the callers classify the status as the client's")]
    pub fn delete_secret(
        &mut self,
        namespace: &str,
        name: &str,
        uid: &str,
        version: u64,
    ) -> Result<Event, Status> {
        let key = secret_key(namespace, name);
        let Some(current) = self.secret(namespace, name).cloned() else {
            return Err(status(404, "NotFound", &format!("secrets {name:?} not found")));
        };
        let differs = current.uid != uid || current.version != version;
        if differs && self.keeps(BrokenRule::PreconditionsIgnored) {
            return Err(status(
                409,
                "Conflict",
                "the UID or the resourceVersion in the precondition does not match",
            ));
        }
        // It is being deleted already: nothing changes.
        if current.finalizer && current.deleting {
            let object = self.objects.get(&key).cloned();
            return Ok(Event { key, version, before: object.clone(), after: object });
        }
        if current.finalizer {
            return Ok(self.put(&key, Some(Object::Secret(SecretObject { deleting: true, ..current }))));
        }
        Ok(self.put(&key, None))
    }

    /// Whether a Secret carries our Apply entry, completely.
    pub fn is_ours(secret: &SecretObject) -> bool {
        secret.ours.is_some_and(|ours| ours & ALL == ALL) && secret.kind == SECRET_TYPE
    }
}

/// The annotation `key` with the prefix.
pub fn annotation(key: &str) -> String {
    format!("{PREFIX}{key}")
}

pub fn status(code: u16, reason: &str, message: &str) -> Status {
    let status = json!({"code": code, "reason": reason, "message": message, "status": "Failure"});
    serde_json::from_value(status).expect("a status")
}

fn status_with(code: u16, reason: &str, message: &str, cause: &Value) -> Status {
    let details = serde_json::from_value(json!({"causes": [cause]})).expect("details");
    Status { details: Some(details), ..status(code, reason, message) }
}
