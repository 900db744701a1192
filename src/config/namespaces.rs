//! `namespaces`: who opts in without an annotation.

use std::collections::{BTreeMap, BTreeSet};

use kube::core::{Expression, Selector};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigError, invalid, parse_each};
use crate::core::opt_in::OptIn;
use crate::core::quote;

/// Namespaces that get the default registries without an annotation. All empty: none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NamespacesConfig {
    /// Labels that include a namespace. Empty: no namespace is included by its labels.
    pub selector: LabelSelector,
    /// Namespaces that are included: names, or prefixes that end in `*`. Those that begin with `kube-` are only included
    /// by an item that begins with `kube-`.
    pub include: Vec<String>,
    /// Namespaces that are not, whatever includes them: names, or prefixes that end in `*`.
    pub exclude: Vec<String>,
}

/// A label selector, as Kubernetes has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LabelSelector {
    /// Labels that a namespace has to have.
    pub match_labels: BTreeMap<String, String>,
    /// What else has to hold of its labels.
    pub match_expressions: Vec<Requirement>,
}

/// One requirement of a label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// How its value relates to `values`.
    pub operator: Operator,
    /// Values, for `In` and `NotIn`.
    #[serde(default)]
    pub values: BTreeSet<String>,
}

/// How a label relates to values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operator {
    /// It has one of them.
    In,
    /// It has none of them, or is missing.
    NotIn,
    /// It is there.
    Exists,
    /// It is missing.
    DoesNotExist,
}

pub(super) fn check(config: &NamespacesConfig) -> Result<OptIn, ConfigError> {
    Ok(OptIn {
        selector: selector(&config.selector)?,
        include: parse_each("namespaces.include", &config.include)?,
        exclude: parse_each("namespaces.exclude", &config.exclude)?,
    })
}

fn selector(config: &LabelSelector) -> Result<Selector, ConfigError> {
    let mut all = vec![];
    for (key, value) in &config.match_labels {
        check_key(key, || "namespaces.selector.matchLabels".to_owned())?;
        all.push(Expression::Equal(key.clone(), value.clone()));
    }
    for (place, requirement) in config.match_expressions.iter().enumerate() {
        let field = |name: &str| format!("namespaces.selector.matchExpressions[{place}].{name}");
        check_key(&requirement.key, || field("key"))?;
        let Requirement { key, operator, values } = requirement.clone();
        let listed = matches!(operator, Operator::In | Operator::NotIn);
        if listed == values.is_empty() {
            let problem = if listed {
                "empty: In and NotIn take at least one"
            } else {
                "not empty: only In and NotIn take values"
            };
            return Err(invalid(field("values"), problem));
        }
        all.push(match operator {
            Operator::In => Expression::In(key, values),
            Operator::NotIn => Expression::NotIn(key, values),
            Operator::Exists => Expression::Exists(key),
            Operator::DoesNotExist => Expression::DoesNotExist(key),
        });
    }
    Ok(Selector::from_iter(all))
}

/// A label's key (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>);
/// one that cannot exist would select nothing, or everything, without a word.
fn check_key(key: &str, field: impl Fn() -> String) -> Result<(), ConfigError> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    let fine = edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b));
    if fine && name.len() <= 63 && prefix.is_none_or(|prefix| prefix.len() <= 253 && super::is_name(prefix)) {
        return Ok(());
    }
    Err(invalid(
        field(),
        format!("{}: expected the key of a label, such as team or example.com/team", quote(key)),
    ))
}
