//! Removals: what a namespace no longer requests, and what the configuration no longer grants, includes or names. Many
//! removals of the second kind are held until an administrator confirms them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{DeleteReason, Deletion, Facts, Mutability, Observed, Planner, Step, WritePlan, WriteReason};
use crate::core::grants::Granted;
use crate::core::request::{Problem, Request};
use crate::core::secret::static_registries::StaticEntry;
use crate::core::{EventReason, Uid};

/// The part of the configuration that a removal follows from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemovalCause {
    /// This identity is no longer granted. The name comes from the record of a Secret.
    Identity(Box<str>),
    /// `namespaces`.
    Namespaces,
    /// `secretNames`.
    SecretNames,
}

impl RemovalCause {
    /// The causes that a removal of this Secret can have.
    pub fn possible(observed: &Observed) -> impl Iterator<Item = Self> {
        let applied = observed.applied.as_deref();
        let included = applied.filter(|applied| applied.request.by_default).map(|_| Self::Namespaces);
        let identities = observed.entries().map(|entry| Self::Identity(entry.identity.clone()));
        identities.chain(included).chain([Self::SecretNames])
    }
}

/// A Secret that the configuration no longer grants, includes or names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    pub cause: RemovalCause,
    pub uid: Uid,
}

impl Planner<'_> {
    /// Removes what is left in a namespace that did not opt in. If the configuration had opted it in, only the configuration
    /// can have opted it out.
    pub(super) fn remove_without_opt_in(&mut self) -> Step {
        let by_default = |o: &Observed| o.applied.as_ref().is_some_and(|applied| applied.request.by_default);
        if self.facts.managed().any(|(_, observed)| by_default(observed)) {
            return self.remove_all(DeleteReason::NotIncluded);
        }
        self.remove_secrets(DeleteReason::OptedOut)
    }

    /// Removes everything, because the configuration no longer grants or includes the applied request.
    pub(super) fn remove_all(&mut self, reason: DeleteReason) -> Step {
        let Self { facts, settings, .. } = *self;
        let is_granted = |name: &str| settings.grants.is_granted(facts.namespace, name);
        for (_, observed) in facts.managed().filter(|(_, observed)| is_removable(observed)) {
            let lost = observed.entries().find(|entry| !is_granted(&entry.identity));
            let lost = lost.or_else(|| observed.entries().next());
            let cause = match reason {
                DeleteReason::NotIncluded => RemovalCause::Namespaces,
                _ => RemovalCause::Identity(lost.map(|entry| entry.identity.clone()).unwrap_or_default()),
            };
            self.revocations.push(Revocation { cause, uid: observed.uid.clone() });
        }
        if self.facts.held { self.hold(reason) } else { self.remove_secrets(reason) }
    }

    /// Removes the references of service accounts, then the Secrets, or the Secrets first while a service account cannot be
    /// changed. In a namespace that did not opt in, other tools may have copied a Secret with its labels, so only Secrets that
    /// the controller applied are removed.
    pub(super) fn remove_secrets(&mut self, reason: DeleteReason) -> Step {
        let references = self.set_pull_secret(|_| None, &[], Some(reason));
        if self.account_fails {
            return self.delete_applied(reason).or_else(|| references);
        }
        references.or_else(|| self.delete_applied(reason))
    }

    fn delete_applied(&mut self, reason: DeleteReason) -> Step {
        self.delete_first(|_, observed| observed.is_applied, |_| reason)
    }

    /// Notes the Secrets whose names the configuration no longer allows.
    pub(super) fn revoke_retired(&mut self, requested: &str) {
        let Self { facts, settings, .. } = *self;
        let is_obsolete = |name: &Arc<str>| settings.names.is_retired(name) && **name != *requested;
        for (_, observed) in facts.managed().filter(|(name, o)| is_obsolete(name) && !o.is_deleting) {
            self.revocations.push(Revocation { cause: RemovalCause::SecretNames, uid: observed.uid.clone() });
        }
    }

    /// Deletes the first Secret with an obsolete name. During a hold, it keeps those with a retired name. A Secret with a static
    /// entry that lost its grant is an exception: RBAC does not allow the controller to write a retired name.
    pub(super) fn delete_obsolete(&mut self, obsolete: impl Fn(&Arc<str>) -> bool) -> Step {
        let Self { facts, settings, .. } = *self;
        let is_retired = |name: &Arc<str>| settings.names.is_retired(name);
        let is_held = |name: &Arc<str>, observed: &Observed| {
            facts.held && is_retired(name) && self.kept_static_entries(observed).is_none()
        };
        let held = facts.managed().filter(|(name, observed)| is_held(name, observed) && obsolete(name));
        let held: Vec<_> = held.map(|(name, _)| name.clone()).collect();
        for name in &held {
            self.report_held(name);
        }
        let reason = |name: &Arc<str>| {
            if is_retired(name) { DeleteReason::Retired } else { DeleteReason::Renamed }
        };
        self.delete_first(|name, _| obsolete(name) && !held.contains(name), reason)
    }

    /// Deletes the first managed Secret that matches. One that a finalizer holds is reported.
    fn delete_first(
        &mut self,
        matches: impl Fn(&Arc<str>, &Observed) -> bool,
        reason: impl Fn(&Arc<str>) -> DeleteReason,
    ) -> Step {
        for (name, observed) in self.facts.managed().filter(|(name, observed)| matches(name, observed)) {
            if !observed.is_deleting {
                return self.delete(name, observed, reason(name));
            }
            self.report_blocked(name);
        }
        Step::Idle(None)
    }

    pub(super) fn report_blocked(&mut self, name: &str) {
        let message = format!(
            "secret {name:?} is being deleted, but a finalizer holds it, so pods can still use it: let the client that added \
             the finalizer remove it"
        );
        self.problems.push(Problem {
            reason: EventReason::DeletionBlocked,
            subject: name.to_owned(),
            message,
        });
    }

    /// Deletes a Secret now, or when the backoff of failures or of earlier deletions ends.
    pub(super) fn delete(&self, name: &Arc<str>, observed: &Observed, reason: DeleteReason) -> Step {
        let Facts { namespace, history, keeps_all, .. } = *self.facts;
        if keeps_all || self.is_given_up(&history.removals) {
            return Step::Idle(None);
        }
        let deletion = Deletion { name: name.clone(), version: observed.version(), reason };
        Step::Delete(deletion).at(history.delete_after(namespace, name, self.settings.jitter, self.now))
    }

    /// Keeps the Secrets until an administrator confirms that they are removed. Their tokens end by themselves, but static
    /// entries do not, so those that are no longer granted are removed now. The admission policy denies every write in a
    /// namespace that the configuration does not include.
    fn hold(&mut self, reason: DeleteReason) -> Step {
        let mut step = Step::Idle(None);
        for (name, observed) in self.facts.managed().filter(|(_, observed)| is_removable(observed)) {
            self.report_held(name);
            if reason == DeleteReason::NotGranted {
                step = step.or_else(|| self.revoke_static_entries(name, observed));
            }
        }
        step
    }

    fn report_held(&mut self, name: &str) {
        let message = format!(
            "the controller's configuration no longer grants, includes or allows secret {name:?}: the controller keeps it \
             without renewing it until an administrator corrects the configuration or confirms the removal, which the \
             controller's log describes"
        );
        self.problems.push(Problem { reason: EventReason::RemovalHeld, subject: name.to_owned(), message });
    }

    /// The static entries of a Secret that are still granted; `None` if that is all of them.
    pub(super) fn kept_static_entries(&self, observed: &Observed) -> Option<BTreeMap<String, StaticEntry>> {
        let is_ours = observed.intact && !observed.is_deleting;
        let copied = &observed.applied.as_ref().filter(|_| is_ours)?.static_entries;
        let mut kept = self.granted_static_entries(Some(observed));
        kept.retain(|host, _| copied.contains_key(host));
        (kept.len() < copied.len()).then_some(kept)
    }

    /// An immutable Secret keeps them: to delete it is what the hold is for. One with a retired name is deleted, as by
    /// [`Self::delete_obsolete`].
    fn revoke_static_entries(&self, name: &Arc<str>, observed: &Observed) -> Step {
        if self.settings.names.is_retired(name) {
            let is_revoked = self.kept_static_entries(observed).is_some();
            let delete = || self.delete(name, observed, DeleteReason::NotGranted);
            return if is_revoked { delete() } else { Step::Idle(None) };
        }
        if observed.mutability == Mutability::Immutable {
            return Step::Idle(None);
        }
        let Some(applied) = &observed.applied else { return Step::Idle(None) };
        let Some(static_entries) = self.kept_static_entries(observed) else { return Step::Idle(None) };
        let request = Request { secret_name: name.to_string(), ..applied.request.clone() };
        let granted = Arc::new(Granted { request: Arc::new(request), assignments: vec![] });
        let reason = WriteReason::StaticEntryChanged;
        self.write(WritePlan::new(reason, granted, static_entries, Some(observed.clone())))
    }
}

/// Whether the configuration can remove it: only a finalizer holds a Secret that was deleted already.
fn is_removable(observed: &Observed) -> bool {
    observed.is_applied && !observed.is_deleting
}
