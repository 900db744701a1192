//! The metadata of Secrets, Namespaces and service accounts, as the API server sends them.

use ecr_pull_secrets::simulation::core::plan::{Mutability, Observed, Owner};
use ecr_pull_secrets::simulation::core::secret::SecretTemplate;
use ecr_pull_secrets::simulation::core::settings::{AdoptionRule, Settings};
use ecr_pull_secrets::simulation::core::testing;
use ecr_pull_secrets::simulation::core::{LABEL_INSTANCE, LABEL_MANAGED_BY, MANAGER, PREFIX};
use ecr_pull_secrets::simulation::kubernetes::observe;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

const INSTANCE: &str = "test";

/// The settings of the instance, with a template and a rule of adoption.
fn settings() -> Settings {
    let labels = [("team".to_owned(), "blue".to_owned())].into();
    let adopt = vec![AdoptionRule { name: "ecr-pull".into(), labels: [].into() }];
    Settings { secret_template: SecretTemplate::new(labels, [].into()), adopt, ..testing::settings() }
}

pub fn check(data: &[u8]) {
    let Ok(meta) = serde_json::from_slice::<ObjectMeta>(data) else { return };
    let settings = settings();
    let seen = observe::secret(&meta, &settings);
    let value = serde_json::to_value(&meta).expect("metadata serialize");
    check_secret(&seen, &meta, &value);

    let again: ObjectMeta = serde_json::from_value(value).expect("metadata that were read can be read again");
    assert_eq!(observe::secret(&again, &settings), seen);
    if let Some(record) = observe::namespace(&meta, &settings) {
        assert!(meta.deletion_timestamp.is_none());
        assert_eq!(record.uid.to_string(), meta.uid.clone().unwrap_or_default());
    }
    let attached = observe::attached(&meta, &settings.names);
    assert!(attached.iter().all(|name| settings.names.all().any(|allowed| allowed == name)));
}

fn check_secret(seen: &Observed, meta: &ObjectMeta, value: &Value) {
    let owned = |path: &[&str]| first_apply(value).is_some_and(|fields| has(fields, path));
    let annotation = |key: &str| owned(&["f:metadata", "f:annotations", &format!("f:{PREFIX}{key}")]);
    let label = |key: &str| owned(&["f:metadata", "f:labels", &format!("f:{key}")]);
    let data = owned(&["f:data", "f:.dockerconfigjson"]) && owned(&["f:type"]);
    let times = annotation("expires-at") && annotation("refresh-after");
    assert_eq!(seen.data_intact, data);
    let labels = label(LABEL_MANAGED_BY) && label(LABEL_INSTANCE);
    let template = SecretTemplate::fingerprint(&settings().secret_template);
    let has_template = seen.applied.as_ref().is_some_and(|applied| applied.template == template);
    let whole = data && times && labels && annotation("applied");
    assert_eq!(seen.intact, whole && (!has_template || label("team")));
    assert!(seen.times.is_none() || times);
    let managers = value["managedFields"].as_array().into_iter().flatten();
    let is_set = { managers }.any(|entry| has(&entry["fieldsV1"], &["f:immutable"]));
    assert_eq!(seen.mutability, if is_set { Mutability::Unknown } else { Mutability::Mutable });
    if let Some(applied) = &seen.applied {
        let trusted = applied.entries.iter().flatten().all(|entry| entry.expires_at.is_none());
        assert!(annotation("applied") || trusted, "an expiry of another client is believed");
    }
    check_owner(seen, meta, first_apply(value).is_some());
}

fn check_owner(seen: &Observed, meta: &ObjectMeta, applied_by_us: bool) {
    let labels = meta.labels.clone().unwrap_or_default();
    let managed = labels.get(LABEL_MANAGED_BY).is_some_and(|name| name == MANAGER);
    let instance = labels.get(LABEL_INSTANCE).filter(|_| managed);
    match &seen.owner {
        Owner::This => {
            let claimed = applied_by_us && seen.applied.is_some();
            assert!(claimed || instance.is_some_and(|name| name == INSTANCE));
        }
        Owner::OtherInstance(name) => {
            assert!(instance.is_some_and(|label| *label == **name) && **name != *INSTANCE);
        }
        Owner::Unmanaged => assert_eq!(instance, None),
        Owner::Adoptable | Owner::NotAdoptable(_) => {
            assert_eq!(instance, None);
            assert!(meta.name.as_deref() == Some("ecr-pull") && meta.deletion_timestamp.is_none());
            let is_owned = meta.owner_references.as_ref().is_some_and(|owners| !owners.is_empty());
            assert_eq!(seen.owner == Owner::Adoptable, !is_owned);
        }
    }
}

/// The fields of the first apply of this controller.
fn first_apply(value: &Value) -> Option<&Value> {
    let is_ours = |entry: &&Value| {
        entry["manager"] == MANAGER
            && entry["operation"] == "Apply"
            && entry["subresource"].as_str().is_none_or(str::is_empty)
    };
    value["managedFields"].as_array()?.iter().find(is_ours).map(|entry| &entry["fieldsV1"])
}

fn has(fields: &Value, path: &[&str]) -> bool {
    path.iter().try_fold(fields, |at, key| at.as_object()?.get(*key)).is_some()
}
