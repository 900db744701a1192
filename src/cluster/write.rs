//! Reads and writes of single objects, each with a bound in time, and what their refusals mean.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::Status;
use kube::{Api, Client};
use serde_json::{Value, json};
use zeroize::Zeroize as _;

use super::lead::Lead;
use super::observe;
use crate::core::accounts::{ATTACHED, Account, edit};
use crate::core::backoff::fraction;
use crate::core::facts::Observed;
use crate::core::render::{DockerConfig, Manifest};
use crate::core::settings::Settings;
use crate::core::{MANAGER, PREFIX, SECRET_KEY, one_line};

/// How often one write meets another writer before it waits for its next turn.
const CONFLICTS: u32 = 4;
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a write did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Another manager owns the fields (409): what stands there is not ours.
    #[error("another manager owns it: {0}")]
    Conflict(String),
    /// It is another object by now, or none (wrong UID or resource version): the watch will tell.
    #[error("it changed meanwhile: {0}")]
    Stale(String),
    /// It is immutable.
    #[error("it is immutable: {0}")]
    Immutable(String),
    /// The namespace is gone or going.
    #[error("its namespace is gone or being deleted")]
    NamespaceGone,
    /// RBAC or admission refused.
    #[error("{0}")]
    Forbidden(String),
    /// A `ValidatingAdmissionPolicy` refused; its view of the namespace may lag behind ours.
    #[error("{0}")]
    Denied(String),
    /// Anything else that the API server refused.
    #[error("{0}")]
    Refused(String),
    /// The API server did not answer, or is out of order.
    #[error("{0}")]
    Unavailable(String),
    /// Another process may write by now, so this one must not.
    #[error("this process does not hold the Lease any more")]
    NotLeading,
}

impl WriteError {
    /// The label value.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Conflict(_) => "conflict",
            Self::Stale(_) => "stale",
            Self::Immutable(_) => "immutable",
            Self::NamespaceGone => "namespace_gone",
            Self::Forbidden(_) => "forbidden",
            Self::Denied(_) => "denied",
            Self::Refused(_) => "refused",
            Self::Unavailable(_) => "unavailable",
            Self::NotLeading => "not_leading",
        }
    }
}

/// Single objects of the cluster.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    settings: Arc<Settings>,
    lead: Lead,
}

impl Cluster {
    /// Reads and writes through `client`, as long as `lead` lasts.
    pub fn new(client: Client, settings: Arc<Settings>, lead: Lead) -> Self {
        Self { client, settings, lead }
    }

    /// Applies `manifest` and returns what stands there afterwards; the reply is asked for as metadata, so that
    /// no token comes back. With `uid` in the manifest it forces, and only ever changes that object; without,
    /// it only creates: see the table in `docs/decisions/0003-server-side-apply.md`.
    pub async fn apply(
        &self,
        namespace: &str,
        name: &str,
        manifest: &Manifest,
        force: bool,
    ) -> Result<Observed, WriteError> {
        let params = PatchParams { force, ..PatchParams::apply(MANAGER) };
        let api = self.secrets(namespace);
        let patch = Patch::Apply(manifest);
        let reply = self.bounded(api.patch_metadata(name, &params, &patch)).await?;
        Ok(observe::secret(&reply.metadata, &self.settings.instance))
    }

    /// Deletes the very object that was seen, at the very version that was seen. Gone already is done.
    pub async fn delete(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        version: u64,
    ) -> Result<(), WriteError> {
        let preconditions =
            Preconditions { uid: Some(uid.to_owned()), resource_version: Some(version.to_string()) };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let api = self.secrets(namespace);
        match self.bounded(api.delete(name, &params)).await {
            Ok(_) | Err(WriteError::NamespaceGone) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The Namespace as it is now, past every cache; `None` when it is gone.
    pub async fn namespace(&self, name: &str) -> Result<Option<ObjectMeta>, WriteError> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let found = self.bounded(api.get_metadata_opt(name)).await?;
        Ok(found.map(|namespace| namespace.metadata))
    }

    /// The entries of a Secret of ours, to carry over what cannot be renewed; none if it is another object now.
    pub async fn entries(&self, namespace: &str, name: &str, uid: &str) -> Result<DockerConfig, WriteError> {
        let api = self.secrets(namespace);
        let Some(secret) = self.bounded(api.get_opt(name)).await? else { return Ok(DockerConfig::default()) };
        if secret.metadata.uid.as_deref() != Some(uid) {
            return Ok(DockerConfig::default());
        }
        let Some(mut data) = secret.data.and_then(|mut data| data.remove(SECRET_KEY)) else {
            return Ok(DockerConfig::default());
        };
        let entries = DockerConfig::parse(&data.0);
        data.0.zeroize();
        Ok(entries)
    }

    /// Has a service account refer to the Secret `wanted`, or to none of ours, and says how it stands then; `None`: it
    /// is gone. Its list is atomic, so it is read, and written with the version that was read; another writer in between
    /// is met a few times, and then left to a later try.
    pub async fn attach(
        &self,
        namespace: &str,
        account: &str,
        wanted: Option<&str>,
    ) -> Result<Option<(Account, bool)>, WriteError> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let mut tries = 0;
        loop {
            let Some(found) = self.bounded(api.get_opt(account)).await? else { return Ok(None) };
            let Some(body) = self.reference(&found, wanted) else {
                return Ok(Some((observe::account(&found, &self.settings), false)));
            };
            let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
            match self.bounded(api.patch(account, &params, &Patch::Merge(body))).await {
                Ok(left) => return Ok(Some((observe::account(&left, &self.settings), true))),
                Err(WriteError::NamespaceGone) => return Ok(None),
                Err(WriteError::Stale(_)) if tries < CONFLICTS => tries += 1,
                Err(error) => return Err(error),
            }
            let pause = fraction(&(namespace, account, tries, found.metadata.resource_version));
            tokio::time::sleep(Duration::from_millis(20 << tries).mul_f64(0.5 + pause)).await;
        }
    }

