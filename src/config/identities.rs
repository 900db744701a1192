//! `identities`: roles, who may use them, and for what.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigError, invalid, is_name, parse_each};
use crate::core::arn::RoleArn;
use crate::core::identity::{CONTROLLER, Identity, IdentityName, Restriction, Role, Source, TokenKey};
use crate::core::pattern::{Pattern, RegistryPattern};
use crate::core::policy::{LONGEST, session_policy};
use crate::core::quote;
use crate::core::registry::{Endpoint, Partition};

/// The most characters of a namespace's name.
const LONGEST_NAMESPACE: usize = 63;

/// An identity: a role that is assumed to fetch tokens, or the controller's own (`name: controller`, without a role).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IdentityConfig {
    /// Its name, as annotations and Events have it: a-z, 0-9, - and .
    pub name: String,
    /// The role to assume, with a session policy that only allows to pull. Left out for `controller` only.
    pub role_arn: Option<String>,
    /// With what the role is assumed.
    pub source: SourceConfig,
    /// File with the web identity token, for `source: webIdentity`; without it `$AWS_WEB_IDENTITY_TOKEN_FILE`.
    pub token_file: Option<PathBuf>,
    /// The external ID that the role's trust policy asks for.
    pub external_id: Option<String>,
    /// The name of its sessions in `CloudTrail`; without it `ecr-pull-secrets`.
    pub session_name: Option<String>,
    /// Session tags. They need sts:TagSession, and take from the size of the policy.
    pub session_tags: BTreeMap<String, String>,
    /// The namespaces that may use it: names, or prefixes that end in *. Empty: none.
    pub namespaces: Vec<String>,
    /// The registries that it serves: ACCOUNT/REGION, ACCOUNT/*, ACCOUNT/eu-*, * for every private registry, or
    /// public.ecr.aws.
    pub registries: Vec<String>,
    /// The repositories that its tokens are bound to: names, or prefixes that end in *; `{namespace}` stands for the
    /// namespace, and is followed by / or the end. Empty: all repositories of the registries.
    pub repositories: Vec<String>,
    /// Whether its tokens may also fill pull-through caches (ecr:BatchImportUpstreamImage, ecr:CreateRepository).
    pub pull_through_cache: bool,
    /// How long its tokens count at most, such as 1h: 15m to 12h. Without it, as long as AWS says.
    pub max_token_age: Option<String>,
}

/// With what a role is assumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SourceConfig {
    /// With the controller's own credentials.
    #[default]
    Controller,
    /// With a web identity token in a file, without a hop.
    WebIdentity,
}

/// Checks every identity. `token_file` is the one that the environment names.
pub(super) fn check(
    identities: &[IdentityConfig],
    token_file: Option<&Path>,
) -> Result<Vec<Identity>, ConfigError> {
    let (mut names, mut arns) = (BTreeSet::new(), BTreeSet::new());
    let mut checked = vec![];
    for (place, config) in identities.iter().enumerate() {
        let at = Place { config, path: format!("identities[{place}]") };
        let identity = at.identity(token_file)?;
        if !names.insert(config.name.clone()) {
            return Err(at.invalid("name", format!("{} stands there twice", quote(&config.name))));
        }
        if let Some(role) = &identity.role
            && !arns.insert(role.arn.as_str().to_owned())
        {
            let problem =
                format!("{} belongs to another identity already: give one identity both grants", role.arn);
            return Err(at.invalid("roleArn", problem));
        }
        checked.push(identity);
    }
    Ok(checked)
}

/// One identity, and where it stands.
struct Place<'a> {
    config: &'a IdentityConfig,
    path: String,
}

