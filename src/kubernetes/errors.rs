//! Errors of the Kubernetes client: their classification and their messages.

use std::error::Error;
use std::iter::successors;
use std::time::Duration;

use kube::client::AuthError;
use kube::core::Status;

use crate::controller::error::RequestError;
use crate::core::one_line;

pub fn classify(error: &kube::Error) -> RequestError {
    match error {
        kube::Error::Api(status) => classify_status(status),
        other => RequestError::unavailable(&message(other)),
    }
}

/// How long the API server demands to wait before a request is repeated.
pub fn retry_after(error: &kube::Error) -> Option<Duration> {
    if let kube::Error::Api(status) = error { status_retry_after(status) } else { None }
}

fn status_retry_after(status: &Status) -> Option<Duration> {
    let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

/// A 422 is classified by the field of its cause (as of API server 1.36).
fn classify_status(status: &Status) -> RequestError {
    let text = one_line(&status.message);
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    let has_field = |field: &str| causes.iter().any(|cause| cause.field == field);
    let has_reason = |reason: &str| causes.iter().any(|cause| cause.reason == reason);
    match status.code {
        404 => RequestError::NamespaceGone,
        // Only the cause distinguishes a terminating namespace from the other reasons for a 403.
        403 if has_reason("NamespaceTerminating") => RequestError::NamespaceGone,
        403 if text.contains("ValidatingAdmissionPolicy") => RequestError::AdmissionDenied(text),
        401 | 403 => RequestError::Forbidden(text),
        409 if has_reason("FieldManagerConflict") => RequestError::NotOwned(text),
        409 => RequestError::Conflict(text),
        422 if has_field("metadata.uid") => RequestError::Conflict(text),
        422 if has_field("type") => RequestError::OtherType(text),
        422 if text.contains("`immutable`") => RequestError::Immutable(text),
        408 | 429 | 500.. => {
            RequestError::Unavailable { message: text, retry_after: status_retry_after(status) }
        }
        _ => RequestError::Rejected(text),
    }
}

/// The message of an error of the client, with its causes. It never contains `Debug` output or a response body, which may
/// contain a token.
pub fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => one_line(&status.message),
        // The text of the cause quotes the body.
        kube::Error::SerdeError(_) => "the response of the API server could not be parsed".to_owned(),
        other => one_line(&plugin_failure(other).unwrap_or_else(|| with_causes(other))),
    }
}

/// The text for the failure of a credential plugin, without its command and its output, which may contain a token; `None` for
/// any other error.
pub fn plugin_failure(error: &kube::Error) -> Option<String> {
    let first: &(dyn Error + 'static) = error;
    successors(Some(first), |&cause| cause.source()).find_map(|cause| {
        let auth = match cause.downcast_ref::<kube::Error>() {
            Some(kube::Error::Auth(auth)) => Some(auth),
            _ => cause.downcast_ref::<AuthError>(),
        };
        match auth? {
            // kube's text of the command has its arguments and its environment.
            AuthError::AuthExecRun { out, .. } => {
                Some(format!("credential plugin: {}; run it by hand to see why", out.status))
            }
            AuthError::AuthExecParse(_) => Some(
                "credential plugin: its output is not an ExecCredential; run it by hand to see why"
                    .to_owned(),
            ),
            _ => None,
        }
    })
}

fn with_causes(error: &dyn Error) -> String {
    let causes = successors(error.source(), |&cause| cause.source()).map(ToString::to_string);
    causes.fold(
        error.to_string(),
        |text, cause| {
            if text.contains(&cause) { text } else { format!("{text}: {cause}") }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(code: u16, causes: &serde_json::Value, message: &str) -> Status {
        let status = json!({"code": code, "message": message, "details": {"causes": causes}});
        serde_json::from_value(status).expect("a status")
    }

    /// The text of the parser's error quotes the response, which may contain a token.
    #[test]
    fn a_response_that_cannot_be_parsed_is_not_shown() {
        let error = serde_json::from_str::<u64>("\"hunter2\"").expect_err("it is a string");
        assert!(error.to_string().contains("hunter2"), "{error}");
        let error = kube::Error::SerdeError(error);
        assert!(!message(&error).contains("hunter2"));
        assert!(!classify(&error).to_string().contains("hunter2"));
    }

    /// N45: kube runs the plugin again when a token expires, as a part of any request.
    #[test]
    fn neither_the_command_nor_the_output_of_a_credential_plugin_is_shown() {
        let parse = || match kube::config::Kubeconfig::from_yaml("users: hunter2") {
            Err(kube::config::KubeconfigError::Parse(error)) => AuthError::AuthExecParse(error),
            other => panic!("{other:?}"),
        };
        let run = || {
            let status = std::os::unix::process::ExitStatusExt::from_raw(256);
            let (stdout, stderr) = (b"AWS:x".to_vec(), b"hunter2".to_vec());
            let out = Box::new(std::process::Output { status, stdout, stderr });
            let mut command = std::process::Command::new("login");
            command.env("CLIENT_SECRET", "hunter2").arg("--password=hunter2");
            AuthError::AuthExecRun { cmd: format!("{command:?}"), out }
        };
        for error in [
            kube::Error::Auth(parse()),
            kube::Error::Auth(run()),
            kube::Error::Service(Box::new(parse())),
            kube::Error::Service(Box::new(run())),
        ] {
            let shown = format!("{} {} {:?}", message(&error), classify(&error), plugin_failure(&error));
            assert!(!shown.contains("hunter2") && shown.contains("credential plugin"), "{shown}");
        }
    }

    #[test]
    fn responses_are_classified() {
        let uid = json!([{"field": "metadata.uid", "reason": "FieldValueInvalid"}]);
        let kind = json!([{"field": "type", "reason": "FieldValueInvalid"}]);
        let data = json!([{"field": "data", "reason": "FieldValueForbidden"}]);
        let owned = json!([{"field": ".data", "reason": "FieldManagerConflict"}]);
        let terminating = json!([{"field": "metadata.namespace", "reason": "NamespaceTerminating"}]);
        let immutable = "data: Forbidden: field is immutable when `immutable` is set";
        let policy = "secrets \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with";
        for (status, expected) in [
            (status(422, &uid, "uid"), "conflict"),
            (status(422, &kind, "type: field is immutable"), "other_type"),
            (status(422, &data, immutable), "immutable"),
            (status(409, &owned, "conflict with"), "not_owned"),
            (status(409, &json!([]), "uid mismatch"), "conflict"),
            (status(403, &terminating, "being terminated"), "namespace_gone"),
            (status(403, &json!([]), "no"), "forbidden"),
            (status(403, &json!([]), policy), "admission_denied"),
            (status(404, &json!([]), "namespaces \"a\" not found"), "namespace_gone"),
            (status(503, &json!([]), "later"), "unavailable"),
            (status(400, &json!([]), "what"), "rejected"),
        ] {
            assert_eq!(classify_status(&status).into_str(), expected, "{status:?}");
        }
    }
}
