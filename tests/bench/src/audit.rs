//! What the API server did for one process, from its audit log.

use jiff::Timestamp;
use testing::control_plane::{AuditEntry, ControlPlane};
use testing::tenants::USER;

use crate::figures::Requests;

/// The part of the audit log since this was created or cleared.
#[derive(Default)]
pub struct Log {
    byte: u64,
    pub entries: Vec<AuditEntry>,
}

impl Log {
    /// Begins at the end of the log.
    pub fn begin(control_plane: &ControlPlane) -> Self {
        let mut log = Self::default();
        log.read(control_plane);
        log.entries.clear();
        log
    }

    pub fn read(&mut self, control_plane: &ControlPlane) {
        let (entries, byte) = control_plane.audit_from(self.byte);
        self.entries.extend(entries);
        self.byte = byte;
    }

    /// The successful writes of Secrets by the controller's user.
    pub fn writes(&self) -> impl Iterator<Item = &AuditEntry> {
        self.entries.iter().filter(|entry| is_write(entry))
    }

    pub fn span(&self) -> Span {
        Span::of(self.writes())
    }

    /// The requests of the process with this leader election identity; of all processes with an empty one.
    pub fn requests(&self, identity: &str) -> Requests {
        let mut requests = Requests::new();
        for entry in
            self.entries.iter().filter(|entry| entry.user == USER && entry.user_agent.contains(identity))
        {
            let resource = if entry.resource.is_empty() { &entry.uri } else { &entry.resource };
            *requests.entry(format!("{} {resource}", entry.verb)).or_default() += 1;
        }
        requests
    }
}

pub fn is_write(entry: &AuditEntry) -> bool {
    entry.user == USER && entry.verb == "patch" && entry.resource == "secrets" && entry.code < 300
}

/// Some requests: how many, when the first one arrived, and when the last one was complete.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    pub count: usize,
    pub first: Timestamp,
    pub last: Timestamp,
}

impl Span {
    fn of<'a>(entries: impl Iterator<Item = &'a AuditEntry>) -> Self {
        let mut span = Self { count: 0, first: Timestamp::MAX, last: Timestamp::MIN };
        for entry in entries {
            span.count += 1;
            span.first = span.first.min(entry.received);
            span.last = span.last.max(entry.stage_timestamp);
        }
        span
    }

    pub fn seconds(self) -> f64 {
        self.last.duration_since(self.first).as_secs_f64()
    }
}
