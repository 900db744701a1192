//! Taking in what came of an action or of a call to AWS.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tracing::{debug, info};

use super::act::{Act, End};
use super::{Controller, Mode};
use crate::cluster::events::Reason;
use crate::cluster::index::Entry;
use crate::cluster::write::WriteError;
use crate::core::accounts::Account;
use crate::core::annotations::Wish;
use crate::core::facts::{Observed, Owner, WriteCause};
use crate::core::plan::{DeleteCause, Intent};
use crate::ecr::cache::Outcome;
use crate::telemetry::metrics::Census;

impl Controller {
    /// Takes in what came of an action.
    pub(super) fn acted(&mut self, act: Act) {
        let Act { namespace, took, end } = act;
        self.queue.end(&namespace);
        match end {
            End::Wrote { intent, fingerprint, whole, result } => {
                let operation = operation(intent.cause);
                let label = result.as_ref().map_or_else(WriteError::kind, |_| "ok");
                self.parts.metrics.secret_write(operation, label, took);
                match result {
                    Ok(observed) => self.wrote(&namespace, &intent, fingerprint, whole, &observed),
                    Err(error) => {
                        self.failed(&namespace, &intent.granted.request.secret_name, operation, &error);
                    }
                }
            }
            End::Attached { account, wanted, result } => {
                self.attached(&namespace, &account, wanted.as_deref(), result);
            }
            End::Deleted { name, cause, result } => {
                let label = result.as_ref().map_or_else(WriteError::kind, |_| "ok");
                self.parts.metrics.secret_write("delete", label, took);
                match result {
                    Ok(true) => self.deleted(&namespace, &name, cause),
                    Ok(false) => {
                        debug!(%namespace, "not deleted: the namespace itself speaks against it");
                        self.queue.schedule(&namespace, Some(self.now() + SignedDuration::from_secs(1)));
                    }
                    Err(error) => self.failed(&namespace, &name, "delete", &error),
                }
            }
        }
    }

    fn wrote(
        &mut self,
        namespace: &Arc<str>,
        intent: &Intent,
        fingerprint: u64,
        whole: bool,
        observed: &Observed,
    ) {
        let now = self.now();
        let allowed = self
            .parts
            .settings
            .secret_names
            .iter()
            .find(|name| ***name == *intent.granted.request.secret_name);
        let name = allowed.cloned().unwrap_or_else(|| intent.granted.request.secret_name.as_str().into());
        let expires_at = observed.times.map(|times| times.expires_at.to_string()).unwrap_or_default();
        info!(%namespace, secret = %name, cause = ?intent.cause, expires_at, "secret written");
        self.parts.index.set_secret(namespace, &name, observed.clone());
        if let Some(history) = self.parts.index.history(namespace) {
            history.wrote(intent.cause, &name, observed, fingerprint, now);
        }
        let uid = self.uid(namespace);
        let reason = match intent.cause {
            WriteCause::Create => Some(Reason::SecretCreated),
            WriteCause::Repair => Some(Reason::SecretRepaired),
            WriteCause::Change | WriteCause::Static | WriteCause::Refresh => None,
        };
        self.parts.reporter.wrote(namespace, &uid, &name, reason, whole);
        self.look(namespace);
    }

    fn attached(
        &mut self,
        namespace: &Arc<str>,
        account: &Arc<str>,
        wanted: Option<&str>,
        result: Result<Option<(Account, bool)>, WriteError>,
    ) {
        let now = self.now();
        let tries =
            self.parts.index.history(namespace).map(|h| h.accounts.entry(account.clone()).or_default());
        match result {
            Ok(Some((left, changed))) => {
                if changed {
                    info!(%namespace, %account, secret = wanted, "service account changed");
                }
                if let Some(tries) = tries.filter(|_| changed || left.differs(wanted)) {
                    tries.repaired(now);
                    tries.forgive();
                }
                self.parts.index.set_account(namespace, account, left);
                self.look(namespace);
            }
            Ok(None) => {
                // Gone, going, or opted in again: the watches tell.
                self.queue.schedule(namespace, Some(now + SignedDuration::from_secs(1)));
            }
            Err(WriteError::NotLeading) => {
                self.queue.schedule(namespace, Some(now + SignedDuration::from_secs(1)));
            }
            Err(error) => {
                let retry_at = tries.map(|tries| tries.failed(namespace, now));
                let uid = self.uid(namespace);
                self.parts.reporter.account_failed(namespace, &uid, account, &error, retry_at);
                self.look(namespace);
            }
        }
    }

