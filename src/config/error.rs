//! Errors of the configuration.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Why a configuration is rejected.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("--config {}: cannot read the file: {source}", .path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// The file does not follow the schema.
    #[error("--config {}: {source}", .path.display())]
    Parse { path: PathBuf, source: Box<serde_saphyr::Error> },
    /// A value is not valid. `problem` quotes it and describes a valid one.
    #[error("configuration: {field}: {problem}")]
    Invalid { field: FieldPath, problem: String },
}

/// The path of a field, such as `identities[0].roleArn`.
#[derive(Clone, Debug)]
pub struct FieldPath(String);

impl FieldPath {
    pub(super) fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// A field of this object.
    pub(super) fn field(&self, name: &str) -> Self {
        Self(format!("{self}.{name}"))
    }

    /// An item of this list.
    pub(super) fn index(&self, index: usize) -> Self {
        Self(format!("{self}[{index}]"))
    }

    pub(super) fn invalid(self, problem: impl Into<String>) -> ConfigError {
        ConfigError::Invalid { field: self, problem: problem.into() }
    }

    /// Parses the items of this list.
    pub(super) fn parse_each<T>(&self, texts: &[String]) -> Result<Vec<T>, ConfigError>
    where
        T: FromStr<Err: fmt::Display>,
    {
        let parse = |(index, text): (usize, &String)| {
            text.parse().map_err(|error: T::Err| self.index(index).invalid(error.to_string()))
        };
        texts.iter().enumerate().map(parse).collect()
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
