//! Removes secrets and names of principals from the texts of other systems, before they are logged or shown to tenants: an
//! admission webhook may quote the Secret that it refuses, and AWS the request that it did not accept.

/// Replaces a secret.
const REDACTED: &str = "<redacted>";
/// The shortest run of characters that counts as a secret by its characters alone.
const MIN_RUN: usize = 40;
/// The length of an access key ID.
const KEY_ID_LEN: usize = 20;
/// Keys whose values are secrets, however short.
const SECRET_KEYS: [&str; 6] =
    ["authorization", "password", "x-amz-security-token", "signature", "auth", "token"];
/// The length of an AWS account ID.
const ACCOUNT_LEN: usize = 12;

/// The text without runs that look like secrets, access key IDs, and the values of headers and fields that hold secrets.
pub fn redact(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    // The last word, without the characters between it and the rest.
    let mut word = "";
    while let Some(first) = rest.chars().next() {
        let (run, after) = split_run(rest);
        if run.is_empty() {
            result.push(first);
            rest = &rest[first.len_utf8()..];
            if has_secret_value(word, first, rest) {
                let (value, after) = split_value(rest);
                result.push_str(value_start(value));
                result.push_str(REDACTED);
                (rest, word) = (after, "");
            } else if !matches!(first, '"' | '\'' | '\\') {
                word = "";
            }
            continue;
        }
        result.push_str(if is_secret(run) { REDACTED } else { run });
        (rest, word) = (after, run);
    }
    result
}

/// Splits off the characters that base64, hexadecimal numbers and tokens in JSON (JWT) consist of.
fn split_run(text: &str) -> (&str, &str) {
    let is_inside = |c: char| c.is_ascii_alphanumeric() || "+/_-=".contains(c);
    let is_token = text.starts_with("eyJ");
    let end = text.find(|c| !(is_inside(c) || (is_token && c == '.')));
    let end = end.unwrap_or(text.len());
    // `=` separates a name from its value, and only pads at the end.
    let named = text[..end].find('=').filter(|at| text[*at..end].contains(|c| c != '='));
    text.split_at(named.map_or(end, |at| if at == 0 { 0 } else { at }))
}

fn is_secret(run: &str) -> bool {
    let has = |class: fn(&char) -> bool| run.chars().any(|c| class(&c));
    let is_mixed =
        has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase) && has(char::is_ascii_digit);
    let is_hex = run.bytes().all(|b| b.is_ascii_hexdigit());
    let is_key_id = (run.starts_with("AKIA") || run.starts_with("ASIA"))
        && run.len() >= KEY_ID_LEN
        && run[..KEY_ID_LEN].bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    let is_jwt = run.starts_with("eyJ") && run.len() >= MIN_RUN / 2;
    is_key_id || is_jwt || (run.len() >= MIN_RUN && (is_mixed || is_hex))
}

/// Whether a value follows that the word names, as in `Authorization: Basic …` or `"auth":"…"`.
fn has_secret_value(word: &str, separator: char, rest: &str) -> bool {
    let is_named = SECRET_KEYS.iter().any(|key| word.eq_ignore_ascii_case(key));
    is_named && matches!(separator, ':' | '=') && !rest.trim_start().is_empty()
}

/// Splits off a quoted value, or one that ends with the sentence.
fn split_value(text: &str) -> (&str, &str) {
    let start = value_start(text).len();
    let ends: &[char] =
        if start > 0 && text[..start].contains(['"', '\'']) { &['"', '\''] } else { &['"', ';', '}', ']'] };
    let end = text[start..].find(ends).map_or(text.len(), |end| start + end);
    text.split_at(end)
}

/// The white space, brackets and quotes before a value.
fn value_start(text: &str) -> &str {
    let start = text.find(|c: char| !(c.is_whitespace() || "[\"'\\".contains(c)));
    &text[..start.unwrap_or(text.len())]
}

