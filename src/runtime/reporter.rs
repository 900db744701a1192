//! Turns each [`Tell`] into log lines, Events, metrics, probe results and the summary of a pass.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use indicatif::ProgressBar;
use tracing::{debug, error, info, warn};

use crate::controller::change::WatchTarget;
use crate::controller::tell::{EventRecord, HeldRemovals, SUCCESS, Tell, TokenFetch};
use crate::core::plan::{PullSecretChange, RemovalCause};
use crate::core::secret::TokenErrorKind;
use crate::core::{EventReason, quote, whole_seconds, without_principals};
use crate::kubernetes::events::Recorder;
use crate::telemetry::http::Health;
use crate::telemetry::metrics::Metrics;

/// The result of a pass.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Namespaces that are up to date.
    pub in_sync: usize,
    /// Secrets that were written.
    pub written: usize,
    /// Secrets that were deleted.
    pub deleted: usize,
    /// Objects that `--prune` would delete, such as `secret NAMESPACE/NAME`.
    pub would_delete: Vec<String>,
    /// Conditions by namespace.
    pub failures: BTreeMap<String, Vec<String>>,
    /// The objects that the pass went on without, because the API server did not list them.
    pub unlisted: BTreeSet<String>,
}

pub struct Reporter {
    recorder: Recorder,
    metrics: Metrics,
    progress: ProgressBar,
    /// Whether a summary is needed.
    collects: bool,
    in_sync: HashSet<Arc<str>>,
    summary: Summary,
}

/// Logs the removals that wait, with the way to confirm them.
fn removals_held(held: &HeldRemovals) {
    let HeldRemovals { id, by_cause } = held;
    let cause = |cause: &RemovalCause| match cause {
        RemovalCause::Identity(name) => format!("identity {}", quote(name)),
        RemovalCause::Namespaces => "namespaces".to_owned(),
        RemovalCause::SecretNames => "secretNames".to_owned(),
    };
    let causes: Vec<_> = by_cause.iter().map(|(of, secrets)| format!("{}: {secrets}", cause(of))).collect();
    let secrets: usize = by_cause.values().sum();
    error!(
        secrets,
        causes = causes.join(", "),
        id,
        "the configuration no longer grants, includes or names these secrets, and they are many: the controller keeps them \
         without renewing them; correct the configuration, or delete exactly these with --confirm-removals={id}"
    );
}

impl Reporter {
    /// Returns a reporter that advances `progress`, and, if `collects` is set, records the [`Summary`].
    pub fn new(recorder: Recorder, metrics: Metrics, progress: ProgressBar, collects: bool) -> Self {
        let (in_sync, summary) = (HashSet::new(), Summary::default());
        Self { recorder, metrics, progress, collects, in_sync, summary }
    }

    pub fn tell(&mut self, tell: Tell, health: &Health) {
        match tell {
            Tell::Synced { namespaces } => {
                health.synced();
                info!(namespaces, "first lists are complete");
            }
            Tell::Listed { target, is_complete } => self.listed(&target, is_complete),
            Tell::LeadershipChanged { leader } => self.leadership_changed(leader),
            Tell::PassStarted { namespaces } => self.progress.set_length(namespaces as u64),
            Tell::InSync { namespace } => {
                if self.collects && self.in_sync.insert(namespace) {
                    self.progress.inc(1);
                }
            }
            Tell::RemovalsHeld(held) => removals_held(&held),
            Tell::RemovalsConfirmed { namespaces } => {
                info!(namespaces, "the held removals were confirmed: deleting the secrets");
            }
            Tell::WouldDelete { object } => self.would_delete(object),
            Tell::Notice { event, first } => self.notice(event, first),
            Tell::SecretWritten { namespace, secret, reason, expiry, may_be_immutable } => {
                self.summary.written += 1;
                let expires_at = expiry.map(|at| at.to_string());
                let may_be_immutable = may_be_immutable.then_some(true);
                info!(%namespace, %secret, reason = reason.into_str(), expires_at, may_be_immutable, "secret written");
            }
            Tell::SecretDeleted { namespace, secret, reason } => {
                self.summary.deleted += 1;
                info!(%namespace, %secret, reason = reason.into_str(), "secret deleted");
            }
            Tell::ServiceAccountChanged { namespace, change } => {
                let PullSecretChange { service_account, secret, .. } = change;
                info!(%namespace, %service_account, secret = secret.as_deref(), "service account changed");
            }
            Tell::Overtaken { namespace, object, message } => {
                debug!(%namespace, object, reason = message, "request overtaken by another change, retrying");
            }
            Tell::RequestFinished { operation, reason, result, duration } => {
                self.metrics.secret_write(operation, reason, result, duration);
            }
            Tell::TokenFetched(fetch) => self.token_fetched(&fetch),
            Tell::Counted(counted) => self.metrics.counted(*counted),
        }
    }

