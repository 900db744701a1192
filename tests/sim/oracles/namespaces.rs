//! Oracles of one namespace over time: its Secret exists, is valid, and is worked on when it is due.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ecr_pull_secrets::simulation::core::grants::{Assignment, Granted};
use ecr_pull_secrets::simulation::core::request::{OptIn, Target};
use ecr_pull_secrets::simulation::core::secret::StaticSource;
use ecr_pull_secrets::simulation::kubernetes::observe;

use super::Oracle;
use crate::store::secret::TEMPLATE_LABEL;
use crate::store::{Key, Kind, Name, Object, Store};
use crate::world::{World, is_invented};

/// How long AWS and the API server must answer before a Secret must be valid (design, invariant 3).
const SERVED: Duration = Duration::from_mins(5);
/// Within this time, something that is due is asked for.
const ASKED: Duration = Duration::from_secs(90);
/// Repairs of what another client keeps changing back off to ten minutes.
const REPAIRS: Duration = Duration::from_mins(25);

/// How many new keys a namespace may name at once.
const SHARE: u32 = 48;

impl World {
    /// What the namespace asks for and the configuration grants; `None` if it wants no Secret, or none that the
    /// controller may write.
    pub fn wanted(&mut self, namespace: &str) -> Option<Arc<Granted>> {
        let object = self.store.namespace(namespace).filter(|object| !object.terminating)?;
        if let Some((version, known)) = self.oracles.wanted.get(namespace)
            && *version == object.version
        {
            return known.clone();
        }
        let record = observe::namespace(&object.meta(namespace), &self.settings);
        let version = object.version;
        let granted = record.and_then(|record| match &record.parsed.opt_in {
            OptIn::In(request) => self.settings.grants.assign(namespace, request).ok(),
            OptIn::Out | OptIn::Invalid => None,
        });
        let granted = granted.map(|(granted, _)| Arc::new(granted));
        self.oracles.wanted.insert(namespace.into(), (version, granted.clone()));
        granted
    }

    /// The hosts of static entries that the namespace should have.
    pub fn static_hosts(&self, namespace: &str) -> BTreeSet<String> {
        let granted = self.settings.static_grants.iter();
        let granted =
            granted.filter(|grant| grant.namespaces.iter().any(|pattern| pattern.matches(namespace)));
        let hosts = granted.flat_map(|grant| grant.hosts.iter().map(move |host| (grant, host)));
        let missing = |source: &StaticSource, host: &String| {
            !source.entries.is_empty() && !source.entries.contains_key(host)
        };
        let removed = |secret: &Name, host: &String| {
            let key = Key { kind: Kind::Source, namespace: "".into(), name: secret.clone() };
            matches!(self.store.objects.get(&key).map(|o| &**o), Some(Object::Source(s)) if missing(s, host))
        };
        hosts.filter(|(grant, host)| !removed(&grant.secret, host)).map(|(_, host)| host.clone()).collect()
    }

    /// The annotations of a namespace changed.
    pub fn namespace_changed(&mut self, namespace: &Name) {
        let now = self.time;
        let times: &mut VecDeque<Duration> = self.oracles.changed.entry(namespace.clone()).or_default();
        times.push_back(now);
        self.check_at(namespace, now);
    }

    /// Checks the namespace at `at`, or as soon as the faults that concern it have ended for long enough.
    pub fn check_at(&mut self, namespace: &Name, at: Duration) {
        let at = at.max(self.served_at(namespace)) + Duration::from_millis(1_500);
        let known = self.oracles.checks.get(namespace).copied();
        if known.is_none_or(|known| known <= self.time || at < known) {
            self.oracles.checks.insert(namespace.clone(), at);
            self.schedule_check(namespace, at);
        }
    }

