//! A Secret as the API server stores it: the fields that the controller applies, and who owns each.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use ecr_pull_secrets::simulation::core::plan::Observed;
use ecr_pull_secrets::simulation::core::settings::Settings;
use ecr_pull_secrets::simulation::core::{
    LABEL_INSTANCE, LABEL_MANAGED_BY, MANAGER, PREFIX, SECRET_KEY, SECRET_TYPE,
};
use ecr_pull_secrets::simulation::kubernetes::observe;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta, Time};
use serde_json::{Value, json};

/// The fields that the controller applies, as a bit each.
pub const DATA: u8 = 1;
pub const LABELS: u8 = 4 | 8 | TEMPLATE;
pub const ANNOTATIONS: u8 = 16 | 32 | 64;
pub const ALL: u8 = 127;
/// The label of the template of some worlds.
const TEMPLATE: u8 = 128;
pub const TEMPLATE_LABEL: &str = "team";

const ANNOTATION_BITS: [(&str, u8); 3] = [("expires-at", 16), ("refresh-after", 32), ("applied", 64)];
const LABEL_BITS: [(&str, u8); 3] = [(LABEL_MANAGED_BY, 4), (LABEL_INSTANCE, 8), (TEMPLATE_LABEL, TEMPLATE)];
const TYPE: u8 = 2;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct SecretObject {
    pub uid: String,
    pub version: u64,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// The value of `.dockerconfigjson`.
    pub data: Arc<Vec<u8>>,
    pub kind: String,
    pub immutable: Option<bool>,
    /// The fields that our Apply entry owns; `None` without one.
    pub ours: Option<u8>,
    /// The fields that other managers own.
    pub others: u8,
    /// The fields that the Apply entry of another manager owns, besides `others`.
    pub taken: u8,
    /// A finalizer holds the object when it is deleted.
    pub finalizer: bool,
    pub deleting: bool,
    /// What [`Self::observed`] returned for this version.
    pub record: Computed<Observed>,
    /// What [`Self::passwords`] returned for this version.
    pub read: Computed<BTreeMap<String, String>>,
}

/// A value that is computed once. It is not part of the object.
#[derive(Debug)]
pub struct Computed<T>(OnceLock<T>);

impl<T> Default for Computed<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T> Clone for Computed<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<T> PartialEq for Computed<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl SecretObject {
    /// A Secret that another client created.
    pub fn foreign(kind: &str) -> Self {
        let data = br#"{"auths":{"theirs.example":{"username":"u","password":"p","auth":"dTpw"}}}"#;
        Self { data: Arc::new(data.to_vec()), kind: kind.to_owned(), others: DATA | TYPE, ..Self::default() }
    }

    /// The Secret after an apply of `body`, without a new version.
    pub fn applied(&self, body: &Value) -> Self {
        let mut new = self.with_fields(body);
        let owned = SecretObject::default().with_fields(body).present();
        // A field that our last apply had, this one lacks and no other manager owns is removed.
        if self.ours.unwrap_or_default() & !owned & !(self.others | self.taken) & TEMPLATE != 0 {
            new.labels.remove(TEMPLATE_LABEL);
        }
        new.ours = Some(owned);
        // Others still own what they had with the same value.
        new.others &= !self.differences(&new);
        new.taken &= !self.differences(&new);
        new
    }

    /// The Secret with the fields of `body`, and the same owners.
    pub fn with_fields(&self, body: &Value) -> Self {
        let texts = |at: &Value| -> Vec<(String, String)> {
            let all = at.as_object().into_iter().flatten();
            all.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
        };
        let mut new = self.clone();
        new.labels.extend(texts(&body["metadata"]["labels"]));
        new.annotations.extend(texts(&body["metadata"]["annotations"]));
        let data = body["data"][SECRET_KEY].as_str().unwrap_or_default();
        new.data = Arc::new(decode(data));
        body["type"].as_str().unwrap_or(&self.kind).clone_into(&mut new.kind);
        new
    }

    /// The fields of `body` that others own with another value.
    pub fn conflicts(&self, body: &Value) -> u8 {
        self.differences(&self.with_fields(body)) & (self.others | self.taken)
    }

    /// The fields that exist.
    pub fn present(&self) -> u8 {
        SecretObject::default().differences(self)
    }

