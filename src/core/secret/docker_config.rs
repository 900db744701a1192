//! The Docker configuration in a Secret of type `kubernetes.io/dockerconfigjson`, as the kubelet reads it
//! (<https://kubernetes.io/docs/concepts/configuration/secret/#docker-config-secrets>): one entry for each registry under
//! `auths`, keyed by the bare host.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::credential::RegistryCredential;
use super::template::SecretTemplate;
use crate::core::request::{AppliedState, Times};
use crate::core::{LABEL_INSTANCE, LABEL_MANAGED_BY, MANAGER, ObjectVersion, SECRET_KEY, SECRET_TYPE};

/// A resource version that no object has, because the first one of a cluster belongs to no object. The API server refuses
/// an apply with it if the object exists, with any owner, and otherwise ignores it (*measured* on 1.30, 1.36 and 1.37;
/// `tests/sim/conformance` repeats it).
pub const NO_OBJECTS_VERSION: &str = "1";

/// Replaces the data of a Secret that is shown. It is not base64.
const HIDDEN: &str = "<hidden: use --reveal>";

/// One entry of a Secret that is to be written.
#[derive(Clone, Debug)]
pub enum DraftEntry {
    Set {
        host: String,
        credential: RegistryCredential,
    },
    /// The current entry of this host.
    Keep {
        host: String,
    },
}

/// The entries of a Secret by host.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct DockerConfig {
    auths: BTreeMap<String, RegistryCredential>,
}

impl DockerConfig {
    /// The configuration of `draft`, where `current` is the configuration of the current Secret.
    pub fn from_draft(draft: Vec<DraftEntry>, mut current: Self) -> Self {
        let (mut auths, mut set) = (BTreeMap::new(), BTreeMap::new());
        for entry in draft {
            match entry {
                DraftEntry::Set { host, credential } => set.extend([(host, credential)]),
                DraftEntry::Keep { host } => auths.extend(current.auths.remove_entry(&host)),
            }
        }
        auths.extend(set);
        Self { auths }
    }

    pub fn is_empty(&self) -> bool {
        self.auths.is_empty()
    }

    /// Parses the value of [`SECRET_KEY`]; a malformed value has no entries.
    pub fn parse(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    /// Parses the value of [`SECRET_KEY`] of another tool: the usable entries by host.
    pub fn parse_foreign(bytes: &[u8]) -> BTreeMap<String, RegistryCredential> {
        let read: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let entries = read["auths"].as_object().into_iter().flatten();
        entries
            .filter_map(|(host, entry)| Some((host.clone(), RegistryCredential::parse_foreign(entry)?)))
            .collect()
    }

    /// The keys of `auths` in the value of [`SECRET_KEY`] of another tool. Their credentials are not read.
    pub fn foreign_keys(bytes: &[u8]) -> Vec<String> {
        #[derive(Default, Deserialize)]
        struct Keys {
            #[serde(default)]
            #[expect(clippy::zero_sized_map_values, reason = "a set cannot be deserialized from a map")]
            auths: BTreeMap<String, IgnoredAny>,
        }
        let read: Keys = serde_json::from_slice(bytes).unwrap_or_default();
        read.auths.into_keys().collect()
    }

    fn encode(&self) -> String {
        let json = Zeroizing::new(serde_json::to_vec(self).expect("maps of strings serialize"));
        STANDARD.encode(&*json)
    }
}

/// The body of a server-side apply. It cannot be printed.
#[derive(Serialize)]
#[serde(transparent)]
pub struct Manifest(Value);

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Manifest(<redacted>)")
    }
}

