//! The requests of the controller: when each is stored, when its reply arrives, and when the client gives up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ecr_pull_secrets::simulation::controller::error::RequestError;
use ecr_pull_secrets::simulation::controller::{ActionId, Input, Outcome, Request};
use ecr_pull_secrets::simulation::core::plan::{Observed, PullSecretChange, PullSecretRefs, SecretDraft};
use ecr_pull_secrets::simulation::core::secret::DockerConfig;
use ecr_pull_secrets::simulation::core::{ObjectVersion, testing};
use ecr_pull_secrets::simulation::kubernetes::{errors, observe};
use kube::core::Status;

use super::{Happening, World};
use crate::oracles::Read;
use crate::profile::Fate;
use crate::store::secret::SecretObject;
use crate::store::{Key, Kind, Name, Object, secret_key};

/// After how long the client gives up, as `kubernetes::cluster` does.
fn limit(request: &Request) -> Duration {
    match request {
        Request::Write { .. } | Request::Delete(_) | Request::SetPullSecret(_) => Duration::from_secs(40),
        Request::ReadNamespace | Request::ReadSecret(_) | Request::ListServiceAccounts => {
            Duration::from_secs(15)
        }
    }
}

/// A request that was sent.
pub struct Running {
    process: usize,
    epoch: u32,
    id: ActionId,
    namespace: Name,
    request: Request,
    fate: Fate,
    sent: Duration,
    /// What the process last read of the Namespace, before it sent this.
    read: Option<Read>,
    /// The data of the Secret, if the request keeps entries.
    current: Option<Arc<Vec<u8>>>,
    outcome: Option<Outcome>,
}

impl Running {
    /// Whether the client does not wait for the reply any more.
    fn is_given_up(&self, time: Duration) -> bool {
        time >= self.sent + limit(&self.request)
    }

    fn failed(&self, error: RequestError) -> Outcome {
        match &self.request {
            Request::Write { .. } => Outcome::Written(Err(error)),
            Request::ReadNamespace => Outcome::NamespaceRead(Err(error)),
            Request::ReadSecret(_) => Outcome::SecretRead(Err(error)),
            Request::Delete(_) => Outcome::Deleted(Err(error)),
            Request::SetPullSecret(_) => Outcome::PullSecretSet(Err(error)),
            Request::ListServiceAccounts => Outcome::ServiceAccountsListed(Err(error)),
        }
    }
}

fn classify(status: Status) -> RequestError {
    errors::classify(&kube::Error::Api(Box::new(status)))
}

impl World {
    /// Sends a request of a controller.
    pub fn send(&mut self, process: usize, id: ActionId, namespace: Name, request: Request) {
        let limit = limit(&request);
        let fate = self.fate(&namespace, &request, limit);
        let sender = &self.processes[process];
        let permitted = sender.is_leader(self.time);
        let (epoch, sent) = (sender.epoch, self.time);
        let name = sender.name.clone();
        let shown = describe(&request);
        self.tell(|| format!("{name} sends {shown} in {namespace}, {fate:?}"));
        self.count_request(&namespace, &request);
        if let Request::SetPullSecret(change) = &request {
            self.references_changed(process, &namespace, change);
        }
        let number = self.number;
        let read = self.last_read(process, &namespace);
        let (current, outcome) = (None, None);
        let mut running =
            Running { process, epoch, id, namespace, request, fate, sent, read, current, outcome };
        if !permitted {
            running.outcome = Some(running.failed(RequestError::NotLeader));
        } else if self.is_unreachable(process) || fate == Fate::Unavailable {
            let error = RequestError::unavailable("the API server is not available");
            running.outcome = Some(running.failed(error));
        }
        let answered = running.outcome.is_some();
        let keeps =
            matches!(&running.request, Request::Write { base: Some(_), draft } if draft.keeps_entries());
        self.running.insert(number, running);
        self.schedule_in(limit, Happening::GiveUp(number));
        if answered {
            let back = self.delay();
            return self.schedule_in(back, Happening::Reply(number));
        }
        let there = self.delay();
        match fate {
            Fate::RequestLost => {}
            _ if keeps => self.schedule_in(there, Happening::Read(number)),
            Fate::Late => self.schedule_in(limit + there, Happening::Commit(number)),
            _ => self.schedule_in(there, Happening::Commit(number)),
        }
    }

    fn fate(&mut self, namespace: &Name, request: &Request, limit: Duration) -> Fate {
        let time = self.time;
        let hangs =
            |faults: &BTreeMap<Name, Duration>| faults.get(namespace).is_some_and(|until| *until > time);
        let is_account = matches!(request, Request::SetPullSecret(_));
        if hangs(&self.faults.namespace_hangs) || (is_account && hangs(&self.faults.accounts_hang)) {
            return Fate::RequestLost;
        }
        let rare = !self.is_calm() && self.choices.one_in(self.profile.fate_one_in);
        let fate = if rare { *self.choices.of(self.profile.fates) } else { Fate::Done };
        if fate != Fate::Done {
            self.trouble(Some(namespace), time + limit);
        }
        fate
    }

