//! The messages of conditions and writes: the log, the Event and the summary of `sync` share one text.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use jiff::Timestamp;

use super::Controller;
use super::change::MissedOptIn;
use super::dispatch::{RefusedRequest, RunningWrite};
use super::error::RequestError;
use super::tell::{EventRecord, Tell};
use crate::core::grants::{Assignment, TokenKey};
use crate::core::plan::{Deletion, Mutability, Observed, Step, WriteReason};
use crate::core::request::Problem;
use crate::core::secret::TokenError;
use crate::core::{EventReason, whole_seconds};

/// The maximum number of conditions of one namespace that are logged before it recovers.
const MAX_CONDITIONS: usize = 64;

/// Above this number of namespaces with conditions, the log may repeat a condition.
const MAX_NAMESPACES: usize = 16_384;

/// The conditions that have not ended.
#[derive(Default)]
pub(super) struct Conditions {
    /// Hashes of the conditions that were logged, by namespace.
    logged: BTreeMap<Arc<str>, BTreeSet<u64>>,
    /// Namespaces with a failed token or write.
    failing: BTreeSet<Arc<str>>,
}

impl Conditions {
    /// Whether a condition is new and to be logged. It is remembered until the namespace recovers.
    fn is_first(&mut self, namespace: &Arc<str>, reason: EventReason, condition: &str) -> bool {
        if self.logged.len() >= MAX_NAMESPACES {
            self.logged.clear();
        }
        let logged = self.logged.entry(namespace.clone()).or_default();
        logged.len() < MAX_CONDITIONS && logged.insert(fingerprint(reason, condition))
    }

    #[cfg(feature = "simulation")]
    pub(super) fn len(&self) -> usize {
        self.logged.len().max(self.failing.len())
    }

    /// Forgets a namespace of which nothing is left.
    pub(super) fn forget(&mut self, namespace: &str) {
        self.failing.remove(namespace);
        self.logged.remove(namespace);
    }

    /// Forgets the conditions of a namespace. Returns whether it was failing.
    fn recover(&mut self, namespace: &str) -> bool {
        let failing = self.failing.remove(namespace);
        if failing {
            self.logged.remove(namespace);
        }
        failing
    }
}

impl Controller {
    pub(super) fn report_token_failure(
        &mut self,
        namespace: &Arc<str>,
        assignment: &Assignment,
        error: &TokenError,
        retry_at: Timestamp,
    ) {
        self.conditions.failing.insert(namespace.clone());
        let TokenKey { identity, endpoint, .. } = &assignment.request.key;
        // Two roles may fail in the same region with different errors.
        let subject = format!("{endpoint}, identity {:?}", identity.as_str());
        let message = format!(
            "could not fetch a token for {} ({subject}): {error}; keeping the current entry, retrying at {}",
            assignment.target,
            whole_seconds(retry_at)
        );
        self.tell_notice(namespace, EventReason::TokenFailed, &subject, message);
    }

    pub(super) fn report_write_failure(
        &mut self,
        namespace: &Arc<str>,
        refused: &RefusedRequest,
        retry_at: Option<Timestamp>,
    ) {
        let RefusedRequest { secret, operation, error, .. } = refused;
        let (reason, remedy) = match error {
            RequestError::Conflict(_) | RequestError::NamespaceGone | RequestError::NotLeader => {
                return self.tell_overtaken(namespace, secret, error);
            }
            RequestError::NotOwned(_) | RequestError::OtherType(_) => (
                EventReason::SecretNotOwned,
                "; delete it, or choose another name with ecr-pull-secrets.dev/secret-name",
            ),
            RequestError::Forbidden(_) => (
                EventReason::WriteFailed,
                "; the controller's ClusterRole must name the secret, and admission must allow the request",
            ),
            // The chart's policy denies what mutating admission adds to the request, and names the key in its message.
            RequestError::AdmissionDenied(_) => (
                EventReason::WriteFailed,
                "; the policy must allow the request: if a mutating webhook or policy of the cluster sets the field, set \
                 admissionPolicy.allowedMetadata or admissionPolicy.allowImmutable of the chart, or exclude the secret",
            ),
            RequestError::Immutable(_) | RequestError::Rejected(_) | RequestError::Unavailable { .. } => {
                (EventReason::WriteFailed, "")
            }
        };
        self.conditions.failing.insert(namespace.clone());
        let operation = operation.into_str();
        let message =
            format!("could not {operation} secret {secret:?}: {error}{remedy}{}", retrying(retry_at));
        self.tell_notice(namespace, reason, operation, message);
    }

    /// Reports that a service account could not be changed, or that those of the namespace could not be listed.
    pub(super) fn report_service_account_failure(
        &mut self,
        namespace: &Arc<str>,
        service_account: Option<&str>,
        error: &RequestError,
        retry_at: Option<Timestamp>,
    ) {
        let (verb, object) = match service_account {
            Some(name) => ("update", format!("service account {name:?}")),
            None => ("list", "the service accounts".to_owned()),
        };
        let remedy = match error {
            RequestError::Conflict(_) => return self.tell_overtaken(namespace, &object, error),
            RequestError::Forbidden(_) => {
                "; the controller's ClusterRole must allow get, list and patch on serviceaccounts, and admission must allow \
                 the request"
            }
            _ => "",
        };
        let message = format!("could not {verb} {object}: {error}{remedy}{}", retrying(retry_at));
        self.tell_notice(namespace, EventReason::WriteFailed, service_account.unwrap_or(verb), message);
    }

