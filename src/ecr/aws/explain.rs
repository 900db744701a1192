//! Messages for errors of the SDK. They never contain a raw reply, which may hold a token.

use std::error::Error;
use std::fmt;

use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::result::ConnectorError;

use crate::core::one_line;
use crate::core::secret::{TokenError, TokenErrorKind};

const TIMEOUT: &str = "AWS did not respond in time";
const UNREACHABLE: &str = "cannot connect to AWS";
const CHECK_NETWORK: &str = "check the region, DNS, the proxy settings and network policies";

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
        SdkError::ConstructionFailure(failure) => explain_construction_failure(failure),
        SdkError::ServiceError(error) => classify_service_error(error.err()),
        _ => (
            TokenErrorKind::InvalidResponse,
            "unexpected response from AWS: check the configured endpoints and the proxy settings".to_owned(),
        ),
    };
    TokenError::new(kind, one_line(&message))
}

fn explain_connector_error(error: &ConnectorError) -> (TokenErrorKind, String) {
    let (kind, what) = if error.is_timeout() {
        (TokenErrorKind::Timeout, TIMEOUT)
    } else {
        (TokenErrorKind::Unreachable, UNREACHABLE)
    };
    (kind, format!("{what}: {}; {CHECK_NETWORK}", causes(error)))
}

/// Its `Display` names no cause. Its `Debug` may contain secrets, so the text is searched but never shown.
fn explain_construction_failure(failure: &impl fmt::Debug) -> (TokenErrorKind, String) {
    let text = format!("{failure:?}").to_lowercase();
    if text.contains("credential") || text.contains("identity") {
        let message = "cannot load AWS credentials: check the AWS_* variables, the mounted profile, or the role of the \
                       service account";
        (TokenErrorKind::Credentials, message.to_owned())
    } else {
        let message = "cannot build the request to AWS: check AWS_REGION and AWS_ENDPOINT_URL";
        (TokenErrorKind::Other, message.to_owned())
    }
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
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
