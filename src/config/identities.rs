//! `identities`: roles, the namespaces that may use them, and the registries and repositories that they reach.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scope::check_scope;
use super::validate::{ConfigError, LABEL_EXPECTED, check, invalid, is_label, parse, parse_each};
use crate::core::grants::{CONTROLLER, CredentialSource, Identity, IdentityName, Role};
use crate::core::quote;

/// Means "no identity" in `defaults.identity`.
const RESERVED: &str = "none";

/// The limits of STS (<https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>).
const EXTERNAL_ID_LEN: RangeInclusive<usize> = 2..=1224;
const SESSION_NAME_LEN: RangeInclusive<usize> = 2..=64;
const MAX_TAGS: usize = 50;
const TAG_KEY_LEN: RangeInclusive<usize> = 1..=128;
const MAX_TAG_VALUE_LEN: usize = 256;

/// The bounds of `maxTokenAge`, in seconds.
const TOKEN_AGE_SECONDS: RangeInclusive<i64> = 15 * 60..=12 * 3_600;

/// An identity: an IAM role that the controller assumes to fetch tokens. The name `controller` denotes the controller's
/// own identity, which has no role.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IdentityConfig {
    /// Name of the identity in annotations and Events: at most 63 characters of a-z, 0-9, `-` and `.`. Required and
    /// unique; `none` is reserved.
    pub name: String,
    /// ARN of the IAM role. The controller assumes it with a session policy that only allows pulling. Required, except
    /// for the identity `controller`, which cannot have one, and on the command line with a profile as the source.
    pub role_arn: Option<String>,
    /// The credentials that the controller assumes the role with. Default: `controller`.
    pub source: SourceConfig,
    /// Path of the web identity token file. Only valid with `source: webIdentity`. Default: the value of
    /// `AWS_WEB_IDENTITY_TOKEN_FILE`.
    pub web_identity_token_file: Option<PathBuf>,
    /// External ID that the role's trust policy requires: 2 to 1224 characters. Not valid with `source: webIdentity`.
    /// Default: none.
    pub external_id: Option<String>,
    /// Name of the role's sessions in `CloudTrail`: 2 to 64 characters. Default: `ecr-pull-secrets`, followed by `.` and the
    /// namespace if no other namespace can have the token.
    pub session_name: Option<String>,
    /// Session tags: at most 50, with keys of 1 to 128 and values of at most 256 characters. They require
    /// `sts:TagSession` and reduce the space for the session policy. Not valid with `source: webIdentity`. Default:
    /// none.
    pub session_tags: BTreeMap<String, String>,
    /// The namespaces that may use the identity: names, or prefixes that end in `*`. Default: none.
    pub namespaces: Vec<String>,
    /// The registries that the identity serves: `ACCOUNT/REGION`, `ACCOUNT/eu-*`, `ACCOUNT/*`, `*` for every private
    /// registry, or `public.ecr.aws`. At least one.
    pub registries: Vec<String>,
    /// The repositories that the identity's tokens can pull from: names, or prefixes that end in `*`. `{namespace}`
    /// expands to the name of the namespace, and must be followed by `/` or the end. `*` means all repositories of the
    /// registries. Required for a role with private registries.
    pub repositories: Vec<String>,
    /// Whether the identity's tokens may also fill pull-through caches (`ecr:BatchImportUpstreamImage` and
    /// `ecr:CreateRepository`). Default: false.
    pub pull_through_cache: bool,
    /// Whether the identity's tokens may also list the tags of its private repositories (`ecr:ListImages`), which Flux and Argo
    /// CD Image Updater require. Default: false.
    pub list_tags: bool,
    /// The longest time that the controller uses a token, from `15m` to `12h`. Default: the token's lifetime, 12 hours.
    pub max_token_age: Option<String>,
}

/// The credentials that the controller assumes a role with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SourceConfig {
    /// The controller's own credentials (`AssumeRole`). On the command line, those of the SDK's default chain.
    #[default]
    Controller,
    /// A web identity token from a file (`AssumeRoleWithWebIdentity`).
    WebIdentity,
    /// Name of an AWS profile, for the commands that run without a cluster. The controller does not support it. Without
    /// `roleArn`, the tokens have the whole scope of the profile.
    Profile(String),
}

/// The program that the identities are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// The controller, and the commands that connect to a cluster.
    Controller,
    /// The commands that run without a cluster.
    CommandLine,
}

