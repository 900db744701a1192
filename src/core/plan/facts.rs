//! The facts about a namespace that decisions use: its annotations, its Secrets and service accounts, and the history
//! of this process.

use std::sync::Arc;

use super::history::History;
use super::observed::{Observed, Owner};
use super::service_accounts::PullSecretRefs;
use crate::core::request::ParsedAnnotations;
use crate::core::secret::StaticSources;

/// Which service accounts of a namespace are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownAccounts {
    /// All that decisions need.
    All,
    /// Those with a reference that the controller added. The namespace opted in after they were listed, so it may have others.
    Attached,
    /// Maybe none, because the first list has not ended.
    Unlisted,
}

/// Everything that is known about a namespace.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a separate fact")]
pub struct Facts<'a> {
    pub namespace: &'a str,
    /// `None` if the Namespace did not opt in or does not exist.
    pub parsed: Option<&'a ParsedAnnotations>,
    /// Whether the Namespace is being deleted: the namespace controller deletes its contents.
    pub terminating: bool,
    /// Whether removals that follow from the configuration wait for a confirmation.
    pub held: bool,
    /// Whether this run removes nothing.
    pub keeps_all: bool,
    /// Whether nothing that failed is tried again, so that the pass ends.
    pub is_single_pass: bool,
    /// The Secrets of allowed names in it.
    pub secrets: &'a [(Arc<str>, Observed)],
    /// The service accounts in it; empty unless the configuration enables them.
    pub service_accounts: &'a [(Arc<str>, PullSecretRefs)],
    pub known_accounts: KnownAccounts,
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
