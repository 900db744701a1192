//! The file in which Docker and other clients keep the credentials of registries
//! (<https://docs.docker.com/reference/cli/docker/#docker-cli-configuration-file-configjson-properties>,
//! <https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md>).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::cache::{create_folder, replace};
use super::lock::Lock;
use crate::commands::CommandError;
use crate::core::aws::Registry;
use crate::core::secret::Token;

const FILE: &str = "config.json";
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// The file that the environment names: config.json in `DOCKER_CONFIG`, or in the user's folder.
pub(super) fn docker_config() -> Result<PathBuf, CommandError> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("DOCKER_CONFIG").or_else(|| Some(set("HOME")?.join(".docker")));
    let folder =
        folder.ok_or("the Docker configuration is unknown: set HOME, DOCKER_CONFIG or --auth-file")?;
    Ok(folder.join(FILE))
}

/// A file that is read, changed and replaced under a lock.
pub(super) struct AuthFile {
    path: PathBuf,
    content: Map<String, Value>,
    permissions: Option<fs::Permissions>,
    _lock: Lock,
}

impl AuthFile {
    /// Reads the file. Returns an error, before anything is changed, if it cannot be replaced or is not valid.
    pub(super) async fn open(path: &Path) -> Result<Self, CommandError> {
        let fail = |problem: String| format!("{}: {problem}; the file is unchanged", path.display());
        let io = |error: io::Error| fail(error.to_string());
        // A link stays a link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if let Some(folder) = path.parent() {
            create_folder(folder).map_err(io)?;
        }
        let lock = Lock::acquire(&path, LOCK_TIMEOUT).await.map_err(io)?;
        let lock =
            lock.ok_or_else(|| fail("another login holds its lock: run the command again".to_owned()))?;
        let (content, permissions) = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Map::new(), None),
            Err(error) => return Err(io(error).into()),
            Ok(text) => {
                let text = Zeroizing::new(text);
                let permissions = fs::metadata(&path).map_err(io)?.permissions();
                if permissions.readonly() {
                    return Err(fail(
                        "the file is read-only: make it writable, or set --auth-file".to_owned(),
                    )
                    .into());
                }
                (parse(&text).map_err(fail)?, Some(permissions))
            }
        };
        Ok(Self { path, content, permissions, _lock: lock })
    }

    /// The setting by which clients get the credential of a host from a helper, and not from this file.
    pub(super) fn helper_of(&self, registry: &Registry) -> Option<String> {
        let of_host =
            self.content.get("credHelpers").and_then(|helpers| helpers[registry.to_string()].as_str());
        if let Some(helper) = of_host.filter(|helper| !helper.is_empty()) {
            return Some(format!("credHelpers ({helper})"));
        }
        let store = self.content.get("credsStore").and_then(Value::as_str).filter(|store| !store.is_empty());
        store.map(|store| format!("credsStore ({store})"))
    }

    /// Sets the entry of a host. [`AuthFile::replace`] writes it.
    pub(super) fn set(&mut self, registry: &Registry, token: &Token) {
        let auths = self.content.entry("auths").or_insert_with(|| json!({}));
        // As `docker login` writes it.
        auths[registry.to_string()] = json!({"auth": *token.credential().auth()});
    }

    pub(super) fn replace(self) -> Result<(), CommandError> {
        let mut text = Zeroizing::new(serde_json::to_vec_pretty(&self.content)?);
        text.push(b'\n');
        replace(&self.path, &text, self.permissions)
            .map_err(|error| format!("{}: {error}; the file is unchanged", self.path.display()).into())
    }
}

/// Parses the content. An empty file has no entries.
fn parse(text: &[u8]) -> Result<Map<String, Value>, String> {
    if text.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    // The parser's message does not quote the text, which may contain passwords.
    let parsed: Value = serde_json::from_slice(text).map_err(|error| {
        format!("line {} is not valid JSON: correct the file, or set --auth-file", error.line())
    })?;
    let Value::Object(content) = parsed else {
        return Err("expected a JSON object: correct the file".to_owned());
    };
    match content.get("auths") {
        None | Some(Value::Object(_)) => Ok(content),
        Some(_) => Err("auths: expected a JSON object: correct the file".to_owned()),
    }
}
