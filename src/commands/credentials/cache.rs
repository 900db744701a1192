//! The tokens that `credential-helper get` keeps between calls, in a file that only its owner can read.
//!
//! The file is replaced as a whole, so a reader without the lock never finds half of it. The lock is held during a fetch:
//! of many helpers, one calls AWS, and the others find its token.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use zeroize::{Zeroize as _, Zeroizing};

use super::lock::Lock;
use super::warn;
use crate::core::Now;
use crate::core::aws::Endpoint;
use crate::core::grants::{Choice, CredentialSource};
use crate::core::secret::{RefreshPolicy, Token};

const VERSION: u32 = 1;
/// The maximum number of tokens. The one that expires first is dropped.
const MAX_ENTRIES: usize = 64;
/// A fetch that holds the lock takes no longer than the limits of two requests to AWS.
const LOCK_TIMEOUT: Duration = Duration::from_secs(35);
const OTHERS: u32 = 0o077;

/// The key of a token: the principal that fetched it, and its permissions. Nothing can be inferred from it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Key(String);

impl Key {
    /// `access_key` is that of the credentials that sign the request, or for the session; `None` if a web identity token
    /// takes their place.
    pub(super) fn new(choice: &Choice, access_key: Option<&str>) -> Self {
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update(text.len().to_be_bytes());
            hash.update(text);
        };
        add(access_key.unwrap_or_default());
        add(&format!("{:?}", choice.scope));
        add(&format!("{:?}", choice.request.key));
        if let Some(session) = &choice.request.session {
            add(session.role.arn.as_str());
            add(&session.policy);
            add(&session.name);
            add(&format!("{:?} {:?}", session.role.external_id, session.role.tags));
            if let CredentialSource::WebIdentity(path) = &session.role.source {
                // The subject of the token is the principal.
                let token = Zeroizing::new(fs::read(path).unwrap_or_default());
                add(&hex(&Sha256::digest(&*token)));
            }
        }
        Self(hex(&hash.finalize()))
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The content of the file.
#[derive(Default, Serialize, Deserialize)]
struct Content {
    version: u32,
    tokens: BTreeMap<Key, Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    /// The endpoint that issued the token, which every registry of a region shares.
    endpoint: String,
    authorization: String,
    issued_at: Timestamp,
    expires_at: Timestamp,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.authorization.zeroize();
    }
}

/// The cache file.
pub(super) struct Cache {
    path: PathBuf,
    refresh: RefreshPolicy,
    /// The file is read several times, and one warning is enough.
    warned: Cell<bool>,
}

impl Cache {
    pub(super) fn new(path: PathBuf, refresh: RefreshPolicy) -> Self {
        Self { path, refresh, warned: Cell::new(false) }
    }

    /// A token that is not due for renewal.
    pub(super) fn fresh(&self, key: &Key, now: Now) -> Option<Token> {
        self.live(key, now).filter(|token| token.successor_due_at(self.refresh) > now.wall)
    }

    /// A token that has not expired.
    pub(super) fn live(&self, key: &Key, now: Now) -> Option<Token> {
        let mut content = self.read();
        let mut entry = content.tokens.remove(key)?;
        let authorization = Zeroizing::new(std::mem::take(&mut entry.authorization));
        let token = Token::new(&authorization, entry.issued_at, entry.expires_at, None).ok()?;
        (token.is_live(now) && token.is_plausible(now)).then_some(token)
    }

    /// Acquires the lock for a fetch. Without it, the caller fetches a token that is not kept.
    pub(super) async fn lock(&self) -> Option<Lock> {
        let folder = self.path.parent().map_or(Ok(()), create_folder);
        let acquired = match folder {
            Ok(()) => Lock::acquire(&self.path, LOCK_TIMEOUT).await,
            Err(error) => Err(error),
        };
        match acquired {
            Ok(Some(lock)) => return Some(lock),
            Ok(None) => self.warn("another process holds its lock"),
            Err(error) => self.warn(&error.to_string()),
        }
        None
    }

    /// Keeps a token, if the lock is held.
    pub(super) fn keep(&self, _: &Lock, key: Key, endpoint: &Endpoint, token: &Token, now: Now) {
        let mut content = self.read();
        let entry = Entry {
            endpoint: endpoint.to_string(),
            authorization: token.credential().auth().to_string(),
            issued_at: token.issued_at(),
            expires_at: token.expires_at(),
        };
        content.tokens.insert(key, entry);
        content.tokens.retain(|_, entry| entry.expires_at > now.wall);
        while content.tokens.len() > MAX_ENTRIES {
            let first = content.tokens.iter().min_by_key(|(_, entry)| entry.expires_at);
            let first = first.map(|(key, _)| key.clone());
            first.and_then(|key| content.tokens.remove(&key));
        }
        self.write(content);
    }

    /// Removes the tokens of an endpoint.
    pub(super) fn erase(&self, _: &Lock, endpoint: &Endpoint) {
        let mut content = self.read();
        let before = content.tokens.len();
        let endpoint = endpoint.to_string();
        content.tokens.retain(|_, entry| entry.endpoint != endpoint);
        if content.tokens.len() < before {
            self.write(content);
        }
    }

    /// The content; empty if the file does not exist, or is not a file of this program that only its owner can read.
    fn read(&self) -> Content {
        match read_private(&self.path) {
            Ok(text) => serde_json::from_slice(&text)
                .ok()
                .filter(|content: &Content| content.version == VERSION)
                .unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Content::default(),
            Err(error) => {
                self.warn(&error.to_string());
                Content::default()
            }
        }
    }

    fn write(&self, content: Content) {
        let content = Content { version: VERSION, ..content };
        let text = Zeroizing::new(serde_json::to_vec(&content).expect("maps of strings serialize"));
        if let Err(error) = replace(&self.path, &text, None) {
            self.warn(&error.to_string());
        }
    }

    fn warn(&self, problem: &str) {
        if !self.warned.replace(true) {
            warn(&format!("the token cache {} is not used: {problem}", self.path.display()));
        }
    }
}

/// Reads a file that others can neither read nor write: they could have put a token of another registry there.
fn read_private(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & OTHERS != 0 {
        let problem = format!("its mode is {:04o}: it will be replaced by one with mode 0600", mode & 0o7777);
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
    }
    fs::read(path).map(Zeroizing::new)
}

/// Creates a folder that only its owner can access, unless it exists.
pub(super) fn create_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Replaces a file as a whole. A new one can only be accessed by its owner, unless `permissions` are given.
pub(super) fn replace(path: &Path, text: &[u8], permissions: Option<fs::Permissions>) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(text)?;
    if let Some(permissions) = permissions {
        file.as_file().set_permissions(permissions)?;
    }
    // A crash must not leave an empty file in the place of the old one.
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|error| error.error)
}
