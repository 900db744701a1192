//! Patterns of the configuration and of annotations: a name, or a prefix that ends in `*`. Nothing else is a wildcard,
//! so that containment is a comparison of prefixes, and IAM interprets the rest literally
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_resource.html>).

use std::fmt;
use std::str::FromStr;

use crate::core::aws::{AccountId, Region, Registry};
use crate::core::quote;

const MAX_LEN: usize = 256;
const NAMESPACE: &str = "{namespace}";
/// A region whose name is as long as the longest of AWS, and where its ends of one more word or of only a number start.
const LONG_REGION: &str = "ap-southeast-10";
const LONG_WORD: usize = 2;
const LONG_NUMBER: usize = 11;

/// A name, or every name that begins with a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern {
    literal: Box<str>,
    open: bool,
}

/// A text is not a pattern. The message quotes it and describes a valid one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("{0}: expected a-z, 0-9 and . _ / -, with at most one *, at the end")]
    Name(String),
    #[error("{0}: expected a-z, 0-9 and . _ / - and {NAMESPACE}, with at most one *, at the end")]
    Template(String),
    #[error("{0}: {NAMESPACE} must be followed by / or the end of the pattern")]
    Namespace(String),
    #[error(
        "{0}: expected ACCOUNT/REGION or ACCOUNT/* with an account ID of 12 digits, * for every private registry, or \
         public.ecr.aws"
    )]
    Registry(String),
}

impl Pattern {
    /// The pattern that matches every name.
    pub fn any() -> Self {
        Self { literal: "".into(), open: true }
    }

    /// The pattern that matches only the name of a region.
    pub fn exactly(region: &Region) -> Self {
        Self { literal: region.as_str().into(), open: false }
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
            return Err(PatternError::Name(quote(text)));
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
    /// Whether it depends on the name of the namespace.
    pub fn has_namespace(&self) -> bool {
        self.0.contains(NAMESPACE)
    }

    /// The pattern for one namespace.
    pub fn expand(&self, namespace: &str) -> Result<Pattern, PatternError> {
        self.0.replace(NAMESPACE, namespace).parse()
    }
}

impl Template {
    /// The namespaces for which it includes everything that `pattern` matches: `None` if that is every namespace.
    pub fn owners<'a>(&'a self, pattern: &'a Pattern) -> impl Iterator<Item = Option<&'a str>> {
        let (prefix, has_namespace) =
            self.0.split_once(NAMESPACE).map_or((&*self.0, false), |(prefix, _)| (prefix, true));
        let named = pattern.literal.strip_prefix(prefix).filter(|_| has_namespace);
        let owner = named.and_then(|rest| rest.split('/').next());
        let candidate = if has_namespace { owner.map(Some) } else { Some(None) };
        let includes = |owner: Option<&str>| {
            let own = self.expand(owner.unwrap_or_default());
            own.is_ok_and(|own| own.contains(pattern))
        };
        candidate.into_iter().filter(move |owner| includes(*owner))
    }
}

impl FromStr for Template {
    type Err = PatternError;

    /// `{namespace}` must be followed by `/` or the end, or a grant to `dev` would include `dev-prod`.
    fn from_str(text: &str) -> Result<Self, PatternError> {
        let inner = text.strip_suffix(NAMESPACE).unwrap_or(text);
        if !inner.split(NAMESPACE).skip(1).all(|rest| rest.starts_with('/')) {
            return Err(PatternError::Namespace(quote(text)));
        }
        let template = Self(text.into());
        template.expand("n").map_err(|_| PatternError::Template(quote(text)))?;
        Ok(template)
    }
}

/// The registries that an identity serves: `ACCOUNT/REGION`, `ACCOUNT/*`, `ACCOUNT/eu-*`, `*` for every private one,
/// or `public.ecr.aws`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

    /// A matching region whose name is as long as the longest of AWS; `None` if no region matches.
    pub fn longest_region(&self) -> Option<Region> {
        let prefix = match self {
            Self::AllPrivate => "",
            Self::Account(_, Pattern { literal, open: true }) => literal,
            Self::Account(..) => return self.region(),
            Self::Public => return None,
        };
        // A prefix that contains a number, or a long one of a single word, needs another end.
        let mut ends = (prefix.len().min(LONG_NUMBER)..=LONG_REGION.len()).chain([LONG_WORD]);
        ends.find_map(|start| format!("{prefix}{}", &LONG_REGION[start..]).parse().ok())
    }

    /// The registry, if it matches a single one.
    pub fn host(&self) -> Option<Registry> {
        match self {
            Self::AllPrivate => None,
            Self::Account(account, _) => Some(Registry::of_account(*account, self.region()?)),
            Self::Public => "public.ecr.aws".parse().ok(),
        }
    }

    /// The region, if it matches a single one.
    pub fn region(&self) -> Option<Region> {
        let Self::Account(_, regions) = self else { return None };
        regions.to_string().parse().ok()
    }
}

impl FromStr for RegistryPattern {
    type Err = PatternError;

    /// A prefix of an account ID is not accepted, because it would match accounts of other AWS customers.
    fn from_str(text: &str) -> Result<Self, PatternError> {
        let of_account = || {
            let (account, region) = text.split_once('/')?;
            let regions: Pattern = region.parse().ok()?;
            let valid = regions.open || region.parse::<Region>().is_ok();
            (valid && !region.contains(['/', '.', '_']))
                .then_some(Self::Account(account.parse().ok()?, regions))
        };
        match text {
            "*" => Ok(Self::AllPrivate),
            "public.ecr.aws" => Ok(Self::Public),
            _ => of_account().ok_or_else(|| PatternError::Registry(quote(text))),
        }
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
            ("team-a/*", "team-a*", false),
            ("team-a/*", "./team-a/*", false),
            ("team-a/*", "/team-a/*", false),
            ("team-a/*", "x/team-a/*", false),
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
            "a/*/b",
            "*a",
            "team-a/*,team-b/*",
            "Team-a/*",
            "team-a\u{ff0f}*",
            "team\u{200b}-a/*",
            "{NAMESPACE}/*",
            "$namespace/*",
        ] {
            assert!(text.parse::<Pattern>().is_err(), "{text:?} was accepted");
        }
    }

    /// IAM compares text, and a repository has no such name.
    #[test]
    fn a_path_within_a_grant_that_points_out_of_it_is_a_literal() {
        for text in ["team-a/../team-b/*", "team-a//*", "team-a/./x"] {
            let narrower = pattern(text);
            assert_eq!(narrower.to_string(), text);
            assert!(pattern("team-a/*").contains(&narrower), "{text}");
            assert!(!narrower.contains(&pattern("team-b/app")), "{text}");
        }
    }

    #[test]
    fn a_pattern_of_dev_never_matches_dev_prod() {
        for text in [
            "{namespace}*",
            "a*{namespace}",
            "{namespace}-x/*",
            "x/{namespace}.",
            "{namespace}{namespace}",
            "{name}/*",
        ] {
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