impl Place<'_> {
    fn invalid(&self, field: &str, problem: impl Into<String>) -> ConfigError {
        invalid(self.field(field), problem)
    }

    fn field(&self, field: &str) -> String {
        format!("{}.{field}", self.path)
    }

    fn identity(&self, token_file: Option<&Path>) -> Result<Identity, ConfigError> {
        let config = self.config;
        if config.name.len() > 63 || !is_name(&config.name) || config.name == "none" {
            let problem = format!("{}: expected up to 63 of a-z, 0-9, - and .", quote(&config.name));
            return Err(self.invalid("name", problem));
        }
        let role = match (&config.role_arn, config.name == CONTROLLER) {
            (Some(_), true) => {
                let problem = format!(
                    "{CONTROLLER:?} is the controller's own identity and has no role: choose another name"
                );
                return Err(self.invalid("roleArn", problem));
            }
            (None, false) => {
                let problem = format!("missing: only the identity {CONTROLLER:?} has no role");
                return Err(self.invalid("roleArn", problem));
            }
            (Some(arn), false) => Some(self.role(arn, token_file)?),
            (None, true) => None,
        };
        let identity = Identity {
            name: IdentityName::new(&config.name),
            role,
            namespaces: parse_each(&self.field("namespaces"), &config.namespaces)?,
            registries: parse_each(&self.field("registries"), &config.registries)?,
            repositories: parse_each(&self.field("repositories"), &config.repositories)?,
            pull_through_cache: config.pull_through_cache,
        };
        if identity.registries.is_empty() {
            let problem = "empty: name at least one, such as 222222222222/* or public.ecr.aws";
            return Err(self.invalid("registries", problem));
        }
        match &identity.role {
            Some(role) => self.check_bounds(&identity, role)?,
            None => self.check_own()?,
        }
        for (place, pattern) in config.namespaces.iter().enumerate() {
            if pattern.contains(['/', '_']) {
                let problem = format!("{}: no namespace has such a name", quote(pattern));
                return Err(self.invalid(&format!("namespaces[{place}]"), problem));
            }
        }
        Ok(identity)
    }

    fn role(&self, arn: &str, token_file: Option<&Path>) -> Result<Role, ConfigError> {
        let config = self.config;
        let arn: RoleArn = arn.parse().map_err(|error| self.invalid("roleArn", format!("{error}")))?;
        let source = match (config.source, config.token_file.as_deref().or(token_file)) {
            (SourceConfig::WebIdentity, Some(path)) => Source::WebIdentity(path.to_owned()),
            (SourceConfig::WebIdentity, None) => {
                let problem =
                    "webIdentity needs the file of the token: set tokenFile, or AWS_WEB_IDENTITY_TOKEN_FILE";
                return Err(self.invalid("source", problem));
            }
            (SourceConfig::Controller, _) => Source::Controller,
        };
        let web = config.source == SourceConfig::WebIdentity;
        for (field, is_set) in
            [("externalId", config.external_id.is_some()), ("sessionTags", !config.session_tags.is_empty())]
        {
            if web && is_set {
                return Err(self.invalid(field, "AssumeRoleWithWebIdentity takes none: remove it, or source"));
            }
        }
        if config.token_file.is_some() && !web {
            return Err(self.invalid("tokenFile", "has no meaning without source: webIdentity"));
        }
        Ok(Role {
            arn,
            source,
            external_id: self.text("externalId", config.external_id.as_deref(), 2..=1224, b"_+=,.@:/-")?,
            session_name: self
                .text("sessionName", config.session_name.as_deref(), 2..=64, b"_+=,.@-")?
                .unwrap_or_else(|| "ecr-pull-secrets".to_owned()),
            tags: self.tags()?,
            max_token_age: self.max_token_age()?,
        })
    }

    /// A text as STS takes it: <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>.
    fn text(
        &self,
        field: &str,
        text: Option<&str>,
        length: std::ops::RangeInclusive<usize>,
        others: &[u8],
    ) -> Result<Option<String>, ConfigError> {
        let Some(text) = text else { return Ok(None) };
        let fine = |b: u8| b.is_ascii_alphanumeric() || others.contains(&b);
        if !length.contains(&text.len()) || !text.bytes().all(fine) {
            let (least, most, others) = (length.start(), length.end(), String::from_utf8_lossy(others));
            let problem =
                format!("{}: expected {least} to {most} letters, digits or any of {others}", quote(text));
            return Err(self.invalid(field, problem));
        }
        Ok(Some(text.to_owned()))
    }

    fn tags(&self) -> Result<BTreeMap<String, String>, ConfigError> {
        let tags = &self.config.session_tags;
        let fits =
            |(key, value): (&String, &String)| !key.is_empty() && key.len() <= 128 && value.len() <= 256;
        if tags.len() > 50 || !tags.iter().all(fits) {
            let problem =
                "expected at most 50 tags, with keys of 1 to 128 and values of at most 256 characters";
            return Err(self.invalid("sessionTags", problem));
        }
        Ok(tags.clone())
    }

    fn max_token_age(&self) -> Result<Option<SignedDuration>, ConfigError> {
        let Some(text) = &self.config.max_token_age else { return Ok(None) };
        let age = text.parse::<SignedDuration>().ok();
        let age = age.filter(|age| (15 * 60..=12 * 3600).contains(&age.as_secs()));
        let problem = || format!("{}: expected a duration of 15m to 12h", quote(text));
        age.map(Some).ok_or_else(|| self.invalid("maxTokenAge", problem()))
    }

    /// A bound has to be one, for the longest name that a namespace can have.
    fn check_bounds(&self, identity: &Identity, role: &Role) -> Result<(), ConfigError> {
        let longest = "n".repeat(LONGEST_NAMESPACE);
        let mut patterns: BTreeSet<Pattern> = BTreeSet::new();
        for (place, bound) in identity.repositories.iter().enumerate() {
            let pattern = bound.expand(&longest).map_err(|_| {
                let template = quote(&self.config.repositories[place]);
                let problem =
                    format!("{template}: too long with a namespace's name of {LONGEST_NAMESPACE} characters");
                self.invalid(&format!("repositories[{place}]"), problem)
            })?;
            patterns.insert(pattern);
        }
        let patterns = if patterns.is_empty() { BTreeSet::from([Pattern::any()]) } else { patterns };
        for (place, pattern) in identity.registries.iter().enumerate() {
            let field = format!("registries[{place}]");
            let region = pattern.region();
            let partition = role.arn.partition();
            if region.as_ref().is_some_and(|region| region.partition() != partition) {
                let problem = format!(
                    "{} is in another partition of AWS than the role {}",
                    quote(&self.config.registries[place]),
                    role.arn
                );
                return Err(self.invalid(&field, problem));
            }
            if *pattern == RegistryPattern::Public && partition != Partition::Aws {
                let problem = format!("public ECR is in another partition of AWS than the role {}", role.arn);
                return Err(self.invalid(&field, problem));
            }
            let Some(region) = pattern.longest_region() else { continue };
            let restriction = Restriction::Pull(patterns.iter().cloned().collect());
            let endpoint = Endpoint::Private(region);
            let key = TokenKey { identity: identity.name.clone(), endpoint, restriction };
            let length = session_policy(identity, &key).map_or(0, |policy| policy.len());
            if length > LONGEST {
                let problem = format!(
                    "with so many accounts and repositories the session policy has up to {length} of at most {LONGEST} \
                     characters: name fewer, or shorter prefixes, or divide the identity"
                );
                return Err(self.invalid("repositories", problem));
            }
        }
        Ok(())
    }

    /// What limits a token is the session policy, and the controller's own identity has none.
    fn check_own(&self) -> Result<(), ConfigError> {
        let config = self.config;
        let whole =
            "identity \"controller\" carries the controller's whole scope and cannot be bound: use a roleArn";
        let set = [
            ("repositories", !config.repositories.is_empty()),
            ("pullThroughCache", config.pull_through_cache),
            ("externalId", config.external_id.is_some()),
            ("sessionName", config.session_name.is_some()),
            ("sessionTags", !config.session_tags.is_empty()),
            ("maxTokenAge", config.max_token_age.is_some()),
            ("source", config.source != SourceConfig::Controller),
            ("tokenFile", config.token_file.is_some()),
        ];
        match set.into_iter().find(|(_, is_set)| *is_set) {
            Some((field, _)) => Err(self.invalid(field, whole)),
            None => Ok(()),
        }
    }
}
