//! `adopt`: secrets of other tools that the controller may adopt.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::validate::{ConfigError, LABEL_VALUE_EXPECTED, check, check_label_key, invalid, is_label_value};
use crate::core::quote;
use crate::core::request::OwnedNames;
use crate::core::settings::AdoptionRule;

/// Secrets that another tool created, and that the controller adopts in namespaces that opt in: it changes them in place, so
/// that their UID stays. Only of type `kubernetes.io/dockerconfigjson`, without `immutable` and owner references.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("required" = ["name", "labels"]))]
pub struct AdoptConfig {
    /// Name of the secrets; one of `secretNames`.
    pub name: String,
    /// Labels that the secrets have, such as those of the former tool. `{}` means any secret of that name.
    // Optional, so that the error about a missing value names the remedy.
    #[schemars(with = "BTreeMap<String, String>")]
    pub labels: Option<BTreeMap<String, String>>,
}

pub(super) fn build(configs: &[AdoptConfig], names: &OwnedNames) -> Result<Vec<AdoptionRule>, ConfigError> {
    let rule = |(index, config)| rule(config, names, &format!("adopt[{index}]"));
    configs.iter().enumerate().map(rule).collect()
}

fn rule(config: &AdoptConfig, names: &OwnedNames, path: &str) -> Result<AdoptionRule, ConfigError> {
    let name = names.secret_names.iter().find(|name| ***name == *config.name);
    let problem = || format!("{}: expected one of secretNames", quote(&config.name));
    let name = name.ok_or_else(|| invalid(format!("{path}.name"), problem()))?;
    let field = format!("{path}.labels");
    let problem = "missing: list the labels that the secrets of the former tool have, or {} for any secret of that name";
    let labels = config.labels.as_ref().ok_or_else(|| invalid(&field, problem))?;
    for (key, value) in labels {
        check_label_key(&field, key)?;
        check(format!("{field}.{key}"), is_label_value(value), || {
            format!("{}: {}", quote(value), LABEL_VALUE_EXPECTED)
        })?;
    }
    Ok(AdoptionRule { name: name.clone(), labels: labels.clone() })
}
