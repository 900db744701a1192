//! Turns objects of the API server into the small records that the index keeps.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};

use crate::controller::change::MissedOptIn;
use crate::core::plan::service_accounts::{ATTACHED, PullSecretRefs, attached_names};
use crate::core::plan::{Mutability, NamespaceRecord, Observed, Obstacle, Owner};
use crate::core::request::applied::{APPLIED, AppliedState, EXPIRES_AT, REFRESH_AFTER, RecordedState};
use crate::core::request::{OwnedNames, Problem, annotations, unknown_keys};
use crate::core::secret::{DockerConfig, StaticSource};
use crate::core::settings::Settings;
use crate::core::{LABEL_INSTANCE, LABEL_MANAGED_BY, MANAGER, ObjectVersion, PREFIX, SECRET_KEY, Uid};

/// `None` if the Namespace did not opt in or is being deleted: the namespace controller deletes its contents.
pub fn namespace(meta: &ObjectMeta, settings: &Settings) -> Option<NamespaceRecord> {
    if meta.deletion_timestamp.is_some() {
        return None;
    }
    let none = BTreeMap::new();
    let labels = meta.labels.as_ref().unwrap_or(&none);
    let included = settings.namespace_selector.includes(meta.name.as_deref().unwrap_or_default(), labels);
    let annotations = meta.annotations.as_ref().unwrap_or(&none);
    let mut parsed = annotations::parse(annotations, included, settings.request_rules())?;
    parsed.problems.extend(unknown_keys(meta, settings));
    Some(NamespaceRecord { uid: uid(meta), parsed: Arc::new(parsed) })
}

/// The problem of a Namespace that did not opt in, although it has keys with our prefix.
pub fn missed_opt_in(meta: &ObjectMeta, settings: &Settings) -> Option<MissedOptIn> {
    if meta.deletion_timestamp.is_some() {
        return None;
    }
    Some(MissedOptIn { uid: uid(meta), problem: unknown_keys(meta, settings)? })
}

fn unknown_keys(meta: &ObjectMeta, settings: &Settings) -> Option<Problem> {
    let none = BTreeMap::new();
    let (annotations, labels) =
        (meta.annotations.as_ref().unwrap_or(&none), meta.labels.as_ref().unwrap_or(&none));
    let is_selected = |name: &str| settings.namespace_selector.uses_label(&format!("{PREFIX}{name}"));
    unknown_keys::report(annotations, labels, is_selected)
}

fn uid(meta: &ObjectMeta) -> Uid {
    meta.uid.as_deref().unwrap_or_default().into()
}

/// The record of a Secret of an allowed name.
///
/// Our `managedFields` entry with operation Apply shows which fields have the applied values. Another client's write
/// removes a field from it, even under our manager's name, because that write has operation Update
/// (<https://kubernetes.io/docs/reference/using-api/server-side-apply/#managers>).
pub fn secret(meta: &ObjectMeta, settings: &Settings) -> Observed {
    let (instance, template) = (&*settings.names.instance, &settings.secret_template);
    let recorded = meta.annotations.as_ref().map(RecordedState::from_annotations).unwrap_or_default();
    let applied = recorded.applied.filter(|(applier, _)| applier == instance).map(|(_, applied)| applied);

    let managed = meta.managed_fields.as_deref().unwrap_or_default();
    let ours = managed.iter().find(|entry| is_our_apply(entry));
    let owned = |path: &[&str]| ours.is_some_and(|entry| owns(entry, path));
    let label = |key: &str| owned(&["f:metadata", "f:labels", &format!("f:{key}")]);
    let any_annotation = |key: &str| owned(&["f:metadata", "f:annotations", &format!("f:{key}")]);
    let annotation = |key: &str| any_annotation(&format!("{PREFIX}{key}"));
    // A Secret that was written with another template has other keys.
    let has_template = applied.as_ref().is_some_and(|applied| applied.template == template.fingerprint());
    let template_intact = !has_template
        || (template.labels().keys().all(|key| label(key))
            && template.annotations().keys().all(|key| any_annotation(key)));
    let labels_intact = label(LABEL_MANAGED_BY) && label(LABEL_INSTANCE);
    let data_intact = owned(&["f:data", &format!("f:{SECRET_KEY}")]) && owned(&["f:type"]);
    let times_intact = annotation(EXPIRES_AT) && annotation(REFRESH_AFTER);
    let applied_intact = annotation(APPLIED);

    Observed {
        uid: uid(meta),
        resource_version: resource_version(meta),
        owner: owner(meta, settings, ours.is_some() && applied.is_some()),
        is_applied: ours.is_some(),
        intact: labels_intact && data_intact && times_intact && applied_intact && template_intact,
        data_intact,
        is_deleting: meta.deletion_timestamp.is_some(),
        mutability: if managed.iter().any(|entry| owns(entry, &["f:immutable"])) {
            Mutability::Unknown
        } else {
            Mutability::Mutable
        },
        times: recorded.times.filter(|_| times_intact),
        applied: applied.map(|applied| Arc::new(trusted(applied, applied_intact))),
    }
}

