//! Patterns of the configuration and of annotations: a name, or a prefix that ends in `*`. Nothing else is a wildcard,
//! so that containment is a comparison of prefixes, and IAM interprets the rest literally
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_resource.html>).

use std::fmt;
use std::str::FromStr;

use crate::core::aws::{AccountId, Region, Registry};
use crate::core::quote;

const MAX_LEN: usize = 256;
const NAMESPACE: &str = "{namespace}";

/// A name, or every name that begins with a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern {
    literal: Box<str>,
    open: bool,
}

/// A text is not a pattern. The message quotes it and describes a valid one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(String);

impl Pattern {
    /// The pattern that matches every name.
    pub fn any() -> Self {
        Self { literal: "".into(), open: true }
    }

    /// The prefix of everything that it matches.
    pub fn literal(&self) -> &str {
        &self.literal
    }

    pub fn matches(&self, name: &str) -> bool {
        if self.open { name.starts_with(&*self.literal) } else { *name == *self.literal }
    }

    /// Whether it matches everything that `other` matches.
    pub fn contains(&self, other: &Self) -> bool {
        if self.open { other.literal.starts_with(&*self.literal) } else { self == other }
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let (literal, open) = text.strip_suffix('*').map_or((text, false), |literal| (literal, true));
        let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._/-".contains(&b);
        if text.is_empty() || text.len() > MAX_LEN || !literal.bytes().all(valid) {
            return Err(PatternError(format!(
                "{}: expected a-z, 0-9 and . _ / -, with at most one *, at the end",
                quote(text)
            )));
        }
        Ok(Self { literal: literal.into(), open })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.literal, if self.open { "*" } else { "" })
    }
}

/// A repository pattern in which `{namespace}` is replaced by the name of the requesting namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Box<str>);

impl Template {
    /// The pattern for one namespace.
    pub fn expand(&self, namespace: &str) -> Result<Pattern, PatternError> {
        self.0.replace(NAMESPACE, namespace).parse()
    }
}

impl FromStr for Template {
    type Err = PatternError;

    /// `{namespace}` must be followed by `/` or the end, or a grant to `dev` would include `dev-prod`.
    fn from_str(text: &str) -> Result<Self, PatternError> {
        let mut followers = text.split(NAMESPACE).skip(1).peekable();
        let mut ends = true;
        while let Some(rest) = followers.next() {
            ends &= rest.starts_with('/') || (rest.is_empty() && followers.peek().is_none());
        }
        if !ends {
            let message =
                format!("{}: {NAMESPACE} must be followed by / or the end of the pattern", quote(text));
            return Err(PatternError(message));
        }
        Self(text.into()).expand("n").map(|_| Self(text.into())).map_err(|_| {
            PatternError(format!(
                "{}: expected a-z, 0-9 and . _ / - and {NAMESPACE}, with at most one *, at the end",
                quote(text)
            ))
        })
    }
}

/// The registries that an identity serves: `ACCOUNT/REGION`, `ACCOUNT/*`, `ACCOUNT/eu-*`, `*` for every private one,
/// or `public.ecr.aws`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryPattern {
    /// Every private registry.
    AllPrivate,
    /// The registries of one account, in the regions of a pattern.
    Account(AccountId, Pattern),
    /// Public ECR.
    Public,
}

impl RegistryPattern {
    pub fn matches(&self, registry: &Registry) -> bool {
        match (self, registry) {
            (Self::AllPrivate, Registry::Private { .. }) | (Self::Public, Registry::Public(_)) => true,
            (Self::Account(mine, regions), Registry::Private { account, region, .. }) => {
                mine == account && regions.matches(region.as_str())
            }
            _ => false,
        }
    }

    /// The account that it matches in a region, as ARNs contain it.
    pub fn account_in(&self, region: &Region) -> Option<String> {
        match self {
            Self::AllPrivate => Some("*".to_owned()),
            Self::Account(account, regions) => regions.matches(region.as_str()).then(|| account.to_string()),
            Self::Public => None,
        }
    }

    /// A matching region with a name of the maximum length; `None` if no region matches.
    pub fn longest_region(&self) -> Option<Region> {
        match self {
            Self::AllPrivate => "ap-southeast-10".parse().ok(),
            Self::Account(_, Pattern { literal, open: true }) if literal.is_empty() => {
                "ap-southeast-10".parse().ok()
            }
            Self::Account(_, Pattern { literal, open: true }) => {
                let filler = "x".repeat(12_usize.saturating_sub(literal.len()).max(1));
                let names = [
                    format!("{literal}{filler}-10"),
                    format!("{literal}-{filler}-10"),
                    format!("{literal}0"),
                    literal.to_string(),
                ];
                names.iter().find_map(|name| name.parse().ok())
            }
            Self::Account(..) => self.region(),
            Self::Public => None,
        }
    }

