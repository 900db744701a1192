//! What the stub knows: credentials, behaviours, and everything that happened.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};

use super::{Behaviour, Call, Minted, Operation, Stub};

/// A key pair that requests may be signed with.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    pub(super) access_key: String,
    pub(super) secret_key: String,
    /// Temporary credentials have one, and requests must carry it.
    pub(super) session_token: Option<String>,
    pub(super) expires: Option<Timestamp>,
    /// The principal's ARN.
    pub(super) principal: String,
}

impl Credentials {
    /// The account of the principal.
    pub(super) fn account(&self) -> &str {
        self.principal.split(':').nth(4).unwrap_or_default()
    }
}

#[derive(Debug)]
pub(super) struct State {
    credentials: HashMap<String, Credentials>,
    /// The most specific one counts: operation and region, region, operation, everything.
    behaviours: HashMap<(Option<Operation>, Option<String>), Behaviour>,
    pub(super) calls: Vec<Call>,
    pub(super) minted: Vec<Minted>,
    secrets: Vec<String>,
}

impl State {
    pub(super) fn new() -> Self {
        let fixed = Credentials {
            access_key: Stub::ACCESS_KEY.to_owned(),
            secret_key: Stub::SECRET_KEY.to_owned(),
            session_token: None,
            expires: None,
            principal: format!("arn:aws:iam::{}:user/controller", Stub::ACCOUNT),
        };
        Self {
            credentials: HashMap::from([(fixed.access_key.clone(), fixed)]),
            behaviours: HashMap::new(),
            calls: Vec::new(),
            minted: Vec::new(),
            secrets: Vec::new(),
        }
    }

    pub(super) fn set(&mut self, operation: Option<Operation>, region: Option<&str>, behaviour: Behaviour) {
        self.behaviours.insert((operation, region.map(str::to_owned)), behaviour);
    }

    pub(super) fn reset(&mut self) {
        self.behaviours.clear();
    }

    pub(super) fn behaviour(&self, operation: Operation, region: Option<&str>) -> Behaviour {
        let region = region.map(str::to_owned);
        [(Some(operation), region), (Some(operation), None), (None, None)]
            .iter()
            .find_map(|key| self.behaviours.get(key))
            .cloned()
            .unwrap_or_default()
    }

    /// The lifetime that was set for exactly this operation, if one was.
    pub(super) fn own_lifetime(&self, operation: Operation) -> Option<Duration> {
        self.behaviours.get(&(Some(operation), None)).map(|behaviour| behaviour.lifetime)
    }

    pub(super) fn credentials(&self, access_key: &str) -> Option<&Credentials> {
        self.credentials.get(access_key)
    }

    /// Makes temporary credentials for `principal`, with which requests may be signed until `expires`.
    pub(super) fn issue(&mut self, principal: String, expires: Timestamp) -> Credentials {
        let access_key = format!("ASIA{:X}", u64::from_be_bytes(random()));
        let session_token = format!("IQoJb3JpZ2lu{}", URL_SAFE_NO_PAD.encode(random::<300>()));
        let credentials = Credentials {
            access_key: access_key.clone(),
            secret_key: STANDARD.encode(random::<30>()),
            session_token: Some(session_token.clone()),
            expires: Some(expires),
            principal,
        };
        self.secrets.extend([credentials.secret_key.clone(), session_token]);
        self.credentials.insert(access_key, credentials.clone());
        credentials
    }

    /// Makes a token, base64 of `AWS:password`.
    pub(super) fn mint(&mut self, password: Option<String>, record: impl FnOnce(String) -> Minted) -> String {
        let password = password.unwrap_or_else(new_password);
        let token = STANDARD.encode(format!("AWS:{password}"));
        self.secrets.extend([password.clone(), token.clone()]);
        self.minted.push(record(password));
        token
    }

    pub(super) fn secrets(&self) -> Vec<String> {
        let mut secrets = self.secrets.clone();
        secrets.push(Stub::SECRET_KEY.to_owned());
        secrets.sort_unstable();
        secrets.dedup();
        secrets
    }
}

/// As long as AWS's, and beginning as those do. It differs within the first 72 bytes, since bcrypt, and so a
/// registry with htpasswd, looks at no more.
fn new_password() -> String {
    format!("eyJwYXlsb2FkIjoi{}", URL_SAFE_NO_PAD.encode(random::<1340>()))
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    bytes
}

/// A time some way from another, or the last one there is.
pub(super) fn later(time: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| time.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}
