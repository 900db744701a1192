//! `identities`: roles, the namespaces that may use them, and the registries and repositories that they reach.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::{LABEL_EXPECTED, is_label};
use super::scope::check_scope;
use super::{ConfigError, FieldPath};
use crate::core::aws::RoleArn;
use crate::core::grants::{CONTROLLER, CredentialSource, Identity, IdentityName, Role};
use crate::core::quote;

/// Means "no identity" in `defaults.identity`.
const RESERVED: &str = "none";
const DEFAULT_SESSION_NAME: &str = "ecr-pull-secrets";

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
    /// for the identity `controller`, which cannot have one.
    pub role_arn: Option<String>,
    /// The credentials that the controller assumes the role with. Default: `controller`.
    pub source: SourceConfig,
    /// Path of the web identity token file. Only valid with `source: webIdentity`. Default: the value of
    /// `AWS_WEB_IDENTITY_TOKEN_FILE`.
    pub web_identity_token_file: Option<PathBuf>,
    /// External ID that the role's trust policy requires: 2 to 1224 characters. Not valid with `source: webIdentity`.
    /// Default: none.
    pub external_id: Option<String>,
    /// Name of the role's sessions in `CloudTrail`: 2 to 64 characters. Default: `ecr-pull-secrets`.
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
    /// expands to the name of the namespace, and must be followed by `/` or the end. Default: all repositories of the
    /// registries.
    pub repositories: Vec<String>,
    /// Whether the identity's tokens may also fill pull-through caches (`ecr:BatchImportUpstreamImage` and
    /// `ecr:CreateRepository`). Default: false.
    pub pull_through_cache: bool,
    /// The longest time that the controller uses a token, from `15m` to `12h`. Default: the token's lifetime, 12 hours.
    pub max_token_age: Option<String>,
}

/// The credentials that the controller assumes a role with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SourceConfig {
    /// The controller's own credentials (`AssumeRole`).
    #[default]
    Controller,
    /// A web identity token from a file (`AssumeRoleWithWebIdentity`).
    WebIdentity,
}

/// `web_identity_token_file` is the default of the field of that name.
pub(super) fn build(
    configs: &[IdentityConfig],
    web_identity_token_file: Option<&Path>,
) -> Result<Vec<Identity>, ConfigError> {
    let mut identities: Vec<Identity> = vec![];
    for (index, config) in configs.iter().enumerate() {
        let path = FieldPath::new("identities").index(index);
        let identity = Builder { config, path: &path, web_identity_token_file }.identity()?;
        if identities.iter().any(|other| other.name == identity.name) {
            let problem = format!("duplicate name {}: choose another name", quote(&config.name));
            return Err(path.field("name").invalid(problem));
        }
        if let Some(role) = &identity.role
            && let Some(other) = identities.iter().find(|other| other.is_called(role.arn.as_str()))
        {
            let problem = format!(
                "{} is already the role of identity {:?}: combine both grants in one identity",
                role.arn,
                other.name.as_str()
            );
            return Err(path.field("roleArn").invalid(problem));
        }
        identities.push(identity);
    }
    Ok(identities)
}

struct Builder<'a> {
    config: &'a IdentityConfig,
    path: &'a FieldPath,
    web_identity_token_file: Option<&'a Path>,
}

