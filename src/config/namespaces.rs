//! `namespaces`: namespaces that opt in without an annotation.

use std::collections::{BTreeMap, BTreeSet};

use kube::core::{Expression, Selector};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::is_object_name;
use super::{ConfigError, FieldPath};
use crate::core::grants::NamespaceSelector;
use crate::core::quote;

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
    let path = FieldPath::new("namespaces");
    Ok(NamespaceSelector {
        selector: selector(&config.selector, &path.field("selector"))?,
        include: path.field("include").parse_each(&config.include)?,
        exclude: path.field("exclude").parse_each(&config.exclude)?,
    })
}

fn selector(config: &LabelSelector, path: &FieldPath) -> Result<Selector, ConfigError> {
    let mut expressions = vec![];
    for (key, value) in &config.match_labels {
        check_key(key, || path.field("matchLabels"))?;
        expressions.push(Expression::Equal(key.clone(), value.clone()));
    }
    let list = path.field("matchExpressions");
    for (index, requirement) in config.match_expressions.iter().enumerate() {
        expressions.push(expression(requirement, &list.index(index))?);
    }
    Ok(Selector::from_iter(expressions))
}

fn expression(requirement: &Requirement, path: &FieldPath) -> Result<Expression, ConfigError> {
    let Requirement { key, operator, values } = requirement.clone();
    check_key(&key, || path.field("key"))?;
    let takes_values = matches!(operator, Operator::In | Operator::NotIn);
    if takes_values == values.is_empty() {
        let problem = if takes_values {
            "empty: In and NotIn require at least one value"
        } else {
            "not empty: Exists and DoesNotExist do not take values"
        };
        return Err(path.field("values").invalid(problem));
    }
    Ok(match operator {
        Operator::In => Expression::In(key, values),
        Operator::NotIn => Expression::NotIn(key, values),
        Operator::Exists => Expression::Exists(key),
        Operator::DoesNotExist => Expression::DoesNotExist(key),
    })
}

/// Accepts valid label keys only
/// (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>). Any other
/// key would silently match no namespace, or all of them.
fn check_key(key: &str, path: impl Fn() -> FieldPath) -> Result<(), ConfigError> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    let is_name = name.len() <= 63
        && is_edge(bytes.first())
        && is_edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b));
    if is_name && prefix.is_none_or(is_object_name) {
        return Ok(());
    }
    Err(path().invalid(format!("{}: expected a label key, such as team or example.com/team", quote(key))))
}