    pub(super) fn report_write(&mut self, namespace: &Arc<str>, write: &RunningWrite, observed: &Observed) {
        let (secret, reason) = (write.secret.clone(), write.reason);
        let expiry = observed.times.map(|times| times.expires_at);
        self.tell(Tell::SecretWritten {
            namespace: namespace.clone(),
            secret: secret.clone(),
            reason,
            expiry,
            may_be_immutable: observed.mutability == Mutability::Unknown,
        });
        if reason == WriteReason::Missing {
            let message = format!("secret {secret:?} created");
            self.tell_notice(namespace, EventReason::SecretCreated, &secret, message);
        } else if reason == WriteReason::Adopted {
            let message = format!(
                "secret {secret:?} adopted: the controller renews it in place, and deletes it if the namespace opts out; stop \
                 the tool that created it"
            );
            self.tell_notice(namespace, EventReason::SecretAdopted, &secret, message);
        } else if reason.is_repair() {
            let message = format!("secret {secret:?} repaired: {}", reason.message());
            self.tell_notice(namespace, EventReason::SecretRepaired, &secret, message);
        }
        if reason == WriteReason::RenewRequested {
            let message =
                format!("secret {secret:?} has a new token, as requested by ecr-pull-secrets.dev/renew");
            self.tell_notice(namespace, EventReason::SecretRenewed, &secret, message);
        }
        if write.complete && self.conditions.recover(namespace) {
            let message = format!("every entry of secret {secret:?} has a current token again");
            self.tell_notice(namespace, EventReason::SecretRecovered, &secret, message);
        }
    }

    pub(super) fn report_deletion(&mut self, namespace: &Arc<str>, deletion: &Deletion) {
        let (secret, reason) = (deletion.name.clone(), deletion.reason);
        let message = format!("secret {secret:?} deleted: {}", reason.message());
        self.tell_notice(namespace, EventReason::SecretDeleted, &secret, message);
        self.tell(Tell::SecretDeleted { namespace: namespace.clone(), secret, reason });
    }

    pub(super) fn tell_would_delete(&mut self, namespace: &str, step: &Step) {
        let object = match step {
            Step::Delete(deletion) => format!("secret {namespace}/{}", deletion.name),
            Step::Replace(replacement) => format!("secret {namespace}/{}", replacement.deletion.name),
            Step::SetPullSecret(change) => {
                format!("the reference in service account {namespace}/{}", change.service_account)
            }
            Step::Idle(_) | Step::Write(_) | Step::ListServiceAccounts => return,
        };
        self.tell(Tell::WouldDelete { object });
    }

    /// Another client changed the object first, so no user has to act.
    pub(super) fn tell_overtaken(&mut self, namespace: &Arc<str>, object: &str, error: &RequestError) {
        let (object, message) = (object.to_owned(), error.to_string());
        self.tell(Tell::Overtaken { namespace: namespace.clone(), object, message });
    }

    /// Reports the problems that a plan found. Several problems of one reason and subject are as many Events.
    pub(super) fn report_problems(&mut self, namespace: &Arc<str>, problems: Vec<Problem>) {
        let mut counts: BTreeMap<(&'static str, String), usize> = BTreeMap::new();
        for Problem { reason, subject, message } in problems {
            let count = counts.entry((reason.into_str(), subject.clone())).or_default();
            *count += 1;
            let subject = if *count == 1 { subject } else { format!("{subject} {count}") };
            let condition = message.clone();
            self.tell_condition(namespace, reason, subject, &condition, message);
        }
    }

    /// The namespace is not in the index, so this is the only time that it is reported.
    pub(super) fn report_missed_opt_in(&mut self, namespace: &Arc<str>, missed: &MissedOptIn) {
        // However often the keys change, it is one condition.
        const SUBJECT: &str = "keys";
        let MissedOptIn { uid, problem } = missed;
        let first = self.conditions.is_first(namespace, problem.reason, SUBJECT);
        let message = format!("{}; this namespace did not opt in", problem.message);
        let event = EventRecord {
            namespace: namespace.clone(),
            uid: uid.clone(),
            reason: problem.reason,
            condition: fingerprint(problem.reason, &message),
            message,
            subject: SUBJECT.to_owned(),
        };
        self.tell(Tell::Notice { event, first });
    }

    pub(super) fn tell_notice(
        &mut self,
        namespace: &Arc<str>,
        reason: EventReason,
        subject: &str,
        message: String,
    ) {
        self.tell_condition(namespace, reason, subject.to_owned(), subject, message);
    }

    /// Tells a condition or a change. `condition` identifies the condition in the log, and `subject` its Event.
    fn tell_condition(
        &mut self,
        namespace: &Arc<str>,
        reason: EventReason,
        subject: String,
        condition: &str,
        message: String,
    ) {
        let first = !reason.is_warning() || self.conditions.is_first(namespace, reason, condition);
        let record = self.index.get(namespace).and_then(|state| state.namespace.as_ref());
        let uid = record.map(|record| record.uid.clone()).unwrap_or_default();
        let (namespace, condition) = (namespace.clone(), fingerprint(reason, condition));
        let event = EventRecord { namespace, uid, reason, message, condition, subject };
        self.tell(Tell::Notice { event, first });
    }
}

fn fingerprint(reason: EventReason, condition: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (reason, condition).hash(&mut hasher);
    hasher.finish()
}

fn retrying(at: Option<Timestamp>) -> String {
    at.map(|at| format!("; retrying at {}", whole_seconds(at))).unwrap_or_default()
}
