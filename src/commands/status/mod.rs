//! `ecr-pull-secrets status`: the namespaces that opted in, trouble first. Only metadata is read.

mod knowledge;
mod row;
mod table;
#[cfg(test)]
mod tests;
mod watch;

use serde_json::{Value, json};

use self::table::Table;
use super::document::{API_VERSION, pretty, yaml};
use super::setup::{stop_on_signals, unless_stopped};
use super::view::{connection, settings};
use super::{CommandError, print_line};
use crate::cli::diagnosis::{StatusArgs, StatusFormat};
use crate::clock::Clock;
use crate::kubernetes::overview::{Overview, Selection};
use crate::telemetry::metrics::Metrics;

pub(super) use self::knowledge::Knowledge;
#[cfg(test)]
pub(super) use self::row::ProblemRow;
pub(super) use self::row::{Row, State, rows};

pub(super) async fn run(args: StatusArgs) -> Result<(), CommandError> {
    let stop = stop_on_signals()?;
    let settings = settings(&args.view).await?;
    let knowledge = Knowledge { configuration: args.view.config.is_some() };
    let client = connection(&args.view, "status").connect(Metrics::default()).await?;
    let namespace = args.view.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    let namespace = Some(namespace).filter(|_| !args.all_namespaces);
    let selection = Selection { namespace, selector: args.selector };
    let with_warnings = args.events || selection.namespace.is_some();
    let reading = Overview::read(&client, &selection, &settings, with_warnings);
    let overview = unless_stopped(&stop, reading).await?;
    if let Some(reason) = &overview.secrets_denied {
        tracing::warn!(
            reason,
            "without the right to list secrets, the states are unknown; see deploy/rbac-status.yaml"
        );
    }
    let clock = Clock::start();
    let rows = rows(&overview, &settings, knowledge, clock.now());
    if rows.is_empty() && !args.watch && is_table(args.output) {
        let none = match &selection.namespace {
            Some(namespace) => format!("namespace {namespace:?} did not opt in; -A shows all namespaces"),
            None => "no namespace opted in".to_owned(),
        };
        eprintln!("{none}");
        return Ok(());
    }
    if rows.iter().any(Row::is_unexplained) {
        explain_missing(&overview, with_warnings);
    }
    let mut table = Table::new(args.output == Some(StatusFormat::Wide));
    print(&rows, args.output, args.watch, &mut table, clock);
    if args.watch {
        let watching = watch::Watching { client, selection, settings, knowledge, clock, overview, rows };
        let changed = |row: &Row| print(std::slice::from_ref(row), args.output, true, &mut table, clock);
        let _ = unless_stopped(&stop, watching.run(changed)).await;
    }
    Ok(())
}

/// Prints how to see the problem of a namespace whose Events were not read.
fn explain_missing(overview: &Overview, with_warnings: bool) {
    if let Some(reason) = &overview.warnings_error {
        tracing::warn!(
            reason,
            "without the Events, a last problem may be missing; users with the right to list them see it with \
             kubectl events -n NAME --for namespace/NAME"
        );
    } else if !with_warnings && overview.secrets_denied.is_none() {
        eprintln!(
            "a namespace has no Secret, and its annotations show no problem; --events adds the problem of its last Event"
        );
    }
}

fn is_table(format: Option<StatusFormat>) -> bool {
    matches!(format, None | Some(StatusFormat::Wide))
}

/// Prints rows. With `each`, rows follow later, so that each is a document.
fn print(rows: &[Row], format: Option<StatusFormat>, each: bool, table: &mut Table, clock: Clock) {
    match format {
        None | Some(StatusFormat::Wide) => table.print(rows, clock.now()),
        Some(StatusFormat::Name) => rows.iter().for_each(|row| print_line(name(row))),
        Some(StatusFormat::Json) => documents(rows, each).iter().for_each(|json| print_line(pretty(json))),
        Some(StatusFormat::Yaml) => documents(rows, each).iter().for_each(|document| {
            print_line(format_args!("{}{}", if each { "---\n" } else { "" }, yaml(document).trim_end()));
        }),
    }
}

fn name(row: &Row) -> String {
    format!("namespace/{}", row.namespace)
}

fn documents(rows: &[Row], each: bool) -> Vec<Value> {
    if each {
        return rows.iter().map(|row| json!(row)).collect();
    }
    vec![json!({ "apiVersion": API_VERSION, "kind": "NamespaceStatusList", "items": rows })]
}
