//! The API server, the admission policy, the Lease and the namespaces.

use jiff::SignedDuration;

use super::{adoption, rights};
use crate::commands::check::facts::{
    Clocks, ClusterFacts, DryRun, Facts, LeaseFacts, NamespacesFacts, PolicyFacts, PolicyObject,
    SingleNamespaceMode, Version,
};
use crate::commands::check::finding::{Category, Finding, Link};
use crate::commands::configuration::Unused;
use crate::commands::status::{Row, State};
use crate::core::{Now, counted, whole_seconds};

/// The first version in which `ValidatingAdmissionPolicy` is stable
/// (<https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/>).
const MIN_VERSION: (u32, u32) = (1, 30);

/// A leader whose Lease was not renewed for this many of its durations is gone.
const EXPIRED_AFTER: i64 = 2;

/// The maximum number of namespaces that have a line.
const MAX_NAMESPACES: usize = 20;

/// A difference that confuses people who compare times. The Lease does not depend on it.
const MAX_API_SERVER_SKEW: SignedDuration = SignedDuration::from_secs(30);

pub fn judge(facts: &Facts) -> Vec<Finding> {
    let cluster = match &facts.cluster {
        None => {
            return vec![Finding::skipped(Category::ApiServer, "not checked without a valid configuration")];
        }
        Some(Err(error)) => {
            let remedy = "check --kubeconfig and --context, the network, and whether the API server runs";
            return vec![Finding::failed(Category::ApiServer, error, Link::ApiServer, remedy)];
        }
        Some(Ok(cluster)) => cluster,
    };
    let mut findings = vec![version(&cluster.version)];
    if cluster.version.is_err() {
        return findings;
    }
    findings.extend(cluster.unused_configuration.as_ref().map(unused_configuration));
    findings.extend(rights::judge(cluster, facts.pre));
    findings.extend(match (&cluster.single, &cluster.policy) {
        // An administrator of the cluster may have added a policy.
        (Some(_), Some(policy @ PolicyFacts::Objects(found))) if !found.is_empty() => {
            Some(admission_policy(policy, cluster))
        }
        (Some(single), _) => Some(no_policy(single)),
        (None, policy) => policy.as_ref().map(|policy| admission_policy(policy, cluster)),
    });
    findings.extend(cluster.lease.as_ref().map(|found| lease(found.as_ref(), cluster, facts.now)));
    findings.extend(cluster.clock.map(api_server_clock));
    findings.extend(cluster.namespaces.iter().flat_map(|found| namespaces(found.as_ref())));
    findings.extend(adoption::judge(cluster));
    findings
}

/// Other findings may be about problems that the controller does not have.
fn unused_configuration(unused: &Unused) -> Finding {
    Finding::warning(Category::Configuration, unused.message(), Link::Configuration, unused.remedy())
}

fn version(version: &Result<Version, String>) -> Finding {
    let category = Category::ApiServer;
    match version {
        Ok(Version { major, minor, text }) if (*major, *minor) >= MIN_VERSION => {
            Finding::ok(category, format!("the API server responds; version {text}"))
        }
        Ok(Version { text, .. }) => {
            let (major, minor) = MIN_VERSION;
            let message =
                format!("version {text} of the API server is too old: {major}.{minor} or later is required");
            Finding::failed(category, message, Link::ApiServer, "upgrade the cluster")
        }
        Err(error) => {
            let message = format!("the API server does not respond: {error}");
            let remedy = "check --kubeconfig and --context, the network, and whether the API server runs";
            Finding::failed(category, message, Link::ApiServer, remedy)
        }
    }
}

fn api_server_clock(Clocks { server, local }: Clocks) -> Finding {
    let apart = server.duration_since(local).abs();
    if apart <= MAX_API_SERVER_SKEW {
        return Finding::ok(
            Category::Clock,
            format!("the API server's clock differs by {} s", apart.as_secs()),
        );
    }
    let message = format!("the API server's clock differs from this machine's by {} s", apart.as_secs());
    Finding::warning(Category::Clock, message, Link::Clock, "synchronize both clocks, for example with NTP")
}

