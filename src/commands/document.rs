//! JSON and YAML on standard output.

use serde_json::Value;

use super::print_line;
use crate::cli::diagnosis::DocumentFormat;

/// Version of the documents.
pub const API_VERSION: &str = "ecr-pull-secrets.dev/v1alpha1";

pub fn print_document(document: &Value, format: DocumentFormat) {
    match format {
        DocumentFormat::Json => print_line(pretty(document)),
        DocumentFormat::Yaml => print_line(yaml(document).trim_end()),
    }
}

pub fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("JSON serializes")
}

pub fn yaml(value: &Value) -> String {
    serde_saphyr::to_string(value).expect("JSON is YAML")
}