/// Removes the expiries if another client wrote the annotation.
fn trusted(mut applied: AppliedState, intact: bool) -> AppliedState {
    if !intact {
        for entry in applied.entries.iter_mut().flatten() {
            (entry.issued_at, entry.expires_at) = (None, None);
        }
    }
    applied
}

pub fn service_account(service_account: &ServiceAccount, names: &OwnedNames) -> PullSecretRefs {
    let references = service_account.image_pull_secrets.iter().flatten();
    let is_referenced = |name: &&Arc<str>| references.clone().any(|reference| *reference.name == ***name);
    PullSecretRefs {
        resource_version: resource_version(&service_account.metadata),
        references: names.all().filter(is_referenced).cloned().collect(),
        attached: attached(&service_account.metadata, names),
    }
}

/// The pull secrets that this instance added to a service account.
pub fn attached(meta: &ObjectMeta, names: &OwnedNames) -> Vec<Arc<str>> {
    let annotation = meta.annotations.as_ref().and_then(|all| all.get(&format!("{PREFIX}{ATTACHED}")));
    attached_names(annotation.map(String::as_str), names)
}

/// The entries of a Secret that static registries are copied from.
pub fn static_source(secret: &Secret) -> StaticSource {
    let data = secret.data.as_ref().and_then(|data| data.get(SECRET_KEY));
    let entries = data.map(|data| DockerConfig::parse_foreign(&data.0)).unwrap_or_default();
    let keys = data.map(|data| DockerConfig::foreign_keys(&data.0)).unwrap_or_default();
    let unreadable = keys.into_iter().filter(|host| !entries.contains_key(host)).collect();
    StaticSource { version: resource_version(&secret.metadata), entries, unreadable }
}

pub fn version(meta: &ObjectMeta) -> ObjectVersion {
    let uid = meta.uid.as_deref().unwrap_or_default().into();
    ObjectVersion { uid, resource_version: resource_version(meta) }
}

/// The resource version as a number, or 0, which is older than every version
/// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>).
pub fn resource_version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// The two labels name the owner. If a label was removed or changed, a `claimed` Secret still belongs to this instance:
/// it has a `managedFields` entry of our applies, and an annotation with our instance.
fn owner(meta: &ObjectMeta, settings: &Settings, claimed: bool) -> Owner {
    let none = BTreeMap::new();
    let labels = meta.labels.as_ref().unwrap_or(&none);
    let managed = labels.get(LABEL_MANAGED_BY).is_some_and(|value| value == MANAGER);
    match labels.get(LABEL_INSTANCE).filter(|_| managed) {
        Some(name) if *name == settings.names.instance => Owner::This,
        _ if claimed => Owner::This,
        Some(name) => Owner::OtherInstance((&**name).into()),
        None => foreign(meta, labels, settings),
    }
}

/// Whether the configuration lets the controller adopt a Secret of another tool. Its type is not part of the metadata.
fn foreign(meta: &ObjectMeta, labels: &BTreeMap<String, String>, settings: &Settings) -> Owner {
    let name = meta.name.as_deref().unwrap_or_default();
    let is_allowed = settings.adopt.iter().any(|rule| rule.matches(name, labels));
    if !is_allowed || meta.deletion_timestamp.is_some() {
        return Owner::Unmanaged;
    }
    match meta.owner_references.iter().flatten().next() {
        Some(owner) => {
            let owner = format!("{}/{}", owner.kind, owner.name);
            Owner::NotAdoptable(Obstacle::OwnerReference(owner.into()))
        }
        None => Owner::Adoptable,
    }
}

/// The field managers that own a data key of a Secret.
pub fn data_managers<'a>(meta: &'a ObjectMeta, key: &str) -> Vec<&'a ManagedFieldsEntry> {
    let owns_key = |entry: &&ManagedFieldsEntry| owns(entry, &["f:data", &format!("f:{key}")]);
    meta.managed_fields.iter().flatten().filter(owns_key).collect()
}

