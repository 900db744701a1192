//! The explanation of one namespace: what the plan of the controller contains for it, and which grant allows it.

use serde::Serialize;
use serde_json::Value;

use crate::controller::index::NamespaceState;
use crate::core::grants::{Assignment, Grants};
use crate::core::plan::{Facts, Plan, Step, plan};
use crate::core::request::{OptIn, Problem};
use crate::core::secret::{StaticSources, static_registries};
use crate::core::settings::Settings;
use crate::core::{Now, whole_seconds};

/// Why a namespace gets a Secret, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RequestedBy {
    Annotation,
    /// `namespaces` of the configuration.
    Configuration,
    /// The present values are invalid, so that the applied request stays in force.
    AppliedRequest,
    /// It did not opt in.
    Nothing,
}

/// One entry of the Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The host, or `default`.
    pub registry: String,
    pub identity: String,
    /// The part of the configuration that grants the identity to this namespace.
    pub granted_by: String,
    /// The endpoint that issues the token.
    pub endpoint: String,
    /// The role; `None` for the identity `controller`, whose token cannot be restricted.
    pub role_arn: Option<String>,
    pub session_name: Option<String>,
    /// The session policy that restricts the token.
    pub session_policy: Option<Value>,
    /// The fingerprint of the permissions, as the Secret records it.
    pub scope: String,
}

/// An entry that is copied from a Secret in the controller's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StaticRow {
    pub registry: String,
    pub secret: String,
}

/// A part of the request that is not served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    pub reason: String,
    pub message: String,
}

/// The fields are the JSON that docs/commands.md documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    pub namespace: String,
    pub requested_by: RequestedBy,
    /// The name of the Secret; `None` if the namespace gets none.
    pub secret: Option<String>,
    pub entries: Vec<Entry>,
    pub static_entries: Vec<StaticRow>,
    /// The service accounts that refer to the Secret.
    pub service_accounts: Vec<String>,
    pub refused: Vec<Refusal>,
    /// The next step of the controller.
    pub next: String,
}

/// Explains a namespace. `state` is what the cluster contains of it; a namespace that did not opt in has the default.
pub fn explain(
    namespace: &str,
    state: &NamespaceState,
    terminating: bool,
    settings: &Settings,
    now: Now,
) -> Explanation {
    let sources = StaticSources::new();
    let parsed = state.namespace.as_ref().map(|record| &*record.parsed);
    let facts = Facts {
        namespace,
        parsed,
        terminating,
        held: false,
        secrets: &state.secrets,
        service_accounts: &[],
        misses_accounts: false,
        static_sources: &sources,
        history: &state.history,
    };
    let plan = plan(&facts, settings, now);
    let granted = plan.granted.as_ref();
    let request = granted.map(|granted| &granted.request);
    let is_present = |opt_in: &OptIn| {
        let OptIn::In(present) = opt_in else { return false };
        request.is_none_or(|used| used.secret_name == present.secret_name && used.role == present.role)
    };
    let requested_by = match (parsed.map(|parsed| &parsed.opt_in), request) {
        (Some(OptIn::In(present)), _) if present.by_default => RequestedBy::Configuration,
        (Some(opt_in), _) if is_present(opt_in) => RequestedBy::Annotation,
        (Some(OptIn::In(_) | OptIn::Invalid), Some(_)) => RequestedBy::AppliedRequest,
        (Some(OptIn::In(_) | OptIn::Invalid), None) => RequestedBy::Annotation,
        (Some(OptIn::Out) | None, _) => RequestedBy::Nothing,
    };
    let granted_entries = static_registries::granted(&settings.static_grants, namespace);
    let mut static_entries: Vec<StaticRow> = vec![];
    for (grant, host) in granted_entries.filter(|_| granted.is_some()) {
        if static_entries.iter().all(|row| row.registry != *host) {
            static_entries.push(StaticRow { registry: host.clone(), secret: grant.secret.to_string() });
        }
    }
    let entry = |assignment| entry(assignment, namespace, &settings.grants);
    Explanation {
        namespace: namespace.to_owned(),
        requested_by,
        secret: request.map(|request| request.secret_name.clone()),
        entries: granted.iter().flat_map(|granted| &granted.assignments).map(entry).collect(),
        static_entries,
        service_accounts: request.map(|request| request.service_accounts.clone()).unwrap_or_default(),
        refused: plan.problems.iter().map(refusal).collect(),
        next: next(&plan, terminating),
    }
}

fn entry(assignment: &Assignment, namespace: &str, grants: &Grants) -> Entry {
    let request = &assignment.request;
    let name = request.key.identity.as_str();
    let session = request.session.as_deref();
    Entry {
        registry: assignment.target.to_string(),
        identity: name.to_owned(),
        granted_by: granted_by(name, namespace, grants),
        endpoint: request.key.endpoint.to_string(),
        role_arn: session.map(|session| session.role.arn.to_string()),
        session_name: session.map(|session| session.name.clone()),
        session_policy: session.map(|session| {
            serde_json::from_str(&session.policy).unwrap_or_else(|_| Value::String(session.policy.clone()))
        }),
        scope: format!("{:016x}", assignment.scope.0),
    }
}

/// The item of `namespaces` that matches, or the default identity.
fn granted_by(identity: &str, namespace: &str, grants: &Grants) -> String {
    let found = grants.identities.iter().find(|known| known.name.as_str() == identity);
    let pattern = found.and_then(|found| found.namespaces.iter().find(|pattern| pattern.matches(namespace)));
    match pattern {
        Some(pattern) => format!("namespaces: {pattern} of identity {identity:?}"),
        None => format!("defaults.identity: {identity}"),
    }
}

fn refusal(problem: &Problem) -> Refusal {
    Refusal { reason: problem.reason.into_str().to_owned(), message: problem.message.clone() }
}

/// The next step, as a sentence.
fn next(plan: &Plan, terminating: bool) -> String {
    match &plan.step {
        Step::Idle(_) if terminating => "none: the Namespace is being deleted".to_owned(),
        Step::Idle(None) => "none until something changes".to_owned(),
        Step::Idle(Some(at)) => format!("none until {}", whole_seconds(*at)),
        Step::Write(write) => {
            let name = &write.granted.request.secret_name;
            format!("write secret {name:?}: {}", write.reason.message())
        }
        Step::Delete(deletion) => format!("delete secret {:?}: {}", deletion.name, deletion.reason.message()),
        Step::Replace(replacement) => {
            format!("recreate secret {:?} before its token expires", replacement.deletion.name)
        }
        Step::SetPullSecret(change) => format!("change service account {:?}", change.service_account),
        Step::ListServiceAccounts => "list the service accounts".to_owned(),
    }
}
