//! What is compared: the class of each outcome, and the object after it.

use std::collections::BTreeMap;

use ecr_pull_secrets::simulation::core::plan::Observed;
use ecr_pull_secrets::simulation::core::testing;
use ecr_pull_secrets::simulation::core::{LABEL_INSTANCE, LABEL_MANAGED_BY, MANAGER, SECRET_KEY};
use ecr_pull_secrets::simulation::kubernetes::{errors, observe};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};

use crate::store::annotation;

/// What a request did.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// `ok`, or the class of the error.
    pub outcome: &'static str,
    /// The Secret after it.
    pub object: Option<View>,
}

/// A Secret, without what differs between two API servers.
#[expect(clippy::struct_excessive_bools, reason = "what is compared")]
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Whether it is the object of before, and whether its version is another one.
    pub same: bool,
    pub grew: bool,
    /// Which of the seven fields our Apply entry owns, and which any other entry owns.
    pub ours: Vec<&'static str>,
    pub others: Vec<&'static str>,
    pub kind: Option<String>,
    pub data: Option<String>,
    pub immutable: bool,
    pub deleting: bool,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// What the program makes of its metadata, without UID and version.
    pub observed: Observed,
}

/// The class by which the program decides.
pub fn class<T>(result: Result<T, kube::Error>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(error) => errors::classify(&error).into_str(),
    }
}

pub fn version(secret: &Secret) -> u64 {
    observe::resource_version(&secret.metadata)
}

pub fn uid(secret: &Secret) -> String {
    secret.metadata.uid.clone().unwrap_or_default()
}

impl View {
    pub fn new(before: Option<&Secret>, after: &Secret) -> Self {
        let meta = &after.metadata;
        let entries = meta.managed_fields.as_deref().unwrap_or_default();
        let is_ours = |entry: &&ManagedFieldsEntry| {
            entry.manager.as_deref() == Some(MANAGER) && entry.operation.as_deref() == Some("Apply")
        };
        let data = after.data.as_ref().and_then(|data| data.get(SECRET_KEY));
        Self {
            same: before.is_some_and(|before| before.metadata.uid == meta.uid),
            grew: before.is_none_or(|before| version(before) < version(after)),
            ours: owned(entries.iter().filter(is_ours)),
            others: owned(entries.iter().filter(|entry| !is_ours(entry))),
            kind: after.type_.clone(),
            data: data.map(|data| String::from_utf8_lossy(&data.0).into_owned()),
            immutable: after.immutable == Some(true),
            deleting: meta.deletion_timestamp.is_some(),
            labels: meta.labels.clone().unwrap_or_default(),
            annotations: meta.annotations.clone().unwrap_or_default(),
            observed: observed(meta),
        }
    }
}

fn observed(meta: &ObjectMeta) -> Observed {
    Observed { uid: "".into(), resource_version: 0, ..observe::secret(meta, &testing::settings()) }
}

/// The fields that at least one of the entries owns.
fn owned<'a>(entries: impl Iterator<Item = &'a ManagedFieldsEntry>) -> Vec<&'static str> {
    let entries: Vec<_> = entries.filter_map(|entry| Some(&entry.fields_v1.as_ref()?.0)).collect();
    let label = |key: &str| vec!["f:metadata".to_owned(), "f:labels".to_owned(), format!("f:{key}")];
    let note =
        |key| vec!["f:metadata".to_owned(), "f:annotations".to_owned(), format!("f:{}", annotation(key))];
    let paths = [
        ("data", vec!["f:data".to_owned(), format!("f:{SECRET_KEY}")]),
        ("type", vec!["f:type".to_owned()]),
        ("managed-by", label(LABEL_MANAGED_BY)),
        ("instance", label(LABEL_INSTANCE)),
        ("expires-at", note("expires-at")),
        ("refresh-after", note("refresh-after")),
        ("applied", note("applied")),
    ];
    let owns = |path: &[String]| {
        entries.iter().any(|fields| path.iter().try_fold(*fields, |at, key| at.get(key.as_str())).is_some())
    };
    paths.iter().filter(|(_, path)| owns(path)).map(|(name, _)| *name).collect()
}
