//! Credentials that come from no request, as those that AWS brings to a machine or a pod.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::state::{Principal, State, later};

/// Temporary credentials with which requests may be signed until they expire.
#[derive(Clone, PartialEq, Eq)]
pub struct IssuedCredentials {
    /// The access key.
    pub access_key: String,
    /// Its secret key.
    pub secret_key: String,
    /// What requests must carry beside the signature.
    pub session_token: String,
    /// When the stub begins to refuse them.
    pub expires: Timestamp,
}

/// Shows nothing secret: tests print what they compare.
impl fmt::Debug for IssuedCredentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("IssuedCredentials")
            .field("access_key", &self.access_key)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl IssuedCredentials {
    /// The expiry as AWS writes it in JSON and XML, in whole seconds.
    pub(crate) fn expiration(&self) -> String {
        self.expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}

/// A hand in a stub's state for the servers that bring its credentials to a program.
#[derive(Clone, Debug)]
pub(crate) struct Issuer(pub(super) Arc<Mutex<State>>);

impl Issuer {
    /// See [`super::Stub::issue`].
    pub(crate) fn issue(&self, lifetime: Duration) -> IssuedCredentials {
        self.issue_as(Principal::fixed(), lifetime)
    }

    pub(super) fn issue_as(&self, principal: Principal, lifetime: Duration) -> IssuedCredentials {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let expires = later(Timestamp::now(), lifetime);
        let issued = state.issue(principal, expires);
        IssuedCredentials {
            access_key: issued.access_key,
            secret_key: issued.secret_key,
            session_token: issued.session_token.expect("temporary credentials have a session token"),
            expires,
        }
    }

    /// Takes a text among [`super::Stub::secrets`].
    pub(crate) fn keep_secret(&self, secret: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keep_secret(secret);
    }
}
