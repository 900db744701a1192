//! The state of one namespace, from the plan that the controller would make for it now.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::knowledge::Knowledge;
use crate::commands::view::facts;
use crate::controller::index::NamespaceState;
use crate::core::plan::{Plan, Readiness, Step, WriteReason, plan};
use crate::core::request::{Problem, Target};
use crate::core::secret::StaticSources;
use crate::core::settings::Settings;
use crate::core::{EventReason, Now, whole_seconds};
use crate::kubernetes::overview::{Overview, Warning};

/// The state of a namespace; those in which a person may have to act come first.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, strum::IntoStaticStr, strum::EnumIter,
)]
#[serde(rename_all = "camelCase")]
#[strum(const_into_str)]
pub enum State {
    /// The Secret has expired.
    Expired,
    /// There is no Secret, and a person must act.
    Blocked,
    /// The Secret is valid, but a part of the request is not served.
    Degraded,
    /// The keys of the Namespace have no effect.
    Ignored,
    /// There is no Secret yet.
    Pending,
    /// The Secret is valid, and its renewal is due.
    Due,
    /// The Secret is valid, and the controller will rewrite it.
    Updating,
    /// The controller will delete the Secret.
    Removing,
    /// The Namespace is being deleted.
    Terminating,
    /// The Secrets cannot be read.
    Unknown,
    /// The Secret is valid.
    Ready,
}

impl State {
    /// Whether pods cannot pull, or soon cannot.
    pub fn is_trouble(self) -> bool {
        matches!(self, Self::Expired | Self::Blocked | Self::Degraded | Self::Ignored)
    }
}

/// A registry of a Secret, or one that is requested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryRow {
    pub registry: String,
    pub identity: Option<String>,
    #[serde(serialize_with = "time")]
    pub issued_at: Option<Timestamp>,
    #[serde(serialize_with = "time")]
    pub expires_at: Option<Timestamp>,
}

/// The last problem of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProblemRow {
    /// The reason, as of an Event.
    pub reason: String,
    pub message: String,
}

/// A namespace as `status` shows it. The fields are the JSON that docs/commands.md documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    #[serde(serialize_with = "text")]
    pub namespace: Arc<str>,
    pub state: State,
    /// The name of its Secret, or, without one, the requested name.
    pub secret: Option<String>,
    pub registries: Vec<RegistryRow>,
    /// The earliest expiry of the live entries.
    #[serde(serialize_with = "time")]
    pub expires_at: Option<Timestamp>,
    #[serde(serialize_with = "time")]
    pub renews_at: Option<Timestamp>,
    pub problem: Option<ProblemRow>,
}

impl Row {
    /// Whether only an Event can show the problem.
    pub fn is_unexplained(&self) -> bool {
        matches!(self.state, State::Pending | State::Unknown) && self.problem.is_none()
    }
}

/// The rows of an overview, trouble first.
pub fn rows(overview: &Overview, settings: &Settings, knowledge: Knowledge, now: Now) -> Vec<Row> {
    let row = |namespace| row(namespace, overview, settings, knowledge, now);
    let mut rows: Vec<Row> = overview.names.keys().filter_map(row).collect();
    rows.sort_by(|a, b| (a.state, &a.namespace).cmp(&(b.state, &b.namespace)));
    rows
}

/// The row of a namespace; `None` if it did not opt in and nothing of this instance is in it.
pub fn row(
    namespace: &Arc<str>,
    overview: &Overview,
    settings: &Settings,
    knowledge: Knowledge,
    now: Now,
) -> Option<Row> {
    let warning = overview.warnings.get(namespace);
    let Some(state) = overview.index.get(namespace) else {
        return overview.missed.get(namespace).map(|missed| ignored(namespace, missed));
    };
    let terminating = overview.names.get(namespace).copied().unwrap_or_default();
    let is_known = overview.secrets_denied.is_none() && !overview.denied.contains(namespace);
    let sources = StaticSources::new();
    let parsed = state.namespace.as_ref().map(|record| &*record.parsed);
    let facts = facts(namespace, parsed, terminating, state, &sources);
    let plan = knowledge.filter(plan(&facts, settings, now));
    if !(state.is_opted_in() || is_left(state)) {
        return overview.missed.get(namespace).map(|missed| ignored(namespace, missed));
    }
    let registries = registries(state, &plan, knowledge);
    let has_secret = is_known && state.managed().next().is_some();
    let lacking = if has_secret { lacking(&registries, now) } else { None };
    let found = match () {
        () if terminating => State::Terminating,
        () if !is_known => State::Unknown,
        () => state_of(state, &plan, lacking.is_some(), now),
    };
    // A Warning of a namespace that is served may be about a condition that has ended.
    let warning = warning.filter(|_| !matches!(found, State::Ready | State::Removing));
    let problem = plan.problems.first().map(problem).or_else(|| warning.map(said)).or(lacking);
    let times = state.in_use().filter_map(|observed| observed.times).min_by_key(|times| times.expires_at);
    Some(Row {
        namespace: namespace.clone(),
        state: found,
        secret: secret(state, &plan),
        registries,
        expires_at: state.earliest_expiry(now),
        renews_at: times.map(|times| times.refresh_after),
        problem,
    })
}

