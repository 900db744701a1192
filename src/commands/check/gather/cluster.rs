//! The API server, and what the controller has in it.

use http::{Request, header};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, Patch, PatchParams};
use kube::client::Body;
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::json;

use super::{adoption, namespaces, rights};
use crate::cli::diagnosis::CheckArgs;
use crate::clock::Clock;
use crate::commands::check::facts::{
    Clocks, ClusterFacts, DryRun, Gathered, LeaseFacts, PolicyFacts, PolicyObject, SingleNamespaceMode,
    Subject, Version,
};
use crate::commands::configuration::Unused;
use crate::controller::error::RequestError;
use crate::core::settings::Settings;
use crate::core::{LABEL_INSTANCE, LABEL_MANAGED_BY, MANAGER};
use crate::kubernetes::client::Connection;
use crate::kubernetes::errors::{classify, message};
use crate::kubernetes::overview::{Overview, Selection};
use crate::telemetry::metrics::Metrics;

/// The facts about the cluster, and the namespaces for the samples of tokens.
pub async fn gather(
    args: &CheckArgs,
    settings: &Settings,
    clock: Clock,
) -> (Gathered<ClusterFacts>, Option<Overview>) {
    let connection = connection(args, settings);
    let client = match connection.connect(Metrics::default()).await {
        Ok(client) => client,
        Err(error) => return (Err(error.to_string()), None),
    };
    let namespace = client.default_namespace().to_owned();
    let (version, clocks) = version(&client).await;
    let subject = match &version {
        Ok(_) => rights::subject(&client, args, settings, &namespace).await,
        Err(_) => Subject::Own { user: "unknown".to_owned() },
    };
    let mut facts = ClusterFacts {
        version,
        clock: clocks,
        namespace,
        single: single(settings),
        subject,
        unused_configuration: None,
        rights: Err("the API server does not respond".to_owned()),
        policy: None,
        lease: None,
        namespaces: None,
        adoption: None,
    };
    if facts.version.is_err() {
        return (Ok(facts), None);
    }
    let reviewed = rights::rights(settings, &facts.namespace, args.pre);
    facts.rights = rights::review(&client, &facts.subject, reviewed).await;
    if args.pre && settings.adopt.is_empty() {
        return (Ok(facts), None);
    }
    let overview = match facts.single {
        Some(_) => Overview::read_single(&client, settings).await,
        None => Overview::read(&client, &Selection::default(), settings, true).await,
    };
    let overview = overview.map_err(|error| error.to_string());
    facts.adoption = match &overview {
        Ok(overview) => adoption::gather(&client, overview, settings, clock.now()).await,
        Err(reason) => (!settings.adopt.is_empty()).then(|| Err(reason.clone())),
    };
    if args.pre {
        return (Ok(facts), None);
    }
    facts.unused_configuration = Unused::find(args.config.as_deref(), &connection, &client).await;
    let user = facts.subject.user().to_owned();
    facts.policy = Some(policy(&client, settings, &user).await);
    facts.lease = Some(lease(&client, &settings.names.instance).await);
    let read = overview.as_ref().map_err(Clone::clone);
    facts.namespaces = Some(read.map(|overview| namespaces(overview, settings, clock)));
    (Ok(facts), overview.ok())
}

fn connection(args: &CheckArgs, settings: &Settings) -> Connection {
    let connection = Connection {
        kubeconfig: args.kubeconfig.file.clone(),
        context: args.kubeconfig.context.clone(),
        namespace: args.controller_namespace.clone(),
        identity: Some("check".to_owned()),
        is_shared: true,
    };
    connection.in_namespace_of(&settings.names.instance)
}

