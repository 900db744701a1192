//! Starting actions: the tokens that a write takes are gathered, what is worth writing is settled, and the calls
//! are sent off.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::act::{self, Agreement, Deletion};
use super::{Controller, Mode};
use crate::core::facts::Facts;
use crate::core::plan::{DeleteCause, Intent, Step, plan};
use crate::core::render::Credential;
use crate::core::settle::settle;
use crate::core::token::Token;
use crate::ecr::Ask;
use crate::ecr::cache::{Lookup, PATIENCE, State};

/// Writes under way at the same time.
const CONCURRENT_WRITES: usize = 64;
/// What there is of the tokens that a write takes.
#[derive(Default)]
struct Gathered {
    tokens: Vec<Option<Arc<Token>>>,
    /// Every one is as good as AWS gives them.
    whole: bool,
    /// Some are on their way, and worth waiting for until then.
    patience: Option<Timestamp>,
    /// When it is worth looking again.
    wake: Option<Timestamp>,
}

impl Controller {
    /// Starts what may be started.
    pub(super) fn start(&mut self) {
        while self.synced && self.leads && self.acts.len() < CONCURRENT_WRITES {
            let Some(namespace) = self.queue.pop(Instant::now()) else { return };
            // The facts may be others by now.
            match self.plan(&namespace).map(|plan| plan.step) {
                Some(Step::Write(intent)) => self.write(&namespace, intent),
                Some(
                    Step::Delete { cause: DeleteCause::NotGranted, .. }
                    | Step::Account { cause: Some(DeleteCause::NotGranted), .. },
                ) if self.held => self.look(&namespace),
                Some(Step::Account { account, wanted, .. }) => self.attach(&namespace, account, wanted),
                Some(Step::Delete { name, uid, resource_version, cause }) => {
                    self.delete(&namespace, Deletion { name, uid, resource_version, cause });
                }
                Some(Step::Idle(_)) | None => self.look(&namespace),
            }
        }
    }

    fn write(&mut self, namespace: &Arc<str>, intent: Box<Intent>) {
        let now = self.now();
        let Gathered { tokens, whole, patience, wake } = self.gather(namespace, &intent, now);
        if let Some(patience) = patience {
            // The answer names us; one slow endpoint holds up nobody for longer than this.
            return self.queue.schedule(namespace, Some(patience));
        }
        let Some(entry) = self.parts.index.get(namespace) else { return };
        if let Some(made) = settle(&intent, &tokens, namespace, &entry.history, &self.parts.settings, now) {
            self.queue.begin(namespace);
            let (cluster, settings) = (self.parts.cluster.clone(), self.parts.settings.clone());
            let statics = self.statics(&intent);
            self.acts.spawn(act::write(cluster, settings, namespace.clone(), intent, statics, made, whole));
        } else {
            let renewal =
                tokens.iter().flatten().map(|token| token.renew_after(self.parts.settings.refresh)).min();
            let soonest = now + SignedDuration::from_secs(1);
            let wake = wake.or(renewal).map_or(soonest, |wake| wake.max(soonest));
            self.queue.schedule(namespace, Some(wake).filter(|_| self.parts.mode == Mode::Forever));
        }
    }

    /// The entries of other registries, as far as their sources are there.
    fn statics(&self, intent: &Intent) -> Vec<(String, Credential)> {
        let index = &self.parts.index;
        let entries = intent.statics.iter().filter(|(_, entry)| entry.available);
        entries.filter_map(|(host, e)| Some((host.clone(), index.static_entry(&e.secret, host)?))).collect()
    }

    /// The token of every entry, as far as there is one. All that are wanted are asked for at the same time.
    fn gather(&mut self, namespace: &Arc<str>, intent: &Intent, now: Timestamp) -> Gathered {
        let mut gathered = Gathered { whole: true, ..Gathered::default() };
        let sooner = |old: Option<Timestamp>, new: Timestamp| Some(old.map_or(new, |old| old.min(new)));
        for assignment in &intent.granted.assignments {
            let ask = Ask { key: assignment.key.clone(), dual_stack: assignment.is_dual_stack() };
            let Lookup { token, state } = self.parts.tokens.lookup(&ask, namespace, now);
            gathered.tokens.push(token);
            gathered.whole &= state == State::Fresh;
            match state {
                State::Fresh => {}
                State::Failing { error, retry_at } => {
                    gathered.wake = sooner(gathered.wake, retry_at);
                    let uid = self.uid(namespace);
                    self.parts.reporter.token_failed(namespace, &uid, assignment, &error, retry_at);
                }
                State::Pending { since } => {
                    let end = since.checked_add(PATIENCE).unwrap_or(now);
                    if end > now {
                        gathered.patience = sooner(gathered.patience, end);
                    } else {
                        gathered.wake = sooner(gathered.wake, now + SignedDuration::from_secs(15));
                    }
                }
            }
        }
        gathered
    }

    fn attach(&mut self, namespace: &Arc<str>, account: Arc<str>, wanted: Option<Arc<str>>) {
        let which = account.clone();
        let same = move |step: &Step| matches!(step, Step::Account { account, wanted: None, .. } if *account == which);
        let agrees = wanted.is_none().then(|| self.agreement(namespace, same));
        self.queue.begin(namespace);
        let (cluster, settings) = (self.parts.cluster.clone(), self.parts.settings.clone());
        self.acts.spawn(act::attach(cluster, settings, namespace.clone(), account, wanted, agrees));
    }

    fn delete(&mut self, namespace: &Arc<str>, deletion: Deletion) {
        let uid = deletion.uid.clone();
        let same = move |step: &Step| matches!(step, Step::Delete { uid: again, .. } if *again == uid);
        let agrees = self.agreement(namespace, same);
        self.queue.begin(namespace);
        let (cluster, settings) = (self.parts.cluster.clone(), self.parts.settings.clone());
        self.acts.spawn(act::delete(cluster, settings, namespace.clone(), deletion, agrees));
    }

    /// Has the plan made once more, with the Namespace as it is then and all else as it is now: only the same removal
    /// counts as agreement.
    fn agreement(
        &self,
        namespace: &Arc<str>,
        same: impl FnOnce(&Step) -> bool + Send + 'static,
    ) -> Agreement {
        let known = self.parts.index.get(namespace);
        let (secrets, accounts, history) = known
            .map(|entry| (entry.secrets.clone(), entry.accounts.clone(), entry.history.clone()))
            .unwrap_or_default();
        let (namespace, settings, now) = (namespace.clone(), self.parts.settings.clone(), self.now());
        let sources = self.parts.index.sources().clone();
        Box::new(move |record| {
            let reading = record.map(|record| &*record.reading);
            let (secrets, accounts) = (&secrets[..], &accounts[..]);
            let (sources, history) = (&sources, &history);
            let facts = Facts { namespace: &namespace, reading, secrets, accounts, sources, history };
            same(&plan(&facts, &settings, now).step)
        })
    }
}
