//! The control flow of `deploy/iam/verify-session-policy`, with stubs of aws and curl. It has not been run against AWS.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/iam/verify-session-policy");

/// A session with a policy has the key R, one without has the key U, and the token is the key.
const AWS: &str = r#"#!/bin/bash
case "$*" in
*assume-role*--policy*) echo '{"Credentials":{"AccessKeyId":"R","SecretAccessKey":"s","SessionToken":"t"}}' ;;
*assume-role*) echo '{"Credentials":{"AccessKeyId":"U","SecretAccessKey":"s","SessionToken":"t"}}' ;;
*get-authorization-token*) echo "{\"authorizationData\":[{\"authorizationToken\":\"$AWS_ACCESS_KEY_ID\"}]}" ;;
esac
"#;

/// The token without a session policy can pull all but what is in the variable `DENIED`, the one with a policy the image
/// inside and what is in the variable `LEAKED`.
const CURL: &str = r#"#!/bin/bash
read -r header
status=403
case "$header ${*: -1}" in
*"$DENIED"*) ;;
*"Basic U"* | */inside/*) status=200 ;;
*) [ -z "$LEAKED" ] || status=200 ;;
esac
echo -n $status
"#;

fn run(args: &[&str], denied: &str, leaked: &str) -> (Option<i32>, String) {
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    for (name, text) in [("aws", AWS), ("curl", CURL)] {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a stub");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is executable");
    }
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").expect("a PATH"));
    let mut command = Command::new(SCRIPT);
    command.args(args).env("PATH", path).env("DENIED", denied).env("LEAKED", leaked);
    let output = command.output().expect("bash runs it");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).expect("UTF-8"))
}

#[test]
fn it_reports_a_token_that_leaves_its_session_policy_and_a_role_that_proves_nothing() {
    if Command::new("jq").arg("--version").output().is_err() {
        testing::skip_this("jq is missing");
        return;
    }
    let role = "arn:aws:iam::111111111111:role/pull";
    let args = [role, "111111111111.dkr.ecr.eu-central-1.amazonaws.com", "inside:1", "outside:1", "0"];
    let (code, said) = run(&args, "nothing", "");
    assert_eq!((code, said.matches("as-expected").count()), (Some(0), 4), "{said}");
    let (code, said) = run(&args, "nothing", "yes");
    assert!(code == Some(1) && said.contains("UNEXPECTED  after 0 min, outside:1: status 200"), "{said}");
    let (code, said) = run(&args, "/outside/", "");
    assert!(code == Some(2) && said.contains("would prove nothing"), "{said}");
    assert_eq!(run(&args[..3], "", "").0, Some(2));
    assert_eq!(run(&[role, "evil.example", "inside:1", "outside:1"], "", "").0, Some(2));
}