/// The text without ARNs and account IDs, which tell a tenant what the controller runs as. Hosts of registries stay: the
/// tenant asked for them.
pub fn without_principals(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if rest.starts_with("arn:aws") {
            let end = rest.find(|c: char| c.is_whitespace() || "\"',;()<>".contains(c)).unwrap_or(rest.len());
            let arn = rest[..end].trim_end_matches(['.', ':']);
            result.push_str("<ARN>");
            rest = &rest[arn.len()..];
            continue;
        }
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(if digits > 0 { digits } else { first.len_utf8() });
        let is_host = after.starts_with(".dkr");
        result.push_str(if digits == ACCOUNT_LEN && !is_host { "<account>" } else { number });
        rest = after;
    }
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BASE64: &str = "QVdTOmV5SndZWGxzYjJGa0lqb2lkR2hwY3lCcGN5QmhJSFJ2YTJWdUlu";
    const HEX: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn what_looks_like_a_secret_is_removed() {
        for (text, secret) in [
            (format!("admission webhook denied: {{\".dockerconfigjson\":\"{BASE64}\"}}"), BASE64),
            (format!("data={BASE64}=="), BASE64),
            (format!("x-amz-security-token:{BASE64} host:ecr"), BASE64),
            (format!("hash {HEX}."), HEX),
            ("the key AKIAIOSFODNN7EXAMPLE is not valid".to_owned(), "AKIAIOSFODNN7EXAMPLE"),
            ("Credential=ASIAIOSFODNN7EXAMPLE/20260101/eu-central-1".to_owned(), "ASIAIOSFODNN7EXAMPLE"),
            ("Authorization: Basic QVdTOng= was sent".to_owned(), "QVdTOng"),
            (r#"headers {"authorization":["Bearer abc.def"],"host":"a"}"#.to_owned(), "abc.def"),
            (
                r#"{"auths":{"a.example":{"username":"u","password":"hunter2","auth":"dTpo"}}}"#.to_owned(),
                "hunter2",
            ),
            (
                r#"{"auths":{"a.example":{"username":"u","password":"hunter2","auth":"dTpo"}}}"#.to_owned(),
                "dTpo",
            ),
            (r#"{\"password\":\"hunter2\"}"#.to_owned(), "hunter2"),
            ("token eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln end".to_owned(), "eyJzdWIi"),
        ] {
            let said = redact(&text);
            assert!(!said.contains(secret) && said.contains(REDACTED), "{text}: {said}");
        }
    }

    #[test]
    fn the_rest_of_a_message_stays() {
        for text in [
            "User: arn:aws:sts::123456789012:assumed-role/ecr-pull/ecr-pull-secrets is not authorized",
            "secrets \"ecr-pull\" is forbidden: ValidatingAdmissionPolicy 'ecr-pull-secrets' denied request",
            "cannot read the web identity token /var/run/secrets/eks.amazonaws.com/serviceaccount/token",
            "GET https://10.0.0.1/api/v1/namespaces/a-namespace-with-a-long-name/secrets/ecr-pull?watch=true",
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com",
            "UnrecognizedClientException: The security token included in the request is invalid",
            "no authorization token; check the configured endpoints",
            "set AWS_WEB_IDENTITY_TOKEN_FILE, or AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            "uid 6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        ] {
            assert_eq!(redact(text), text);
        }
    }

    #[test]
    fn tenants_read_no_arn_and_no_account_of_the_controller() {
        let text = "User: arn:aws:sts::123456789012:assumed-role/node/i-0 is not authorized to perform: sts:AssumeRole on \
                    resource: arn:aws:iam::222222222222:role/pull; account 222222222222.";
        let said = without_principals(text);
        let expected =
            "User: <ARN> is not authorized to perform: sts:AssumeRole on resource: <ARN>; account <account>.";
        assert_eq!(said, expected);
        for text in
            ["123456789012.dkr.ecr.eu-central-1.amazonaws.com", "1234567890123", "until 2026-01-01T00:00:00Z"]
        {
            assert_eq!(without_principals(text), text);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_redacted_without_a_panic(text in ".*") {
            let said = redact(&without_principals(&text));
            prop_assert!(said.chars().count() <= 2 * text.chars().count().max(1) * REDACTED.len());
        }

        #[test]
        fn no_base64_of_random_bytes_stays(bytes in proptest::collection::vec(any::<u8>(), 64..200), before in "[a-z :{]{0,9}") {
            use base64::Engine as _;
            let secret = base64::engine::general_purpose::STANDARD.encode(bytes);
            let said = redact(&format!("{before}\"{secret}\" and more"));
            prop_assert!(!said.contains(&secret[..20]), "{}", said);
        }
    }
}
