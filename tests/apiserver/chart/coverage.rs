//! Each value of the chart is set by a row of `fields.yaml`, which shows its effect, by `monitors.rs`, or by a file of values in
//! `ci`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{CHART, monitors, value_files};

/// Maps that become a field as a whole.
const OF_KUBERNETES: [&str; 7] = [
    "livenessProbe",
    "readinessProbe",
    "resources",
    "nodeSelector",
    "podSecurityContext",
    "securityContext",
    "strategy",
];

/// The paths of the values that are no maps, or empty maps.
fn leaves(prefix: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value.as_object().filter(|map| !map.is_empty()) {
        Some(map) => {
            for (key, value) in map {
                let separator = if prefix.is_empty() { "" } else { "." };
                leaves(&format!("{prefix}{separator}{key}"), value, found);
            }
        }
        None => {
            found.insert(prefix.to_owned());
        }
    }
}

/// The paths in an argument of `--set-json`: `a.b=VALUE,c=VALUE`.
fn set_by(mut argument: &str, found: &mut BTreeSet<String>) {
    while let Some((path, rest)) = argument.split_once('=') {
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        let value = values.next().expect("a value").unwrap_or_else(|error| panic!("{argument}: {error}"));
        leaves(path, &value, found);
        argument = rest[values.byte_offset()..].trim_start_matches(',');
    }
}

#[test]
fn each_value_is_set_by_a_test() {
    let read = |path: &Path| -> Value {
        serde_saphyr::from_str(&fs::read_to_string(path).expect("a file")).expect("YAML")
    };
    let mut set = BTreeSet::new();
    let rows: Vec<(String, String, String, Value, Value)> =
        serde_saphyr::from_str(include_str!("fields.yaml")).expect("rows of five");
    for (argument, ..) in &rows {
        set_by(argument, &mut set);
    }
    for (name, value) in monitors::values() {
        leaves(name, &value, &mut set);
    }
    for file in value_files() {
        leaves("", &read(&file), &mut set);
    }
    let mut values = BTreeSet::new();
    leaves("", &read(&Path::new(CHART).join("values.yaml")), &mut values);
    let whole = |path: &str| {
        let first = path.split('.').next().unwrap_or_default();
        if OF_KUBERNETES.contains(&first) { first.to_owned() } else { path.to_owned() }
    };
    let set: BTreeSet<String> = set.iter().map(|path| whole(path)).collect();
    let values: BTreeSet<String> = values.iter().map(|path| whole(path)).collect();
    let is_set = |value: &str| set.iter().any(|path| path == value || path.starts_with(&format!("{value}.")));
    let missing: Vec<_> = values.iter().filter(|value| !is_set(value)).collect();
    assert!(values.len() > 100 && missing.is_empty(), "no test sets {missing:?}");
}

/// Editors show them.
#[test]
fn each_value_has_a_description_in_the_schema() {
    fn without(path: &str, schema: &Value, found: &mut Vec<String>) {
        match schema["properties"].as_object() {
            Some(fields) => {
                for (key, field) in fields {
                    without(&format!("{path}.{key}"), field, found);
                }
            }
            None if schema["description"].is_string() => {}
            None => found.push(path.to_owned()),
        }
    }
    let schema = fs::read_to_string(Path::new(CHART).join("values.schema.json")).expect("a file");
    let mut found = vec![];
    without("", &serde_json::from_str(&schema).expect("JSON"), &mut found);
    assert!(found.is_empty(), "no description: {found:?}");
}
