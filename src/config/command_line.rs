//! `commandLine`, and the configuration as the commands without a cluster use it.

use std::env;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Config;
use super::identities::{self, Program};
use super::validate::{ConfigError, check};
use crate::core::aws::Registry;
use crate::core::grants::{Grants, RegistryPattern};
use crate::core::quote;
use crate::core::secret::RefreshPolicy;
use crate::ecr::aws::Endpoints;

/// The file in the folder of the user's configuration files.
const DEFAULT_FILE: &str = "ecr-pull-secrets/config.yaml";

/// Settings of the commands that run without a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CommandLineConfig {
    /// Path of the file in which `credential-helper get` keeps tokens between calls, absolute or beginning with `~/`.
    /// Only its owner can read the file. Default: none, and each call fetches a token.
    pub cache_file: Option<PathBuf>,
}

/// The validated configuration of the commands that run without a cluster.
#[derive(Clone, Debug)]
pub struct CommandLine {
    pub grants: Grants,
    pub endpoints: Endpoints,
    pub refresh: RefreshPolicy,
    pub cache_file: Option<PathBuf>,
    /// The hosts that the configuration names.
    pub hosts: Vec<Registry>,
}

impl Config {
    /// The path of the configuration on the command line: `given`, or else the user's own file if it exists
    /// (<https://specifications.freedesktop.org/basedir-spec/latest/>).
    pub fn user_file(given: Option<&Path>) -> Option<PathBuf> {
        if let Some(given) = given {
            return Some(given.to_owned());
        }
        let folder = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
        let path = folder.or_else(|| Some(home()?.join(".config")))?.join(DEFAULT_FILE);
        path.exists().then_some(path)
    }

    /// Validates the configuration for the commands that run without a cluster. `web_identity_token_file` is the value of
    /// `AWS_WEB_IDENTITY_TOKEN_FILE`.
    pub fn command_line(&self, web_identity_token_file: Option<&Path>) -> Result<CommandLine, ConfigError> {
        let identities = identities::build(&self.identities, web_identity_token_file, Program::CommandLine)?;
        let named = self.defaults.registries.iter().filter_map(|host| host.parse().ok());
        let single = identities.iter().flat_map(|identity| &identity.registries);
        let mut hosts: Vec<_> = named.chain(single.filter_map(RegistryPattern::host)).collect();
        hosts.sort();
        hosts.dedup();
        Ok(CommandLine {
            grants: Grants { identities, default_identity: self.default_identity()?, default_region: None },
            endpoints: self.endpoints()?,
            refresh: self.refresh.build()?,
            cache_file: self.command_line.cache_file()?,
            hosts,
        })
    }
}

impl CommandLineConfig {
    fn cache_file(&self) -> Result<Option<PathBuf>, ConfigError> {
        let Some(path) = &self.cache_file else { return Ok(None) };
        let expanded = match path.strip_prefix("~") {
            Ok(rest) => home().map(|home| home.join(rest)),
            Err(_) => Some(path.clone()),
        };
        let expanded = expanded.filter(|path| path.is_absolute() && path.file_name().is_some());
        check("commandLine.cacheFile", expanded.is_some(), || {
            let expected = "expected an absolute path, or one that begins with ~/ while HOME is set";
            format!("{}: {expected}", quote(&path.to_string_lossy()))
        })?;
        Ok(expanded)
    }
}

/// The user's home folder; `None` if it is not set.
fn home() -> Option<PathBuf> {
    env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute())
}
