//! Findings: one line each, with the remedy of what fails.

use serde::Serialize;

/// The subject of a finding, in the order in which findings are printed.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, strum::IntoStaticStr, strum::EnumIter,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case", const_into_str)]
pub enum Category {
    Configuration,
    Region,
    ApiServer,
    Rights,
    AdmissionPolicy,
    Lease,
    Clock,
    AwsIdentity,
    Identities,
    Tokens,
    Registries,
    Namespaces,
    Adoption,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    Ok,
    /// It could not be checked, or does not apply.
    Skipped,
    Warning,
    Failed,
}

/// A remedy, and the heading of the documents that describes it. A test checks that each heading exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hint {
    pub remedy: String,
    /// Such as `docs/commands.md#region`.
    pub link: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub category: Category,
    pub outcome: Outcome,
    pub message: String,
    pub hint: Option<Hint>,
}

impl Finding {
    pub fn ok(category: Category, message: impl Into<String>) -> Self {
        Self { category, outcome: Outcome::Ok, message: message.into(), hint: None }
    }

    pub fn skipped(category: Category, message: impl Into<String>) -> Self {
        Self { category, outcome: Outcome::Skipped, message: message.into(), hint: None }
    }

    pub fn warning(
        category: Category,
        message: impl Into<String>,
        link: Link,
        remedy: impl Into<String>,
    ) -> Self {
        Self::bad(category, Outcome::Warning, message.into(), link, remedy.into())
    }

    pub fn failed(
        category: Category,
        message: impl Into<String>,
        link: Link,
        remedy: impl Into<String>,
    ) -> Self {
        Self::bad(category, Outcome::Failed, message.into(), link, remedy.into())
    }

    fn bad(category: Category, outcome: Outcome, message: String, link: Link, remedy: String) -> Self {
        let hint = Some(Hint { remedy, link: link.target() });
        Self { category, outcome, message, hint }
    }
}

/// The headings that hints link to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumIter)]
pub enum Link {
    Configuration,
    Region,
    ApiServer,
    Rights,
    WideRights,
    AdmissionPolicy,
    NoAdmissionPolicy,
    Lease,
    Clock,
    Credentials,
    Identities,
    Tokens,
    Registries,
    Namespaces,
    SingleNamespace,
    Adoption,
    SharedIdentity,
}

impl Link {
    /// The document and its heading.
    pub const fn target(self) -> &'static str {
        match self {
            Self::Configuration => "docs/commands.md#configuration",
            Self::Region => "docs/commands.md#region",
            Self::ApiServer => "docs/commands.md#api-server",
            Self::Rights => "docs/commands.md#rights",
            Self::WideRights => "docs/commands.md#rights-that-are-too-wide",
            Self::AdmissionPolicy => "docs/commands.md#admission-policy",
            Self::NoAdmissionPolicy => "docs/single-namespace.md#no-admission-policy",
            Self::Lease => "docs/operations.md#more-than-one-controller",
            Self::Clock => "docs/aws.md#clocks",
            Self::Credentials => "docs/aws.md#credentials-and-region",
            Self::Identities => "docs/identities.md#worked-examples",
            Self::Tokens => "docs/operations.md#tokenfailed",
            Self::Registries => "docs/commands.md#registries",
            Self::Namespaces => "docs/commands.md#status",
            Self::SingleNamespace => "docs/single-namespace.md#differences",
            Self::Adoption => "docs/migrate.md#which-secrets-are-adopted",
            Self::SharedIdentity => "docs/aws.md#how-tokens-are-fetched",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use strum::IntoEnumIterator as _;

    use super::*;

    /// The anchor that a Markdown heading has in the usual renderers.
    fn anchor(heading: &str) -> String {
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        heading.trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
    }

    #[test]
    fn each_hint_links_to_a_heading_that_exists() {
        for link in Link::iter() {
            let (file, wanted) = link.target().split_once('#').expect("a heading");
            let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect(file);
            let headings = text.lines().filter(|line| line.starts_with('#'));
            let mut anchors = headings.map(|line| anchor(line.trim_start_matches('#')));
            assert!(anchors.any(|found| found == wanted), "{} has no such heading", link.target());
        }
    }
}