fn admission_policy(policy: &PolicyFacts, cluster: &ClusterFacts) -> Finding {
    let category = Category::AdmissionPolicy;
    let user = cluster.subject.user();
    let install = "apply deploy/admission-policy.yaml, or set admissionPolicy.enabled of the chart";
    match policy {
        PolicyFacts::DryRun(DryRun::Denied) => {
            Finding::ok(category, "a secret of another type was denied by a policy (dry run)")
        }
        PolicyFacts::DryRun(DryRun::Accepted) => {
            let message = format!(
                "no admission policy restricts {user}: a secret of another type was accepted (dry run)"
            );
            Finding::failed(category, message, Link::AdmissionPolicy, install)
        }
        PolicyFacts::DryRun(DryRun::Undetermined(reason)) => {
            Finding::skipped(category, format!("not determined: {reason}"))
        }
        PolicyFacts::Unreadable(reason) => Finding::skipped(category, format!("cannot be read: {reason}")),
        PolicyFacts::Objects(found) => match found.as_slice() {
            [] => {
                let message = format!("no ValidatingAdmissionPolicy for secrets matches {user}");
                Finding::failed(category, message, Link::AdmissionPolicy, install)
            }
            [first, ..] => policy_object(found.iter().find(|policy| policy.is_sound()).unwrap_or(first)),
        },
    }
}

/// The risk that the notes of the chart describe.
fn no_policy(single: &SingleNamespaceMode) -> Finding {
    let accounts = if single.writes_service_accounts { ", change their service accounts," } else { "" };
    let message = format!(
        "single-namespace mode, in {}: no ValidatingAdmissionPolicy is known to restrict the controller, so a stolen \
         credential of the controller can write any content and metadata into secrets with its names in these \
         namespaces{accounts} and forge events there",
        single.namespaces.join(", ")
    );
    let remedy = "accept the risk, or let an administrator of the cluster install the controller without namespaces.only: \
                  then the chart creates the policies";
    Finding::warning(Category::AdmissionPolicy, message, Link::NoAdmissionPolicy, remedy)
}

impl PolicyObject {
    fn denies(&self) -> bool {
        self.bindings.iter().any(|actions| actions.iter().any(|action| action == "Deny"))
    }

    fn is_sound(&self) -> bool {
        self.denies() && self.failure_policy == "Fail" && self.missing_names.is_empty()
    }
}

fn policy_object(policy: &PolicyObject) -> Finding {
    let category = Category::AdmissionPolicy;
    let PolicyObject { name, failure_policy, bindings, missing_names } = policy;
    let fail =
        |message: String, remedy: &str| Finding::failed(category, message, Link::AdmissionPolicy, remedy);
    if bindings.is_empty() {
        let message = format!("policy {name:?} has no binding, so it has no effect");
        return fail(message, "apply deploy/admission-policy.yaml, which contains the bindings");
    }
    if !policy.denies() {
        let message = format!("the binding of policy {name:?} does not deny");
        return fail(message, "set validationActions: [Deny, Audit] in the binding");
    }
    if !missing_names.is_empty() {
        let names = missing_names.join(", ");
        let message =
            format!("policy {name:?} does not allow the secrets named {names}, so their writes are denied");
        return fail(
            message,
            "render the policy with the same secretNames as the controller's configuration",
        );
    }
    if failure_policy != "Fail" {
        let message = format!(
            "policy {name:?} has failurePolicy {failure_policy}, so an error in it allows every write"
        );
        return Finding::warning(category, message, Link::AdmissionPolicy, "set failurePolicy: Fail");
    }
    Finding::ok(category, format!("policy {name:?} is bound and denies"))
}

