//! Oracles of the calm after the last fault.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ecr_pull_secrets::simulation::core::plan::KnownAccounts;
use ecr_pull_secrets::simulation::core::request::OptIn;
use ecr_pull_secrets::simulation::kubernetes::observe;

use super::Oracle;
use crate::store::secret::SecretObject;
use crate::store::{Key, Name, Object};
use crate::world::{World, is_invented};

/// The objects at the end: the hosts of a Secret's entries, and the references of a service account.
pub type EndState = BTreeMap<Key, Vec<String>>;

impl World {
    /// A minute after the last fault, every process that runs knows each Secret at its version.
    pub fn check_belief(&mut self) {
        let mut truth: BTreeMap<(Name, Name), u64> = BTreeMap::new();
        for (key, secret) in self.store.secrets() {
            truth.insert((key.namespace.clone(), key.name.clone()), secret.version);
        }
        for process in 0..self.profile.processes {
            let Some((name, controller)) = self.alive(process) else { continue };
            let mut belief = BTreeMap::new();
            for namespace in controller.index().names() {
                let state = controller.index().get(namespace).expect("it is in the index");
                for (secret, observed) in &state.secrets {
                    belief.insert((namespace.clone(), secret.clone()), observed.resource_version);
                }
            }
            // An event of the last seconds may be on its way.
            let differs = |key: &&(Name, Name)| {
                belief.get(*key) != truth.get(*key) && !self.touched_lately(&key.0, &key.1)
            };
            let keys: BTreeSet<_> = belief.keys().chain(truth.keys()).filter(differs).collect();
            if let Some(first) = keys.first() {
                let text = format!(
                    "{name} believes {}/{} at {:?}, the API server has {:?}",
                    first.0,
                    first.1,
                    belief.get(*first),
                    truth.get(*first)
                );
                return self.report(Oracle::Belief, text);
            }
        }
    }

    fn touched_lately(&self, namespace: &str, name: &str) -> bool {
        let touched = self.oracles.touched.get(&crate::store::secret_key(namespace, name));
        touched.is_some_and(|at| *at + Duration::from_secs(10) > self.time)
    }

    /// At the end of the calm, the world has converged, and little is remembered.
    pub fn check_end(&mut self) {
        if self.oracles.violation.is_some() {
            return;
        }
        for namespace in self.namespace_names() {
            self.check_converged(&namespace);
        }
        let keys = self.wanted_keys();
        let namespaces = self.namespace_names().len();
        for process in 0..self.profile.processes {
            let Some((name, controller)) = self.alive(process) else { continue };
            let memory = controller.memory();
            let bounded =
                memory.keys <= keys + 4 && memory.namespaces <= namespaces && memory.conditions <= namespaces;
            if !bounded {
                let text =
                    format!("{name} remembers {memory:?} for {namespaces} namespaces with {keys} keys");
                self.report(Oracle::Memory, text);
            }
        }
        self.check_accounts();
        self.check_silence();
    }

    /// Every process knows the service accounts of the namespaces that opted in, and of the others only those with our
    /// references and those that it changed.
    fn check_accounts(&mut self) {
        for process in 0..self.profile.processes {
            let Some((name, controller)) = self.alive(process) else { continue };
            for namespace in self.namespace_names() {
                let Some(facts) = controller.index().facts(&namespace) else { continue };
                let known: BTreeMap<_, _> =
                    facts.service_accounts.iter().map(|(name, refs)| (name, refs)).collect();
                let is_in = facts.parsed.is_some_and(|parsed| parsed.opt_in != OptIn::Out);
                let changed = &facts.history.service_accounts;
                let there = self.store.service_accounts(&namespace);
                let there: BTreeMap<_, _> = if is_in && facts.known_accounts == KnownAccounts::All {
                    there.collect()
                } else if is_in {
                    there.filter(|(name, _)| known.contains_key(name)).collect()
                } else {
                    there
                        .filter(|(name, refs)| !refs.attached.is_empty() || changed.contains_key(*name))
                        .collect()
                };
                if known != there {
                    let text = format!("{name} knows {known:?} of {namespace}, the API server has {there:?}");
                    return self.report(Oracle::Belief, text);
                }
            }
        }
    }

