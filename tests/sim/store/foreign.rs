//! Writes of other clients to a Secret, as the API server executes them.

use ecr_pull_secrets::simulation::core::SECRET_KEY;
use serde_json::{Value, json};

use super::secret::SecretObject;
use super::{BrokenRule, Event, Status, Store, secret_key, status, status_with};

impl Store {
    /// A POST of another client.
    #[expect(clippy::result_large_err, reason = "the callers classify the status as the client's")]
    pub fn create_secret(
        &mut self,
        namespace: &str,
        name: &str,
        kind: &str,
    ) -> Result<(SecretObject, Option<Event>), Status> {
        self.accept_new(namespace)?;
        if self.secret(namespace, name).is_some() {
            return Err(status(409, "AlreadyExists", "the Secret exists"));
        }
        let uid = format!("uid-{}", self.version + 1);
        let new = SecretObject { uid, ..SecretObject::foreign(kind) };
        Ok(self.store(&secret_key(namespace, name), new))
    }

    /// A merge patch of another client, or of our field manager: any operation other than Apply has an owner of its own.
    #[expect(clippy::result_large_err, reason = "the callers classify the status as the client's")]
    pub fn update_secret(
        &mut self,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<(SecretObject, Option<Event>), Status> {
        let current = self.found(namespace, name)?;
        let mut new = current.updated(patch);
        if !self.keeps(BrokenRule::UpdateOwnsNothing) {
            (new.ours, new.others, new.taken) = (current.ours, current.others, current.taken);
        }
        self.replace(namespace, name, current, new)
    }

    /// A PUT of another client: the whole object, whatever its version is.
    #[expect(clippy::result_large_err, reason = "the callers classify the status as the client's")]
    pub fn replace_secret(
        &mut self,
        namespace: &str,
        name: &str,
        body: &SecretObject,
    ) -> Result<(SecretObject, Option<Event>), Status> {
        let current = self.found(namespace, name)?;
        let new = current.replaced(body);
        self.replace(namespace, name, current, new)
    }

    /// A forced apply of another field manager.
    #[expect(clippy::result_large_err, reason = "the callers classify the status as the client's")]
    pub fn take_secret(
        &mut self,
        namespace: &str,
        name: &str,
        body: &Value,
    ) -> Result<(SecretObject, Option<Event>), Status> {
        let current = self.found(namespace, name)?;
        let new = current.applied_by_another(body);
        self.replace(namespace, name, current, new)
    }

    #[expect(clippy::result_large_err, reason = "the callers classify the status as the client's")]
    fn found(&self, namespace: &str, name: &str) -> Result<SecretObject, Status> {
        let found = self.secret(namespace, name).cloned();
        found.ok_or_else(|| status(404, "NotFound", &format!("secrets {name:?} not found")))
    }

    /// Whether the namespace accepts a new object.
    #[expect(clippy::result_large_err, reason = "the callers classify the status as the client's")]
    pub(super) fn accept_new(&self, namespace: &str) -> Result<(), Status> {
        let Some(owner) = self.namespace(namespace) else {
            return Err(status(404, "NotFound", &format!("namespaces {namespace:?} not found")));
        };
        if owner.terminating {
            let cause = json!({"field": "metadata.namespace", "reason": "NamespaceTerminating"});
            return Err(status_with(403, "Forbidden", "namespace is being terminated", &cause));
        }
        if self.full.iter().any(|full| **full == *namespace) {
            return Err(status(403, "Forbidden", "exceeded quota: count/secrets"));
        }
        Ok(())
    }

    /// Stores the Secret that a write made of the current one, unless the write is not valid or changes nothing.
    #[expect(clippy::result_large_err, reason = "the callers classify the status as the client's")]
    pub(super) fn replace(
        &mut self,
        namespace: &str,
        name: &str,
        current: SecretObject,
        new: SecretObject,
    ) -> Result<(SecretObject, Option<Event>), Status> {
        if new.kind != current.kind {
            return Err(status_with(422, "Invalid", "field is immutable", &json!({"field": "type"})));
        }
        let checks = self.keeps(BrokenRule::ImmutableChanged);
        if checks && current.is_immutable() && (new.data != current.data || !new.is_immutable()) {
            let cause = json!({"field": "data"});
            return Err(status_with(422, "Invalid", "field is immutable when `immutable` is set", &cause));
        }
        let key = secret_key(namespace, name);
        if new == current && self.keeps(BrokenRule::NoOpGrows) {
            return Ok((current, None));
        }
        if new.deleting && !new.finalizer {
            return Ok((new, Some(self.put(&key, None))));
        }
        Ok(self.store(&key, new))
    }
}

impl SecretObject {
    /// The Secret after a merge patch: the client owns each field whose value it changes.
    pub fn updated(&self, patch: &Value) -> Self {
        let mut new = self.clone();
        merge(&mut new.labels, &patch["metadata"]["labels"]);
        merge(&mut new.annotations, &patch["metadata"]["annotations"]);
        if let Some(data) = patch["data"][SECRET_KEY].as_str() {
            new.data = super::secret::decode(data).into();
        }
        new.immutable = patch["immutable"].as_bool().or(self.immutable);
        if let Some(finalizers) = patch["metadata"]["finalizers"].as_array() {
            new.finalizer = !finalizers.is_empty();
        }
        let changed = self.differences(&new);
        new.take_over(changed);
        new.others &= new.present();
        new
    }

    /// The Secret after a PUT: what `body` leaves out is gone, and the client owns each field whose value it changes.
    pub fn replaced(&self, body: &Self) -> Self {
        let mut new = Self {
            labels: body.labels.clone(),
            annotations: body.annotations.clone(),
            data: body.data.clone(),
            kind: body.kind.clone(),
            immutable: body.immutable,
            finalizer: false,
            ..self.clone()
        };
        new.take_over(self.differences(&new));
        new.others &= new.present();
        new
    }

    /// The Secret after a forced apply of another manager: it owns each field of the body, alone if it changes the value.
    pub fn applied_by_another(&self, body: &Value) -> Self {
        let mut new = self.with_fields(body);
        let changed = self.differences(&new);
        new.take_over(changed);
        new.others &= !changed;
        new.taken = SecretObject::default().with_fields(body).present();
        new
    }
}

fn merge(into: &mut std::collections::BTreeMap<String, String>, changes: &Value) {
    for (key, value) in changes.as_object().into_iter().flatten() {
        match value.as_str() {
            Some(value) => into.insert(key.clone(), value.to_owned()),
            None => into.remove(key),
        };
    }
}