    /// The first half of a write that keeps entries: the current Secret is read.
    pub fn read(&mut self, number: u64) {
        let Some(running) = self.running.get(&number) else { return };
        let Request::Write { base: Some(base), draft } = &running.request else { return };
        let name = draft.applied.request.secret_name.clone();
        let is_same = |current: &&SecretObject| {
            current.uid == base.uid.to_string() && current.version == base.resource_version
        };
        let current = self.store.secret(&running.namespace, &name).filter(is_same);
        let data = current.map(|current| current.data.clone());
        let held = self.processes[running.process].is_leader(self.time);
        let refused = match &data {
            _ if !held => Some(RequestError::NotLeader),
            None => Some(RequestError::Conflict("another version".to_owned())),
            Some(_) => None,
        };
        let running = self.running.get_mut(&number).expect("it was there");
        running.current = data;
        if let Some(error) = refused {
            running.outcome = Some(running.failed(error));
            return self.schedule_in(Duration::ZERO, Happening::Reply(number));
        }
        let late = if running.fate == Fate::Late { limit(&running.request) } else { Duration::ZERO };
        let there = self.delay();
        self.schedule_in(late + there, Happening::Commit(number));
    }

    pub fn commit(&mut self, number: u64) {
        let Some(mut running) = self.running.remove(&number) else { return };
        let outcome = self.store_request(&running);
        let fate = running.fate;
        running.outcome = Some(outcome);
        if running.is_given_up(self.time) {
            return;
        }
        self.running.insert(number, running);
        if fate != Fate::ReplyLost {
            let back = self.delay();
            self.schedule_in(back, Happening::Reply(number));
        }
    }

    fn store_request(&mut self, running: &Running) -> Outcome {
        let Running { process, namespace, request, sent, current, .. } = running;
        match request {
            Request::Write { base, draft } => {
                let current = current.as_deref().map(Vec::as_slice);
                Outcome::Written(self.write(namespace, *sent, base.as_ref(), draft, current))
            }
            Request::ReadSecret(name) => {
                let found = self.store.secret(namespace, name);
                let found = found.map(|secret| secret.observed(name, &self.settings));
                Outcome::SecretRead(Ok(found))
            }
            Request::ReadNamespace => {
                // A process does not learn what it gave up waiting for.
                if !running.is_given_up(self.time) {
                    self.namespace_read(*process, namespace);
                }
                let found = self.store.namespace(namespace).filter(|object| !object.terminating);
                let settings = &self.processes[*process].settings;
                let record = found.map(|object| observe::namespace(&object.meta(namespace), settings));
                Outcome::NamespaceRead(record.ok_or(RequestError::NamespaceGone))
            }
            Request::Delete(_)
                if self.faults.refuses_deletions.get(namespace).is_some_and(|until| *until > self.time) =>
            {
                Outcome::Deleted(Err(RequestError::Forbidden("deletions are refused".to_owned())))
            }
            Request::Delete(deletion) => {
                let (name, version) = (deletion.name.clone(), &deletion.version);
                let before = self.store.secret(namespace, &name).cloned();
                let uid = version.uid.to_string();
                let result = self.store.delete_secret(namespace, &name, &uid, version.resource_version);
                let result = result.map(|event| {
                    self.publish(&event);
                    if running.is_given_up(self.time) {
                        self.oracles.deleted_late.insert(secret_key(namespace, &name), self.time);
                    }
                    self.secret_deleted(namespace, deletion, running.read.as_ref(), before.as_ref());
                    let left = self.store.secret(namespace, &name);
                    left.map(|secret| secret.observed(&name, &self.settings))
                });
                Outcome::Deleted(match result.map_err(classify) {
                    Err(RequestError::NamespaceGone) => Ok(None),
                    result => result,
                })
            }
            Request::SetPullSecret(change) => {
                Outcome::PullSecretSet(Ok(self.set_pull_secret(namespace, change)))
            }
            Request::ListServiceAccounts => {
                let found = self.store.service_accounts(namespace);
                Outcome::ServiceAccountsListed(Ok(found
                    .map(|(name, refs)| (name.clone(), refs.clone()))
                    .collect()))
            }
        }
    }

