//! Credentials → the content of a Secret of type `kubernetes.io/dockerconfigjson`, and back.
//!
//! The form is Docker's `config.json`, as the kubelet reads it
//! (<https://kubernetes.io/docs/concepts/configuration/secret/#docker-config-secrets>): one entry for each
//! registry under `auths`, keyed by the bare host.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::{Zeroize, Zeroizing};

use super::facts::Times;
use super::registry::Registry;
use super::request::{Accepted, Applied};
use super::settings::Settings;
use super::token::Token;
use super::{LABEL_INSTANCE, LABEL_MANAGED_BY, MANAGER, PREFIX, SECRET_KEY, SECRET_TYPE};

/// One entry of the Secret.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Credential {
    username: String,
    password: String,
    auth: String,
}

impl Credential {
    /// The entry that holds `token`.
    pub fn of(token: &Token) -> Self {
        Self {
            username: token.username().to_owned(),
            password: token.password().to_string(),
            auth: token.authorization().to_owned(),
        }
    }
}

impl Credential {
    /// An entry as somebody else wrote it: with user name and password, with both in `auth`, or all three.
    fn foreign(entry: &Value) -> Option<Self> {
        let text = |key: &str| entry[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        if let Some(auth) = text("auth") {
            let token = Token::new(auth, Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH, None).ok()?;
            return Some(Self::of(&token));
        }
        let (username, password) = (text("username")?, text("password")?);
        let auth = STANDARD.encode(format!("{username}:{password}"));
        Some(Self { username, password, auth })
    }
}

impl Drop for Credential {
    fn drop(&mut self) {
        self.password.zeroize();
        self.auth.zeroize();
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(<redacted>)")
    }
}

/// The entries of a Secret by host.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct DockerConfig {
    auths: BTreeMap<String, Credential>,
}

impl DockerConfig {
    /// Adds or replaces the entry of `host`.
    pub fn insert(&mut self, host: String, credential: Credential) {
        self.auths.insert(host, credential);
    }

    /// Takes the entry of `host` out.
    pub fn take(&mut self, host: &str) -> Option<Credential> {
        self.auths.remove(host)
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.auths.is_empty()
    }

    /// The registries that have an entry, as far as they are registries.
    pub fn registries(&self) -> impl Iterator<Item = Registry> {
        self.auths.keys().filter_map(|host| host.parse().ok())
    }

    /// Reads the value of [`SECRET_KEY`]; what is not of that form has no entries.
    pub fn parse(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    /// Reads what somebody else wrote as the value of [`SECRET_KEY`]: the entries that can be used, by their keys.
    pub fn foreign(bytes: &[u8]) -> BTreeMap<String, Credential> {
        let read: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let entries = read["auths"].as_object().into_iter().flatten();
        entries.filter_map(|(host, entry)| Some((host.clone(), Credential::foreign(entry)?))).collect()
    }

    fn encode(&self) -> Zeroizing<String> {
        let json = Zeroizing::new(serde_json::to_vec(self).expect("maps of strings serialise"));
        Zeroizing::new(STANDARD.encode(&*json))
    }
}

/// The body of a server-side apply, which `Debug` does not show.
#[derive(Serialize)]
#[serde(transparent)]
pub struct Manifest(Value);

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Manifest(<redacted>)")
    }
}

impl Drop for Manifest {
    fn drop(&mut self) {
        if let Some(Value::String(data)) = self.0.pointer_mut("/data/.dockerconfigjson") {
            data.zeroize();
        }
    }
}

/// Every field that is applied, and no other: what the controller owns of the Secret. With `uid` the apply
/// only ever changes that very object.
pub fn manifest(
    accepted: &Accepted,
    config: &DockerConfig,
    times: Times,
    uid: Option<&str>,
    settings: &Settings,
) -> Manifest {
    let mut body = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": SECRET_TYPE,
        "metadata": {
            "name": accepted.request.secret_name,
            "labels": { LABEL_MANAGED_BY: MANAGER, LABEL_INSTANCE: settings.instance },
            "annotations": {
                format!("{PREFIX}{EXPIRES_AT}"): times.expires_at.to_string(),
                format!("{PREFIX}{REFRESH_AFTER}"): times.refresh_after.to_string(),
                format!("{PREFIX}{APPLIED}"): Applied::canonical(&settings.instance, accepted),
            },
        },
        "data": { SECRET_KEY: config.encode().to_string() },
    });
    if let Some(uid) = uid {
        body["metadata"]["uid"] = uid.into();
    }
    Manifest(body)
}

/// Annotation, without the prefix: when the earliest live entry expires.
pub const EXPIRES_AT: &str = "expires-at";
/// Annotation, without the prefix: when the Secret is due for a rewrite.
pub const REFRESH_AFTER: &str = "refresh-after";
/// Annotation, without the prefix: the applied request.
pub const APPLIED: &str = "applied";

/// The host that an entry for the identity's own registry is keyed by: the one that the token names, if it
/// is a registry of ECR.
pub fn own_host(token: &Token) -> Option<Registry> {
    let endpoint = token.proxy_endpoint()?;
    endpoint.strip_prefix("https://").unwrap_or(endpoint).trim_end_matches('/').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> DockerConfig {
        let token = Token::new(STANDARD.encode("AWS:hunter2"), Timestamp::UNIX_EPOCH, Timestamp::MAX, None);
        let mut config = DockerConfig::default();
        config.insert("public.ecr.aws".into(), Credential::of(&token.expect("a token")));
        config
    }

    #[test]
    fn entries_have_the_three_fields_under_the_bare_host() {
        let decoded = STANDARD.decode(config().encode().as_str()).expect("base64");
        let value: Value = serde_json::from_slice(&decoded).expect("JSON");
        let auth = STANDARD.encode("AWS:hunter2");
        let entry = json!({"username": "AWS", "password": "hunter2", "auth": auth});
        assert_eq!(value, json!({"auths": {"public.ecr.aws": entry}}));
        assert!(DockerConfig::parse(&decoded).take("public.ecr.aws").is_some());
    }

    #[test]
    fn entries_of_others_are_read_in_either_form() {
        let auth = STANDARD.encode("me:hunter2");
        let theirs = json!({"auths": {
            "a": {"auth": auth}, "b": {"username": "me", "password": "hunter2"}, "c": {"identitytoken": "x"}, "d": 1
        }});
        let entries = DockerConfig::foreign(theirs.to_string().as_bytes());
        assert_eq!(entries.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert!(entries["a"] == entries["b"]);
        assert!(DockerConfig::foreign(b"\xff").is_empty());
    }

    #[test]
    fn garbage_has_no_entries() {
        for garbage in [&b""[..], b"null", b"[]", b"{\"auths\":{\"a\":1}}", b"\xff"] {
            assert!(DockerConfig::parse(garbage).is_empty());
        }
    }

    #[test]
    fn nothing_of_it_can_be_printed() {
        assert!(!format!("{:?}", config()).contains("hunter2"));
    }
}