    fn listed(&mut self, target: &WatchTarget, is_complete: bool) {
        let what = match target {
            WatchTarget::ServiceAccounts => "service accounts".to_owned(),
            WatchTarget::StaticSource(name) => format!("secret {name} of static registries"),
            WatchTarget::Namespaces | WatchTarget::Secrets(_) => return,
        };
        if is_complete {
            self.summary.unlisted.remove(&what);
        } else {
            self.summary.unlisted.insert(what);
        }
    }

    fn leadership_changed(&self, leader: bool) {
        self.metrics.leader(leader);
        if !leader {
            warn!("this process is no longer the leader: it stops writing and becomes a standby");
        }
    }

    fn would_delete(&mut self, object: String) {
        info!(object, "would be deleted with --prune");
        if self.collects && !self.summary.would_delete.contains(&object) {
            self.summary.would_delete.push(object);
        }
    }

    fn notice(&mut self, mut event: EventRecord, first: bool) {
        let EventRecord { namespace, reason, message, subject, .. } = &event;
        let reason = *reason;
        let name = reason.into_str();
        if reason.is_warning() && self.collects {
            let all = self.summary.failures.entry(namespace.to_string()).or_default();
            let line = format!("{name}: {message}");
            if !all.contains(&line) {
                all.push(line);
            }
        }
        match reason {
            EventReason::SecretRecovered => info!(%namespace, secret = subject, "secret recovered"),
            // A condition that lasts is logged once.
            _ if reason.is_warning() && first => warn!(%namespace, reason = name, "{message}"),
            _ if reason.is_warning() => debug!(%namespace, reason = name, "{message}"),
            _ => {}
        }
        if matches!(reason, EventReason::TokenFailed | EventReason::WriteFailed) {
            // The texts of AWS name the controller's principal, and every user of the namespace can read its Events.
            event.message = without_principals(&event.message);
        }
        self.recorder.record(event);
    }

    fn token_fetched(&self, fetch: &TokenFetch) {
        let TokenFetch { key, result, skew, duration, leader } = fetch;
        let kind = result.as_ref().map_or_else(|error| error.kind.into_str(), |_| SUCCESS);
        self.metrics.aws_request(kind, *duration);
        if !leader {
            return;
        }
        let (identity, region) = (key.identity.as_str(), key.endpoint.to_string());
        match result {
            Ok(at) => {
                info!(identity, region, expires_at = %whole_seconds(*at), "authorization token fetched");
            }
            Err(e) if e.kind == TokenErrorKind::ShorterLivedToken => {
                debug!(identity, region, reason = %e, "authorization token not used");
            }
            Err(e) => error!(identity, region, reason = %e, kind, "could not fetch an authorization token"),
        }
        if let Some(skew) = skew {
            let minutes = skew.as_secs() / 60;
            warn!(
                minutes,
                "the local clock differs from AWS's by more than 5 minutes: correct it, or AWS rejects requests"
            );
        }
    }

    /// The result of the pass so far.
    pub fn summary(&self) -> Summary {
        self.progress.finish_and_clear();
        let failed = |namespace: &&Arc<str>| self.summary.failures.contains_key(&***namespace);
        let in_sync = self.in_sync.iter().filter(|namespace| !failed(namespace)).count();
        Summary { in_sync, ..self.summary.clone() }
    }
}