    fn deleted(&mut self, namespace: &Arc<str>, name: &Arc<str>, cause: DeleteCause) {
        info!(%namespace, secret = %name, ?cause, "secret deleted");
        let uid = self.uid(namespace);
        self.parts.reporter.deleted(namespace, &uid, name, cause);
        self.parts.index.remove_secret(namespace, name, u64::MAX);
        if let Some(history) = self.parts.index.history(namespace) {
            history.deleted();
        }
        self.look(namespace);
    }

    fn failed(&mut self, namespace: &Arc<str>, name: &str, operation: &str, error: &WriteError) {
        let now = self.now();
        if *error == WriteError::NotLeading {
            return self.queue.schedule(namespace, Some(now + SignedDuration::from_secs(1)));
        }
        let uid = self.uid(namespace);
        if matches!(error, WriteError::Immutable(_)) {
            self.parts.index.set_immutable(namespace, name);
            return self.look(namespace);
        }
        let lagged = matches!(error, WriteError::Denied(_)) && self.parts.mode == Mode::Forever;
        let again = self.parts.index.history(namespace).filter(|_| lagged).and_then(|h| h.tries.lagged(now));
        if again.is_some() {
            debug!(%namespace, reason = %error, "refused by admission, which may not know of the namespace's opt-in yet");
            return self.queue.schedule(namespace, again);
        }
        let retry_at =
            self.parts.index.history(namespace).map(|history| history.tries.failed(namespace, now));
        self.parts.reporter.write_failed(namespace, &uid, name, operation, error, retry_at);
        self.queue.schedule(namespace, retry_at.filter(|_| self.parts.mode == Mode::Forever));
    }

    pub(super) fn minted(&mut self, outcome: Outcome) {
        let Outcome { key, result, took, skew, waiters } = outcome;
        self.parts
            .metrics
            .aws_request(result.as_ref().map_or_else(|error| error.kind.as_str(), |_| "ok"), took);
        if let Ok(token) = &result {
            self.parts.metrics.token(&key, token.expires_at().as_second());
        }
        if self.leads {
            self.parts.reporter.minted(&key, &result, skew);
        }
        for namespace in waiters {
            self.look(&namespace);
        }
    }
}

fn operation(cause: WriteCause) -> &'static str {
    match cause {
        WriteCause::Create => "create",
        WriteCause::Change => "change",
        WriteCause::Repair => "repair",
        WriteCause::Static => "static",
        WriteCause::Refresh => "refresh",
    }
}

/// Counts the namespaces by state.
pub(super) fn census<'a>(entries: impl Iterator<Item = &'a Entry>, now: Timestamp) -> Census {
    let mut census = Census::default();
    entries.for_each(|entry| count(entry, now, &mut census));
    census
}

fn count(entry: &Entry, now: Timestamp, census: &mut Census) {
    let ours = entry.secrets.iter().filter(|(_, observed)| observed.owner == Owner::Ours);
    let expiry = ours.filter_map(|(_, observed)| observed.times).map(|times| times.expires_at).min();
    if let Some(expiry) = expiry.map(Timestamp::as_second) {
        census.earliest_expiry = Some(census.earliest_expiry.map_or(expiry, |earliest| earliest.min(expiry)));
    }
    let wish = entry.namespace.as_ref().map(|record| &record.reading.wish);
    if matches!(wish, None | Some(Wish::OptedOut)) {
        return;
    }
    match expiry {
        Some(expiry) if expiry > now => census.ready += 1,
        Some(_) => census.expired += 1,
        None if !entry.secrets.is_empty() || entry.history.tries.failures > 0 => census.refused += 1,
        None if wish == Some(&Wish::Unusable) => census.refused += 1,
        None => census.pending += 1,
    }
}