    /// Writes a Secret as `runtime::execute` does.
    fn write(
        &mut self,
        namespace: &Name,
        sent: Duration,
        base: Option<&ObjectVersion>,
        draft: &SecretDraft,
        current: Option<&[u8]>,
    ) -> Result<Observed, RequestError> {
        let current = current.map(DockerConfig::parse).unwrap_or_default();
        let settings = self.settings.clone();
        let Some(manifest) = draft.clone().into_manifest(&settings, current, base) else {
            return Err(RequestError::Rejected("the secret would have no entry".to_owned()));
        };
        let body = serde_json::to_value(&manifest).expect("a manifest serializes");
        let name = draft.applied.request.secret_name.clone();
        let before = self.store.shared_secret(namespace, &name);
        let event = self.store.apply_secret(namespace, &name, &body, base.is_some()).map_err(classify)?.1;
        if let Some(event) = &event {
            self.publish(event);
        }
        let after = self.store.shared_secret(namespace, &name).expect("it was written");
        let before = before.as_deref().and_then(Object::as_secret);
        let after = after.as_secret().expect("a secret");
        self.secret_written(namespace, sent, draft, before, after);
        Ok(after.observed(&name, &settings))
    }

    fn set_pull_secret(
        &mut self,
        namespace: &Name,
        change: &PullSecretChange,
    ) -> Option<(PullSecretRefs, bool)> {
        let account = &change.service_account;
        let mut refs = self.store.service_account(namespace, account)?.clone();
        let changed = refs.differs(change.secret.as_deref(), &change.kept);
        if changed {
            testing::attach(&mut refs, change);
            let key = Key { kind: Kind::ServiceAccount, namespace: namespace.clone(), name: account.clone() };
            self.put(&key, Some(Object::ServiceAccount(refs)));
            refs = self.store.service_account(namespace, account)?.clone();
        }
        Some((refs, changed))
    }

    pub fn reply(&mut self, number: u64) {
        let Some(running) = self.running.get(&number) else { return };
        let process = &self.processes[running.process];
        if process.is_alive && process.epoch == running.epoch && process.frozen_until > self.time {
            let at = process.frozen_until;
            return self.schedule(at, Happening::Reply(number));
        }
        let running = self.running.remove(&number).expect("it was there");
        let outcome = running.outcome.expect("a reply has an outcome");
        self.done(running.process, running.epoch, running.id, outcome, running.sent);
    }

    pub fn give_up(&mut self, number: u64) {
        let Some(running) = self.running.get_mut(&number) else { return };
        let (process, epoch, id, sent) = (running.process, running.epoch, running.id, running.sent);
        let error = RequestError::unavailable("the API server did not respond in time");
        let outcome = running.failed(error);
        if running.fate != Fate::Late {
            self.running.remove(&number);
        }
        self.done(process, epoch, id, outcome, sent);
    }

    fn done(&mut self, process: usize, epoch: u32, id: ActionId, outcome: Outcome, sent: Duration) {
        if self.processes[process].epoch != epoch {
            return;
        }
        let name = self.processes[process].name.clone();
        let shown = describe_outcome(&outcome);
        self.tell(|| format!("{name} gets the reply: {shown}"));
        let duration = self.time.saturating_sub(sent);
        self.input(process, Input::ActionDone { id, outcome, duration });
    }
}

fn describe(request: &Request) -> String {
    match request {
        Request::Write { base, draft } => {
            let verb = if base.is_some() { "an update" } else { "a creation" };
            format!("{verb} of {} with {:?}", draft.applied.request.secret_name, draft.applied.entries)
        }
        Request::ReadNamespace => "a read of the namespace".to_owned(),
        Request::ReadSecret(name) => format!("a read of {name}"),
        Request::Delete(deletion) => format!("a deletion of {} ({:?})", deletion.name, deletion.reason),
        Request::SetPullSecret(change) => format!("a change of service account {}", change.service_account),
        Request::ListServiceAccounts => "a list of service accounts".to_owned(),
    }
}

fn describe_outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Written(Ok(observed)) => format!("written at version {}", observed.resource_version),
        Outcome::NamespaceRead(Ok(record)) => format!("opted in: {}", record.is_some()),
        Outcome::SecretRead(Ok(read)) => {
            format!("the secret is at version {:?}", read.as_ref().map(|read| read.resource_version))
        }
        Outcome::Deleted(Ok(None)) => "deleted".to_owned(),
        Outcome::Deleted(Ok(Some(_))) => "a finalizer holds it".to_owned(),
        Outcome::PullSecretSet(Ok(_)) => "set".to_owned(),
        Outcome::ServiceAccountsListed(Ok(listed)) => format!("{} service accounts", listed.len()),
        Outcome::Written(Err(error))
        | Outcome::NamespaceRead(Err(error))
        | Outcome::SecretRead(Err(error))
        | Outcome::Deleted(Err(error))
        | Outcome::PullSecretSet(Err(error))
        | Outcome::ServiceAccountsListed(Err(error)) => error.to_string(),
    }
}
