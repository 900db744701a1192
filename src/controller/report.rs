//! Who is told what: the same words for the log, the Event and the list that `sync` prints.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use indicatif::ProgressBar;
use jiff::Timestamp;
use tracing::{debug, error, info, warn};

use crate::cluster::events::{Notice, Reason, Recorder};
use crate::cluster::write::WriteError;
use crate::core::identity::{Assignment, TokenKey};
use crate::core::plan::{DeleteCause, Report};
use crate::core::token::Token;
use crate::core::whole_seconds;
use crate::ecr::{MintError, MintErrorKind};

/// What a pass came to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Namespaces that are as they should be, or were made so.
    pub settled: usize,
    /// Secrets written.
    pub written: usize,
    /// Secrets deleted.
    pub deleted: usize,
    /// Secrets that `--prune` would delete, as `namespace/name`.
    pub would_delete: Vec<String>,
    /// What is not as it should be, by namespace.
    pub failures: BTreeMap<String, Vec<String>>,
}

/// Tells.
pub struct Reporter {
    recorder: Recorder,
    progress: ProgressBar,
    collecting: bool,
    settled: HashSet<Arc<str>>,
    summary: Summary,
    told: HashMap<Arc<str>, HashSet<u64>>,
    troubled: HashSet<Arc<str>>,
}

/// Beyond this many namespaces with conditions the log may repeat one.
const MOST_TOLD: usize = 16_384;

impl Reporter {
    /// A reporter that writes Events, moves `progress`, and, if `collecting`, keeps what a summary needs.
    pub fn new(recorder: Recorder, progress: ProgressBar, collecting: bool) -> Self {
        let (settled, told, troubled) = (HashSet::new(), HashMap::new(), HashSet::new());
        Self { recorder, progress, collecting, settled, summary: Summary::default(), told, troubled }
    }

    /// How many namespaces there are to look after.
    pub fn total(&self, namespaces: usize) {
        self.progress.set_length(namespaces as u64);
    }

    /// A namespace is as it should be.
    pub fn settled(&mut self, namespace: &Arc<str>) {
        if self.collecting && self.settled.insert(namespace.clone()) {
            self.progress.inc(1);
        }
    }

    /// A Secret would be deleted, were it asked for.
    pub fn would_delete(&mut self, namespace: &str, name: &str) {
        let secret = format!("{namespace}/{name}");
        info!(secret, "would be deleted with --prune");
        if self.collecting && !self.summary.would_delete.contains(&secret) {
            self.summary.would_delete.push(secret);
        }
    }

    /// A Secret is no longer granted, and stays until that is confirmed.
    pub fn held(&mut self, namespace: &Arc<str>, uid: &str, name: &str) {
        let message = format!(
            "secret {name:?} is no longer granted or included by the controller's configuration; it is neither deleted nor refreshed \
             until an administrator confirms that with --confirm-removals"
        );
        self.trouble(namespace, uid, Reason::IdentityNotGranted, message, "held");
    }

    /// A condition that a plan found.
    pub fn condition(&mut self, namespace: &Arc<str>, uid: &str, report: &Report) {
        let (reason, message) = match report {
            Report::Problem(problem) if problem.ungranted => (Reason::IdentityNotGranted, &problem.message),
            Report::Problem(problem) => (Reason::InvalidAnnotation, &problem.message),
            Report::NotOwned(message) | Report::Immutable(message) => (Reason::SecretNotOwned, message),
        };
        self.trouble(namespace, uid, reason, message.clone(), message);
    }

    /// A token could not be had for one entry.
    pub fn token_failed(
        &mut self,
        namespace: &Arc<str>,
        uid: &str,
        assignment: &Assignment,
        error: &MintError,
        retry_at: Timestamp,
    ) {
        self.troubled.insert(namespace.clone());
        let TokenKey { identity, endpoint, .. } = &assignment.key;
        // Two roles may fail in one region, each for reasons of its own.
        let subject = format!("{endpoint}, identity {:?}", identity.as_str());
        let message = format!(
            "no new token for {} ({subject}): {error}; what stands is kept, next try at {}",
            assignment.target,
            whole_seconds(retry_at)
        );
        self.trouble(namespace, uid, Reason::TokenFailed, message, &subject);
    }

    /// A write or deletion failed.
    pub fn write_failed(
        &mut self,
        namespace: &Arc<str>,
        uid: &str,
        name: &str,
        operation: &str,
        error: &WriteError,
        retry_at: Option<Timestamp>,
    ) {
        let (reason, hint) = match error {
            // Watches lag behind writes; the next look at it tells.
            WriteError::Stale(_) | WriteError::NamespaceGone | WriteError::NotLeading => {
                debug!(%namespace, secret = name, reason = %error, "{operation} of the secret was overtaken");
                return;
            }
            WriteError::Conflict(_) => (
                Reason::SecretNotOwned,
                "; delete it, or choose another name with ecr-pull-secrets.dev/secret-name",
            ),
            WriteError::Forbidden(_) | WriteError::Denied(_) => (
                Reason::WriteFailed,
                "; the controller's ClusterRole must name the secret, and admission must let it",
            ),
            WriteError::Immutable(_) | WriteError::Refused(_) | WriteError::Unavailable(_) => {
                (Reason::WriteFailed, "")
            }
        };
        self.troubled.insert(namespace.clone());
        let next = retry_at.map(|at| format!("; next try at {}", whole_seconds(at))).unwrap_or_default();
        let message = format!("{operation} of secret {name:?} failed: {error}{hint}{next}");
        self.trouble(namespace, uid, reason, message, operation);
    }

