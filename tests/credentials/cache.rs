//! The credential helper's protocol, and its cache.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use testing::aws::{Behaviour, Fault, Stub};

use crate::harness::{HOST, Home, LONG, OTHER_HOST};
use crate::profiles::{self, with_profiles};

const NOT_FOUND: &str = "credentials not found in native keychain\n";
const CACHED: &str = "commandLine: {cacheFile: ~/cache/tokens.json}";
const FILE: &str = "cache/tokens.json";

fn secret(home: &Home, host: &str) -> String {
    home.helper("get", host).json()["Secret"].as_str().expect("a password").to_owned()
}

#[tokio::test]
async fn the_helper_returns_the_credential_under_the_url_that_it_was_asked_for() {
    let home = Home::start().await;
    for url in
        [HOST.to_owned(), format!("https://{HOST}"), format!("https://{HOST}/v2/\n"), format!("{HOST}:443")]
    {
        let reply = home.helper("get", &url).json();
        let expected = json!({"ServerURL": url.trim(), "Username": "AWS", "Secret": home.last_password()});
        assert_eq!(reply, expected);
    }
    assert_eq!(home.aws.minted().len(), 4, "without a cache, each call fetches a token");
    assert!(!home.path("cache").exists());
    // The same, by its own name.
    let reply = home.run_with(&["credential-helper", "get"], HOST).json();
    assert_eq!(reply["Secret"], home.last_password());
}

#[tokio::test]
async fn the_helper_has_no_credential_for_other_hosts_and_calls_nothing() {
    let home = Home::start().await;
    // Not even the configuration is read.
    home.configure("identities: oops");
    for host in [
        "https://index.docker.io/v1/",
        "ghcr.io",
        "",
        &format!("{HOST}.evil.example"),
        &format!("{HOST}:8443"),
    ] {
        let ended = home.helper("get", host);
        assert_eq!(ended.stdout, NOT_FOUND, "{host}");
        ended.assert_fails(1, &home.aws, &["is not an Amazon ECR registry"]);
    }
    home.configure("defaults: {identity: none}");
    let ended = home.helper("get", HOST);
    assert_eq!(ended.stdout, NOT_FOUND);
    ended.assert_fails(1, &home.aws, &["no identity of the configuration serves"]);
    assert!(home.aws.calls().is_empty());
}

#[tokio::test]
async fn store_and_erase_and_list_follow_the_protocol() {
    let home = Home::start().await;
    home.configure(&format!("{CACHED}\ndefaults: {{registries: [{OTHER_HOST}]}}\nidentities: [{{name: x, source: {{profile: p}}, registries: [111111111111/eu-west-1, 222222222222/*, public.ecr.aws]}}]"));
    let list = home.helper("list", "").json();
    let expected = json!({
        "111111111111.dkr.ecr.eu-west-1.amazonaws.com": "AWS", OTHER_HOST: "AWS", "public.ecr.aws": "AWS",
    });
    assert_eq!(list, expected);

    let stored = |host: &str| json!({"ServerURL": host, "Username": "AWS", "Secret": "s3cr3t"}).to_string();
    let ended = home.helper("store", &stored(HOST));
    assert!(ended.stderr.contains("is not stored") && !ended.stderr.contains("s3cr3t"), "{ended:?}");
    assert_eq!(ended.ok(), "");
    let refused = home.helper("store", &stored("docker.io"));
    refused.assert_fails(1, &home.aws, &["configure another helper"]);
    assert!(refused.stdout.contains("only supports Amazon ECR"), "{}", refused.stdout);
    home.helper("store", "{").assert_fails(1, &home.aws, &["not a JSON object with ServerURL"]);

    let first = secret(&home, HOST);
    assert_eq!(secret(&home, HOST), first);
    assert_eq!(home.helper("erase", "docker.io").ok(), "");
    assert_eq!(secret(&home, HOST), first);
    for erased in [HOST, "999999999999.dkr.ecr.eu-central-1.amazonaws.com"] {
        let before = secret(&home, HOST);
        assert_eq!(home.helper("erase", OTHER_HOST).ok(), "");
        assert_eq!(secret(&home, HOST), before, "another region");
        assert_eq!(home.helper("erase", erased).ok(), "");
        assert_ne!(secret(&home, HOST), before, "{erased}");
    }
}

#[tokio::test]
async fn fifty_helpers_at_once_call_aws_once_and_leave_a_whole_file() {
    let home = Home::start().await;
    home.configure(CACHED);
    // Long enough for all of them to arrive.
    home.aws.set(Behaviour { delay: Duration::from_secs(1), ..Behaviour::default() });
    let secrets: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..50).map(|_| scope.spawn(|| secret(&home, HOST))).collect();
        all.into_iter().map(|helper| helper.join().expect("a password")).collect()
    });
    assert_eq!(home.aws.calls().len(), 1);
    assert!(secrets.iter().all(|secret| *secret == home.last_password()));
    let content: Value = serde_json::from_str(&home.read(FILE)).expect("a whole file");
    assert_eq!(content["tokens"].as_object().expect("tokens").len(), 1);
    let mode = fs::metadata(home.path(FILE)).expect("a file").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let names: Vec<_> =
        fs::read_dir(home.path("cache")).expect("a folder").flatten().map(|e| e.file_name()).collect();
    assert_eq!(names.len(), 2, "the file and its lock: {names:?}");
}

