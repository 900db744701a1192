//! Docker configurations: the Secret that is about to be written, which anyone may have edited, and the sources of static
//! entries, which other tools wrote.

use std::collections::BTreeMap;

use ecr_pull_secrets::simulation::core::secret::{DockerConfig, DraftEntry};
use serde_json::Value;

pub fn check(data: &[u8]) {
    check_own(data);
    check_foreign(data);
}

/// What is read of our own Secret is written as it was read, and kept as far as it is asked for.
fn check_own(data: &[u8]) {
    let read = DockerConfig::parse(data);
    let written = bytes(&read);
    let hosts: Vec<String> = serde_json::from_slice::<Value>(&written).expect("JSON")["auths"]
        .as_object()
        .expect("a map")
        .keys()
        .cloned()
        .collect();
    assert_eq!(read.is_empty(), hosts.is_empty());
    assert_eq!(format!("{read:?}"), shown(&hosts));
    assert_eq!(bytes(&DockerConfig::parse(&written)), written);
    let keep = hosts.into_iter().map(|host| DraftEntry::Keep { host }).collect();
    assert_eq!(bytes(&DockerConfig::from_draft(keep, read)), written);
}

/// A usable entry of another tool means the same after it was copied into a Secret of ours.
fn check_foreign(data: &[u8]) {
    let entries = DockerConfig::parse_foreign(data);
    let source: Value = serde_json::from_slice(data).unwrap_or_default();
    for (host, credential) in &entries {
        let given = &source["auths"][host];
        assert!(given["auth"].is_string() || given["username"].is_string(), "{host:?}");
        assert_eq!(format!("{credential:?}"), "RegistryCredential(<redacted>)");
    }
    let set = |(host, credential): (&String, _)| DraftEntry::Set { host: host.clone(), credential };
    let set = entries.iter().map(|(host, credential)| set((host, credential.clone()))).collect();
    let copied = bytes(&DockerConfig::from_draft(set, DockerConfig::default()));
    let read: BTreeMap<_, _> = DockerConfig::parse_foreign(&copied);
    assert!(read == entries, "copied entries of {:?} differ", entries.keys());
}

fn bytes(config: &DockerConfig) -> Vec<u8> {
    serde_json::to_vec(config).expect("maps of strings serialize")
}

/// What `Debug` shows of a configuration with these hosts.
fn shown(hosts: &[String]) -> String {
    let entry = |host: &String| format!("{host:?}: RegistryCredential(<redacted>)");
    format!("DockerConfig {{ auths: {{{}}} }}", hosts.iter().map(entry).collect::<Vec<_>>().join(", "))
}
