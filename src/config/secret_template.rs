//! `secretTemplate`: labels and annotations of the administrator.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::validate::{ConfigError, LABEL_VALUE_EXPECTED, check, check_label_key, is_label_value};
use crate::core::secret::SecretTemplate;
use crate::core::{PREFIX, quote};

/// The limits keep the metadata of a Secret far below the 256 KiB that the API server accepts for all annotations.
const MAX_KEYS: usize = 32;
const MAX_ANNOTATION_LEN: usize = 4_096;

/// Labels and annotations of every secret. Reserved are keys with the prefix `ecr-pull-secrets.dev/`, and keys with the
/// prefixes of Kubernetes: `kubernetes.io/`, `k8s.io/`, and subdomains of both. Default: none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SecretTemplateConfig {
    /// Labels: at most 32.
    pub labels: BTreeMap<String, String>,
    /// Annotations: at most 32, with values of at most 4096 bytes.
    pub annotations: BTreeMap<String, String>,
}

impl SecretTemplateConfig {
    pub(super) fn build(&self) -> Result<SecretTemplate, ConfigError> {
        for (key, value) in check_keys("secretTemplate.labels", &self.labels)? {
            check(format!("secretTemplate.labels.{key}"), is_label_value(value), || {
                format!("{}: {LABEL_VALUE_EXPECTED}", quote(value))
            })?;
        }
        for (key, value) in check_keys("secretTemplate.annotations", &self.annotations)? {
            let len = value.len();
            check(format!("secretTemplate.annotations.{key}"), len <= MAX_ANNOTATION_LEN, || {
                format!("{len} bytes: expected at most {MAX_ANNOTATION_LEN}; shorten the value")
            })?;
        }
        Ok(SecretTemplate::new(self.labels.clone(), self.annotations.clone()))
    }
}

fn check_keys<'a>(
    field: &str,
    map: &'a BTreeMap<String, String>,
) -> Result<&'a BTreeMap<String, String>, ConfigError> {
    let count = map.len();
    check(field, count <= MAX_KEYS, || format!("{count} keys: expected at most {MAX_KEYS}"))?;
    for key in map.keys() {
        check_label_key(field, key)?;
        check(field, !is_reserved(key), || {
            let reserved = "the controller and Kubernetes define the meaning of keys with this prefix";
            format!("{} is reserved: {reserved}; choose another key", quote(key))
        })?;
    }
    Ok(map)
}

fn is_reserved(key: &str) -> bool {
    let Some((prefix, _)) = key.split_once('/') else { return false };
    let is_in = |domain: &str| prefix == domain || prefix.ends_with(&format!(".{domain}"));
    key.starts_with(PREFIX) || is_in("kubernetes.io") || is_in("k8s.io")
}
