//! The explanation of one namespace: what the plan of the controller contains for it, and which grant allows it.

use serde::Serialize;
use serde_json::Value;

use crate::commands::view::facts;
use crate::controller::index::NamespaceState;
use crate::core::grants::{Assignment, Grants};
use crate::core::plan::{Plan, Step, plan};
use crate::core::request::{OptIn, Problem, Request};
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
    let facts = facts(namespace, parsed, terminating, state, &sources);
    let plan = plan(&facts, settings, now);
    let granted = plan.granted.as_ref();
    let request = granted.map(|granted| &granted.request);
    let requested_by = requested_by(parsed.map(|parsed| &parsed.opt_in), request.map(|request| &**request));
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

/// `used` is the request of the plan, with the registries that are granted.
fn requested_by(opt_in: Option<&OptIn>, used: Option<&Request>) -> RequestedBy {
    let present = match opt_in {
        Some(OptIn::In(present)) => Some(present),
        Some(OptIn::Invalid) => None,
        Some(OptIn::Out) | None => return RequestedBy::Nothing,
    };
    let is_part = |used: &Request, present: &Request| {
        let has_registry = |target| present.registries.contains(target);
        let whole = Request { registries: present.registries.clone(), ..used.clone() };
        whole == *present && used.registries.iter().all(has_registry)
    };
    match (present, used) {
        (Some(present), Some(used)) if !is_part(used, present) => RequestedBy::AppliedRequest,
        (None, Some(_)) => RequestedBy::AppliedRequest,
        (Some(present), _) if present.by_default => RequestedBy::Configuration,
        (Some(_), _) | (None, None) => RequestedBy::Annotation,
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::plan::{NamespaceRecord, Observed};
    use crate::core::request::ParsedAnnotations;
    use crate::core::testing::{HOST, at, observed, parsed, request, settings};

    fn explained(parsed: Option<ParsedAnnotations>, secret: Option<Observed>) -> Explanation {
        let namespace = parsed.map(|parsed| NamespaceRecord { uid: "u".into(), parsed: Arc::new(parsed) });
        let secrets = secret.map(|observed| ("ecr-pull".into(), observed)).into_iter().collect();
        let mut state = NamespaceState::default();
        (state.namespace, state.secrets) = (namespace, secrets);
        explain("team-a", &state, false, &settings(), at(0))
    }

    #[test]
    fn the_present_request_is_distinguished_from_the_applied_one() {
        let ours = || observed(&request(&[HOST]));
        let ungranted = |key: fn(&mut Request)| {
            let mut request = request(&[HOST]);
            key(&mut request);
            parsed(request)
        };
        let role = || ungranted(|request| request.role = vec!["admin".into()]);
        let repositories = || ungranted(|request| request.repositories = vec!["team-a/*".into()]);
        let by_default = Request { by_default: true, ..request(&[HOST]) };
        let out = ParsedAnnotations { opt_in: OptIn::Out, renew: None, problems: vec![] };
        for (given, secret, expected, entries) in [
            (Some(parsed(request(&[HOST]))), None, RequestedBy::Annotation, 1),
            (Some(parsed(by_default)), None, RequestedBy::Configuration, 1),
            (Some(role()), Some(ours()), RequestedBy::AppliedRequest, 1),
            (Some(repositories()), Some(ours()), RequestedBy::AppliedRequest, 1),
            (Some(role()), None, RequestedBy::Annotation, 0),
            (Some(out), Some(ours()), RequestedBy::Nothing, 0),
            (None, None, RequestedBy::Nothing, 0),
        ] {
            let explained = explained(given, secret);
            assert_eq!(
                (explained.requested_by, explained.entries.len()),
                (expected, entries),
                "{explained:?}"
            );
            let is_refused = expected == RequestedBy::AppliedRequest
                || (entries == 0 && expected == RequestedBy::Annotation);
            assert_eq!(!explained.refused.is_empty(), is_refused, "{explained:?}");
        }
    }

    #[test]
    fn the_json_has_the_documented_fields() {
        let json = serde_json::json!(explained(Some(parsed(request(&[HOST]))), None));
        let keys = |value: &Value| value.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>());
        let documented = include_str!("../../../docs/commands.md");
        for key in [keys(&json), keys(&json["entries"][0])].into_iter().flatten().flatten() {
            let is_documented = |end: &str| documented.contains(&format!("{key}{end}"));
            assert!(is_documented("`") || is_documented("[]"), "{key}");
        }
        assert_eq!(json["next"], "write secret \"ecr-pull\": it did not exist");
    }
}
