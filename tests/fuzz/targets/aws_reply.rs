//! The reply of `GetAuthorizationToken`, from an endpoint that the configuration names.
//!
//! An input is the JSON of the reply, with `date` for the header that tells AWS's time and `now` for our own. The SDK's
//! own parser is not part of the target; the values are taken from the JSON as the SDK would hand them over.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ecr_pull_secrets::simulation::core::Now;
use ecr_pull_secrets::simulation::core::secret::{
    DockerConfig, DraftEntry, FetchedToken, RefreshPolicy, Token, default_host,
};
use ecr_pull_secrets::simulation::core::testing::{JITTER, at};
use jiff::Timestamp;
use serde_json::Value;

use super::hosts::is_ecr_host;

const POLICY: RefreshPolicy =
    RefreshPolicy { at: 0.5, jitter: 0.1, writes_per_second: 50, tokens_per_second: 50 };

pub fn check(data: &[u8]) {
    let Ok(reply) = serde_json::from_slice::<Value>(data) else { return };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let time = |value: &Value| value.as_i64().and_then(|second| Timestamp::from_second(second).ok());
    let now = time(&reply["now"]).map_or(at(0), |wall| Now { wall, ..at(0) });
    let data = &reply["authorizationData"][0];
    let Some(authorization) = text(&data["authorizationToken"]) else { return };
    let fetched = |authorization: String| FetchedToken {
        authorization: authorization.into(),
        expires_at: time(&data["expiresAt"]),
        server_time: time(&reply["date"]),
        proxy_endpoint: text(&data["proxyEndpoint"]),
    };
    let parsed = Token::from_reply(fetched(authorization.clone()), now.wall);
    let expected = user_and_password(&authorization);
    assert_eq!(parsed.is_ok(), expected.is_some(), "{authorization:?}");
    let token = match parsed {
        Ok(token) => token,
        Err(error) => {
            let other = Token::from_reply(fetched("%".to_owned()), now.wall).expect_err("it is malformed");
            let shown = [error, other].map(|error| format!("{error} {error:?}"));
            return assert_eq!(shown[0], shown[1], "the error does not depend on the token");
        }
    };
    check_times(&token, &fetched(String::new()), now);
    if let Some(registry) = default_host(&token) {
        assert!(is_ecr_host(&registry.to_string()), "{registry}");
    }
    // Two tokens that differ in the credential only look the same.
    let other = Token::from_reply(fetched(STANDARD.encode("AWS:another")), now.wall).expect("a token");
    assert_eq!(format!("{token:?}"), format!("{other:?}"));
    check_entry(&token, &authorization, expected.expect("it was accepted"));
}

/// What the base64 holds, if it is a user name and a password that a header can carry.
fn user_and_password(authorization: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(authorization).ok()?).ok()?;
    let colon = text.find(':')?;
    let (user, password) = (&text[..colon], &text[colon + 1..]);
    let is_usable = !user.is_empty() && !password.is_empty() && !text.chars().any(char::is_control);
    is_usable.then(|| (user.to_owned(), password.to_owned()))
}

fn check_times(token: &Token, reply: &FetchedToken, now: Now) {
    assert_eq!(token.issued_at(), now.wall);
    let (successor, due) =
        (token.successor_due_at(POLICY), token.after_fraction(POLICY.secret_fraction(JITTER, &"team-a")));
    assert!(token.issued_at() <= successor || token.expires_at() <= token.issued_at(), "{token:?}");
    assert!(successor <= due || token.expires_at() <= token.issued_at(), "{token:?}");
    if reply.expires_at.is_none() {
        assert!(!token.is_live(now), "a token without an end counts as expired");
    }
    if let (Some(expires_at), Some(server)) = (reply.expires_at, reply.server_time)
        && token.expires_at() < Timestamp::MAX
        && token.expires_at() != expires_at
    {
        assert_eq!(token.expires_at().duration_since(now.wall), expires_at.duration_since(server));
    }
}

/// Asserts that the Secret of this token can be read back, and that nothing of it can be printed.
fn check_entry(token: &Token, authorization: &str, (user, password): (String, String)) {
    let host = "public.ecr.aws".to_owned();
    let set = |token: &Token| DraftEntry::Set { host: host.clone(), credential: token.credential().clone() };
    let config = DockerConfig::from_draft(vec![set(token)], DockerConfig::default());
    let written = serde_json::to_vec(&config).expect("it serializes");
    let value: Value = serde_json::from_slice(&written).expect("JSON");
    let entry = &value["auths"]["public.ecr.aws"];
    assert_eq!(entry["auth"].as_str(), Some(authorization));
    assert_eq!((entry["username"].as_str(), entry["password"].as_str()), (Some(&*user), Some(&*password)));
    let read = DockerConfig::parse(&written);
    assert_eq!(serde_json::to_vec(&read).expect("it serializes"), written);
    let kept = DraftEntry::Keep { host: host.clone() };
    let kept = DockerConfig::from_draft(vec![kept], read);
    assert_eq!(serde_json::to_vec(&kept).expect("it serializes"), written);
    assert!(DockerConfig::parse_foreign(&written)[&host] == *token.credential());
    assert_eq!(
        format!("{config:?}"),
        r#"DockerConfig { auths: {"public.ecr.aws": RegistryCredential(<redacted>)} }"#
    );
}
