//! The credential of one registry.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::{Zeroize, Zeroizing};

use crate::core::planted::{Bug, planted};

/// The string is not a token. The error does not contain the string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the authorization token is not base64 of USER:PASSWORD")]
pub struct MalformedToken;

/// The credential of one registry. It cannot be printed.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct RegistryCredential {
    pub(super) username: String,
    password: String,
    auth: String,
}

impl RegistryCredential {
    /// Parses the value of `auth`, which has the form of ECR's `authorizationToken`.
    pub fn parse(auth: String) -> Result<Self, MalformedToken> {
        let mut credential = Self { username: String::new(), password: String::new(), auth };
        let decoded = Zeroizing::new(STANDARD.decode(&credential.auth).map_err(|_| MalformedToken)?);
        let text = std::str::from_utf8(&decoded).map_err(|_| MalformedToken)?;
        let (username, password) = text.split_once(':').ok_or(MalformedToken)?;
        if username.is_empty() || password.is_empty() || text.contains(char::is_control) {
            return Err(MalformedToken);
        }
        (credential.username, credential.password) = (username.to_owned(), password.to_owned());
        Ok(credential)
    }

    /// The user name, which is `AWS` for ECR.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// The password. Only the commands whose output is a credential print it.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The value of `auth`: base64 of `USER:PASSWORD`.
    pub fn auth(&self) -> &str {
        &self.auth
    }

    /// The value of the header `Authorization`, with this scheme.
    pub fn authorization(&self, scheme: &str) -> Zeroizing<String> {
        Zeroizing::new(format!("{scheme} {}", self.auth))
    }

    /// Parses an entry of another tool, which has user name and password, or both in `auth`.
    pub fn parse_foreign(entry: &Value) -> Option<Self> {
        let text = |key: &str| entry[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        if let Some(auth) = text("auth") {
            return Self::parse(auth).ok();
        }
        let (username, password) = (text("username")?, Zeroizing::new(text("password")?));
        // Parsed like `auth`, so that the three fields of the copy never contradict each other.
        let joined = Zeroizing::new(format!("{username}:{}", *password));
        Self::parse(STANDARD.encode(&*joined)).ok()
    }
}

impl Drop for RegistryCredential {
    fn drop(&mut self) {
        self.password.zeroize();
        self.auth.zeroize();
    }
}

impl fmt::Debug for RegistryCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = if planted(Bug::ShowCredentials) { &*self.auth } else { "<redacted>" };
        write!(f, "RegistryCredential({shown})")
    }
}