fn lease(found: Result<&Option<LeaseFacts>, &String>, cluster: &ClusterFacts, now: Now) -> Finding {
    let category = Category::Lease;
    let namespace = &cluster.namespace;
    let fail = |message: String, remedy: String| Finding::failed(category, message, Link::Lease, remedy);
    let start = || format!("start the controller: kubectl get pods -n {namespace}");
    let lease = match found {
        Err(reason) => return Finding::skipped(category, format!("cannot be read: {reason}")),
        Ok(None) if cluster.has_ready_namespaces() => {
            let message = "there is no Lease, but a namespace is ready: the controller runs without leader election, or has \
                           stopped";
            let remedy = "run one controller only, or set --leader-election";
            return Finding::warning(category, message, Link::Lease, remedy);
        }
        Ok(None) => {
            let message = format!(
                "there is no Lease in namespace {namespace:?}: no controller has run with leader election"
            );
            return fail(
                message,
                format!("{}, or select its namespace with --controller-namespace", start()),
            );
        }
        Ok(Some(lease)) => lease,
    };
    let (Some(holder), Some(renewed_at)) = (&lease.holder, lease.renewed_at) else {
        return fail("no controller holds the Lease".to_owned(), start());
    };
    // Both times are those of the cluster, as far as its clock is known.
    let skew = cluster.clock.map_or(SignedDuration::ZERO, |clock| clock.server.duration_since(clock.local));
    let age = now
        .wall
        .saturating_add(skew)
        .map_or(SignedDuration::ZERO, |server| server.duration_since(renewed_at));
    if age.as_secs() > EXPIRED_AFTER * i64::from(lease.duration_seconds) {
        let at = whole_seconds(renewed_at);
        return fail(format!("{holder:?} has not renewed the Lease since {at}"), start());
    }
    Finding::ok(category, format!("{holder:?} is the leader"))
}

impl ClusterFacts {
    fn has_ready_namespaces(&self) -> bool {
        let namespaces = self.namespaces.as_ref().and_then(|found| found.as_ref().ok());
        namespaces.is_some_and(|found| found.rows.iter().any(|row| row.state == State::Ready))
    }
}

/// One line for each namespace in trouble, and one for the others.
fn namespaces(found: Result<&NamespacesFacts, &String>) -> Vec<Finding> {
    let category = Category::Namespaces;
    let NamespacesFacts { rows, absent, unread, secrets_denied } = match found {
        Ok(found) => found,
        Err(reason) => return vec![Finding::skipped(category, format!("cannot be read: {reason}"))],
    };
    if let Some(reason) = secrets_denied {
        return vec![Finding::skipped(category, format!("the secrets cannot be read: {reason}"))];
    }
    let in_trouble: Vec<_> = rows.iter().filter(|row| row.state.is_trouble()).collect();
    let mut findings: Vec<_> = in_trouble.iter().take(MAX_NAMESPACES).map(|row| namespace(row)).collect();
    findings.extend(absent.iter().map(|name| {
        let message = format!("{name} is in namespaces.only, but does not exist");
        let remedy = "create the namespace, or remove it from the list";
        Finding::warning(category, message, Link::SingleNamespace, remedy)
    }));
    findings.extend(unread.iter().map(|name| {
        let message = format!("{name} cannot be read, so its annotations do not count");
        let remedy = "allow get on the Namespace in the Role, as the chart does, or opt in and out by the configuration alone";
        Finding::warning(category, message, Link::SingleNamespace, remedy)
    }));
    if let Some(more) = in_trouble.len().checked_sub(MAX_NAMESPACES).filter(|more| *more > 0) {
        let message = format!("trouble in {}", counted(more, "more namespace"));
        let remedy = "list them with ecr-pull-secrets status -A";
        findings.push(Finding::failed(category, message, Link::Namespaces, remedy));
    }
    let others = rows.len() - in_trouble.len();
    let ready = rows.iter().filter(|row| row.state == State::Ready).count();
    if rows.is_empty() {
        findings.push(Finding::skipped(category, "no namespace opted in"));
    } else if others > 0 {
        let message = format!("{ready} of {} ready", counted(rows.len(), "namespace"));
        findings.push(if ready == others {
            Finding::ok(category, message)
        } else {
            Finding::skipped(category, format!("{message}; ecr-pull-secrets status -A shows the others"))
        });
    }
    findings
}

fn namespace(row: &Row) -> Finding {
    let category = Category::Namespaces;
    let Row { namespace, state, problem, .. } = row;
    let reason = problem.as_ref().map_or(String::new(), |p| format!(": {}: {}", p.reason, p.message));
    let message = format!("{namespace} is {state:?}{reason}").replace(" is Ignored", " did not opt in");
    let remedy = match state {
        State::Expired => "check the findings about AWS above, and the log of the controller",
        _ => "correct what the message names; kubectl get events -n NAMESPACE has the history",
    };
    let remedy = remedy.replace("NAMESPACE", namespace);
    if matches!(state, State::Expired | State::Blocked) {
        return Finding::failed(category, message, Link::Namespaces, remedy);
    }
    Finding::warning(category, message, Link::Namespaces, remedy)
}
