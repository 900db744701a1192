//! Messages for errors of the SDK. They never contain a raw reply, which may hold a token.

use std::error::Error;
use std::fmt;
use std::iter::successors;

use aws_config::meta::ProviderChainError;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::result::ConnectorError;

use crate::core::secret::{TokenError, TokenErrorKind};
use crate::core::{one_line, quote};

const TIMEOUT: &str = "AWS did not respond in time";
const UNREACHABLE: &str = "cannot connect to AWS";
const CHECK_NETWORK: &str = "check the region, DNS, the proxy settings and network policies";
const NO_CREDENTIALS: &str = "no AWS credentials could be loaded";
const GIVE_ON_COMMAND_LINE: &str =
    "set AWS_PROFILE or the AWS_* variables, or configure a source in ~/.aws/config";
const GIVE_CREDENTIALS: &str = "set the AWS_* variables, mount a profile, or give the service account a role";

/// Classifies an error of the SDK, with a message that names the remedy.
pub(super) fn explain<E, R>(error: &SdkError<E, R>) -> TokenError
where
    E: ProvideErrorMetadata + Error + 'static,
    R: fmt::Debug,
{
    let (kind, message) = match error {
        SdkError::TimeoutError(_) => (TokenErrorKind::Timeout, format!("{TIMEOUT}: {CHECK_NETWORK}")),
        SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
            Some(error) => explain_connector_error(error),
            None => (TokenErrorKind::Unreachable, format!("{UNREACHABLE}: {CHECK_NETWORK}")),
        },
        // Its `Display` names no cause, and its `Debug` may contain secrets.
        SdkError::ConstructionFailure(_) => (
            TokenErrorKind::Other,
            "cannot build the request to AWS: check AWS_REGION and AWS_ENDPOINT_URL".to_owned(),
        ),
        SdkError::ServiceError(error) => classify_service_error(error.err()),
        _ => (
            TokenErrorKind::InvalidResponse,
            "unexpected response from AWS: check the configured endpoints and the proxy settings".to_owned(),
        ),
    };
    TokenError::new(kind, one_line(&message))
}

/// The SDK also reports credentials that cannot be loaded as a failed connection.
fn explain_connector_error(error: &ConnectorError) -> (TokenErrorKind, String) {
    let mut chain = successors(Some(error as &(dyn Error + 'static)), |&error| error.source());
    if let Some(error) = chain.find_map(|cause| cause.downcast_ref()) {
        return (TokenErrorKind::Credentials, no_credentials(error, GIVE_CREDENTIALS));
    }
    let causes = causes(error);
    if causes.contains("identity resolver timed out") {
        let message = format!("{NO_CREDENTIALS}: their source did not respond in time; {GIVE_CREDENTIALS}");
        return (TokenErrorKind::Credentials, message);
    }
    let (kind, what) = if error.is_timeout() {
        (TokenErrorKind::Timeout, TIMEOUT)
    } else {
        (TokenErrorKind::Unreachable, UNREACHABLE)
    };
    (kind, format!("{what}: {causes}; {CHECK_NETWORK}"))
}

/// Parts of the SDK's errors after which a user must sign in again: the cached token of IAM Identity Center is missing or
/// has expired, or the service no longer accepts it.
const SIGNED_OUT: [&str; 4] = ["SSO token", "sso/cache", "UnauthorizedException", "InvalidGrantException"];

/// Explains an error of the credentials of a command line: those of the profile, or of the default chain.
pub(super) fn explain_command_line(profile: Option<&str>, error: &CredentialsError) -> TokenError {
    let all = causes(error);
    let name = profile.unwrap_or("default");
    let message = if SIGNED_OUT.iter().any(|sign| all.contains(sign)) {
        format!(
            "AWS profile {}: the session of IAM Identity Center has expired or does not exist: run aws sso login --profile \
             {name}",
            quote(name)
        )
    } else if all.contains("was not defined")
        && let Some(profile) = profile
    {
        format!(
            "AWS profile {} does not exist: add it to ~/.aws/config, or correct the name in source.profile of the identity \
             or in AWS_PROFILE",
            quote(profile)
        )
    } else if let Some(profile) = profile {
        format!("AWS profile {} has no usable credentials: {}", quote(profile), last_cause(error))
    } else {
        no_credentials(error, GIVE_ON_COMMAND_LINE)
    };
    TokenError::new(TokenErrorKind::Credentials, one_line(&message))
}

/// Explains an error of the credential providers.
pub(super) fn explain_credentials(error: &CredentialsError) -> TokenError {
    TokenError::new(TokenErrorKind::Credentials, one_line(&no_credentials(error, GIVE_CREDENTIALS)))
}

/// Names the provider that was tried last, since those before it are usually not configured. `remedy` is the way to
/// configure one.
fn no_credentials(error: &CredentialsError, remedy: &str) -> String {
    let chain = error.source().and_then(|chain| chain.downcast_ref::<ProviderChainError<CredentialsError>>());
    let Some(last) = chain.and_then(|chain| chain.attempts().last()) else {
        return format!("{NO_CREDENTIALS}: {}; {remedy}", last_cause(error));
    };
    let is_unreachable = causes(last.error()).contains("could not communicate with IMDS");
    let hint = if is_unreachable {
        "; with EKS Pod Identity, restart pods that are older than the association; only the role of the node needs a hop \
         limit of at least 2"
    } else {
        ""
    };
    format!("{NO_CREDENTIALS}: {}: {}; {remedy}{hint}", last.name(), last_cause(last.error()))
}

/// The innermost cause, without what a process or a server wrote.
fn last_cause(error: &CredentialsError) -> String {
    let last = successors(Some(error as &dyn Error), |&error| error.source()).last();
    let text = last.map(ToString::to_string).unwrap_or_default();
    let end = ["Stderr:", "{"].iter().filter_map(|mark| text.find(mark)).min().unwrap_or(text.len());
    text[..end].trim_end_matches([' ', '.']).to_owned()
}

fn classify_service_error(error: &impl ProvideErrorMetadata) -> (TokenErrorKind, String) {
    let Some(code) = error.code() else {
        return (TokenErrorKind::ServerError, "AWS returned an error without a code".to_owned());
    };
    let kind = match code {
        "ThrottlingException"
        | "Throttling"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "LimitExceededException" => TokenErrorKind::Throttled,
        "AccessDenied" | "AccessDeniedException" => TokenErrorKind::AccessDenied,
        "ServerException"
        | "InternalFailure"
        | "InternalServerError"
        | "ServiceUnavailable"
        | "ServiceUnavailableException" => TokenErrorKind::ServerError,
        "UnrecognizedClientException"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "MissingAuthenticationTokenException" => TokenErrorKind::Credentials,
        _ => TokenErrorKind::Other,
    };
    (kind, format!("AWS returned {code}: {}", error.message().unwrap_or("no message")))
}

/// The error and its causes, outermost first.
fn causes(error: &dyn Error) -> String {
    let causes = successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