    /// What is missing or due was asked for in the last minute and a half.
    pub fn check_asked(&mut self, namespace: &Name) {
        let now = self.time;
        let Some(granted) = self.wanted(namespace) else { return };
        let changed = self.oracles.changed.get(namespace).and_then(|times| times.back()).copied();
        let from = self.undisturbed_since(namespace, &granted).max(changed.unwrap_or_default());
        let pace = Duration::from_secs(u64::from(self.profile.namespaces) / 50);
        let key = crate::store::secret_key(namespace, &granted.request.secret_name);
        let edited = self.oracles.edited.get(&key).copied();
        if from + ASKED + pace > now || edited.is_some_and(|at| now < at + REPAIRS) {
            return;
        }
        let due = match self.store.secret(namespace, &granted.request.secret_name) {
            Some(secret) => {
                secret.ours.is_some() && !secret.is_immutable() && self.is_overdue(secret, ASKED + pace)
            }
            None => true,
        };
        if due && !self.is_asked(namespace) && !self.is_called(&granted) {
            self.report(Oracle::Progress, format!("{namespace} is due, and nothing is asked for"));
        }
    }

    /// Whether a controller requested something in the namespace lately.
    fn is_asked(&self, namespace: &str) -> bool {
        self.oracles.active.get(namespace).is_some_and(|at| *at + ASKED > self.time)
    }

    /// Whether a controller called AWS lately for a token that the namespace needs.
    fn is_called(&self, granted: &Granted) -> bool {
        let keys = granted.assignments.iter().map(|assignment| &assignment.request.key);
        keys.filter_map(|key| self.aws.asked.get(key)).any(|at| *at + ASKED > self.time)
    }

    /// Whether a token in it is past the latest time of its renewal by this much.
    fn is_overdue(&self, secret: &crate::store::secret::SecretObject, by: Duration) -> bool {
        let late = |info: &crate::world::TokenInfo| {
            info.issued + info.expires.saturating_sub(info.issued).mul_f64(0.6) + by
        };
        let infos = secret.passwords().values();
        infos
            .filter_map(|password| self.aws.token(password).map(|(_, info)| late(info)))
            .any(|at| at <= self.time)
    }

    /// When the last fault that concerns the namespace ended.
    fn undisturbed_since(&self, namespace: &str, granted: &Granted) -> Duration {
        let endpoints = granted.assignments.iter().map(|a| a.request.key.endpoint.to_string());
        let aws = endpoints.map(|endpoint| self.aws.last_trouble(&endpoint)).max().unwrap_or_default();
        self.last_trouble(namespace).max(aws)
    }

    /// From when on the namespace must have a valid Secret.
    fn served_at(&mut self, namespace: &Name) -> Duration {
        let pace = u64::from(self.profile.namespaces) / 50;
        let changed = self.oracles.changed.get(namespace).and_then(|times| times.back()).copied();
        let trouble = match self.wanted(namespace) {
            Some(granted) => self.undisturbed_since(namespace, &granted),
            None => self.last_trouble(namespace),
        };
        trouble.max(changed.unwrap_or_default()) + SERVED + Duration::from_secs(pace)
    }