impl Manifest {
    /// Contains every field that the controller owns. With `base`, the apply changes only that version of that object; a
    /// version without a UID would create an object that was deleted. Without `base`, it only creates.
    pub fn new(
        instance: &str,
        template: &SecretTemplate,
        applied: &AppliedState,
        times: Times,
        config: &DockerConfig,
        base: Option<&ObjectVersion>,
    ) -> Self {
        let own = [(LABEL_MANAGED_BY, MANAGER), (LABEL_INSTANCE, instance)];
        let own = own.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let labels: BTreeMap<_, _> = template.labels().clone().into_iter().chain(own).collect();
        let annotations = template.annotations().clone().into_iter();
        let annotations: BTreeMap<_, _> =
            annotations.chain(applied.to_annotations(instance, times)).collect();
        let mut body = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "type": SECRET_TYPE,
            "metadata": {
                "name": applied.request.secret_name,
                "labels": labels,
                "annotations": annotations,
            },
            "data": { SECRET_KEY: config.encode() },
        });
        let version = match base {
            Some(ObjectVersion { uid, resource_version }) => {
                body["metadata"]["uid"] = uid.to_string().into();
                resource_version.to_string()
            }
            None => NO_OBJECTS_VERSION.to_owned(),
        };
        body["metadata"]["resourceVersion"] = version.into();
        Self(body)
    }

    /// The Secret for a user who applies it: without the version that the controller's apply depends on. It contains tokens.
    pub fn reveal(mut self) -> Value {
        for key in ["uid", "resourceVersion"] {
            self.0["metadata"].as_object_mut().and_then(|metadata| metadata.remove(key));
        }
        self.0
    }

    /// As [`Manifest::reveal`], with a text in place of the data, which no API server accepts.
    pub fn redact(self) -> Value {
        let mut object = self.reveal();
        object["data"][SECRET_KEY] = HIDDEN.into();
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::{self, HOST};

    const OTHER: &str = "999999999999.dkr.ecr.eu-central-1.amazonaws.com";

    fn config(hosts: &[&str]) -> DockerConfig {
        let credential = RegistryCredential::parse(&STANDARD.encode("AWS:hunter2")).expect("a token");
        let set = |host: &&str| DraftEntry::Set { host: (*host).into(), credential: credential.clone() };
        DockerConfig::from_draft(hosts.iter().map(set).collect(), DockerConfig::default())
    }

    fn hosts(config: &DockerConfig) -> Vec<&str> {
        config.auths.keys().map(String::as_str).collect()
    }

    #[test]
    fn entries_have_the_three_fields_under_the_bare_host() {
        let decoded = STANDARD.decode(config(&["public.ecr.aws"]).encode()).expect("base64");
        let value: Value = serde_json::from_slice(&decoded).expect("JSON");
        let auth = STANDARD.encode("AWS:hunter2");
        let entry = json!({"username": "AWS", "password": "hunter2", "auth": auth});
        assert_eq!(value, json!({"auths": {"public.ecr.aws": entry}}));
        assert_eq!(hosts(&DockerConfig::parse(&decoded)), ["public.ecr.aws"]);
    }

    #[test]
    fn a_manifest_has_the_keys_of_the_template_and_of_the_controller() {
        let map = |key: &str| BTreeMap::from([(key.to_owned(), "x".to_owned())]);
        let template = SecretTemplate::new(map("team"), map("note"));
        let applied = testing::applied(&testing::request(&[HOST]), &[1]);
        let times = Times { expires_at: testing::wall(1), refresh_after: testing::wall(0) };
        let Manifest(body) = Manifest::new("one", &template, &applied, times, &config(&[HOST]), None);
        let labels = json!({"team": "x", LABEL_MANAGED_BY: MANAGER, LABEL_INSTANCE: "one"});
        assert_eq!(body["metadata"]["labels"], labels);
        let annotations = body["metadata"]["annotations"].as_object().expect("annotations");
        assert_eq!((annotations.len(), &annotations["note"]), (4, &json!("x")));
    }

    #[test]
    fn an_entry_that_is_not_named_is_not_kept() {
        let current = config(&[HOST, OTHER, "docker.io"]);
        let kept = DockerConfig::from_draft(vec![DraftEntry::Keep { host: OTHER.to_owned() }], current);
        assert_eq!(hosts(&kept), [OTHER]);
    }

    #[test]
    fn an_entry_that_is_set_wins_over_one_that_is_kept() {
        let mut current = config(&[HOST]);
        let old = RegistryCredential::parse(&STANDARD.encode("AWS:old")).expect("a token");
        current.auths.insert(HOST.to_owned(), old.clone());
        let mut draft = vec![DraftEntry::Keep { host: HOST.to_owned() }];
        draft.extend(
            config(&[HOST]).auths.into_iter().map(|(host, credential)| DraftEntry::Set { host, credential }),
        );
        assert!(DockerConfig::from_draft(draft, current).auths[HOST] != old);
    }

    #[test]
    fn entries_of_other_tools_are_parsed_in_either_form() {
        let auth = STANDARD.encode("me:hunter2");
        let theirs = json!({"auths": {
            "a": {"auth": auth}, "b": {"username": "me", "password": "hunter2"}, "c": {"identitytoken": "x"}, "d": 1
        }});
        let entries = DockerConfig::parse_foreign(theirs.to_string().as_bytes());
        assert_eq!(entries.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert!(entries["a"] == entries["b"]);
        assert!(DockerConfig::parse_foreign(b"\xff").is_empty());
        assert_eq!(DockerConfig::foreign_keys(theirs.to_string().as_bytes()), ["a", "b", "c", "d"]);
        assert!(
            DockerConfig::foreign_keys(b"\xff").is_empty() && DockerConfig::foreign_keys(b"{}").is_empty()
        );
    }

    #[test]
    fn an_entry_of_another_tool_means_the_same_after_it_was_copied() {
        let parse = |user: &str, password: &str| {
            let theirs = json!({"auths": {"a": {"username": user, "password": password}}});
            DockerConfig::parse_foreign(theirs.to_string().as_bytes()).remove("a")
        };
        // In the header both are one text, whose first colon ends the user name.
        assert!(parse("me:too", "hunter2") == parse("me", "too:hunter2"));
        assert!(parse("me:too", "hunter2").is_some());
        assert!(parse("me", "hunter\n2").is_none(), "no header can carry it");
    }

    #[test]
    fn garbage_has_no_entries() {
        for garbage in [&b""[..], b"null", b"[]", b"{\"auths\":{\"a\":1}}", b"\xff"] {
            assert!(DockerConfig::parse(garbage).is_empty());
        }
    }

    #[test]
    fn a_credential_cannot_be_printed() {
        assert!(!format!("{:?}", config(&[HOST])).contains("hunter2"));
    }
}
