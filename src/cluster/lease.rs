//! The Lease on the API server: one task that asks for it, keeps it, and gives it back. It has a client of its own,
//! so that nothing that the controller sends can hold it up, and no call of it is repeated behind its back.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{info, warn};

use super::lead::{Lead, Tenure};
use super::write::message;
use crate::core::lease::{Candidate, DURATION, Seen, Step};
use crate::core::{LABEL_INSTANCE, LABEL_MANAGED_BY, MANAGER, one_line};

/// A call that takes longer than this is given up: the next one finds out what became of it.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a shutdown tries to give the Lease back.
const RELEASE: Duration = Duration::from_secs(3);
/// How often the log repeats that the Lease cannot be reached.
const REMIND: Duration = Duration::from_mins(1);

/// Why a call was no success.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Somebody else wrote it in between (409; a creation that met one is 422 or 409).
    #[error("somebody else wrote it")]
    Changed,
    /// RBAC.
    #[error("{0}; allow get, create and update on leases named like the instance, as deploy/rbac.yaml does")]
    Forbidden(String),
    /// No answer, or none that helps.
    #[error("{0}")]
    Unavailable(String),
}

/// One Lease: its name is the instance, its namespace the controller's own.
#[derive(Clone)]
pub struct LeaseObject {
    api: Api<Lease>,
    instance: String,
}

impl LeaseObject {
    /// The Lease of an instance, in the client's default namespace.
    pub fn new(client: Client, instance: &str) -> Self {
        Self { api: Api::default_namespaced(client), instance: instance.to_owned() }
    }

    /// How it stands.
    pub async fn look(&self) -> Result<Seen, LeaseError> {
        let found = bounded(self.api.get_opt(&self.instance)).await?;
        Ok(found.map_or_else(Seen::default, |lease| seen(&lease)))
    }

    /// Whether somebody holds it and renews it: at once when nobody does, else after a change, or after as long as the
    /// holder said that one may take.
    pub async fn live_holder(&self) -> Result<Option<String>, LeaseError> {
        const EACH: Duration = Duration::from_millis(250);
        let first = self.look().await?;
        let Some(holder) = first.holder.clone() else { return Ok(None) };
        let lapse = Instant::now() + first.patience();
        while Instant::now() < lapse {
            tokio::time::sleep(EACH).await;
            match self.look().await? {
                Seen { holder: None, .. } => return Ok(None),
                now if now.version != first.version => return Ok(now.holder),
                _ => {}
            }
        }
        info!(holder, "the Lease was not renewed, so its holder is gone");
        Ok(None)
    }

    /// Deletes it, if nobody wrote it since `version`; whether there was one.
    pub async fn delete(&self, version: &str) -> Result<bool, LeaseError> {
        let only = Preconditions { resource_version: Some(version.to_owned()), uid: None };
        let params = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
        let call = self.api.delete(&self.instance, &params);
        bounded(async {
            match call.await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
                other => other.map(|_| true),
            }
        })
        .await
    }

    /// Writes it over just `version`. A PUT creates what is missing, so that no right to POST is needed, which could not
    /// be bound to the name.
    async fn write(&self, version: Option<String>, spec: LeaseSpec) -> Result<Seen, LeaseError> {
        let labels = [(LABEL_MANAGED_BY, MANAGER), (LABEL_INSTANCE, &self.instance)];
        let metadata = ObjectMeta {
            name: Some(self.instance.clone()),
            resource_version: version,
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        };
        let lease = Lease { metadata, spec: Some(spec) };
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        Ok(seen(&bounded(self.api.replace(&self.instance, &params, &lease)).await?))
    }
}

fn seen(lease: &Lease) -> Seen {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Seen {
        version: lease.metadata.resource_version.clone(),
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        duration: seconds.map_or(DURATION, Duration::from_secs),
        transitions: spec.lease_transitions.unwrap_or_default(),
    }
}

async fn bounded<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, LeaseError> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 409 | 422) => Err(LeaseError::Changed),
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 403) => {
            Err(LeaseError::Forbidden(one_line(&status.message)))
        }
        Ok(Err(error)) => Err(LeaseError::Unavailable(message(&error))),
        Err(_) => Err(LeaseError::Unavailable("the API server did not answer within a second".to_owned())),
    }
}

