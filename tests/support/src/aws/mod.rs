//! An AWS for tests: ECR, ECR Public and STS on one loopback address.
//!
//! ```no_run
//! # async fn example() {
//! use testing::aws::{Behaviour, Fault, Stub};
//!
//! let aws = Stub::start().await;
//! // … start a program with `aws.env()` …
//! aws.set_for_region("us-east-1", Behaviour::failing(Fault::Throttle));
//! assert_eq!(aws.count("GetAuthorizationToken"), 1);
//! # }
//! ```
//!
//! Requests must be signed, with the fixed key pair or one that it issued, and every signature is checked.
//! Only a request whose signature (or web identity token) is right meets the [`Behaviour`] that was asked for.
//! What is asked for shows in the request itself: the stub answers under every host name.

mod behaviour;
mod form;
mod issue;
mod operations;
mod replies;
mod roles;
mod server;
mod signature;
mod state;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

pub use behaviour::{Behaviour, ExpiresAt, Fault, Operation};
pub use issue::IssuedCredentials;
pub(crate) use issue::Issuer;
use state::{Principal, Scope, State};

use crate::server::Server;

/// A request that was answered, or that was left without an answer on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// [`Operation::name`].
    pub operation: String,
    /// The region that the request was signed for; none if it was not signed.
    pub region: Option<String>,
    /// The access key that signed it, or claimed to.
    pub access_key: Option<String>,
    /// When it arrived, by our clock.
    pub at: Timestamp,
    /// What became of it.
    pub outcome: Outcome,
    /// The role to assume.
    pub role: Option<String>,
    /// The session policy for the role, as sent.
    pub policy: Option<String>,
    /// The external ID for the role.
    pub external_id: Option<String>,
    /// The name of the role's session.
    pub session_name: Option<String>,
    /// `DurationSeconds` for the role's session, as sent.
    pub duration: Option<u64>,
    /// Keys and values of the session's tags, in the order sent.
    pub tags: Vec<(String, String)>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The HTTP status of an answer: 200, or that of an error.
    Status(u16),
    /// A fault that is not an HTTP error status.
    Fault(Fault),
}

/// A token that was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minted {
    /// The password in it.
    pub password: String,
    /// The region whose endpoint made it.
    pub region: String,
    /// When it expires, as the reply said; none if the reply said nothing usable.
    pub expires_at: Option<Timestamp>,
    /// The access key that asked for it.
    pub access_key: String,
    /// The ARN of who asked for it: a user's, or that of a role's session.
    pub principal: String,
    /// The ARN of the role whose session asked for it; none if that was no session of a role.
    pub role: Option<String>,
    /// The policy of that session, as sent to STS; none if there was none.
    pub policy: Option<String>,
    /// Whether it is ECR Public's.
    pub public: bool,
}

/// The running service; gone, with every connection, when this is dropped.
#[derive(Debug)]
pub struct Stub {
    state: Arc<Mutex<State>>,
    server: Server,
}

impl Stub {
    /// The region in [`Stub::env`].
    pub const REGION: &'static str = "eu-central-1";
    /// The account of the fixed key pair, and so of the registries that its tokens name.
    pub const ACCOUNT: &'static str = "123456789012";
    /// The access key that is known from the start.
    pub const ACCESS_KEY: &'static str = "AKIAIOSFODNN7EXAMPLE";
    /// Its secret key.
    pub const SECRET_KEY: &'static str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

    /// The ARN of the principal that has it.
    pub const PRINCIPAL: &'static str = "arn:aws:iam::123456789012:user/controller";

    /// Starts it on a free loopback port.
    #[expect(clippy::unused_async, reason = "starts as everything else in this crate does")]
    pub async fn start() -> Self {
        Self::listen((Ipv4Addr::LOCALHOST, 0).into())
    }

    /// Starts it on this address, from any thread: it needs no runtime of the caller's.
    pub fn listen(address: SocketAddr) -> Self {
        let state = Arc::new(Mutex::new(State::new()));
        let server = server::start(address, Arc::clone(&state));
        Self { state, server }
    }

    /// Its URL, for `AWS_ENDPOINT_URL`.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The environment that makes an AWS SDK use it, with the fixed key pair, and nobody's own settings.
    pub fn env(&self) -> Vec<(String, String)> {
        sdk_env(&self.url(), Self::ACCESS_KEY, Self::SECRET_KEY)
    }

    /// Sets how every operation behaves from now on, but those that have a behaviour of their own.
    pub fn set(&self, behaviour: Behaviour) {
        self.state().set(Scope::Everything, behaviour);
    }

    /// Sets how one operation behaves from now on.
    pub fn set_for(&self, operation: Operation, behaviour: Behaviour) {
        self.state().set(Scope::Operation(operation), behaviour);
    }

