//! What AWS's replies look like: JSON 1.1 for ECR, query XML for STS.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::behaviour::ExpiresAt;
use super::state::Credentials;

/// A reply before the headers that all have in common.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

/// An error as AWS words it; how it is written depends on the protocol.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: u16,
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }
}

const JSON: &str = "application/x-amz-json-1.1";

pub(super) fn json_reply(value: &Value) -> Reply {
    Reply { status: 200, content_type: JSON, body: value.to_string() }
}

pub(super) fn json_failure(failure: &Failure) -> Reply {
    let body = json!({"__type": failure.code, "message": failure.message}).to_string();
    Reply { status: failure.status, content_type: JSON, body }
}

/// One entry of `authorizationData`; only ECR, and not ECR Public, says for which registry it is.
pub(super) fn authorization_data(
    token: &str,
    expires: Option<Timestamp>,
    as_told: ExpiresAt,
    endpoint: Option<&str>,
) -> Value {
    let mut data = json!({"authorizationToken": token});
    if let Some(expires) = expires {
        // Milliseconds are as much as a JSON number of AWS carries.
        data["expiresAt"] = json!(
            std::time::Duration::from_millis(u64::try_from(expires.as_millisecond()).unwrap_or_default())
                .as_secs_f64()
        );
    }
    if as_told == ExpiresAt::Garbage {
        data["expiresAt"] = json!("the day after tomorrow");
    }
    if let Some(endpoint) = endpoint {
        data["proxyEndpoint"] = json!(endpoint);
    }
    data
}

/// What hosts in a region end in, for the partitions that a test may ask for.
pub(super) fn dns_suffix(region: &str) -> &'static str {
    match region.split('-').next() {
        Some("cn") => "amazonaws.com.cn",
        Some("eusc") => "amazonaws.eu",
        _ => "amazonaws.com",
    }
}

pub(super) fn xml_reply(operation: &str, result: &str) -> Reply {
    let body = format!(
        "<{operation}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{operation}Result>{result}\
         </{operation}Result><ResponseMetadata><RequestId>stub</RequestId></ResponseMetadata></{operation}Response>"
    );
    Reply { status: 200, content_type: "text/xml", body }
}

pub(super) fn xml_failure(failure: &Failure) -> Reply {
    let sender = if failure.status < 500 { "Sender" } else { "Receiver" };
    let body = format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>{sender}</Type>\
         <Code>{}</Code><Message>{}</Message></Error><RequestId>stub</RequestId></ErrorResponse>",
        failure.code,
        escape(&failure.message)
    );
    Reply { status: failure.status, content_type: "text/xml", body }
}

/// The result of the two operations that assume a role.
pub(super) fn assumed(credentials: &Credentials, as_told: ExpiresAt, expires: Option<Timestamp>) -> String {
    let expiration = match (as_told, expires) {
        (ExpiresAt::Garbage, _) => "<Expiration>the day after tomorrow</Expiration>".to_owned(),
        (_, Some(expires)) => format!("<Expiration>{}</Expiration>", expires.strftime("%Y-%m-%dT%H:%M:%SZ")),
        (_, None) => String::new(),
    };
    format!(
        "<Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey>\
         <SessionToken>{}</SessionToken>{expiration}</Credentials><AssumedRoleUser><Arn>{}</Arn>\
         <AssumedRoleId>AROAEXAMPLE:stub</AssumedRoleId></AssumedRoleUser><PackedPolicySize>10</PackedPolicySize>",
        credentials.access_key,
        credentials.secret_key,
        credentials.session_token.as_deref().unwrap_or_default(),
        escape(&credentials.principal.arn),
    )
}

pub(super) fn caller(credentials: &Credentials) -> String {
    format!(
        "<Arn>{}</Arn><UserId>AROAEXAMPLE</UserId><Account>{}</Account>",
        escape(&credentials.principal.arn),
        credentials.principal.account(),
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
