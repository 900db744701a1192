//! The credential of one registry.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use zeroize::{Zeroize as _, Zeroizing};

use crate::core::planted::{Bug, planted};

/// The string is not a token. The error does not contain the string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the authorization token is not base64 of USER:PASSWORD")]
pub struct MalformedToken;

/// The credential of one registry. It cannot be printed. Clones share the text, and the last one overwrites it.
#[derive(Clone, PartialEq)]
pub struct RegistryCredential(Arc<Parts>);

#[derive(PartialEq)]
struct Parts {
    username: Box<str>,
    password: Password,
}

/// The password. A token for each namespace is most of the memory, and the password of ECR is base64.
#[derive(PartialEq)]
enum Password {
    /// Base64 of these bytes, in canonical form.
    Base64(Box<[u8]>),
    Text(Box<str>),
}

impl Password {
    fn new(text: &str) -> Self {
        // The engine accepts only the canonical form, so encoding returns the same text.
        STANDARD.decode(text).map_or_else(|_| Self::Text(text.into()), |bytes| Self::Base64(bytes.into()))
    }

    fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(match self {
            Self::Base64(bytes) => STANDARD.encode(bytes),
            Self::Text(text) => text.to_string(),
        })
    }
}

impl Drop for Password {
    fn drop(&mut self) {
        match self {
            Self::Base64(bytes) => bytes.zeroize(),
            Self::Text(text) => text.zeroize(),
        }
    }
}

/// An entry under `auths`, as it is read.
#[derive(Deserialize)]
struct Entry {
    username: String,
    password: String,
    auth: String,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.password.zeroize();
        self.auth.zeroize();
    }
}

impl RegistryCredential {
    /// Parses the value of `auth`, which has the form of ECR's `authorizationToken`.
    pub fn parse(auth: &str) -> Result<Self, MalformedToken> {
        let decoded = Zeroizing::new(STANDARD.decode(auth).map_err(|_| MalformedToken)?);
        let text = std::str::from_utf8(&decoded).map_err(|_| MalformedToken)?;
        let (username, password) = text.split_once(':').ok_or(MalformedToken)?;
        if username.is_empty() || password.is_empty() || text.contains(char::is_control) {
            return Err(MalformedToken);
        }
        Ok(Self(Arc::new(Parts { username: username.into(), password: Password::new(password) })))
    }

    /// Parses an entry of another tool, which has user name and password, or both in `auth`.
    pub fn parse_foreign(entry: &Value) -> Option<Self> {
        let text = |key: &str| entry[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        if let Some(auth) = text("auth") {
            return Self::parse(&auth).ok();
        }
        let (username, password) = (text("username")?, Zeroizing::new(text("password")?));
        // Parsed like `auth`, so that the three fields of the copy never contradict each other.
        let joined = Zeroizing::new(format!("{username}:{}", *password));
        Self::parse(&STANDARD.encode(&*joined)).ok()
    }

    /// The user name, which is `AWS` for ECR.
    pub fn username(&self) -> &str {
        &self.0.username
    }

    /// The password. Only the commands whose output is a credential print it.
    pub fn password(&self) -> Zeroizing<String> {
        self.0.password.text()
    }

    /// The value of `auth`: base64 of `USER:PASSWORD`.
    pub fn auth(&self) -> Zeroizing<String> {
        self.texts().1
    }

    /// The value of the header `Authorization`, with this scheme.
    pub fn authorization(&self, scheme: &str) -> Zeroizing<String> {
        Zeroizing::new(format!("{scheme} {}", *self.auth()))
    }

    /// The password, and the value of `auth`.
    fn texts(&self) -> (Zeroizing<String>, Zeroizing<String>) {
        let password = self.0.password.text();
        let joined = Zeroizing::new(format!("{}:{}", self.0.username, *password));
        (password, Zeroizing::new(STANDARD.encode(&*joined)))
    }
}

impl Serialize for RegistryCredential {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (password, auth) = self.texts();
        let mut entry = serializer.serialize_struct("RegistryCredential", 3)?;
        entry.serialize_field("username", &self.0.username)?;
        entry.serialize_field("password", &*password)?;
        entry.serialize_field("auth", &*auth)?;
        entry.end()
    }
}

impl<'de> Deserialize<'de> for RegistryCredential {
    /// The three fields of an entry that we wrote never contradict each other.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = Entry::deserialize(deserializer)?;
        let credential = Self::parse(&read.auth).map_err(D::Error::custom)?;
        let is_same =
            *credential.0.username == *read.username && *credential.0.password.text() == read.password;
        if is_same { Ok(credential) } else { Err(D::Error::custom(MalformedToken)) }
    }
}

impl fmt::Debug for RegistryCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown =
            if planted(Bug::ShowCredentials) { self.texts().1.to_string() } else { "<redacted>".to_owned() };
        write!(f, "RegistryCredential({shown})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(text: &str) -> RegistryCredential {
        RegistryCredential::parse(&STANDARD.encode(text)).expect("a credential")
    }

    #[test]
    fn every_password_is_written_as_it_was_read() {
        for password in ["hunter2", "eyJwYXlsb2FkIjoi", "QQ==", "QQ=", "QQ", "QR==", "a:b", "=", "ü"] {
            let credential = credential(&format!("AWS:{password}"));
            let written = serde_json::to_value(&credential).expect("strings");
            assert_eq!(written["password"], password);
            assert_eq!(written["auth"], STANDARD.encode(format!("AWS:{password}")));
            assert!(serde_json::from_value::<RegistryCredential>(written).expect("an entry") == credential);
        }
    }

    #[test]
    fn a_password_in_base64_is_stored_as_its_bytes() {
        let Password::Base64(bytes) = &credential("AWS:eyJwYXlsb2FkIjoi").0.password else {
            panic!("it is text")
        };
        assert_eq!(&**bytes, b"{\"payload\":\"");
    }

    #[test]
    fn an_entry_whose_fields_contradict_each_other_is_not_read() {
        let mut entry = serde_json::to_value(credential("AWS:hunter2")).expect("strings");
        entry["password"] = "hunter3".into();
        let error = serde_json::from_value::<RegistryCredential>(entry).expect_err("it is refused");
        assert!(!error.to_string().contains("hunter"), "{error}");
    }
}
