//! Metadata of Namespaces and Secrets → the small records that are all that is kept of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use serde_json::Value;

use crate::core::accounts::{ATTACHED, Account, recorded};
use crate::core::annotations::{Reading, read};
use crate::core::facts::{Observed, Owner, Times};
use crate::core::render::{APPLIED, EXPIRES_AT, REFRESH_AFTER};
use crate::core::request::{Accepted, Applied};
use crate::core::settings::Settings;
use crate::core::{LABEL_INSTANCE, LABEL_MANAGED_BY, MANAGER, PREFIX, SECRET_KEY};

/// What is kept of a Namespace that opted in.
#[derive(Clone, Debug, PartialEq)]
pub struct NamespaceRecord {
    /// Its UID, for Events about it.
    pub uid: Box<str>,
    /// What its annotations say.
    pub reading: Arc<Reading>,
}

/// The record of a Namespace; `None` when it did not opt in, or is being deleted: what stands in it is then
/// the garbage collector's.
pub fn namespace(meta: &ObjectMeta, settings: &Settings) -> Option<NamespaceRecord> {
    if meta.deletion_timestamp.is_some() {
        return None;
    }
    let none = BTreeMap::new();
    let labels = meta.labels.as_ref().unwrap_or(&none);
    let included = settings.opt_in.covers(meta.name.as_deref().unwrap_or_default(), labels);
    let reading = read(meta.annotations.as_ref().unwrap_or(&none), included, settings)?;
    let uid = meta.uid.as_deref().unwrap_or_default().into();
    Some(NamespaceRecord { uid, reading: Arc::new(reading) })
}

/// The record of a Secret of an allowed name.
pub fn secret(meta: &ObjectMeta, instance: &str) -> Observed {
    let annotation =
        |key: &str| meta.annotations.as_ref()?.get(&format!("{PREFIX}{key}")).map(String::as_str);
    let time = |key: &str| annotation(key)?.parse::<Timestamp>().ok();
    let applied = annotation(APPLIED).and_then(Applied::parse);
    let ours = applied.filter(|applied| applied.instance == instance);
    let owned = Owned::of(meta.managed_fields.as_deref().unwrap_or_default());
    let claimed = owned.any && ours.is_some();
    let times = time(EXPIRES_AT).zip(time(REFRESH_AFTER)).filter(|_| owned.times);
    Observed {
        uid: meta.uid.as_deref().unwrap_or_default().into(),
        resource_version: version(meta),
        owner: owner(meta.labels.as_ref(), instance, claimed),
        intact: owned.all,
        data_intact: owned.data,
        immutable: owned.immutable,
        times: times.map(|(expires_at, refresh_after)| Times { expires_at, refresh_after }),
        applied: ours.map(|applied| Arc::new(believed(applied.accepted, owned.applied))),
    }
}

/// Ends that somebody else wrote are not believed.
fn believed(mut accepted: Accepted, intact: bool) -> Accepted {
    for entry in accepted.entries.iter_mut().flatten().filter(|_| !intact) {
        entry.expires_at = None;
    }
    accepted
}

/// The record of a service account.
pub fn account(account: &ServiceAccount, settings: &Settings) -> Account {
    let meta = &account.metadata;
    let attached = meta.annotations.as_ref().and_then(|all| all.get(&format!("{PREFIX}{ATTACHED}")));
    let referred = |name: &&Arc<str>| {
        account.image_pull_secrets.iter().flatten().any(|reference| *reference.name == ***name)
    };
    Account {
        resource_version: version(meta),
        references: settings.all_names().filter(referred).cloned().collect(),
        attached: recorded(attached.map(String::as_str), settings),
    }
}

/// The resource version as a number, which it is in every API server's own storage; 0 is older than all.
pub fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// Both labels say whose it is. Where one was stripped or changed, a standing Apply entry of ours together
/// with an applied request that names this instance does.
fn owner(labels: Option<&BTreeMap<String, String>>, instance: &str, claimed: bool) -> Owner {
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).map(String::as_str);
    let managed = label(LABEL_MANAGED_BY) == Some(MANAGER);
    match label(LABEL_INSTANCE) {
        Some(name) if managed && name == instance => Owner::Ours,
        _ if claimed => Owner::Ours,
        Some(name) if managed => Owner::Instance(name.into()),
        _ => Owner::Stranger,
    }
}

/// What our entry with operation Apply owns. A foreign write takes a field away, also one under our manager's
/// name, since that is an entry with operation Update
/// (<https://kubernetes.io/docs/reference/using-api/server-side-apply/#managers>).
#[derive(Default)]
// Independent facts, read off one list.
#[expect(clippy::struct_excessive_bools)]
struct Owned {
    any: bool,
    all: bool,
    data: bool,
    times: bool,
    applied: bool,
    immutable: bool,
}

