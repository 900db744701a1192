//! Oracles of single writes, deletions and calls.

use std::collections::VecDeque;
use std::time::Duration;

use ecr_pull_secrets::simulation::controller::Request;
use ecr_pull_secrets::simulation::core::grants::{Granted, TokenKey};
use ecr_pull_secrets::simulation::core::plan::{DeleteReason, Deletion, PullSecretChange, SecretDraft};
use ecr_pull_secrets::simulation::core::request::{OptIn, Target};
use ecr_pull_secrets::simulation::core::{LABEL_INSTANCE, Now};
use ecr_pull_secrets::simulation::kubernetes::observe;

use jiff::Timestamp;

use super::{Oracle, Read};
use crate::store::secret::{ALL, SecretObject};
use crate::store::{Name, secret_key};
use crate::world::{FORGED, TokenInfo, World, origin};

/// Expiries are measured to two seconds, and a slow reply makes a token seem younger.
const SAME_AGE: Duration = Duration::from_secs(5);
/// How often a key is fetched for requested renewals.
const RENEW_INTERVAL: Duration = Duration::from_mins(5);
const WINDOW: Duration = Duration::from_mins(10);
/// Failures and repairs together: both back off from a second, one to a minute and one to ten.
const BUDGET: u32 = 30;

/// Whether no other client changed it since our last apply.
fn is_whole(secret: &SecretObject) -> bool {
    secret.ours.is_some_and(|ours| ours & ALL == ALL)
}

/// Whether it is the Secret of another tool.
fn is_foreign(secret: &SecretObject) -> bool {
    secret.ours.is_none() && !secret.labels.contains_key(LABEL_INSTANCE)
}

fn recent(times: &mut VecDeque<Duration>, now: Duration) -> u32 {
    while times.front().is_some_and(|at| *at + WINDOW < now) {
        times.pop_front();
    }
    u32::try_from(times.len()).expect("few")
}

impl World {
    /// A controller sends a request.
    pub fn count_request(&mut self, namespace: &Name, request: &Request) {
        let now = self.time;
        self.oracles.active.insert(namespace.clone(), now);
        let name: Name = match request {
            Request::Write { draft, .. } => draft.applied.request.secret_name.as_str().into(),
            Request::Delete(deletion) => deletion.name.clone(),
            Request::ReadNamespace
            | Request::ReadSecret(_)
            | Request::SetPullSecret(_)
            | Request::ListServiceAccounts => return,
        };
        let key = secret_key(namespace, &name);
        let times = self.oracles.requests.entry(key).or_default();
        times.push_back(now);
        let count = recent(times, now);
        let changes = self.oracles.changed.get_mut(namespace).map_or(0, |times| recent(times, now));
        let life = u32::try_from(self.aws.life.max(1)).unwrap_or(u32::MAX);
        let budget = BUDGET + 2 * changes + 1_800 / life;
        if count > budget {
            let text = format!("{count} requests to write {namespace}/{name} in ten minutes");
            self.report(Oracle::WriteBudget, text);
        }
    }

    /// A controller asks AWS.
    pub fn token_asked(&mut self, process: usize, key: &TokenKey) {
        let now = self.time;
        // A key that no namespace named was dropped with its token.
        let Some((_, controller)) = self.alive(process) else { return };
        let Some(token) = controller.token(key) else { return };
        let since_start =
            |time: Timestamp| Duration::try_from(time.duration_since(origin())).unwrap_or_default();
        let (issued, expires) = (since_start(token.issued_at()), since_start(token.expires_at()));
        let (half, age) = (expires.saturating_sub(issued) / 2, now.saturating_sub(issued));
        let is_early = age + Duration::from_secs(1) < half && !self.oracles.clocks_moved;
        if is_early && !self.may_renew(process, key, issued) {
            let text = format!("a second token for {} after {} s", key.endpoint, age.as_secs());
            self.report(Oracle::TokenBudget, text);
        }
    }

