//! `ecr-pull-secrets explain`: what a namespace gets, and why. Sends no request to AWS and writes nothing.

pub mod explanation;

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use serde_json::{Value, json};

use self::explanation::{Entry, Explanation, RequestedBy, explain};
use super::configuration::Unused;
use super::document::{API_VERSION, print_document};
use super::setup::{stop_on_signals, unless_stopped};
use super::view::{connection, settings};
use super::{CommandError, print_line};
use crate::cli::diagnosis::ExplainArgs;
use crate::clock::Clock;
use crate::controller::index::NamespaceState;
use crate::core::settings::Settings;
use crate::kubernetes::overview::{Overview, Selection};
use crate::telemetry::metrics::Metrics;

pub(super) async fn run(args: ExplainArgs) -> Result<(), CommandError> {
    let stop = stop_on_signals()?;
    let settings = settings(&args.view).await?;
    let (namespace, overview) = match &args.filename {
        Some(path) => from_file(path, args.view.namespace.as_deref(), &settings)?,
        None => unless_stopped(&stop, from_cluster(&args, &settings)).await?,
    };
    let nothing = NamespaceState::default();
    let state = overview.index.get(&namespace).unwrap_or(&nothing);
    let terminating = overview.names.get(&namespace).copied().unwrap_or_default();
    let explanation = explain(&namespace, state, terminating, &settings, Clock::start().now());
    match args.output {
        Some(format) => {
            let mut document = json!({ "apiVersion": API_VERSION, "kind": "NamespaceExplanation" });
            merge(&mut document, json!(explanation));
            print_document(&document, format);
        }
        None => lines(&explanation).iter().for_each(print_line),
    }
    Ok(())
}

fn merge(document: &mut Value, fields: Value) {
    if let (Some(document), Value::Object(fields)) = (document.as_object_mut(), fields) {
        document.extend(fields);
    }
}

/// Reads a Namespace from a YAML file, or from standard input if the path is `-`. Nothing is known of its Secrets.
fn from_file(
    path: &Path,
    name: Option<&str>,
    settings: &Settings,
) -> Result<(Arc<str>, Overview), CommandError> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.map_err(|error| format!("--filename {}: cannot read it: {error}", path.display()))?;
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text)
        .map_err(|error| format!("--filename {}: {error}", path.display()))?;
    let is_wanted = |document: &Value| {
        document["kind"] == "Namespace" && name.is_none_or(|name| document["metadata"]["name"] == name)
    };
    let found = documents.into_iter().find(is_wanted);
    let missing = || format!("--filename {}: expected a document of kind Namespace", path.display());
    let found: Namespace = serde_json::from_value(found.ok_or_else(missing)?)
        .map_err(|error| format!("--filename {}: the Namespace is not valid: {error}", path.display()))?;
    let unnamed = || format!("--filename {}: the Namespace has no metadata.name: set it", path.display());
    let namespace = found.metadata.name.as_deref().map(Arc::from).ok_or_else(unnamed)?;
    let mut overview = Overview::default();
    overview.add_namespace(&found.metadata, settings);
    Ok((namespace, overview))
}

async fn from_cluster(args: &ExplainArgs, settings: &Settings) -> Result<(Arc<str>, Overview), CommandError> {
    let connection = connection(&args.view, "explain");
    let client = connection.connect(Metrics::default()).await?;
    let namespace = args.view.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    let selection = Selection { namespace: Some(namespace.clone()), selector: None };
    let overview = Overview::read(&client, &selection, settings, false).await?;
    Unused::warn(args.view.config.as_deref(), &connection, &client).await;
    if let Some(reason) = &overview.secrets_denied {
        tracing::warn!(reason, "without the right to read secrets, the next step is that of a new namespace");
    }
    Ok((namespace.into(), overview))
}

/// The explanation as text.
fn lines(explanation: &Explanation) -> Vec<String> {
    let Explanation { namespace, requested_by, secret, entries, static_entries, .. } = explanation;
    let requested = match requested_by {
        RequestedBy::Annotation => "the annotations of the Namespace",
        RequestedBy::Configuration => "namespaces of the configuration, with the default registries",
        RequestedBy::AppliedRequest => "the applied request, because the present annotations are not valid",
        RequestedBy::Nothing => "nothing: it did not opt in",
    };
    let mut lines = vec![
        format!("Namespace:     {namespace}"),
        format!("Requested by:  {requested}"),
        format!("Secret:        {}", secret.as_deref().unwrap_or("none")),
        format!("Next step:     {}", explanation.next),
    ];
    if !explanation.service_accounts.is_empty() {
        lines.push(format!("Used by:       service accounts {}", explanation.service_accounts.join(", ")));
    }
    for entry in entries {
        lines.extend(entry_lines(entry));
    }
    for entry in static_entries {
        lines.push(String::new());
        lines.push(entry.registry.clone());
        lines.push(format!("  Copied from:   secret {:?} in the controller's namespace", entry.secret));
    }
    if !explanation.refused.is_empty() {
        lines.push(String::new());
        lines.push("Refused:".to_owned());
        lines.extend(
            explanation.refused.iter().map(|refused| format!("  {}: {}", refused.reason, refused.message)),
        );
    }
    lines
}

fn entry_lines(entry: &Entry) -> Vec<String> {
    let mut lines = vec![
        String::new(),
        entry.registry.clone(),
        format!("  Identity:      {}", entry.identity),
        format!("  Granted by:    {}", entry.granted_by),
        format!("  Token from:    {}", entry.endpoint),
    ];
    match (&entry.role_arn, &entry.session_name, &entry.session_policy) {
        (Some(role), Some(name), Some(policy)) => {
            lines.push(format!("  Role:          {role}, as session {name:?}"));
            lines.push("  Session policy:".to_owned());
            let policy = serde_json::to_string_pretty(policy).expect("JSON serializes");
            lines.extend(policy.lines().map(|line| format!("    {line}")));
        }
        _ => lines.push(
            "  Permissions:   all of the controller's, including push if its role allows that".to_owned(),
        ),
    }
    lines
}