    /// Sets how `GetAuthorizationToken` of (private) ECR behaves in one region from now on.
    pub fn set_for_region(&self, region: &str, behaviour: Behaviour) {
        self.state().set(Scope::Region(region.to_owned()), behaviour);
    }

    /// Sets how `AssumeRole` and `AssumeRoleWithWebIdentity` behave for one role from now on.
    pub fn set_for_role(&self, role_arn: &str, behaviour: Behaviour) {
        self.state().set(Scope::Role(role_arn.to_owned()), behaviour);
    }

    /// From now on accepts this web identity token only; without a call to this, it accepts every one.
    ///
    /// Others, those accepted before among them, are refused with `InvalidIdentityToken`.
    pub fn accept_web_identity(&self, token: &str) {
        self.state().accept_web_identity(token);
    }

    /// From now on the tokens of this user or role have this password, so that a registry can demand the token of one
    /// principal.
    pub fn set_password_for(&self, arn: &str, password: &str) {
        self.state().set_password_for(arn, password);
    }

    /// From now on `AssumeRoleWithWebIdentity` is denied for this role, except with tokens of this subject and audience.
    /// The signature of a token is not checked.
    pub fn trust(&self, role_arn: &str, audience: &str, subject: &str) {
        self.state().trust(role_arn, audience, subject);
    }

    /// Issues temporary credentials of the fixed key pair's principal, which are accepted for `lifetime`.
    ///
    /// After that ECR refuses them with `ExpiredTokenException`, and STS with `ExpiredToken`. Their expiry is by
    /// our clock, whatever [`Behaviour::date_skew`] says of the service's.
    pub fn issue(&self, lifetime: Duration) -> IssuedCredentials {
        self.issuer().issue(lifetime)
    }

    /// As [`Stub::issue`], for the principal with this ARN.
    pub fn issue_as(&self, arn: &str, lifetime: Duration) -> IssuedCredentials {
        let principal = Principal { arn: arn.to_owned(), role: None, policy: None };
        self.issuer().issue_as(principal, lifetime)
    }

    /// Issues a token of ECR in [`Stub::REGION`] without a request, as if another tool had fetched it.
    pub fn mint(&self, lifetime: Duration) -> Minted {
        let minted = |password| Minted {
            password,
            region: Self::REGION.to_owned(),
            expires_at: Some(state::later(Timestamp::now(), lifetime)),
            access_key: Self::ACCESS_KEY.to_owned(),
            principal: Principal::fixed().arn,
            role: None,
            policy: None,
            public: false,
        };
        let mut state = self.state();
        state.mint(None, minted);
        state.minted.last().expect("it was just issued").clone()
    }

    /// Refuses all credentials that were issued so far, as if they had been deleted.
    pub fn revoke_issued(&self) {
        self.state().revoke_issued();
    }

    /// Forgets every behaviour that was set; calls and tokens stay.
    pub fn reset(&self) {
        self.state().reset();
    }

    /// Every request so far, in the order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// Every request so far that a token needs: all but those that ask who the caller is.
    pub fn calls_for_tokens(&self) -> Vec<Call> {
        let asks = |call: &Call| call.operation != Operation::GetCallerIdentity.name();
        self.calls().into_iter().filter(asks).collect()
    }

    /// How many requests for the operation of this name ([`Operation::name`]) have arrived.
    pub fn count(&self, operation: &str) -> usize {
        self.state().calls.iter().filter(|call| call.operation == operation).count()
    }

    /// Every token so far, in the order of issue.
    pub fn minted(&self) -> Vec<Minted> {
        self.state().minted.clone()
    }

    /// Everything that must show up in no output: each password, base64 token, secret key and session token
    /// that was issued, the fixed secret key, each web identity token that was accepted or arrived, and each
    /// token of [`crate::credentials`].
    pub fn secrets(&self) -> Vec<String> {
        self.state().secrets()
    }

    /// For the servers that bring its credentials to a program.
    pub(crate) fn issuer(&self) -> Issuer {
        Issuer(Arc::clone(&self.state))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The environment that points an AWS SDK at `url`, with this key pair.
pub(crate) fn sdk_env(url: &str, access_key: &str, secret_key: &str) -> Vec<(String, String)> {
    environment(&[
        ("AWS_ENDPOINT_URL", url),
        ("AWS_ACCESS_KEY_ID", access_key),
        ("AWS_SECRET_ACCESS_KEY", secret_key),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ])
}

/// These variables, and those that give an AWS SDK a region and keep it from files in `HOME`.
pub(crate) fn environment(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    let common = [
        ("AWS_REGION", Stub::REGION),
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
    ];
    let all = variables.iter().chain(&common);
    all.map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}