    /// Whether a namespace requests a newer token than the one of this age, for the first time in five minutes. A call that
    /// failed does not count.
    fn may_renew(&mut self, process: usize, key: &TokenKey, issued: Duration) -> bool {
        let now = self.time;
        // A process may see late that the annotation changed again.
        let is_requested = self.oracles.requested.iter().any(|time| *time > issued && *time <= now);
        let asker = (process, self.epoch(process), key.clone());
        let last = self.oracles.renewed.get(&asker).copied();
        let is_held = last.is_some_and(|at| at <= issued && now < at + RENEW_INTERVAL);
        self.oracles.renewed.insert(asker, now);
        is_requested && !is_held
    }

    /// The time before which the tokens of a namespace may not have been issued.
    pub fn renewal_time(&self, namespace: &str) -> Option<Duration> {
        let object = self.store.namespace(namespace)?;
        let record = observe::namespace(&object.meta(namespace), &self.settings)?;
        let since_start = record.parsed.renew?.duration_since(origin());
        Some(Duration::try_from(since_start).unwrap_or_default())
    }

    /// The API server executes a write that a controller sent at that time.
    pub fn secret_written(
        &mut self,
        namespace: &Name,
        sent: Duration,
        draft: &SecretDraft,
        before: Option<&SecretObject>,
        after: &SecretObject,
    ) {
        self.oracles.writes += 1;
        let key = secret_key(namespace, &draft.applied.request.secret_name);
        if self.oracles.unrepaired.remove(&key) {
            *self.oracles.repaired.entry(key).or_default() += 1;
        }
        if let Some(before) = before.filter(|before| is_foreign(before)) {
            let labels = &before.labels;
            let is_allowed = self
                .settings
                .adopt
                .iter()
                .any(|rule| rule.matches(&draft.applied.request.secret_name, labels));
            if !is_allowed || before.is_immutable() || before.uid != after.uid {
                let text = format!("{namespace}: a secret of another tool was changed");
                return self.report(Oracle::NoneTaken, text);
            }
        }
        self.check_scope(namespace, draft, after);
        if let Some(before) = before {
            self.check_entries(namespace, draft, before, after);
        }
        let shortest = after
            .passwords()
            .values()
            .filter_map(|password| self.aws.token(password).map(|(_, info)| info.expires));
        let shortest = shortest.min();
        if before.is_none() && shortest.is_some_and(|at| at <= sent) {
            let text = format!("{namespace} got a new secret with an expired token");
            return self.report(Oracle::NoneExpired, text);
        }
        self.check_at(namespace, shortest.unwrap_or(self.time));
    }

    fn check_scope(&mut self, namespace: &Name, draft: &SecretDraft, after: &SecretObject) {
        let Ok((granted, _)) = self.settings.grants.assign(namespace, &draft.applied.request) else { return };
        for (host, password) in after.passwords().clone() {
            if password == FORGED {
                let text = format!(
                    "{namespace}: the entry of {host} was carried over from data that another client wrote"
                );
                return self.report(Oracle::Scope, text);
            }
            let Some((_, info)) = self.aws.token(&password) else { continue };
            let expected = granted.assignments.iter().find(|assignment| match &assignment.target {
                Target::Host(registry) => registry.to_string() == host,
                Target::Default => true,
            });
            let is_granted = expected.is_some_and(|assignment| assignment.request.key == info.key);
            if !is_granted {
                let text = format!("{namespace}: the entry of {host} holds a token of {:?}", info.key);
                return self.report(Oracle::Scope, text);
            }
        }
    }

    /// No live entry that the namespace still wants is removed.
    fn check_entries(
        &mut self,
        namespace: &Name,
        draft: &SecretDraft,
        before: &SecretObject,
        after: &SecretObject,
    ) {
        let Some(granted) = self.wanted(namespace) else { return };
        let (old, new) = (before.passwords().clone(), after.passwords());
        let statics = self.static_hosts(namespace);
        for (host, password) in old {
            let issued =
                |password: &String| self.aws.token(password).map(|(_, info)| (info.issued, info.expires));
            let (was, is) = (issued(&password), new.get(&host).and_then(issued));
            if let (true, Some(was), Some(is)) = (is_whole(before), was, is)
                && is.0 + SAME_AGE < was.0
                && is.1 + SAME_AGE < was.1
            {
                let text = format!("{namespace}: the token of {host} was replaced by an older one");
                return self.report(Oracle::NoneTaken, text);
            }
            if new.contains_key(&host) {
                continue;
            }
            let live = was.is_some_and(|(_, expires)| expires > self.time);
            let requested = granted.request.registries.iter().any(|target| target.to_string() == host);
            let same = draft.applied.request.registries.iter().any(|target| target.to_string() == host);
            if (live && requested && same && is_whole(before)) || statics.contains(&host) {
                let text = format!("{namespace}: the entry of {host} was removed");
                return self.report(Oracle::NoneTaken, text);
            }
        }
    }