/// Whether a Secret is left that the controller applied.
fn is_left(state: &NamespaceState) -> bool {
    state.managed().any(|observed| observed.is_applied)
}

fn state_of(state: &NamespaceState, plan: &Plan, is_lacking: bool, now: Now) -> State {
    let has_problem = !plan.problems.is_empty();
    if let Step::Delete(_) = &plan.step
        && !(state.is_opted_in() && has_problem)
    {
        return State::Removing;
    }
    match Readiness::of(state.earliest_expiry(now), plan.is_blocked(), now) {
        Readiness::Expired => State::Expired,
        Readiness::Blocked => State::Blocked,
        Readiness::Pending => State::Pending,
        Readiness::Ready if has_problem || is_lacking => State::Degraded,
        Readiness::Ready => match &plan.step {
            Step::Write(write) if write.reason == WriteReason::RenewalDue => State::Due,
            Step::Write(_) | Step::Replace(_) => State::Updating,
            Step::Delete(_) => State::Removing,
            Step::Idle(_) | Step::SetPullSecret(_) | Step::ListServiceAccounts => State::Ready,
        },
    }
}

/// The Secret that the namespace has, or else the one that it requests.
fn secret(state: &NamespaceState, plan: &Plan) -> Option<String> {
    let granted = plan.granted.as_ref().map(|granted| granted.request.secret_name.clone());
    let wanted = granted.or_else(|| state.requested_name().map(str::to_owned));
    let names: Vec<_> = state.managed_by_name().map(|(name, _)| name.to_string()).collect();
    match wanted {
        Some(name) if names.is_empty() || names.contains(&name) => Some(name),
        _ => names.into_iter().next(),
    }
}

/// The entries of the Secret, and the requested registries that it has no entry for.
fn registries(state: &NamespaceState, plan: &Plan, knowledge: Knowledge) -> Vec<RegistryRow> {
    let applied = state.managed().filter_map(|observed| observed.applied.as_deref());
    let entries = applied.flat_map(|applied| applied.request.registries.iter().zip(&applied.entries));
    let written: Vec<_> = entries.filter_map(|(target, entry)| Some((target, entry.as_ref()?))).collect();
    let mut rows: Vec<RegistryRow> = vec![];
    for (_, entry) in &written {
        let row = RegistryRow {
            registry: entry.host.to_string(),
            identity: Some(entry.identity.to_string()),
            issued_at: entry.issued_at,
            expires_at: entry.expires_at,
        };
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    let has = |target: &Target| written.iter().any(|(known, _)| *known == target);
    if !knowledge.configuration && !rows.is_empty() {
        return rows;
    }
    let assignments = plan.granted.iter().flat_map(|granted| &granted.assignments);
    let missing = assignments.filter(|assignment| !has(&assignment.target));
    rows.extend(missing.map(|assignment| RegistryRow {
        registry: assignment.target.to_string(),
        identity: knowledge.configuration.then(|| assignment.request.key.identity.as_str().to_owned()),
        issued_at: None,
        expires_at: None,
    }));
    rows
}

/// The problem of a valid Secret in which an entry is missing or has expired.
fn lacking(registries: &[RegistryRow], now: Now) -> Option<ProblemRow> {
    let lacks = registries.iter().find(|row| row.expires_at.is_none_or(|at| at <= now.wall))?;
    let message = match lacks.expires_at {
        Some(at) => format!("the token for {} expired at {}", lacks.registry, whole_seconds(at)),
        None => format!("the secret has no token for {} yet", lacks.registry),
    };
    Some(ProblemRow { reason: EventReason::TokenFailed.into_str().to_owned(), message })
}

fn problem(problem: &Problem) -> ProblemRow {
    ProblemRow { reason: problem.reason.into_str().to_owned(), message: problem.message.clone() }
}

fn said(warning: &Warning) -> ProblemRow {
    ProblemRow { reason: warning.reason.clone(), message: warning.message.clone() }
}

fn ignored(namespace: &Arc<str>, missed: &Problem) -> Row {
    let message = format!("{}; this namespace did not opt in", missed.message);
    Row {
        namespace: namespace.clone(),
        state: State::Ignored,
        secret: None,
        registries: vec![],
        expires_at: None,
        renews_at: None,
        problem: Some(ProblemRow { reason: missed.reason.into_str().to_owned(), message }),
    }
}

/// RFC 3339, in whole seconds.
#[expect(clippy::ref_option, reason = "the signature that serde calls")]
fn time<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| whole_seconds(time).to_string()).serialize(serializer)
}

fn text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}