/// Makes the tokens of the cache older.
fn age(home: &Home, hours: i64) {
    let mut content: Value = serde_json::from_str(&home.read(FILE)).expect("a whole file");
    for entry in content["tokens"].as_object_mut().expect("tokens").values_mut() {
        for time in ["issuedAt", "expiresAt"] {
            let old: Timestamp = entry[time].as_str().expect("a time").parse().expect("a time");
            entry[time] = (old - SignedDuration::from_hours(hours)).to_string().into();
        }
    }
    home.write(FILE, &content.to_string());
}

#[tokio::test]
async fn a_token_is_renewed_at_half_of_its_life_and_used_longer_only_if_aws_fails() {
    let home = Home::start().await;
    home.configure(CACHED);
    let first = secret(&home, HOST);
    age(&home, 5);
    assert_eq!(secret(&home, HOST), first, "after 5 of 12 hours");
    age(&home, 2);
    home.aws.set(Behaviour::failing(Fault::ServerError));
    let ended = home.helper("get", HOST);
    assert!(ended.stderr.contains("due for renewal: AWS returned ServerException"), "{}", ended.stderr);
    assert_eq!(ended.json()["Secret"], first, "after 7 hours, without AWS");
    home.aws.reset();
    let second = secret(&home, HOST);
    assert_ne!(second, first, "after 7 hours");
    assert_eq!(secret(&home, HOST), second);
    age(&home, 13);
    home.aws.set(Behaviour::failing(Fault::ServerError));
    home.helper("get", HOST).assert_fails(1, &home.aws, &["AWS returned ServerException"]);
}

#[tokio::test]
async fn a_token_is_never_returned_to_another_principal() {
    let mut home = with_profiles(Stub::start().await);
    home.configure(CACHED);
    let mut seen = vec![];
    for profile in ["dev", "prod"] {
        home.set("AWS_PROFILE", profile);
        seen.push(secret(&home, HOST));
        assert_eq!(seen.last(), Some(&secret(&home, HOST)), "{profile}");
    }
    // The same profile with the keys of another user.
    let keys = home.aws.issue_as("arn:aws:iam::123456789012:user/mallory", LONG);
    home.set("AWS_ACCESS_KEY_ID", &keys.access_key);
    home.set("AWS_SECRET_ACCESS_KEY", &keys.secret_key);
    home.set("AWS_SESSION_TOKEN", &keys.session_token);
    seen.push(secret(&home, HOST));
    // A role with a wider and with a narrower scope.
    for (name, repositories) in [("a", "team-a/*"), ("b", "*")] {
        home.configure(&format!(
            "{CACHED}\ndefaults: {{identity: none}}\nidentities: [{{name: {name}, roleArn: '{}', registries: ['*'], repositories: ['{repositories}']}}]",
            profiles::ROLE
        ));
        seen.push(secret(&home, HOST));
    }
    let count = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!((seen.len(), home.aws.minted().len()), (count, count));
    let content = home.read(FILE);
    for key in [&keys.access_key, &keys.secret_key, &keys.session_token] {
        assert!(!content.contains(key.as_str()), "the cache contains a key");
    }
}

#[tokio::test]
async fn a_cache_that_cannot_be_used_costs_a_call_and_no_more() {
    let home = Home::start().await;
    home.configure(CACHED);
    fs::create_dir(home.path("cache")).expect("a folder");
    for garbage in ["", "{", "[]", "{\"version\": 2, \"tokens\": {}}", "{\"version\":1,\"tokens\":{\"x\":1}}"]
    {
        home.write(FILE, garbage);
        fs::set_permissions(home.path(FILE), Permissions::from_mode(0o600)).expect("a file");
        let ended = home.helper("get", HOST);
        assert_eq!(ended.stderr, "", "{garbage}");
        assert_eq!(ended.json()["Secret"], home.last_password());
        assert_eq!(secret(&home, HOST), home.last_password(), "replaced");
    }
    // Others may have written it.
    fs::set_permissions(home.path(FILE), Permissions::from_mode(0o664)).expect("a file");
    let calls = home.aws.calls().len();
    let ended = home.helper("get", HOST);
    assert!(ended.stderr.contains("mode is 0664"), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "one warning: {}", ended.stderr);
    assert_eq!(home.aws.calls().len(), calls + 1);
    assert_eq!(fs::metadata(home.path(FILE)).expect("a file").permissions().mode() & 0o7777, 0o600);
    // A folder in its place.
    fs::remove_file(home.path(FILE)).expect("a file");
    fs::create_dir(home.path(FILE)).expect("a folder");
    let ended = home.helper("get", HOST);
    assert!(
        ended.stderr.contains("the token cache") && ended.stderr.contains("is not used"),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.json()["Secret"], home.last_password());
}