fn single(settings: &Settings) -> Option<SingleNamespaceMode> {
    let selector = &settings.namespace_selector;
    selector.is_single().then(|| SingleNamespaceMode {
        namespaces: selector.only.iter().map(ToString::to_string).collect(),
        writes_service_accounts: settings.names.service_accounts,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VersionResponse {
    major: String,
    minor: String,
    git_version: String,
}

/// The version, and the clocks at the time of the response.
async fn version(client: &Client) -> (Gathered<Version>, Option<Clocks>) {
    let request = Request::get("/version").body(Body::empty()).expect("a valid request");
    let response = match client.send(request).await {
        Ok(response) => response,
        Err(error) => return (Err(message(&error)), None),
    };
    let local = Timestamp::now();
    let date = response.headers().get(header::DATE).and_then(|date| rfc2822::parse(date.to_str().ok()?).ok());
    let clocks = date.map(|date| Clocks { server: date.timestamp(), local });
    let status = response.status();
    let body = response.into_body().collect().await.ok();
    let parsed = body.and_then(|body| serde_json::from_slice::<VersionResponse>(&body.to_bytes()).ok());
    let Some(VersionResponse { major, minor, git_version }) = parsed else {
        return (Err(format!("HTTP {status} without a version")), clocks);
    };
    let number = |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(0);
    (Ok(Version { major: number(&major), minor: number(&minor), text: git_version }), clocks)
}

async fn lease(client: &Client, instance: &str) -> Gathered<Option<LeaseFacts>> {
    let api: Api<Lease> = Api::default_namespaced(client.clone());
    let lease = api.get_opt(instance).await.map_err(|error| message(&error))?;
    let spec = lease.map(|lease| lease.spec.unwrap_or_default());
    Ok(spec.map(|spec| LeaseFacts {
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        renewed_at: spec.renew_time.map(|time| time.0),
        duration_seconds: spec.lease_duration_seconds.unwrap_or_default(),
    }))
}

/// The policies of the controller's user. If they cannot be listed, a dry run shows whether one is effective.
async fn policy(client: &Client, settings: &Settings, user: &str) -> PolicyFacts {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let all = ListParams::default();
    match (policies.list(&all).await, bindings.list(&all).await) {
        (Ok(policies), Ok(bindings)) => {
            let matching = policies.items.into_iter().filter(|policy| matches(policy, user));
            let object = |policy| policy_object(policy, &bindings.items, settings);
            PolicyFacts::Objects(matching.map(object).collect())
        }
        (Err(error), _) | (_, Err(error)) => {
            // In single-namespace mode, the controller may not write Secrets in its own namespace.
            let is_single = settings.namespace_selector.is_single();
            let is_own = user.starts_with("system:serviceaccount:") && !is_single;
            match classify(&error) {
                RequestError::Forbidden(_) if is_own => PolicyFacts::DryRun(dry_run(client, settings).await),
                error => PolicyFacts::Unreadable(error.to_string()),
            }
        }
    }
}

fn matches(policy: &ValidatingAdmissionPolicy, user: &str) -> bool {
    let Some(spec) = &policy.spec else { return false };
    let rules =
        spec.match_constraints.iter().flat_map(|constraints| constraints.resource_rules.iter().flatten());
    let concerns_secrets = |resources: &Vec<String>| resources.iter().any(|resource| resource == "secrets");
    let mut conditions = spec.match_conditions.iter().flatten();
    let names_user =
        |expression: &str| ['\'', '"'].iter().any(|q| expression.contains(&format!("{q}{user}{q}")));
    rules.filter_map(|rule| rule.resources.as_ref()).any(concerns_secrets)
        && conditions.any(|condition| names_user(&condition.expression))
}

fn policy_object(
    policy: ValidatingAdmissionPolicy,
    bindings: &[ValidatingAdmissionPolicyBinding],
    settings: &Settings,
) -> PolicyObject {
    let name = policy.metadata.name.unwrap_or_default();
    let spec = policy.spec.unwrap_or_default();
    let specs = bindings.iter().filter_map(|binding| binding.spec.as_ref());
    let own = specs.filter(|spec| spec.policy_name.as_deref() == Some(&name));
    let expressions: String =
        spec.validations.iter().flatten().map(|validation| validation.expression.as_str()).collect();
    let is_missing = |name: &&std::sync::Arc<str>| {
        ['\'', '"'].iter().all(|quote| !expressions.contains(&format!("{quote}{name}{quote}")))
    };
    PolicyObject {
        failure_policy: spec.failure_policy.unwrap_or_else(|| "Fail".to_owned()),
        bindings: own.map(|spec| spec.validation_actions.clone().unwrap_or_default()).collect(),
        missing_names: settings
            .names
            .secret_names
            .iter()
            .filter(is_missing)
            .map(ToString::to_string)
            .collect(),
        name,
    }
}

/// A Secret of another type, in the controller's own namespace: the policy denies it. Nothing is stored.
async fn dry_run(client: &Client, settings: &Settings) -> DryRun {
    let name = &*settings.names.secret_names[0];
    let labels = json!({ LABEL_MANAGED_BY: MANAGER, LABEL_INSTANCE: settings.names.instance });
    let body = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": { "name": name, "labels": labels },
    });
    let params = PatchParams { dry_run: true, ..PatchParams::apply(MANAGER) };
    let api: Api<Secret> = Api::default_namespaced(client.clone());
    match api.patch_metadata(name, &params, &Patch::Apply(&body)).await {
        Ok(_) => DryRun::Accepted,
        Err(error) => match classify(&error) {
            RequestError::AdmissionDenied(_) => DryRun::Denied,
            error => DryRun::Undetermined(error.to_string()),
        },
    }
}
