//! `login`.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{HOST, Home, OTHER_HOST};

const FILE: &str = ".docker/config.json";
/// What another tool and the user keep there.
const THEIRS: &str = r#"{
	"auths": {"https://index.docker.io/v1/": {"auth": "bWU6aHVudGVyMg=="}, "ghcr.io": {"identitytoken": "x"}},
	"HttpHeaders": {"X-Meta-Source": "me"}, "psFormat": "table {{.ID}}", "plugins": {"debug": {"hooks": "exec"}},
	"currentContext": "remote", "unknown": [1, 2.5, null, {"b": 1, "a": "é"}], "experimental": "enabled"
}"#;

fn auth(home: &Home, region: &str) -> Value {
    let token = home.aws.minted().into_iter().rfind(|token| token.region == region).expect("a token");
    json!({"auth": STANDARD.encode(format!("AWS:{}", token.password))})
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn mode(home: &Home, name: &str) -> u32 {
    fs::metadata(home.path(name)).expect("a file").permissions().mode() & 0o7777
}

#[tokio::test]
async fn login_adds_the_entries_and_keeps_everything_else() {
    let home = Home::start().await;
    home.write("dotfiles.json", THEIRS);
    fs::set_permissions(home.path("dotfiles.json"), Permissions::from_mode(0o640)).expect("a file");
    symlink(home.path("dotfiles.json"), home.path(FILE)).expect("a link");
    let ended = home.run(&["login", HOST, OTHER_HOST, "123456789012.dkr.ecr-fips.us-east-1.amazonaws.com"]);
    assert_eq!(ended.stderr, "");
    assert!(ended.ok().contains(&format!("{HOST}: logged in until 2")));
    let mut expected = parse(THEIRS);
    expected["auths"][HOST] = auth(&home, "eu-central-1");
    let mut found = parse(&home.read(FILE));
    let fips = found["auths"]
        .as_object_mut()
        .expect("entries")
        .remove("123456789012.dkr.ecr-fips.us-east-1.amazonaws.com");
    assert_eq!(fips, Some(auth(&home, "us-east-1")), "the last token of the region");
    let other = found["auths"].as_object_mut().expect("entries").remove(OTHER_HOST).expect("an entry");
    assert_ne!(Some(other), fips, "another endpoint");
    assert_eq!(found, expected);
    assert!(home.path(FILE).is_symlink(), "the link stays");
    assert_eq!(mode(&home, "dotfiles.json"), 0o640);
    assert_eq!(home.aws.minted().len(), 3);
}

#[tokio::test]
async fn login_creates_the_file_that_the_environment_names_for_its_owner_only() {
    let mut home = Home::start().await;
    fs::remove_dir(home.path(".docker")).expect("an empty folder");
    home.run(&["login", HOST]).ok();
    assert_eq!(parse(&home.read(FILE)), json!({"auths": {HOST: auth(&home, "eu-central-1")}}));
    assert_eq!((mode(&home, FILE), mode(&home, ".docker")), (0o600, 0o700));
    home.set("DOCKER_CONFIG", home.path("other").to_str().expect("text"));
    home.run(&["login", OTHER_HOST]).ok();
    assert_eq!(parse(&home.read("other/config.json"))["auths"][OTHER_HOST], auth(&home, "us-east-1"));
    home.set("REGISTRY_AUTH_FILE", home.path("run/auth.json").to_str().expect("text"));
    home.run(&["login", OTHER_HOST]).ok();
    assert_eq!(parse(&home.read("run/auth.json"))["auths"][OTHER_HOST], auth(&home, "us-east-1"));
}

#[tokio::test]
async fn login_warns_where_a_helper_takes_precedence() {
    let home = Home::start().await;
    for (settings, warned) in [
        (json!({"credsStore": "desktop"}), "credsStore (desktop) takes precedence"),
        (json!({"credHelpers": {HOST: "ecr-login"}}), "credHelpers (ecr-login) takes precedence"),
        (json!({"credHelpers": {"gcr.io": "gcloud"}}), ""),
    ] {
        home.write(FILE, &settings.to_string());
        let ended = home.run(&["login", HOST]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stderr.contains(warned) && ended.stderr.is_empty() == warned.is_empty(), "{ended:?}");
        assert_eq!(parse(&home.read(FILE))["auths"][HOST], auth(&home, "eu-central-1"));
    }
}

#[tokio::test]
async fn a_file_that_is_read_only_or_corrupt_keeps_its_content() {
    let home = Home::start().await;
    for corrupt in ["{\"auths\": {\"a\": {\"auth\": \"c2VjcmV0\"}", "[]", "{\"auths\": []}", "null", "\u{1}"]
    {
        home.write(FILE, corrupt);
        let ended = home.run(&["login", HOST]);
        ended.assert_fails(1, &home.aws, &["config.json", "the file is unchanged", "correct the file"]);
        assert!(!ended.stderr.contains("c2VjcmV0"), "{}", ended.stderr);
        assert_eq!(home.read(FILE), corrupt);
    }
    home.write(FILE, THEIRS);
    fs::set_permissions(home.path(FILE), Permissions::from_mode(0o400)).expect("a file");
    home.run(&["login", HOST]).assert_fails(1, &home.aws, &["read-only", "--auth-file"]);
    assert_eq!(home.read(FILE), THEIRS);
    assert_eq!(mode(&home, FILE), 0o400);
}

#[tokio::test]
async fn a_host_that_fails_leaves_the_file_as_it_is() {
    let home = Home::start().await;
    home.write(FILE, THEIRS);
    home.aws.set_for_region("us-east-1", testing::aws::Behaviour::failing(testing::aws::Fault::AccessDenied));
    home.run(&["login", HOST, OTHER_HOST]).assert_fails(1, &home.aws, &[OTHER_HOST, "AccessDenied"]);
    assert_eq!(home.read(FILE), THEIRS);
}

#[tokio::test]
async fn logins_at_once_lose_no_entry() {
    let home = Home::start().await;
    home.write(FILE, THEIRS);
    // Each one syncs the file, and waits for the lock for 10 s at most.
    let hosts: Vec<_> = (0..6).map(|n| format!("{n:012}.dkr.ecr.eu-central-1.amazonaws.com")).collect();
    std::thread::scope(|scope| {
        for host in &hosts {
            scope.spawn(|| home.run(&["login", host]).ok());
        }
    });
    let found = parse(&home.read(FILE));
    for host in &hosts {
        assert!(found["auths"][host]["auth"].is_string(), "{host} is lost: {found}");
    }
    assert_eq!(found["auths"]["ghcr.io"], json!({"identitytoken": "x"}));
}