/// Whether our next apply without a data key removes it: our Apply entry owns it, and no other manager does
/// (<https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management>).
pub fn is_data_only_ours(meta: &ObjectMeta, key: &str) -> bool {
    let managers = data_managers(meta, key);
    !managers.is_empty() && managers.into_iter().all(is_our_apply)
}

fn is_our_apply(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(MANAGER)
        && entry.operation.as_deref() == Some("Apply")
        && entry.subresource.as_deref().unwrap_or_default().is_empty()
}

fn owns(entry: &ManagedFieldsEntry, path: &[&str]) -> bool {
    let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
    path.iter().try_fold(fields, |at, key| Some(at?.get(key))).flatten().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    use crate::core::secret::SecretTemplate;
    use crate::core::settings::AdoptionRule;
    use crate::core::testing;

    /// The settings of an instance.
    fn of(instance: &str) -> Settings {
        let mut settings = testing::settings();
        settings.names.instance = instance.to_owned();
        settings
    }

    fn meta(change: impl FnOnce(&mut Value)) -> ObjectMeta {
        let applied = r#"{"entries":[null],"instance":"one","registries":["default"],"repositories":[],"role":[],"secretName":"ecr-pull","serviceAccounts":[],"version":1}"#;
        let mut meta = json!({
            "name": "ecr-pull", "namespace": "a", "uid": "u", "resourceVersion": "7",
            "labels": {"app.kubernetes.io/managed-by": "ecr-pull-secrets", "ecr-pull-secrets.dev/instance": "one"},
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
                        "f:labels": {"f:app.kubernetes.io/managed-by": {}, "f:ecr-pull-secrets.dev/instance": {}},
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
    fn a_secret_that_this_instance_applied_is_managed_and_intact() {
        let seen = secret(&meta(|_| {}), &of("one"));
        assert_eq!((seen.owner, seen.intact, seen.resource_version), (Owner::This, true, 7));
        assert!(seen.applied.is_some() && seen.times.is_some() && seen.mutability == Mutability::Mutable);
    }

    #[test]
    fn another_instance_does_not_manage_the_same_secret() {
        let seen = secret(&meta(|_| {}), &of("two"));
        assert_eq!((seen.owner, seen.applied), (Owner::OtherInstance("one".into()), None));
    }

    #[test]
    fn a_secret_without_labels_is_managed_only_with_an_apply_entry() {
        let stripped = |m: &mut Value| {
            m["labels"] = json!({});
            m["managedFields"][0]["fieldsV1"]["f:metadata"]["f:labels"] = json!({});
        };
        let seen = secret(&meta(stripped), &of("one"));
        assert_eq!((seen.owner, seen.intact), (Owner::This, false));
        let changed = |m: &mut Value| {
            m["labels"]["ecr-pull-secrets.dev/instance"] = json!("two");
            m["managedFields"][0]["fieldsV1"]["f:metadata"]["f:labels"] = json!({});
        };
        assert_eq!(secret(&meta(changed), &of("one")).owner, Owner::This);
        let unmanaged = |m: &mut Value| {
            m["labels"] = json!({});
            m["managedFields"] = json!([]);
        };
        assert_eq!(secret(&meta(unmanaged), &of("one")).owner, Owner::Unmanaged);
    }

    #[test]
    fn a_field_that_another_manager_owns_is_not_intact() {
        for path in
            ["/f:data/f:.dockerconfigjson", "/f:metadata/f:annotations/f:ecr-pull-secrets.dev~1applied"]
        {
            let removed = |m: &mut Value| {
                let fields = &mut m["managedFields"][0]["fieldsV1"];
                let (parent, key) = path.rsplit_once('/').expect("a path");
                let key = key.replace("~1", "/");
                fields.pointer_mut(parent).expect(path).as_object_mut().expect("a map").remove(&key);
            };
            assert!(!secret(&meta(removed), &of("one")).intact, "{path}");
        }
        let updated = |m: &mut Value| m["managedFields"][0]["operation"] = json!("Update");
        assert!(!secret(&meta(updated), &of("one")).intact);
    }

    #[test]
    fn each_key_of_the_template_must_be_ours_unless_the_secret_has_another_template() {
        let map = |key: &str| BTreeMap::from([(key.to_owned(), "x".to_owned())]);
        let settings =
            Settings { secret_template: SecretTemplate::new(map("team"), map("example.com/a")), ..of("one") };
        let fingerprint = settings.secret_template.fingerprint().expect("it has keys").0;
        let seen = |recorded: u64, labels: &Value, annotations: &Value| {
            let change = |m: &mut Value| {
                let applied = &mut m["annotations"]["ecr-pull-secrets.dev/applied"];
                let record = applied.as_str().expect("JSON");
                let with =
                    record.replace("\"version\"", &format!("\"template\":\"{recorded:016x}\",\"version\""));
                *applied = with.into();
                let owned = &mut m["managedFields"][0]["fieldsV1"]["f:metadata"];
                for (kind, keys) in [("f:labels", labels), ("f:annotations", annotations)] {
                    owned[kind]
                        .as_object_mut()
                        .expect("a map")
                        .extend(keys.as_object().expect("a map").clone());
                }
            };
            secret(&meta(change), &settings)
        };
        let (label, annotation) = (json!({"f:team": {}}), json!({"f:example.com/a": {}}));
        assert!(seen(fingerprint, &label, &annotation).intact);
        assert!(!seen(fingerprint, &label, &json!({})).intact, "another client removed the annotation");
        assert!(!seen(fingerprint, &json!({}), &annotation).intact, "another client removed the label");
        assert!(seen(fingerprint ^ 1, &json!({}), &json!({})).intact, "it has another template");
        assert!(secret(&meta(|_| {}), &settings).intact, "it has none");
    }

    #[test]
    fn a_foreign_secret_is_adoptable_if_a_rule_names_it_and_its_labels_and_nothing_owns_it() {
        let rule = |labels: &[(&str, &str)]| AdoptionRule {
            name: "ecr-pull".into(),
            labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        };
        let owner = |rules: Vec<AdoptionRule>, change: &dyn Fn(&mut Value)| {
            let foreign = |m: &mut Value| {
                m["labels"] = json!({"tool": "old", "team": "a"});
                m["annotations"] = json!({});
                m["managedFields"] = json!([]);
                change(m);
            };
            secret(&meta(foreign), &Settings { adopt: rules, ..of("one") }).owner
        };
        let any = || vec![rule(&[])];
        let none: &dyn Fn(&mut Value) = &|_| {};
        assert_eq!(owner(vec![], none), Owner::Unmanaged);
        assert_eq!(owner(any(), none), Owner::Adoptable);
        assert_eq!(owner(vec![rule(&[("tool", "new")]), rule(&[("tool", "old")])], none), Owner::Adoptable);
        assert_eq!(owner(vec![rule(&[("tool", "old"), ("stage", "x")])], none), Owner::Unmanaged);
        assert_eq!(owner(any(), &|m| m["name"] = json!("other")), Owner::Unmanaged);
        assert_eq!(
            owner(any(), &|m| m["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")),
            Owner::Unmanaged
        );
        let with_reference: &dyn Fn(&mut Value) = &|m| {
            m["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "A", "name": "b", "uid": "c"}]);
        };
        let by = Obstacle::OwnerReference("A/b".into());
        assert_eq!(owner(any(), with_reference), Owner::NotAdoptable(by));
        let another: &dyn Fn(&mut Value) = &|m| {
            m["labels"][LABEL_MANAGED_BY] = json!(MANAGER);
            m["labels"][LABEL_INSTANCE] = json!("two");
        };
        assert_eq!(owner(any(), another), Owner::OtherInstance("two".into()), "it is not another tool's");
    }

    #[test]
    fn an_apply_removes_a_data_key_that_only_our_apply_owns() {
        let entry = |manager: &str, operation: &str, key: &str| json!({"manager": manager, "operation": operation, "fieldsV1": {"f:data": {format!("f:{key}"): {}}}});
        let meta = meta(|m| {
            m["managedFields"] = json!([
                entry("ecr-pull-secrets", "Apply", "a"),
                entry("ecr-pull-secrets", "Apply", "b"),
                entry("kubectl", "Apply", "b"),
                entry("ecr-pull-secrets", "Update", "c"),
            ]);
        });
        let removed = ["a", "b", "c", "d"].map(|key| is_data_only_ours(&meta, key));
        assert_eq!(removed, [true, false, false, false]);
        let managers = data_managers(&meta, "b").into_iter().map(|entry| entry.manager.as_deref());
        assert_eq!(managers.collect::<Vec<_>>(), [Some("ecr-pull-secrets"), Some("kubectl")]);
    }

    #[test]
    fn whether_a_client_set_immutable_is_known_by_the_manager_of_the_field_and_its_value_is_not() {
        let immutable = |m: &mut Value| {
            let entry = json!({"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:immutable": {}}});
            m["managedFields"].as_array_mut().expect("a list").push(entry);
        };
        assert_eq!(secret(&meta(immutable), &of("one")).mutability, Mutability::Unknown);
    }
}