    /// The region, if it matches a single one.
    pub fn region(&self) -> Option<Region> {
        match self {
            Self::Account(_, pattern) => pattern.to_string().parse().ok(),
            Self::AllPrivate | Self::Public => None,
        }
    }
}

impl FromStr for RegistryPattern {
    type Err = PatternError;

    /// A prefix of an account ID is not accepted, because it would match accounts of other AWS customers.
    fn from_str(text: &str) -> Result<Self, PatternError> {
        let wrong = || {
            PatternError(format!(
                "{}: expected ACCOUNT/REGION or ACCOUNT/* with an account ID of 12 digits, * for every private \
                 registry, or public.ecr.aws",
                quote(text)
            ))
        };
        match text {
            "*" => return Ok(Self::AllPrivate),
            "public.ecr.aws" => return Ok(Self::Public),
            _ => {}
        }
        let (account, region) = text.split_once('/').ok_or_else(wrong)?;
        let (account, pattern): (AccountId, Pattern) =
            (account.parse().map_err(|_| wrong())?, region.parse().map_err(|_| wrong())?);
        let named = !pattern.open;
        if (named && region.parse::<Region>().is_err()) || region.contains(['/', '.', '_']) {
            return Err(wrong());
        }
        Ok(Self::Account(account, pattern))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().expect(text)
    }

    #[test]
    fn containment_is_a_comparison_of_prefixes() {
        for (bound, narrower, contained) in [
            ("team-a/*", "team-a/app", true),
            ("team-a/*", "team-a/*", true),
            ("team-a/*", "team-a/app/*", true),
            ("*", "anything/*", true),
            ("team-a/*", "team-a", false),
            ("team-a/*", "team-*", false),
            ("team-a/*", "*", false),
            ("team-a/app", "team-a/app", true),
            ("team-a/app", "team-a/app*", false),
            ("team-a/app", "team-a/app2", false),
        ] {
            assert_eq!(pattern(bound).contains(&pattern(narrower)), contained, "{bound} {narrower}");
        }
    }

    #[test]
    fn wildcards_and_variables_of_iam_or_a_shell_are_rejected() {
        for text in [
            "",
            "a*b",
            "**",
            "a?",
            "${aws:username}",
            "A",
            "a b",
            "a,b",
            "{namespace}",
            "a\u{e9}",
            "\"",
            "a:b",
        ] {
            assert!(text.parse::<Pattern>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn a_pattern_of_dev_never_matches_dev_prod() {
        for text in
            ["{namespace}*", "{namespace}-x/*", "x/{namespace}.", "{namespace}{namespace}", "{name}/*"]
        {
            assert!(text.parse::<Template>().is_err(), "{text:?} was accepted");
        }
        for (text, expanded) in [
            ("{namespace}/*", "dev/*"),
            ("x-{namespace}", "x-dev"),
            ("a/{namespace}/b*", "a/dev/b*"),
            ("*", "*"),
        ] {
            let template: Template = text.parse().expect(text);
            assert_eq!(template.expand("dev").expect(text).to_string(), expanded);
            assert!(text == "*" || !template.expand("dev").expect(text).contains(&pattern("dev-prod/app")));
        }
    }

    #[test]
    fn registries_are_matched_by_whole_account_ids() {
        let host: Registry = "222222222222.dkr.ecr.eu-central-1.amazonaws.com".parse().expect("a host");
        let public: Registry = "public.ecr.aws".parse().expect("a host");
        for (text, private, open) in [
            ("*", true, false),
            ("222222222222/*", true, false),
            ("222222222222/eu-*", true, false),
            ("222222222222/eu-central-1", true, false),
            ("222222222222/eu-central-2", false, false),
            ("222222222223/*", false, false),
            ("public.ecr.aws", false, true),
        ] {
            let pattern: RegistryPattern = text.parse().expect(text);
            assert_eq!((pattern.matches(&host), pattern.matches(&public)), (private, open), "{text}");
        }
        for text in [
            "",
            "2222*",
            "22222222222/*",
            "*/eu-central-1",
            "222222222222",
            "222222222222/",
            "222222222222/eu",
            "222222222222/eu-central-1/x",
            "222222222222/eu_*",
            "public.ecr.aws/x",
            "**",
        ] {
            assert!(text.parse::<RegistryPattern>().is_err(), "{text:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn a_contained_pattern_matches_nothing_more(
            bound in "[ab/]{0,3}\\*?", narrower in "[ab/]{0,4}\\*?", name in "[ab/]{0,6}"
        ) {
            if let (Ok(bound), Ok(narrower)) = (bound.parse::<Pattern>(), narrower.parse::<Pattern>())
                && bound.contains(&narrower) && narrower.matches(&name)
            {
                prop_assert!(bound.matches(&name));
            }
        }

        #[test]
        fn any_text_is_parsed_without_a_panic(text in ".*") {
            let _ = (text.parse::<Pattern>(), text.parse::<Template>(), text.parse::<RegistryPattern>());
        }
    }
}
