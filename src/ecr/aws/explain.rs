//! Errors of the SDK in words. A raw reply, which may hold a token, is never part of them.

use std::error::Error;
use std::fmt;

use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};

use crate::core::one_line;
use crate::ecr::{MintError, MintErrorKind};

/// Turns the SDK's error into a kind and a sentence. Never prints a raw reply, which may hold a token.
pub(super) fn explain<E, R>(error: &SdkError<E, R>) -> MintError
where
    E: ProvideErrorMetadata + Error + 'static,
    R: fmt::Debug,
{
    let (kind, message) = match error {
        SdkError::TimeoutError(_) => (MintErrorKind::Timeout, "AWS did not answer in time".to_owned()),
        SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
            Some(error) if error.is_timeout() => {
                (MintErrorKind::Timeout, format!("AWS did not answer in time: {}", chain(error)))
            }
            Some(error) => (MintErrorKind::Unreachable, format!("AWS cannot be reached: {}", chain(error))),
            None => (MintErrorKind::Unreachable, "AWS cannot be reached".to_owned()),
        },
        SdkError::ConstructionFailure(failure) => {
            // Its Display names no cause, its Debug may hold anything: where it is about credentials is all we say.
            let text = format!("{failure:?}").to_lowercase();
            if text.contains("credential") || text.contains("identity") {
                (MintErrorKind::Credentials, "no AWS credentials could be loaded: check the AWS_* variables, the mounted profile or the service account's role".to_owned())
            } else {
                (
                    MintErrorKind::Other,
                    "the request to AWS could not be built: check AWS_REGION and AWS_ENDPOINT_URL".to_owned(),
                )
            }
        }
        SdkError::ServiceError(refusal) => refused(refusal.err()),
        _ => {
            (MintErrorKind::Malformed, "AWS answered with something that is no answer of this API".to_owned())
        }
    };
    MintError::new(kind, one_line(&message))
}

fn refused(error: &impl ProvideErrorMetadata) -> (MintErrorKind, String) {
    const THROTTLING: [&str; 5] = [
        "ThrottlingException",
        "Throttling",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "LimitExceededException",
    ];
    let Some(code) = error.code() else {
        return (MintErrorKind::ServerError, "AWS answered with an error that has no code".to_owned());
    };
    let kind = match code {
        code if THROTTLING.contains(&code) => MintErrorKind::Throttled,
        "AccessDenied" | "AccessDeniedException" => MintErrorKind::AccessDenied,
        "ServerException"
        | "InternalFailure"
        | "InternalServerError"
        | "ServiceUnavailable"
        | "ServiceUnavailableException" => MintErrorKind::ServerError,
        "UnrecognizedClientException"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "MissingAuthenticationTokenException" => MintErrorKind::Credentials,
        _ => MintErrorKind::Other,
    };
    (kind, format!("AWS refused: {code}: {}", error.message().unwrap_or("no message")))
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
