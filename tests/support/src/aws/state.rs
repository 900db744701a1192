//! What the stub knows: credentials, behaviours, and everything that happened.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};

use super::{Behaviour, Call, Minted, Operation, Stub};
use crate::random;

/// A key pair that requests may be signed with.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    pub(super) access_key: String,
    pub(super) secret_key: String,
    /// Temporary credentials have one, and requests must carry it.
    pub(super) session_token: Option<String>,
    pub(super) expires: Option<Timestamp>,
    pub(super) principal: Principal,
}

impl Credentials {
    /// The same key pair for the SDK's signer.
    pub(super) fn to_sdk(&self) -> aws_credential_types::Credentials {
        aws_credential_types::Credentials::new(
            &self.access_key,
            &self.secret_key,
            self.session_token.clone(),
            None,
            "stub",
        )
    }
}

/// Whom credentials stand for.
#[derive(Clone, Debug)]
pub(super) struct Principal {
    pub(super) arn: String,
    /// The role, if this is a session of one.
    pub(super) role: Option<String>,
    /// The policy that came with the session.
    pub(super) policy: Option<String>,
}

impl Principal {
    /// The one whose key pair is known from the start.
    pub(super) fn fixed() -> Self {
        Self { arn: Stub::PRINCIPAL.to_owned(), role: None, policy: None }
    }

    pub(super) fn account(&self) -> &str {
        self.arn.split(':').nth(4).unwrap_or_default()
    }
}

/// What a behaviour was set for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    Everything,
    Operation(Operation),
    /// `GetAuthorizationToken` of (private) ECR in one region.
    Region(String),
    /// Both operations that assume a role, for one role.
    Role(String),
}

#[derive(Debug)]
pub(super) struct State {
    credentials: HashMap<String, Credentials>,
    behaviours: HashMap<Scope, Behaviour>,
    /// The only one that is accepted, once there is one.
    web_identity: Option<String>,
    /// The passwords of the tokens of users and roles, by ARN.
    passwords: HashMap<String, String>,
    /// The audience and the subject that a role trusts, by the role's ARN.
    trusted: HashMap<String, (String, String)>,
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
            principal: Principal::fixed(),
        };
        Self {
            credentials: HashMap::from([(fixed.access_key.clone(), fixed)]),
            behaviours: HashMap::new(),
            web_identity: None,
            passwords: HashMap::new(),
            trusted: HashMap::new(),
            calls: Vec::new(),
            minted: Vec::new(),
            secrets: Vec::new(),
        }
    }

    pub(super) fn set(&mut self, scope: Scope, behaviour: Behaviour) {
        self.behaviours.insert(scope, behaviour);
    }

    pub(super) fn reset(&mut self) {
        self.behaviours.clear();
    }

    /// How to answer a request: the most specific of the behaviours that were set counts.
    pub(super) fn behaviour(
        &self,
        operation: Operation,
        region: Option<&str>,
        role: Option<&str>,
    ) -> Behaviour {
        let own = self.own_behaviour(operation, region, role);
        own.or_else(|| self.behaviours.get(&Scope::Everything)).cloned().unwrap_or_default()
    }

    /// The lifetime that was set for exactly this operation or role, if one was.
    pub(super) fn own_lifetime(&self, operation: Operation, role: &str) -> Option<Duration> {
        self.own_behaviour(operation, None, Some(role)).map(|behaviour| behaviour.lifetime)
    }

    fn own_behaviour(
        &self,
        operation: Operation,
        region: Option<&str>,
        role: Option<&str>,
    ) -> Option<&Behaviour> {
        let special = match operation {
            Operation::GetAuthorizationToken => region.map(|region| Scope::Region(region.to_owned())),
            operation if operation.assumes_role() => role.map(|role| Scope::Role(role.to_owned())),
            _ => None,
        };
        let special = special.and_then(|scope| self.behaviours.get(&scope));
        special.or_else(|| self.behaviours.get(&Scope::Operation(operation)))
    }

    /// From now on this web identity token is accepted and no other one.
    pub(super) fn accept_web_identity(&mut self, token: &str) {
        self.keep_secret(token);
        self.web_identity = Some(token.to_owned());
    }

    pub(super) fn accepts_web_identity(&self, token: &str) -> bool {
        self.web_identity.as_ref().is_none_or(|accepted| accepted == token)
    }

    pub(super) fn set_password_for(&mut self, arn: &str, password: &str) {
        self.passwords.insert(arn.to_owned(), password.to_owned());
    }

    /// The password that was set for a user, or for the role of a session.
    pub(super) fn password_for(&self, principal: &Principal) -> Option<String> {
        self.passwords.get(principal.role.as_ref().unwrap_or(&principal.arn)).cloned()
    }

    pub(super) fn trust(&mut self, role_arn: &str, audience: &str, subject: &str) {
        self.trusted.insert(role_arn.to_owned(), (audience.to_owned(), subject.to_owned()));
    }

    /// Whether a role trusts the subject of a web identity token; every one, unless something was set.
    pub(super) fn trusts(&self, role_arn: &str, token: &str) -> bool {
        let Some((audience, subject)) = self.trusted.get(role_arn) else { return true };
        let claims = || {
            let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
            serde_json::from_slice::<serde_json::Value>(&payload).ok()
        };
        claims().is_some_and(|claims| {
            let audiences = claims["aud"].as_array().into_iter().flatten();
            claims["sub"] == **subject && audiences.into_iter().any(|each| each == audience.as_str())
        })
    }

    /// Takes a text among the [`State::secrets`], but not the empty one, which every output contains.
    pub(super) fn keep_secret(&mut self, secret: &str) {
        if !secret.is_empty() {
            self.secrets.push(secret.to_owned());
        }
    }

    pub(super) fn credentials(&self, access_key: &str) -> Option<&Credentials> {
        self.credentials.get(access_key)
    }

    /// Makes temporary credentials for `principal`, with which requests may be signed until `expires`.
    pub(super) fn issue(&mut self, principal: Principal, expires: Timestamp) -> Credentials {
        let access_key = format!("ASIA{:X}", u64::from_be_bytes(random::bytes()));
        let session_token = format!("IQoJb3JpZ2lu{}", random::url_safe::<300>());
        let credentials = Credentials {
            access_key: access_key.clone(),
            secret_key: random::base64::<30>(),
            session_token: Some(session_token.clone()),
            expires: Some(expires),
            principal,
        };
        self.secrets.extend([credentials.secret_key.clone(), session_token]);
        self.credentials.insert(access_key, credentials.clone());
        credentials
    }

    /// From now on only the fixed key pair is accepted.
    pub(super) fn revoke_issued(&mut self) {
        self.credentials.retain(|access_key, _| access_key == Stub::ACCESS_KEY);
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
    format!("eyJwYXlsb2FkIjoi{}", random::url_safe::<1340>())
}

/// A time some way from another, or the last one there is.
pub(super) fn later(time: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| time.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}