    /// An immutable Secret is deleted in the last quarter of its lifetime, which may begin sooner by its record, or because it
    /// lacks an entry.
    fn check_replaceable(&mut self, namespace: &Name, granted: &Granted, before: &SecretObject) {
        let is_young = |target: &Target| {
            let password = before.passwords().get(&target.to_string());
            let token = password.and_then(|password| self.aws.token(password));
            token.is_some_and(|(_, info)| !self.is_in_last_quarter(info))
        };
        let record = before.observed(&granted.request.secret_name, &self.settings);
        let now = Now { wall: self.wall(), mono: self.time, skew: None };
        let ends_soon = record.entries().any(|entry| entry.may_be_in_last_quarter(now));
        let is_named = !granted.request.registries.contains(&Target::Default);
        if is_named && is_whole(before) && !ends_soon && granted.request.registries.iter().all(is_young) {
            let text = format!("{namespace}: an immutable secret was replaced before its last quarter");
            self.report(Oracle::NoneTaken, text);
        }
    }

    fn is_in_last_quarter(&self, info: &TokenInfo) -> bool {
        let quarter = info.expires.saturating_sub(info.issued) / 4;
        self.time + quarter + SAME_AGE > info.expires
    }

    /// The Secret under another name has each live entry of the old one that the namespace still requests, and none that ends
    /// soon and sooner.
    fn check_successor(&mut self, namespace: &Name, granted: &Granted, before: &SecretObject) {
        let name = &granted.request.secret_name;
        if self.edited_just_now(namespace, name) {
            return;
        }
        let successor = self.store.secret(namespace, name);
        if let Some(host) = self.lost_entry(&granted.request.registries, before, successor) {
            let text = format!("{namespace}: the live entry of {host} was deleted with the old Secret");
            self.report(Oracle::NoneTaken, text);
        }
    }

    /// A controller changes a service account. None of the references that it removes leads to a Secret with a live entry that
    /// the new one lacks, by the request that the controller knows.
    pub fn references_changed(&mut self, process: usize, namespace: &Name, change: &PullSecretChange) {
        let PullSecretChange { service_account, secret: Some(secret), kept, .. } = change else { return };
        let Some(account) = self.store.service_account(namespace, service_account) else { return };
        let former = account.attached.iter().filter(|name| *name != secret && !kept.contains(name));
        let former = former.filter_map(|name| self.store.secret(namespace, name)).filter(|old| is_whole(old));
        let state = self.alive(process).and_then(|(_, controller)| controller.index().get(namespace));
        let record = state.and_then(|state| state.namespace.as_ref());
        let Some(OptIn::In(request)) = record.map(|record| &record.parsed.opt_in) else { return };
        if self.edited_just_now(namespace, secret) {
            return;
        }
        let new = self.store.secret(namespace, secret);
        let lost = { former }.find_map(|old| self.lost_entry(&request.registries, old, new));
        if let Some(host) = lost {
            let text = format!("{namespace}: a service account loses the live entry of {host}");
            self.report(Oracle::NoneTaken, text);
        }
    }

    /// Whether another client edited or deleted the Secret so lately that a controller may not know it, or a deletion was
    /// executed after its time limit: no deletion can depend on the version of another Secret.
    fn edited_just_now(&self, namespace: &Name, name: &str) -> bool {
        let key = secret_key(namespace, name);
        let times = [self.oracles.edited.get(&key), self.oracles.deleted_late.get(&key)];
        times.into_iter().flatten().any(|at| *at + Duration::from_mins(1) > self.time)
    }