/// An election that runs by itself.
pub struct Election {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Election {
    /// Asks for the Lease from now on, under the name `holder`, which no other process has. The first right to write
    /// comes with [`Lead::changed`]; `answered` is called once the API server let it look.
    pub fn start(
        lease: LeaseObject,
        holder: String,
        answered: impl FnOnce() + Send + 'static,
    ) -> (Self, Lead) {
        let (tenure, lead) = watch::channel(Tenure::None);
        let (stop, stopped) = oneshot::channel();
        let candidate = Candidate::new(holder);
        let elector =
            Elector { lease, candidate, tenure, origin: Instant::now(), acquired: None, complained: None };
        let task = tokio::spawn(elector.run(stopped, answered));
        (Self { stop, task }, Lead::new(lead))
    }

    /// Gives the Lease back, if it is ours. Nothing may be written any more.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }

    /// Ends when the task ends, which it never does by itself.
    pub async fn ended(&mut self) -> String {
        format!("{:?}", (&mut self.task).await)
    }
}

/// A name that tells two processes of one name apart.
pub fn holder(name: &str) -> String {
    use std::hash::{BuildHasher as _, RandomState};
    format!("{name}_{:08x}", RandomState::new().hash_one(std::process::id()) >> 32)
}

struct Elector {
    lease: LeaseObject,
    candidate: Candidate,
    tenure: watch::Sender<Tenure>,
    origin: Instant,
    acquired: Option<Timestamp>,
    complained: Option<Instant>,
}

impl Elector {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>, answered: impl FnOnce() + Send + 'static) {
        let mut answered = Some(answered);
        loop {
            let step = self.candidate.next(self.origin.elapsed());
            let done = tokio::select! {
                biased;
                _ = &mut stopped => break,
                done = self.step(step) => done,
            };
            if done && let Some(answered) = answered.take() {
                answered();
            }
        }
        let _ = tokio::time::timeout(RELEASE, self.release()).await;
    }

    /// Does it, and says whether the API server answered.
    async fn step(&mut self, step: Step) -> bool {
        let (asked, instant, time) = (self.origin.elapsed(), Instant::now(), Timestamp::now());
        let result = match step {
            Step::Wait(pause) => {
                tokio::time::sleep(pause).await;
                return false;
            }
            Step::Look => self.lease.look().await.map(|seen| self.saw(seen, asked)),
            Step::Write { version, transitions, takes } => {
                if takes {
                    self.acquired = Some(time);
                }
                let spec = self.spec(self.candidate.identity(), transitions);
                let result = self.lease.write(version, spec).await;
                result.map(|seen| {
                    self.candidate.wrote(seen, asked, self.origin.elapsed());
                    if takes {
                        info!(holder = self.candidate.identity(), "this process holds the Lease, and writes");
                    }
                    self.tenure.send_replace(Tenure::granted(instant, time));
                })
            }
        };
        match result {
            Ok(()) => {
                if self.complained.take().is_some() {
                    info!("the Lease can be reached again");
                }
                true
            }
            Err(error) => {
                self.candidate.lost_sight(asked);
                self.complain(&error);
                false
            }
        }
    }

    fn saw(&mut self, seen: Seen, asked: Duration) {
        let before = self.candidate.other().map(str::to_owned);
        self.candidate.saw(seen, asked, self.origin.elapsed());
        if let Some(holder) = self.candidate.other() {
            if before.as_deref() != Some(holder) {
                info!(holder, "another process holds the Lease, and writes; this one stands by");
            }
            // Somebody took it: what is left of the time that it was granted for is not used up.
            self.tenure.send_replace(Tenure::None);
        }
    }

    fn complain(&mut self, error: &LeaseError) {
        let fresh = self.complained.is_some_and(|at| at.elapsed() < REMIND);
        if !fresh && !matches!(error, LeaseError::Changed) {
            warn!(reason = %error, "the Lease cannot be reached, and without it nothing is written");
            self.complained = Some(Instant::now());
        }
    }

    fn spec(&self, holder: &str, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: self.acquired.map(MicroTime),
            renew_time: Some(MicroTime(Timestamp::now())),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Gives it back. It is looked at first, for the version of a call that was given up is not known.
    async fn release(&mut self) {
        self.tenure.send_replace(Tenure::None);
        loop {
            match self.lease.look().await {
                Ok(seen) if seen.holder.as_deref() == Some(self.candidate.identity()) => {
                    let spec = self.spec("", seen.transitions);
                    if self.lease.write(seen.version, spec).await.is_ok() {
                        return info!("the Lease is given back");
                    }
                }
                Ok(_) => return,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}