/// `web_identity_token_file` is the default of the field of that name.
pub(super) fn build(
    configs: &[IdentityConfig],
    web_identity_token_file: Option<&Path>,
    program: Program,
) -> Result<Vec<Identity>, ConfigError> {
    let mut identities: Vec<Identity> = vec![];
    for (index, config) in configs.iter().enumerate() {
        let path = format!("identities[{index}]");
        let builder = Builder { config, path, web_identity_token_file, program };
        let identity = builder.identity()?;
        check(builder.field("name"), identities.iter().all(|other| other.name != identity.name), || {
            format!("duplicate name {}: choose another name", quote(&config.name))
        })?;
        if let Some(role) = &identity.role
            && let Some(other) = identities.iter().find(|other| other.is_called(role.arn.as_str()))
        {
            let (arn, other) = (&role.arn, other.name.as_str());
            let taken = format!("{arn} is already the role of identity {other:?}");
            let problem = format!("{taken}: combine both grants in one identity");
            return Err(invalid(builder.field("roleArn"), problem));
        }
        identities.push(identity);
    }
    Ok(identities)
}

struct Builder<'a> {
    config: &'a IdentityConfig,
    path: String,
    web_identity_token_file: Option<&'a Path>,
    program: Program,
}

impl Builder<'_> {
    fn field(&self, field: &str) -> String {
        format!("{}.{field}", self.path)
    }

    fn identity(&self) -> Result<Identity, ConfigError> {
        let config = self.config;
        let name = &config.name;
        check(self.field("name"), name != RESERVED, || format!("{name:?} is reserved: choose another name"))?;
        check(self.field("name"), is_label(name), || format!("{}: {LABEL_EXPECTED}", quote(name)))?;
        let identity = Identity {
            name: IdentityName::new(name),
            profile: self.profile()?.map(Into::into),
            role: self.role()?.map(Arc::new),
            namespaces: parse_each(self.field("namespaces"), &config.namespaces)?,
            registries: parse_each(self.field("registries"), &config.registries)?,
            repositories: parse_each(self.field("repositories"), &config.repositories)?,
            pull_through_cache: config.pull_through_cache,
            list_tags: config.list_tags,
        };
        let problem = "empty: list at least one, such as 222222222222/* or public.ecr.aws";
        check(self.field("registries"), !identity.registries.is_empty(), || problem)?;
        match &identity.role {
            Some(role) => check_scope(&identity, role, config, &self.path)?,
            None => self.check_without_role()?,
        }
        // A pattern for repositories may contain characters that no namespace has.
        for (index, pattern) in config.namespaces.iter().enumerate() {
            check(self.field(&format!("namespaces[{index}]")), !pattern.contains(['/', '_']), || {
                let expected = "expected a-z, 0-9 and -, with at most one *, at the end";
                format!("{} matches no valid namespace name: {expected}", quote(pattern))
            })?;
        }
        Ok(identity)
    }

    /// The profile of the source.
    fn profile(&self) -> Result<Option<&str>, ConfigError> {
        let SourceConfig::Profile(profile) = &self.config.source else { return Ok(None) };
        let problem =
            "the controller does not support AWS profiles: set source: controller or source: webIdentity";
        check(self.field("source.profile"), self.program == Program::CommandLine, || problem)?;
        // As in the section names of the profile files.
        let is_name =
            !profile.trim().is_empty() && !profile.contains(|c: char| c.is_control() || "[]".contains(c));
        check(self.field("source.profile"), is_name, || {
            format!("{}: expected the name of an AWS profile", quote(profile))
        })?;
        Ok(Some(profile))
    }

    fn role(&self) -> Result<Option<Role>, ConfigError> {
        let config = self.config;
        let is_controller = config.name == CONTROLLER;
        let Some(arn) = &config.role_arn else {
            let needs_none = is_controller || matches!(config.source, SourceConfig::Profile(_));
            check(self.field("roleArn"), needs_none, || {
                format!("missing: set the ARN of a role; only identity {CONTROLLER:?} has none")
            })?;
            return Ok(None);
        };
        check(self.field("roleArn"), !is_controller, || {
            format!("{CONTROLLER:?} is the controller's own identity, which has no role: choose another name")
        })?;
        let external_id =
            self.text("externalId", config.external_id.as_ref(), EXTERNAL_ID_LEN, "_+=,.@:/-")?;
        let session_name =
            self.text("sessionName", config.session_name.as_ref(), SESSION_NAME_LEN, "_+=,.@-")?;
        Ok(Some(Role {
            arn: parse(self.field("roleArn"), arn)?,
            source: self.source()?,
            external_id,
            session_name,
            tags: self.tags()?,
            max_token_age: self.max_token_age()?,
        }))
    }

    fn source(&self) -> Result<CredentialSource, ConfigError> {
        let config = self.config;
        // A profile replaces the process's own credentials.
        if config.source != SourceConfig::WebIdentity {
            let problem = "only valid with source: webIdentity: set that source, or remove this field";
            check(self.field("webIdentityTokenFile"), config.web_identity_token_file.is_none(), || problem)?;
            return Ok(CredentialSource::Controller);
        }
        let problem =
            "webIdentity requires a token file: set webIdentityTokenFile or AWS_WEB_IDENTITY_TOKEN_FILE";
        let file = config.web_identity_token_file.as_deref().or(self.web_identity_token_file);
        let file = file.ok_or_else(|| invalid(self.field("source"), problem))?;
        let problem =
            "AssumeRoleWithWebIdentity does not support this field: remove it, or set source: controller";
        check(self.field("externalId"), config.external_id.is_none(), || problem)?;
        check(self.field("sessionTags"), config.session_tags.is_empty(), || problem)?;
        Ok(CredentialSource::WebIdentity(file.to_owned()))
    }

    /// A text of letters, digits and `others`, as STS accepts it.
    fn text(
        &self,
        field: &str,
        text: Option<&String>,
        len: RangeInclusive<usize>,
        others: &str,
    ) -> Result<Option<String>, ConfigError> {
        let is_valid = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
        if let Some(text) = text {
            check(self.field(field), len.contains(&text.len()) && text.chars().all(is_valid), || {
                let (min, max) = len.into_inner();
                let expected =
                    format!("expected {min} to {max} characters: letters, digits or any of {others}");
                format!("{}: {expected}", quote(text))
            })?;
        }
        Ok(text.cloned())
    }

    fn tags(&self) -> Result<BTreeMap<String, String>, ConfigError> {
        let tags = &self.config.session_tags;
        let is_valid = |(key, value): (&String, &String)| {
            TAG_KEY_LEN.contains(&key.len()) && value.len() <= MAX_TAG_VALUE_LEN
        };
        check(self.field("sessionTags"), tags.len() <= MAX_TAGS && tags.iter().all(is_valid), || {
            let (min, max) = TAG_KEY_LEN.into_inner();
            let values = format!("values of at most {MAX_TAG_VALUE_LEN} characters");
            format!("expected at most {MAX_TAGS} tags, with keys of {min} to {max} and {values}")
        })?;
        Ok(tags.clone())
    }

    fn max_token_age(&self) -> Result<Option<SignedDuration>, ConfigError> {
        let Some(text) = &self.config.max_token_age else { return Ok(None) };
        let age = text.parse::<SignedDuration>().ok();
        let age = age.filter(|age| TOKEN_AGE_SECONDS.contains(&age.as_secs()));
        let problem = || format!("{}: expected a duration from 15m to 12h", quote(text));
        age.map(Some).ok_or_else(|| invalid(self.field("maxTokenAge"), problem()))
    }

    /// Only a session policy restricts a token, and without a role there is no session.
    fn check_without_role(&self) -> Result<(), ConfigError> {
        let config = self.config;
        let is_controller = config.name == CONTROLLER;
        let fields = [
            ("repositories", !config.repositories.is_empty()),
            ("pullThroughCache", config.pull_through_cache),
            ("listTags", config.list_tags),
            ("externalId", config.external_id.is_some()),
            ("sessionName", config.session_name.is_some()),
            ("sessionTags", !config.session_tags.is_empty()),
            ("maxTokenAge", config.max_token_age.is_some()),
            ("source", is_controller && config.source != SourceConfig::Controller),
            ("webIdentityTokenFile", config.web_identity_token_file.is_some()),
        ];
        let Some((field, _)) = fields.into_iter().find(|(_, is_set)| *is_set) else { return Ok(()) };
        let problem = if is_controller {
            format!(
                "identity {CONTROLLER:?} has the controller's whole scope and no role, and does not support this field: \
                 remove it, or add an identity with a roleArn"
            )
        } else {
            "without roleArn, the tokens have the whole scope of the profile, and this field has no effect: set a roleArn, \
             which the profile assumes, or remove this field"
                .to_owned()
        };
        Err(invalid(self.field(field), problem))
    }
}