    /// A requested registry of which `before` has a live entry, and `after` has none, or one that ends soon and sooner. An entry
    /// that has expired by its record is not live: a process whose clock was behind wrote it.
    pub fn lost_entry(
        &self,
        registries: &[Target],
        before: &SecretObject,
        after: Option<&SecretObject>,
    ) -> Option<String> {
        let live = |secret: &SecretObject, host: &str| {
            let (_, info) = self.aws.token(secret.passwords().get(host)?)?;
            Some(info).filter(|info| info.expires > self.time)
        };
        let has_expired =
            |host: &str| before.recorded_expiry(host, &self.settings).is_some_and(|at| at <= self.wall());
        let ends_soon = |info: &TokenInfo| {
            self.time + info.expires.saturating_sub(info.issued) / 4 > info.expires + SAME_AGE
        };
        let is_lost = |host: &String| {
            let Some(before) = live(before, host).filter(|_| !has_expired(host)) else { return false };
            let Some(after) = after.and_then(|after| live(after, host)) else { return true };
            ends_soon(after) && after.expires + SAME_AGE < before.expires
        };
        registries.iter().map(ToString::to_string).find(is_lost)
    }

    /// A controller reads the Namespace before it deletes something.
    pub fn namespace_read(&mut self, process: usize, namespace: &Name) {
        let wanted = self.wanted(namespace).map(|granted| granted.request.secret_name.as_str().into());
        let version = self.store.namespace(namespace).map(|object| object.version);
        let read = Read { version, wanted, is_invalid: self.is_invalid(namespace) };
        self.oracles.read.insert((process, namespace.clone()), read);
    }

    pub fn last_read(&self, process: usize, namespace: &Name) -> Option<Read> {
        self.oracles.read.get(&(process, namespace.clone())).cloned()
    }

    /// A controller deleted a Secret. It had read before what the Namespace wants.
    pub fn secret_deleted(
        &mut self,
        namespace: &Name,
        deletion: &Deletion,
        read: Option<&Read>,
        before: Option<&SecretObject>,
    ) {
        let Some(before) = before else { return };
        let name = &deletion.name;
        if is_foreign(before) {
            let text = format!("{namespace}/{name} of another tool was deleted");
            return self.report(Oracle::NoneTaken, text);
        }
        if **namespace == *"outside" && before.ours.is_none() {
            self.synchronise_copy(before);
            let text = format!("{namespace}/{name}, which the controller did not apply, was deleted");
            return self.report(Oracle::NoneTaken, text);
        }
        let passwords = before.passwords().values();
        let live =
            passwords.filter_map(|password| self.aws.token(password)).any(|(_, i)| i.expires > self.time);
        // A tenant may change its mind between the last read of the Namespace and the deletion, which may be late.
        let version = self.store.namespace(namespace).map(|object| object.version);
        let is_current = read.is_some_and(|read| read.version == version);
        if deletion.reason == DeleteReason::Renamed && read.is_some_and(|read| is_current && read.is_invalid)
        {
            let text = format!("{namespace}/{name} was deleted while the annotations are invalid");
            return self.report(Oracle::NoneTaken, text);
        }
        let Some(granted) = self.wanted(namespace) else { return };
        if deletion.reason == DeleteReason::Renamed && is_current {
            self.check_successor(namespace, &granted, before);
        }
        if !live || *granted.request.secret_name != **name {
            return;
        }
        if read.is_some_and(|read| read.wanted.as_deref() != Some(&**name)) {
            return;
        }
        if deletion.reason == DeleteReason::Immutable && before.is_immutable() {
            self.check_replaceable(namespace, &granted, before);
            let key = secret_key(namespace, name);
            self.oracles.replaced.insert(key.clone(), (self.time, before.clone()));
            return self.schedule_replaced(key);
        }
        let text = format!("{namespace}/{name} was deleted ({:?}), but it is wanted", deletion.reason);
        self.report(Oracle::NoneTaken, text);
    }
}