    /// The fields that differ.
    pub fn differences(&self, new: &Self) -> u8 {
        let differs = |bit: u8, same: bool| if same { 0 } else { bit };
        let mut changed = differs(DATA, new.data == self.data) | differs(TYPE, new.kind == self.kind);
        for (key, bit) in LABEL_BITS {
            changed |= differs(bit, new.labels.get(key) == self.labels.get(key));
        }
        for (key, bit) in ANNOTATION_BITS {
            let key = format!("{PREFIX}{key}");
            changed |= differs(bit, new.annotations.get(&key) == self.annotations.get(&key));
        }
        changed
    }

    /// Whether its data can never change again.
    pub fn is_immutable(&self) -> bool {
        self.immutable == Some(true)
    }

    /// Another client takes fields over, as an update of their values does.
    pub fn take_over(&mut self, fields: u8) {
        self.ours = self.ours.map(|ours| ours & !fields).filter(|ours| *ours != 0);
        self.taken &= !fields;
        self.others |= fields;
    }

    pub fn meta(&self, namespace: &str, name: &str) -> ObjectMeta {
        let mut managed = vec![];
        if let Some(ours) = self.ours {
            managed.push(entry(MANAGER, "Apply", fields(ours)));
        }
        if self.taken != 0 {
            managed.push(entry("argocd", "Apply", fields(self.taken)));
        }
        let mut others = fields(self.others);
        if self.immutable.is_some() {
            others["f:immutable"] = json!({});
        }
        if self.others != 0 || self.immutable.is_some() {
            managed.push(entry("kubectl", "Update", others));
        }
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            uid: Some(self.uid.clone()),
            resource_version: Some(self.version.to_string()),
            labels: Some(self.labels.clone()),
            annotations: Some(self.annotations.clone()),
            managed_fields: Some(managed),
            deletion_timestamp: self.deleting.then(|| Time("2026-01-01T00:00:00Z".parse().expect("a time"))),
            ..ObjectMeta::default()
        }
    }

    /// The object with its data, as a GET shows it.
    pub fn whole(&self, namespace: &str, name: &str) -> Value {
        use base64::Engine as _;
        let data = base64::engine::general_purpose::STANDARD.encode(&*self.data);
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": self.meta(namespace, name), "type": self.kind,
            "data": {SECRET_KEY: data}, "immutable": self.immutable,
        })
    }

    /// The record that the production code makes of the metadata.
    pub fn observed(&self, name: &str, settings: &Settings) -> Observed {
        self.record.0.get_or_init(|| observe::secret(&self.meta("", name), settings)).clone()
    }

    /// When the entry of this host expires, according to the record.
    pub fn recorded_expiry(&self, host: &str, settings: &Settings) -> Option<Timestamp> {
        let observed = observe::secret(&self.meta("", ""), settings);
        observed.applied?.entry_of(&host.parse().ok()?)?.expires_at
    }

    /// The password of each entry, by host.
    pub fn passwords(&self) -> &BTreeMap<String, String> {
        self.read.0.get_or_init(|| {
            let read: Value = serde_json::from_slice(&self.data).unwrap_or_default();
            let auths = read["auths"].as_object().into_iter().flatten();
            let text = |value: &Value| value["password"].as_str().unwrap_or_default().to_owned();
            auths.map(|(host, value)| (host.clone(), text(value))).collect()
        })
    }

    pub fn is_pull_secret(&self) -> bool {
        self.kind == SECRET_TYPE
    }
}

pub(super) fn decode(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).expect("base64")
}

fn fields(bits: u8) -> Value {
    let mut all = json!({});
    if bits & DATA != 0 {
        all["f:data"][format!("f:{SECRET_KEY}")] = json!({});
    }
    if bits & TYPE != 0 {
        all["f:type"] = json!({});
    }
    for (key, _) in LABEL_BITS.iter().filter(|(_, bit)| bits & bit != 0) {
        all["f:metadata"]["f:labels"][format!("f:{key}")] = json!({});
    }
    for (key, _) in ANNOTATION_BITS.iter().filter(|(_, bit)| bits & bit != 0) {
        all["f:metadata"]["f:annotations"][format!("f:{PREFIX}{key}")] = json!({});
    }
    all
}

fn entry(manager: &str, operation: &str, fields: Value) -> ManagedFieldsEntry {
    ManagedFieldsEntry {
        manager: Some(manager.to_owned()),
        operation: Some(operation.to_owned()),
        fields_v1: Some(FieldsV1(fields)),
        ..ManagedFieldsEntry::default()
    }
}