    fn check_converged(&mut self, namespace: &Name) {
        let Some(object) = self.store.namespace(namespace).filter(|object| !object.terminating) else {
            return;
        };
        let record = observe::namespace(&object.meta(namespace), &self.settings);
        let managed =
            self.store.secrets().filter(|(key, secret)| key.namespace == *namespace && secret.ours.is_some());
        // A finalizer may hold what was deleted.
        let managed = managed.filter(|(_, secret)| !secret.deleting);
        let managed: Vec<_> =
            managed.map(|(key, secret)| (key.name.clone(), secret.is_immutable())).collect();
        let Some(granted) = self.wanted(namespace) else {
            let invalid = record.is_some_and(|record| record.parsed.opt_in == OptIn::Invalid);
            if !invalid && !managed.is_empty() {
                let text = format!("{namespace} did not opt in and has {managed:?}");
                self.report(Oracle::Belief, text);
            }
            return;
        };
        let name = &granted.request.secret_name;
        let is_adopted = |secret: &SecretObject| {
            self.settings.adopt.iter().any(|rule| rule.matches(name, &secret.labels))
                && secret.is_pull_secret()
        };
        let foreign = self
            .store
            .secret(namespace, name)
            .is_some_and(|secret| secret.ours.is_none() && !is_adopted(secret));
        let immutable = self.store.secret(namespace, name).is_some_and(SecretObject::is_immutable);
        let endpoints_exist = |granted: &ecr_pull_secrets::simulation::core::grants::Granted| {
            granted.assignments.iter().all(|a| !is_invented(&a.request.key.endpoint.to_string()))
        };
        let replaced = self.oracles.replaced.get(&crate::store::secret_key(namespace, name));
        let is_being_replaced = replaced.is_some_and(|(at, _)| *at + Duration::from_secs(10) > self.time);
        if foreign
            || immutable
            || is_being_replaced
            || !endpoints_exist(&granted)
            || self.edited_lately(namespace, name)
        {
            return;
        }
        if !self.is_served(namespace, &granted) {
            let text = format!("{namespace} is not served: it has {managed:?}");
            return self.report(Oracle::Belief, text);
        }
        let asked = self.renewal_time(namespace).filter(|at| *at + Duration::from_mins(11) < self.time);
        if asked.is_some_and(|at| self.oldest_issue(namespace, &granted.request.secret_name) < at) {
            let text = format!("{namespace} still has a token that is older than it asked for");
            return self.report(Oracle::Progress, text);
        }
        if managed.len() > 1 {
            let text = format!("{namespace} still has {managed:?}");
            self.report(Oracle::Belief, text);
        }
    }

    /// When the oldest token of a Secret was issued.
    fn oldest_issue(&self, namespace: &str, name: &str) -> Duration {
        let passwords = self.store.secret(namespace, name).map(|secret| secret.passwords().clone());
        let issued = |password: &String| self.aws.token(password).map(|(_, info)| info.issued);
        passwords.iter().flat_map(BTreeMap::values).filter_map(issued).min().unwrap_or(self.time)
    }

    /// Whether another client edited the Secret so lately that its repair may wait.
    fn edited_lately(&self, namespace: &str, name: &str) -> bool {
        let edited = self.oracles.edited.get(&crate::store::secret_key(namespace, name));
        edited.is_some_and(|at| *at + Duration::from_mins(25) > self.time)
    }

    /// In the last five minutes of the calm, only what is due is written.
    fn check_silence(&mut self) {
        let from = self.time.saturating_sub(Duration::from_mins(5));
        let life = self.aws.life;
        let noisy = self.oracles.requests.iter().find(|(_, times)| {
            let recent = times.iter().filter(|at| **at > from).count();
            i64::try_from(recent).expect("few") > 4 + 1_500 / life.max(1)
        });
        if let Some((key, _)) = noisy {
            let text = format!("{}/{} is written although nothing changed", key.namespace, key.name);
            self.report(Oracle::WriteBudget, text);
        }
    }

    pub fn is_invalid(&self, namespace: &str) -> bool {
        let object = self.store.namespace(namespace);
        let record = object.and_then(|object| observe::namespace(&object.meta(namespace), &self.settings));
        record.is_some_and(|record| record.parsed.opt_in == OptIn::Invalid)
    }

    fn wanted_keys(&mut self) -> usize {
        let mut keys = BTreeSet::new();
        for namespace in self.namespace_names() {
            if let Some(granted) = self.wanted(&namespace) {
                keys.extend(granted.assignments.iter().map(|assignment| assignment.request.key.clone()));
            }
        }
        keys.len()
    }

    /// What the differential oracle compares: the Secrets, their entries, and the references to them. With invalid
    /// annotations the applied request counts, which depends on the past.
    pub fn end_state(&self) -> EndState {
        let mut state = EndState::new();
        for (key, object) in &self.store.objects {
            if self.is_invalid(&key.namespace) {
                continue;
            }
            let items = match &**object {
                Object::Secret(secret) if secret.ours.is_some() => {
                    secret.passwords().keys().cloned().collect()
                }
                Object::ServiceAccount(refs) => refs.references.iter().map(ToString::to_string).collect(),
                _ => continue,
            };
            state.insert(key.clone(), items);
        }
        state
    }
}