impl Owned {
    fn of(entries: &[ManagedFieldsEntry]) -> Self {
        let fields = |entry: &ManagedFieldsEntry| entry.fields_v1.as_ref().map(|fields| fields.0.clone());
        let immutable = entries.iter().filter_map(fields).any(|fields| fields.get("f:immutable").is_some());
        let ours = entries.iter().find(|entry| {
            entry.manager.as_deref() == Some(MANAGER)
                && entry.operation.as_deref() == Some("Apply")
                && entry.subresource.as_deref().unwrap_or_default().is_empty()
        });
        let Some(fields) = ours.and_then(fields) else { return Self { immutable, ..Self::default() } };
        let data = owns(&fields, &["f:data", &format!("f:{SECRET_KEY}")]) && owns(&fields, &["f:type"]);
        let label = |key: &str| owns(&fields, &["f:metadata", "f:labels", &format!("f:{key}")]);
        let annotation =
            |key: &str| owns(&fields, &["f:metadata", "f:annotations", &format!("f:{PREFIX}{key}")]);
        let labels = label(LABEL_MANAGED_BY) && label(LABEL_INSTANCE);
        let times = annotation(EXPIRES_AT) && annotation(REFRESH_AFTER);
        let applied = annotation(APPLIED);
        Self { any: true, all: data && labels && times && applied, data, times, applied, immutable }
    }
}

fn owns(fields: &Value, path: &[&str]) -> bool {
    path.iter().try_fold(fields, |at, key| at.get(key)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn meta(change: impl FnOnce(&mut Value)) -> ObjectMeta {
        let applied = r#"{"instance":"one","registries":["default"],"repositories":[],"role":[],"secretName":"ecr-pull","serviceAccounts":[]}"#;
        let mut meta = json!({
            "name": "ecr-pull", "namespace": "a", "uid": "u", "resourceVersion": "7",
            "labels": {"app.kubernetes.io/managed-by": "ecr-pull-secrets", "app.kubernetes.io/instance": "one"},
            "annotations": {
                "ecr-pull-secrets.dev/expires-at": "2026-01-01T12:00:00Z",
                "ecr-pull-secrets.dev/refresh-after": "2026-01-01T06:00:00Z",
                "ecr-pull-secrets.dev/applied": applied,
            },
            "managedFields": [{
                "manager": "ecr-pull-secrets", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
                "fieldsV1": {
                    "f:data": {"f:.dockerconfigjson": {}},
                    "f:type": {},
                    "f:metadata": {
                        "f:labels": {"f:app.kubernetes.io/managed-by": {}, "f:app.kubernetes.io/instance": {}},
                        "f:annotations": {
                            "f:ecr-pull-secrets.dev/expires-at": {},
                            "f:ecr-pull-secrets.dev/refresh-after": {},
                            "f:ecr-pull-secrets.dev/applied": {},
                        },
                    },
                },
            }],
        });
        change(&mut meta);
        serde_json::from_value(meta).expect("metadata")
    }

    #[test]
    fn a_secret_of_ours_is_ours_and_intact() {
        let seen = secret(&meta(|_| {}), "one");
        assert_eq!((seen.owner, seen.intact, seen.resource_version), (Owner::Ours, true, 7));
        assert!(seen.applied.is_some() && seen.times.is_some() && !seen.immutable);
    }

    #[test]
    fn the_same_secret_is_foreign_to_another_instance() {
        let seen = secret(&meta(|_| {}), "two");
        assert_eq!((seen.owner, seen.applied), (Owner::Instance("one".into()), None));
    }

    #[test]
    fn a_stripped_label_is_repaired_but_neither_label_nor_entry_is_foreign() {
        let stripped = |m: &mut Value| {
            m["labels"] = json!({});
            m["managedFields"][0]["fieldsV1"]["f:metadata"]["f:labels"] = json!({});
        };
        let seen = secret(&meta(stripped), "one");
        assert_eq!((seen.owner, seen.intact), (Owner::Ours, false));
        let changed = |m: &mut Value| {
            m["labels"]["app.kubernetes.io/instance"] = json!("two");
            m["managedFields"][0]["fieldsV1"]["f:metadata"]["f:labels"] = json!({});
        };
        assert_eq!(secret(&meta(changed), "one").owner, Owner::Ours);
        let neither = |m: &mut Value| {
            m["labels"] = json!({});
            m["managedFields"] = json!([]);
        };
        assert_eq!(secret(&meta(neither), "one").owner, Owner::Stranger);
    }

    #[test]
    fn a_field_that_another_manager_took_is_seen() {
        for path in
            ["/f:data/f:.dockerconfigjson", "/f:metadata/f:annotations/f:ecr-pull-secrets.dev~1applied"]
        {
            let taken = |m: &mut Value| {
                let fields = &mut m["managedFields"][0]["fieldsV1"];
                let (parent, key) = path.rsplit_once('/').expect("a path");
                let key = key.replace("~1", "/");
                fields.pointer_mut(parent).expect(path).as_object_mut().expect("a map").remove(&key);
            };
            assert!(!secret(&meta(taken), "one").intact, "{path}");
        }
        let updated = |m: &mut Value| m["managedFields"][0]["operation"] = json!("Update");
        assert!(!secret(&meta(updated), "one").intact);
    }

    #[test]
    fn immutable_is_seen_by_its_owner() {
        let frozen = |m: &mut Value| {
            let entry = json!({"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:immutable": {}}});
            m["managedFields"].as_array_mut().expect("a list").push(entry);
        };
        assert!(secret(&meta(frozen), "one").immutable);
    }
}