impl Builder<'_> {
    fn invalid(&self, field: &str, problem: impl Into<String>) -> ConfigError {
        self.path.field(field).invalid(problem)
    }

    fn identity(&self) -> Result<Identity, ConfigError> {
        let config = self.config;
        self.check_name()?;
        let identity = Identity {
            name: IdentityName::new(&config.name),
            role: self.role()?.map(Arc::new),
            namespaces: self.path.field("namespaces").parse_each(&config.namespaces)?,
            registries: self.path.field("registries").parse_each(&config.registries)?,
            repositories: self.path.field("repositories").parse_each(&config.repositories)?,
            pull_through_cache: config.pull_through_cache,
        };
        if identity.registries.is_empty() {
            let problem = "empty: list at least one, such as 222222222222/* or public.ecr.aws";
            return Err(self.invalid("registries", problem));
        }
        match &identity.role {
            Some(role) => check_scope(&identity, role, config, self.path)?,
            None => self.check_controller()?,
        }
        self.check_namespaces()?;
        Ok(identity)
    }

    fn check_name(&self) -> Result<(), ConfigError> {
        let name = &self.config.name;
        if name == RESERVED {
            return Err(self.invalid("name", format!("{name:?} is reserved: choose another name")));
        }
        if !is_label(name) {
            return Err(self.invalid("name", format!("{}: {LABEL_EXPECTED}", quote(name))));
        }
        Ok(())
    }

    /// A pattern for repositories may contain characters that no namespace has.
    fn check_namespaces(&self) -> Result<(), ConfigError> {
        for (index, pattern) in self.config.namespaces.iter().enumerate() {
            if pattern.contains(['/', '_']) {
                let problem = format!(
                    "{} matches no valid namespace name: expected a-z, 0-9 and -, with at most one *, at the end",
                    quote(pattern)
                );
                return Err(self.path.field("namespaces").index(index).invalid(problem));
            }
        }
        Ok(())
    }

    fn role(&self) -> Result<Option<Role>, ConfigError> {
        let config = self.config;
        let arn = match (&config.role_arn, config.name == CONTROLLER) {
            (None, true) => return Ok(None),
            (Some(_), true) => {
                let problem = format!(
                    "{CONTROLLER:?} is the controller's own identity, which has no role: choose another name"
                );
                return Err(self.invalid("roleArn", problem));
            }
            (None, false) => {
                let problem =
                    format!("missing: set the ARN of a role; only identity {CONTROLLER:?} has none");
                return Err(self.invalid("roleArn", problem));
            }
            (Some(arn), false) => {
                arn.parse::<RoleArn>().map_err(|error| self.invalid("roleArn", format!("{error}")))?
            }
        };
        Ok(Some(Role {
            arn,
            source: self.source()?,
            external_id: self.text(
                "externalId",
                config.external_id.as_deref(),
                EXTERNAL_ID_LEN,
                "_+=,.@:/-",
            )?,
            session_name: self
                .text("sessionName", config.session_name.as_deref(), SESSION_NAME_LEN, "_+=,.@-")?
                .unwrap_or_else(|| DEFAULT_SESSION_NAME.to_owned()),
            tags: self.tags()?,
            max_token_age: self.max_token_age()?,
        }))
    }

    fn source(&self) -> Result<CredentialSource, ConfigError> {
        let config = self.config;
        if config.source == SourceConfig::Controller {
            if config.web_identity_token_file.is_some() {
                let problem = "only valid with source: webIdentity: set that source, or remove this field";
                return Err(self.invalid("webIdentityTokenFile", problem));
            }
            return Ok(CredentialSource::Controller);
        }
        let Some(file) = config.web_identity_token_file.as_deref().or(self.web_identity_token_file) else {
            let problem =
                "webIdentity requires a token file: set webIdentityTokenFile or AWS_WEB_IDENTITY_TOKEN_FILE";
            return Err(self.invalid("source", problem));
        };
        for (field, is_set) in
            [("externalId", config.external_id.is_some()), ("sessionTags", !config.session_tags.is_empty())]
        {
            if is_set {
                let problem = "AssumeRoleWithWebIdentity does not support this field: remove it, or set source: \
                               controller";
                return Err(self.invalid(field, problem));
            }
        }
        Ok(CredentialSource::WebIdentity(file.to_owned()))
    }

    /// A text of letters, digits and `others`, as STS accepts it.
    fn text(
        &self,
        field: &str,
        text: Option<&str>,
        len: RangeInclusive<usize>,
        others: &str,
    ) -> Result<Option<String>, ConfigError> {
        let Some(text) = text else { return Ok(None) };
        let is_valid = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
        if !len.contains(&text.len()) || !text.chars().all(is_valid) {
            let problem = format!(
                "{}: expected {} to {} characters: letters, digits or any of {others}",
                quote(text),
                len.start(),
                len.end()
            );
            return Err(self.invalid(field, problem));
        }
        Ok(Some(text.to_owned()))
    }

    fn tags(&self) -> Result<BTreeMap<String, String>, ConfigError> {
        let tags = &self.config.session_tags;
        let is_valid = |(key, value): (&String, &String)| {
            TAG_KEY_LEN.contains(&key.len()) && value.len() <= MAX_TAG_VALUE_LEN
        };
        if tags.len() > MAX_TAGS || !tags.iter().all(is_valid) {
            let problem = format!(
                "expected at most {MAX_TAGS} tags, with keys of {} to {} and values of at most {MAX_TAG_VALUE_LEN} \
                 characters",
                TAG_KEY_LEN.start(),
                TAG_KEY_LEN.end()
            );
            return Err(self.invalid("sessionTags", problem));
        }
        Ok(tags.clone())
    }

    fn max_token_age(&self) -> Result<Option<SignedDuration>, ConfigError> {
        let Some(text) = &self.config.max_token_age else { return Ok(None) };
        let age = text.parse::<SignedDuration>().ok();
        let age = age.filter(|age| TOKEN_AGE_SECONDS.contains(&age.as_secs()));
        let problem = || format!("{}: expected a duration from 15m to 12h", quote(text));
        age.map(Some).ok_or_else(|| self.invalid("maxTokenAge", problem()))
    }

    /// Only a session policy restricts a token, and the controller's own identity has no session.
    fn check_controller(&self) -> Result<(), ConfigError> {
        let config = self.config;
        let fields = [
            ("repositories", !config.repositories.is_empty()),
            ("pullThroughCache", config.pull_through_cache),
            ("externalId", config.external_id.is_some()),
            ("sessionName", config.session_name.is_some()),
            ("sessionTags", !config.session_tags.is_empty()),
            ("maxTokenAge", config.max_token_age.is_some()),
            ("source", config.source != SourceConfig::Controller),
            ("webIdentityTokenFile", config.web_identity_token_file.is_some()),
        ];
        let Some((field, _)) = fields.into_iter().find(|(_, is_set)| *is_set) else { return Ok(()) };
        let problem = format!(
            "identity {CONTROLLER:?} has the controller's whole scope and no role, and does not support this field: \
             remove it, or add an identity with a roleArn"
        );
        Err(self.invalid(field, problem))
    }
}