    /// The namespace has had the time that it needs: its Secret exists and every entry is live.
    pub fn check_namespace(&mut self, namespace: &Name) {
        let now = self.time;
        if self.oracles.checks.get(namespace).is_some_and(|at| *at > now) {
            return;
        }
        let Some(granted) = self.wanted(namespace) else { return };
        // A namespace that used up its share of new keys waits for the next one.
        let is_over = self.oracles.named.get(namespace).is_some_and(|count| *count > SHARE);
        let invented = |assignment: &Assignment| is_invented(&assignment.request.key.endpoint.to_string());
        if is_over || granted.assignments.iter().any(invented) {
            return;
        }
        let served = self.served_at(namespace);
        if served > now {
            return self.check_at(namespace, served);
        }
        let name = granted.request.secret_name.clone();
        let key = crate::store::secret_key(namespace, &name);
        let Some(secret) = self.store.secret(namespace, &name).cloned() else {
            return self.report_missing(&key, format!("{namespace}/{name} is missing"));
        };
        // An immutable Secret that a finalizer holds can neither be renewed nor replaced.
        let is_stuck = secret.is_immutable() && secret.finalizer;
        if !secret.is_pull_secret() || secret.ours.is_none() || is_stuck {
            return;
        }
        let hosts = granted.request.registries.iter().filter(|target| **target != Target::Default);
        let mut hosts = hosts.map(ToString::to_string);
        if let Some(host) = hosts.find(|host| !secret.passwords().contains_key(host)) {
            // An immutable Secret is replaced when each of its entries has a token that ends no sooner. After a failover, that is
            // when the tokens of the new leader are renewed.
            let renewed = served + Duration::from_secs(self.aws.life.unsigned_abs()).mul_f64(0.6);
            if secret.is_immutable() && self.profile.processes > 1 && renewed > now {
                return self.check_at(namespace, renewed);
            }
            return self.report_missing(&key, format!("{namespace}/{name} lacks the entry of {host}"));
        }
        let mut soonest = Duration::MAX;
        for (host, password) in secret.passwords().clone() {
            let requested = granted.request.registries.iter().any(|target| target.to_string() == host);
            let Some(expires) = self.aws.token(&password).map(|(_, info)| info.expires) else { continue };
            if requested && expires <= now {
                let active = self.is_asked(namespace) || self.is_called(&granted);
                let oracle = if active { Oracle::NoneExpired } else { Oracle::Progress };
                return self.report(oracle, format!("{namespace}/{name}: the entry of {host} expired"));
            }
            soonest = soonest.min(expires);
        }
        if soonest < Duration::MAX {
            self.check_at(namespace, soonest.max(now));
        }
    }

    /// A Secret or an entry of it is missing, unless another client edited it so lately that the repair may wait.
    fn report_missing(&mut self, key: &Key, text: String) {
        let namespace = &key.namespace;
        match self.oracles.edited.get(key).map(|at| *at + REPAIRS) {
            Some(repaired) if self.time < repaired => self.check_at(namespace, repaired),
            _ if self.is_asked(namespace) => self.report(Oracle::NoneExpired, text),
            _ => self.report(Oracle::Progress, text),
        }
    }

    /// An immutable Secret that was deleted is replaced, by one with each of its live entries, unless a fault concerned the
    /// namespace in the last minute.
    pub fn check_replaced(&mut self, key: &Key) {
        let Key { namespace, name, .. } = key;
        let disturbed = self.last_trouble(namespace) + Duration::from_mins(1) > self.time;
        let wanted = self.wanted(namespace).filter(|granted| *granted.request.secret_name == **name);
        let Some(granted) = wanted.filter(|_| !disturbed) else { return };
        let Some(after) = self.store.secret(namespace, name) else {
            return self
                .report(Oracle::NoneTaken, format!("{namespace}/{name} was deleted and not replaced"));
        };
        let before = self.oracles.replaced.get(key).filter(|(_, before)| Store::is_ours(before));
        let lost =
            before.and_then(|(_, before)| self.lost_entry(&granted.request.registries, before, Some(after)));
        if let Some(host) = lost.filter(|_| Store::is_ours(after)) {
            let text = format!("{namespace}/{name} was replaced without the live entry of {host}");
            self.report(Oracle::NoneTaken, text);
        }
    }

    /// Whether the Secret of a namespace is as it is wanted.
    pub fn is_served(&mut self, namespace: &str, granted: &Granted) -> bool {
        let Some(secret) = self.store.secret(namespace, &granted.request.secret_name) else { return false };
        let passwords = secret.passwords();
        let has_entries = granted.assignments.iter().all(|assignment| {
            let found = passwords.values().filter_map(|password| self.aws.token(password));
            found.into_iter().any(|(_, info)| info.key == assignment.request.key && info.expires > self.time)
        });
        let template = self.settings.secret_template.labels();
        let has_template = secret.labels.get(TEMPLATE_LABEL) == template.get(TEMPLATE_LABEL);
        Store::is_ours(secret) && has_entries && has_template
    }
}