    /// The merge patch that does it: nothing but the list, our annotation, and the version that they are based on.
    fn reference(&self, account: &ServiceAccount, wanted: Option<&str>) -> Option<Value> {
        let key = format!("{PREFIX}{ATTACHED}");
        let attached = account.metadata.annotations.as_ref().and_then(|all| all.get(&key));
        let references = account.image_pull_secrets.iter().flatten();
        let references: Vec<Value> = references.map(|reference| json!({ "name": reference.name })).collect();
        let edit = edit(&references, attached.map(String::as_str), wanted, &self.settings)?;
        Some(json!({
            "metadata": {
                "resourceVersion": account.metadata.resource_version,
                "annotations": { key: edit.attached },
            },
            "imagePullSecrets": edit.references,
        }))
    }

    fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// A call that is neither begun nor waited for once this process may no longer write.
    async fn bounded<T>(&self, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, WriteError> {
        let left = self.lead.left().ok_or(WriteError::NotLeading)?;
        match tokio::time::timeout(CALL_TIMEOUT.min(left), call).await {
            Ok(result) => result.map_err(|error| classify(&error)),
            Err(_) if left < CALL_TIMEOUT && self.lead.left().is_none() => Err(WriteError::NotLeading),
            Err(_) => Err(WriteError::Unavailable("the API server did not answer in time".to_owned())),
        }
    }
}

fn classify(error: &kube::Error) -> WriteError {
    match error {
        kube::Error::Api(status) => refused(status),
        other => WriteError::Unavailable(message(other)),
    }
}

/// What a refusal means. The 422s are told apart by the field that they name (seen on API server 1.36).
fn refused(status: &Status) -> WriteError {
    let text = one_line(&status.message);
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    let names = |field: &str| causes.iter().any(|cause| cause.field == field);
    match status.code {
        404 => WriteError::NamespaceGone,
        // Only the cause tells a terminating namespace from every other refusal.
        403 if causes.iter().any(|cause| cause.reason == "NamespaceTerminating") => WriteError::NamespaceGone,
        403 if text.contains("ValidatingAdmissionPolicy") => WriteError::Denied(text),
        401 | 403 => WriteError::Forbidden(text),
        409 if causes.iter().any(|cause| cause.reason == "FieldManagerConflict") => {
            WriteError::Conflict(text)
        }
        409 => WriteError::Stale(text),
        422 if names("metadata.uid") => WriteError::Stale(text),
        422 if names("type") => WriteError::Conflict(text),
        422 if text.contains("`immutable`") => WriteError::Immutable(text),
        408 | 429 | 500.. => WriteError::Unavailable(text),
        _ => WriteError::Refused(text),
    }
}

/// A sentence for an error of the client. Never its `Debug`, and never a body.
pub fn message(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return one_line(&status.message);
    }
    let mut text = match error {
        kube::Error::SerdeError(_) => "the API server's answer could not be read".to_owned(),
        other => other.to_string(),
    };
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source.filter(|_| !matches!(error, kube::Error::SerdeError(_))) {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    one_line(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(code: u16, causes: &serde_json::Value, message: &str) -> Status {
        let status = json!({"code": code, "message": message, "details": {"causes": causes}});
        serde_json::from_value(status).expect("a status")
    }

    #[test]
    fn refusals_are_told_apart() {
        let uid = json!([{"field": "metadata.uid", "reason": "FieldValueInvalid"}]);
        let kind = json!([{"field": "type", "reason": "FieldValueInvalid"}]);
        let data = json!([{"field": "data", "reason": "FieldValueForbidden"}]);
        let owned = json!([{"field": ".data", "reason": "FieldManagerConflict"}]);
        let going = json!([{"field": "metadata.namespace", "reason": "NamespaceTerminating"}]);
        let immutable = "data: Forbidden: field is immutable when `immutable` is set";
        for (status, expected) in [
            (status(422, &uid, "uid"), "stale"),
            (status(422, &kind, "type: field is immutable"), "conflict"),
            (status(422, &data, immutable), "immutable"),
            (status(409, &owned, "conflict with"), "conflict"),
            (status(409, &json!([]), "uid mismatch"), "stale"),
            (status(403, &going, "being terminated"), "namespace_gone"),
            (status(403, &json!([]), "no"), "forbidden"),
            (
                status(403, &json!([]), "secrets \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with"),
                "denied",
            ),
            (status(404, &json!([]), "namespaces \"a\" not found"), "namespace_gone"),
            (status(503, &json!([]), "later"), "unavailable"),
            (status(400, &json!([]), "what"), "refused"),
        ] {
            assert_eq!(refused(&status).kind(), expected, "{status:?}");
        }
    }
}
