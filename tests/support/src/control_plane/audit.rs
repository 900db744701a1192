//! The API server's audit log: who asked for what, and what was answered.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;

/// One answered request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// The user, for a service account `system:serviceaccount:NAMESPACE:NAME`.
    pub user: String,
    /// The client's `User-Agent`.
    pub user_agent: String,
    /// The verb as RBAC knows it: `get`, `list`, `watch`, `create`, `patch`, …
    pub verb: String,
    /// The resource, for example `secrets`; empty for paths that are none.
    pub resource: String,
    /// The subresource, for example `token`.
    pub subresource: Option<String>,
    /// The object's namespace.
    pub namespace: Option<String>,
    /// The object's name. Lists and watches have it too when a field selector names one object.
    pub name: Option<String>,
    /// Path and query, which tell selectors, field manager and force.
    pub uri: String,
    /// The HTTP status of the answer.
    pub code: u16,
    /// Which `ValidatingAdmissionPolicy` failed and how, if its binding has the action `Audit`.
    pub validation_failure: Option<String>,
    /// When the request arrived.
    pub received: Timestamp,
    /// When the answer was complete.
    pub stage_timestamp: Timestamp,
}

/// Who got these requests done, in the order of the answers, and how many in a row: by `User-Agent`, which differs
/// between two processes of the controller.
fn in_turns(mut requests: Vec<AuditEntry>) -> Vec<(String, usize)> {
    requests.retain(|entry| entry.code < 300);
    requests.sort_by_key(|entry| entry.stage_timestamp);
    let mut turns: Vec<(String, usize)> = vec![];
    for request in requests {
        match turns.last_mut() {
            Some((agent, count)) if *agent == request.user_agent => *count += 1,
            _ => turns.push((request.user_agent, 1)),
        }
    }
    turns
}

/// Asserts that nobody got one done again once another one had, and returns how many there were.
pub fn assert_one_at_a_time(requests: Vec<AuditEntry>) -> usize {
    let turns = in_turns(requests);
    let mut agents: Vec<_> = turns.iter().map(|(agent, _)| agent.as_str()).collect();
    agents.sort_unstable();
    agents.dedup();
    assert_eq!(agents.len(), turns.len(), "two wrote in turns: {turns:?}");
    turns.len()
}

/// Reads the log from this byte on; a line that is still being written is left out. Returns where to go on.
pub(super) fn read(path: &Path, from: u64) -> (Vec<AuditEntry>, u64) {
    let mut bytes = vec![];
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(from))?;
        file.read_to_end(&mut bytes)
    });
    // The API server creates the file with its first entry.
    drop(read);
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let text = String::from_utf8_lossy(&bytes[..end]);
    (text.lines().filter_map(entry).collect(), from + end as u64)
}

fn entry(line: &str) -> Option<AuditEntry> {
    let event: Value =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in audit line {line}"));
    if event["stage"] != "ResponseComplete" {
        return None;
    }
    let optional = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let text = |pointer: &str| optional(pointer).unwrap_or_default();
    let code = event.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or_default();
    Some(AuditEntry {
        user: text("/user/username"),
        user_agent: text("/userAgent"),
        verb: text("/verb"),
        resource: text("/objectRef/resource"),
        subresource: optional("/objectRef/subresource"),
        namespace: optional("/objectRef/namespace"),
        name: optional("/objectRef/name"),
        uri: text("/requestURI"),
        code: u16::try_from(code).expect("an HTTP status"),
        // The slash is part of the key.
        validation_failure: optional("/annotations/validation.policy.admission.k8s.io~1validation_failure"),
        received: text("/requestReceivedTimestamp").parse().expect("audit events have a time"),
        stage_timestamp: text("/stageTimestamp").parse().expect("audit events have a time"),
    })
}
