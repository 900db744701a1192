//! `namespaces`: namespaces that opt in without an annotation.

use std::collections::{BTreeMap, BTreeSet};

use kube::core::{Expression, Selector};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::validate::{ConfigError, check, check_label_key, is_label, parse_each};
use crate::core::grants::NamespaceSelector;
use crate::core::quote;

/// Each namespace has its own watches.
const MAX_ONLY: usize = 32;

/// The namespaces that get the default registries without an annotation. Default: none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NamespacesConfig {
    /// Labels that include a namespace. An empty selector includes none. Namespaces whose names begin with `kube-` are
    /// never included by labels.
    pub selector: LabelSelector,
    /// Names of included namespaces, or prefixes that end in `*`. A namespace whose name begins with `kube-` is only
    /// included by an item that begins with `kube-`. Default: none.
    pub include: Vec<String>,
    /// Names of excluded namespaces, or prefixes that end in `*`. They override `selector` and `include`.
    /// Default: none.
    pub exclude: Vec<String>,
    /// Single-namespace mode, for users without permissions in the whole cluster: the names of all namespaces that the
    /// controller works in, at most 32. Each gets the default registries; its annotations count as well if the controller
    /// may read the Namespace. Not valid with the other fields. Default: none.
    pub only: Vec<String>,
}

/// A Kubernetes label selector. A namespace must meet all of its requirements.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LabelSelector {
    /// Labels with the values that a namespace must have.
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements on the labels.
    pub match_expressions: Vec<Requirement>,
}

/// A requirement on one label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Requirement {
    /// Key of the label.
    pub key: String,
    /// The relation between the label and `values`.
    pub operator: Operator,
    /// Values for `In` and `NotIn`; at least one. Must be empty for `Exists` and `DoesNotExist`.
    #[serde(default)]
    pub values: BTreeSet<String>,
}

/// The relation between a label and a set of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operator {
    /// The label has one of the values.
    In,
    /// The label has none of the values, or does not exist.
    NotIn,
    /// The label exists.
    Exists,
    /// The label does not exist.
    DoesNotExist,
}

pub(super) fn build(config: &NamespacesConfig) -> Result<NamespaceSelector, ConfigError> {
    check_only(config)?;
    Ok(NamespaceSelector {
        only: config.only.iter().map(|name| name.as_str().into()).collect(),
        selector: selector(&config.selector)?,
        include: parse_each("namespaces.include", &config.include)?,
        exclude: parse_each("namespaces.exclude", &config.exclude)?,
    })
}

fn check_only(config: &NamespacesConfig) -> Result<(), ConfigError> {
    let NamespacesConfig { selector, include, exclude, only } = config;
    let has_others = *selector != LabelSelector::default() || !include.is_empty() || !exclude.is_empty();
    check(
        "namespaces.only",
        only.is_empty() || !has_others,
        || "not valid with selector, include or exclude: list the names of all namespaces here, or remove it",
    )?;
    let count = only.len();
    check("namespaces.only", count <= MAX_ONLY, || {
        format!(
            "{count} namespaces: expected at most {MAX_ONLY}; install the controller for the whole cluster"
        )
    })?;
    for (index, name) in only.iter().enumerate() {
        let field = format!("namespaces.only[{index}]");
        check(&field, is_label(name) && !name.contains('.'), || {
            format!("{}: expected the name of a namespace, without *", quote(name))
        })?;
        check(&field, !only[..index].contains(name), || {
            format!("duplicate name {}: list it once", quote(name))
        })?;
    }
    Ok(())
}

fn selector(config: &LabelSelector) -> Result<Selector, ConfigError> {
    let mut expressions = vec![];
    for (key, value) in &config.match_labels {
        check_label_key("namespaces.selector.matchLabels", key)?;
        expressions.push(Expression::Equal(key.clone(), value.clone()));
    }
    for (index, requirement) in config.match_expressions.iter().enumerate() {
        let path = format!("namespaces.selector.matchExpressions[{index}]");
        expressions.push(expression(requirement.clone(), &path)?);
    }
    Ok(Selector::from_iter(expressions))
}

fn expression(requirement: Requirement, path: &str) -> Result<Expression, ConfigError> {
    let Requirement { key, operator, values } = requirement;
    check_label_key(format!("{path}.key"), &key)?;
    let takes_values = matches!(operator, Operator::In | Operator::NotIn);
    let problem = if takes_values {
        "empty: In and NotIn require at least one value"
    } else {
        "not empty: Exists and DoesNotExist do not take values"
    };
    check(format!("{path}.values"), takes_values != values.is_empty(), || problem)?;
    Ok(match operator {
        Operator::In => Expression::In(key, values),
        Operator::NotIn => Expression::NotIn(key, values),
        Operator::Exists => Expression::Exists(key),
        Operator::DoesNotExist => Expression::DoesNotExist(key),
    })
}