    /// A service account could not be changed.
    pub fn account_failed(
        &mut self,
        namespace: &Arc<str>,
        uid: &str,
        account: &str,
        error: &WriteError,
        retry_at: Option<Timestamp>,
    ) {
        if matches!(error, WriteError::Stale(_) | WriteError::NamespaceGone) {
            debug!(%namespace, account, reason = %error, "service account changed by others meanwhile");
            return;
        }
        let next = retry_at.map(|at| format!("; next try at {}", whole_seconds(at))).unwrap_or_default();
        let hint = if matches!(error, WriteError::Forbidden(_)) {
            "; the controller's ClusterRole must allow get and patch on serviceaccounts, and admission must let it"
        } else {
            ""
        };
        let message = format!("change of service account {account:?} failed: {error}{hint}{next}");
        self.trouble(namespace, uid, Reason::WriteFailed, message, account);
    }

    /// A Secret was written; `whole`: with a token of now in every entry.
    pub fn wrote(
        &mut self,
        namespace: &Arc<str>,
        uid: &str,
        name: &str,
        reason: Option<Reason>,
        whole: bool,
    ) {
        self.summary.written += 1;
        if let Some(reason) = reason {
            let done =
                if reason == Reason::SecretCreated { "created" } else { "repaired after a foreign change" };
            self.notice(namespace, uid, reason, format!("secret {name:?} {done}"), name);
        }
        if whole && self.troubled.remove(namespace) {
            self.told.remove(namespace);
            let message = format!("secret {name:?} is valid again");
            info!(%namespace, secret = name, "recovered");
            self.notice(namespace, uid, Reason::SecretRecovered, message, name);
        }
    }

    /// A Secret was deleted.
    pub fn deleted(&mut self, namespace: &Arc<str>, uid: &str, name: &str, cause: DeleteCause) {
        self.summary.deleted += 1;
        let why = match cause {
            DeleteCause::OptedOut => "the namespace no longer asks for it",
            DeleteCause::Renamed => "the namespace asks for another name",
            DeleteCause::NotGranted => {
                "the configuration no longer grants it or no longer includes the namespace"
            }
            DeleteCause::Immutable => "it is immutable and about to expire; it is made anew",
        };
        self.notice(namespace, uid, Reason::SecretDeleted, format!("secret {name:?} deleted: {why}"), name);
    }

    /// AWS answered, or not.
    pub fn minted(&mut self, key: &TokenKey, result: &Result<Arc<Token>, MintError>, skew: Option<Duration>) {
        let (identity, region) = (key.identity.as_str(), key.endpoint.to_string());
        match result {
            Ok(token) => {
                info!(identity, region, expires_at = %whole_seconds(token.expires_at()), "token minted");
            }
            Err(e) if e.kind == MintErrorKind::ShorterLived => {
                debug!(identity, region, reason = %e, "token not used");
            }
            Err(e) => error!(identity, region, reason = %e, kind = e.kind.as_str(), "no new token"),
        }
        if let Some(skew) = skew {
            let minutes = skew.as_secs() / 60;
            warn!(
                minutes,
                "the local clock is off AWS's by more than 5 minutes: set it, or AWS will refuse requests"
            );
        }
    }

    /// What a pass came to so far.
    pub fn summary(&self) -> Summary {
        self.progress.finish_and_clear();
        let failures = self.summary.failures.len();
        let settled = self.settled.iter().filter(|ns| !self.summary.failures.contains_key(&***ns)).count();
        debug!(settled, failures, "summary");
        Summary { settled, ..self.summary.clone() }
    }

    fn trouble(&mut self, namespace: &Arc<str>, uid: &str, reason: Reason, message: String, subject: &str) {
        if self.collecting {
            let all = self.summary.failures.entry(namespace.to_string()).or_default();
            let line = format!("{}: {message}", reason.as_str());
            if !all.contains(&line) {
                all.push(line);
            }
        }
        if self.is_news(namespace, reason, subject) {
            warn!(%namespace, reason = reason.as_str(), "{message}");
        } else {
            debug!(%namespace, reason = reason.as_str(), "{message}");
        }
        self.notice(namespace, uid, reason, message, subject);
    }

    /// A condition is one line of the log, not one for each time that it is met, until it is over.
    fn is_news(&mut self, namespace: &Arc<str>, reason: Reason, subject: &str) -> bool {
        if self.told.len() >= MOST_TOLD {
            self.told.clear();
        }
        let mut hasher = DefaultHasher::new();
        (reason, subject).hash(&mut hasher);
        self.told.entry(namespace.clone()).or_default().insert(hasher.finish())
    }

    fn notice(&self, namespace: &Arc<str>, uid: &str, reason: Reason, message: String, subject: &str) {
        let (namespace, subject) = (namespace.clone(), subject.to_owned());
        self.recorder.record(Notice { namespace, uid: uid.into(), reason, message, subject });
    }
}
