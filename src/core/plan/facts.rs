//! The facts about a namespace that decisions use: its annotations, its Secrets and service accounts, and the history
//! of this process.

use std::sync::Arc;

use super::history::History;
use super::service_accounts::PullSecretRefs;
use crate::core::request::{AppliedState, ParsedAnnotations, Times};
use crate::core::secret::StaticSources;

/// The record of a Namespace that opted in.
#[derive(Clone, Debug, PartialEq)]
pub struct NamespaceRecord {
    /// Events refer to it.
    pub uid: Box<str>,
    pub parsed: Arc<ParsedAnnotations>,
}

/// The manager of a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This instance.
    This,
    /// Another instance of this tool, by name.
    OtherInstance(Box<str>),
    /// No instance of this tool.
    Unmanaged,
}

/// The record of a Secret of an allowed name, read from its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    pub uid: Box<str>,
    /// Comparable within one cluster
    /// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>).
    pub resource_version: u64,
    pub owner: Owner,
    /// Whether our Apply entry owns every field that we apply.
    pub intact: bool,
    /// Whether our Apply entry owns the data, even if another client changed the metadata.
    pub data_intact: bool,
    /// Whether a client set the field `immutable`.
    pub immutable: bool,
    /// `None` if another client wrote one of the two annotations.
    pub times: Option<Times>,
    /// `None` if the annotation is missing, cannot be parsed, or names another instance.
    pub applied: Option<Arc<AppliedState>>,
}

/// Everything that is known about a namespace.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub namespace: &'a str,
    /// `None` if the Namespace did not opt in or does not exist.
    pub parsed: Option<&'a ParsedAnnotations>,
    /// The Secrets of allowed names in it.
    pub secrets: &'a [(Arc<str>, Observed)],
    /// The service accounts in it; empty unless the configuration enables them.
    pub service_accounts: &'a [(Arc<str>, PullSecretRefs)],
    pub static_sources: &'a StaticSources,
    pub history: &'a History,
}

impl<'a> Facts<'a> {
    /// The Secrets that this instance manages.
    pub fn managed(&self) -> impl Iterator<Item = &'a (Arc<str>, Observed)> + use<'a> {
        self.secrets.iter().filter(|(_, observed)| observed.owner == Owner::This)
    }

    /// The Secret of this name.
    pub fn secret(&self, name: &str) -> Option<&'a (Arc<str>, Observed)> {
        self.secrets.iter().find(|(known, _)| **known == *name)
    }
}
