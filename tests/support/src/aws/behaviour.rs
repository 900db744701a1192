//! How the stub answers, changeable while it runs.

use std::str::FromStr;
use std::time::Duration;

/// What the stub does with a request whose signature is right.
///
/// ```
/// # use testing::aws::{Behaviour, Fault};
/// let throttled = Behaviour { fault: Some(Fault::Throttle), ..Behaviour::default() };
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// How long what is issued lives; default 12 hours. For STS it counts only when set for that operation
    /// or role: otherwise the request's own `DurationSeconds` does (default 1 hour).
    pub lifetime: Duration,
    /// What the reply says about the expiry; default [`ExpiresAt::FromLifetime`].
    pub expires_at: ExpiresAt,
    /// How long the reply takes; default nothing.
    pub delay: Duration,
    /// What goes wrong; default nothing.
    pub fault: Option<Fault>,
    /// How many seconds the service's clock is ahead of ours (negative: behind). It moves the `Date` header
    /// and every expiry alike. Signatures are accepted whatever the clock says.
    pub date_skew: i64,
    /// The password in the token; default a new one each time, as long as AWS's.
    pub password: Option<String>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            lifetime: Duration::from_hours(12),
            expires_at: ExpiresAt::FromLifetime,
            delay: Duration::ZERO,
            fault: None,
            date_skew: 0,
            password: None,
        }
    }
}

impl Behaviour {
    /// The usual answers, with something going wrong.
    pub fn failing(fault: Fault) -> Self {
        Self { fault: Some(fault), ..Self::default() }
    }

    /// The usual answers, with tokens that live for `lifetime`.
    pub fn living(lifetime: Duration) -> Self {
        Self { lifetime, ..Self::default() }
    }
}

/// What a reply says about the expiry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpiresAt {
    /// The service's time plus the lifetime.
    #[default]
    FromLifetime,
    /// This Unix time, in seconds.
    At(i64),
    /// Nothing: the field is not there.
    Missing,
    /// A text that is no time.
    Garbage,
}

/// What can go wrong with a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 400 `ThrottlingException`.
    Throttle,
    /// 500 `ServerException`.
    ServerError,
    /// 503 `ServiceUnavailable`.
    Unavailable,
    /// 400 `AccessDeniedException` (STS: 403 `AccessDenied`), naming the principal and the action.
    AccessDenied,
    /// 400 `InvalidSignatureException` (STS: 403 `SignatureDoesNotMatch`), as for a signature of a clock that differs.
    SignatureExpired,
    /// No answer, ever, on an open connection.
    Hang,
    /// 200 with a body that is neither JSON nor XML.
    Garbage,
    /// An `authorizationToken` that is not base64.
    BadToken,
    /// An empty `authorizationData`.
    EmptyData,
    /// The connection is closed without an answer.
    Reset,
    /// 200 with 64 MiB of JSON white space.
    HugeBody,
    /// 400 `PackedPolicyTooLarge` when a role is assumed; nothing is wrong with other operations.
    PackedPolicyTooLarge,
    /// 403 `RegionDisabledException` when a role is assumed; nothing is wrong with other operations.
    RegionDisabled,
    /// 400 `ExpiredTokenException` when a role is assumed with a web identity; nothing is wrong with other
    /// operations.
    ExpiredWebIdentity,
}

impl Fault {
    /// Every fault that can happen to every operation, for tests that go through all of them.
    pub const ALL: [Fault; 11] = [
        Fault::Throttle,
        Fault::ServerError,
        Fault::Unavailable,
        Fault::AccessDenied,
        Fault::SignatureExpired,
        Fault::Hang,
        Fault::Garbage,
        Fault::BadToken,
        Fault::EmptyData,
        Fault::Reset,
        Fault::HugeBody,
    ];

    /// The faults that can happen only where a role is assumed.
    pub const OF_ROLES: [Fault; 3] =
        [Fault::PackedPolicyTooLarge, Fault::RegionDisabled, Fault::ExpiredWebIdentity];

    /// Whether it can happen to this operation at all.
    pub(super) fn concerns(self, operation: Operation) -> bool {
        match self {
            Self::PackedPolicyTooLarge | Self::RegionDisabled => operation.assumes_role(),
            Self::ExpiredWebIdentity => operation == Operation::AssumeRoleWithWebIdentity,
            _ => true,
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    /// Reads the name of a fault as it is written here, in any case and with or without dashes.
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = text.replace('-', "");
        let known: Vec<Self> = Self::ALL.into_iter().chain(Self::OF_ROLES).collect();
        let found = known.iter().find(|fault| format!("{fault:?}").eq_ignore_ascii_case(&wanted));
        found.copied().ok_or_else(|| format!("no fault is called {text:?}; there are {known:?}"))
    }
}

/// The operations that the stub knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// ECR's `GetAuthorizationToken`.
    GetAuthorizationToken,
    /// ECR Public's operation of the same name.
    GetPublicAuthorizationToken,
    /// STS `GetCallerIdentity`.
    GetCallerIdentity,
    /// STS `AssumeRole`.
    AssumeRole,
    /// STS `AssumeRoleWithWebIdentity`, the one request that is not signed.
    AssumeRoleWithWebIdentity,
}

impl Operation {
    /// The name under which calls are recorded: AWS's, but `GetPublicAuthorizationToken` for ECR Public's.
    pub fn name(self) -> &'static str {
        match self {
            Self::GetAuthorizationToken => "GetAuthorizationToken",
            Self::GetPublicAuthorizationToken => "GetPublicAuthorizationToken",
            Self::GetCallerIdentity => "GetCallerIdentity",
            Self::AssumeRole => "AssumeRole",
            Self::AssumeRoleWithWebIdentity => "AssumeRoleWithWebIdentity",
        }
    }

    /// Whether its reply is credentials of a role.
    pub(super) fn assumes_role(self) -> bool {
        matches!(self, Self::AssumeRole | Self::AssumeRoleWithWebIdentity)
    }

    /// The IAM action, as messages name it.
    pub(super) fn action(self) -> String {
        match self {
            Self::GetAuthorizationToken => "ecr:GetAuthorizationToken".to_owned(),
            Self::GetPublicAuthorizationToken => "ecr-public:GetAuthorizationToken".to_owned(),
            _ => format!("sts:{}", self.name()),
        }
    }

    /// The service that requests are signed for.
    pub(super) fn service(self) -> &'static str {
        match self {
            Self::GetAuthorizationToken => "ecr",
            Self::GetPublicAuthorizationToken => "ecr-public",
            _ => "sts",
        }
    }
}
