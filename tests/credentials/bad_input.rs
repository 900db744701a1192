//! Invalid flags and configurations, and readers that are gone.

use testing::aws::{Behaviour, Fault};

use crate::harness::{HOST, Home, PROGRAM, finish_into};

#[tokio::test]
async fn a_host_that_is_not_a_registry_is_named_with_a_valid_one() {
    let home = Home::start().await;
    for args in [["token", "--registry", "docker.io"], ["login-password", "--registry", "docker.io"]] {
        let ended = home.run(&args);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(
            ended.stderr.contains("\"docker.io\" is not an Amazon ECR registry: expected ACCOUNT.dkr.ecr"),
            "{ended:?}"
        );
    }
    let ended = home.run(&["login", HOST, "123456789012"]);
    assert!(ended.code == Some(2) && ended.stderr.contains("is not an Amazon ECR registry"), "{ended:?}");
    assert_eq!(home.run(&["token", "--region", "europe"]).code, Some(2));
    assert_eq!(home.run(&["token", "--region", "eu-central-1", "--registry", HOST]).code, Some(2));
    assert!(home.aws.calls().is_empty());
}

#[tokio::test]
async fn an_invalid_configuration_is_named_with_its_field() {
    let mut home = Home::start().await;
    let profile =
        |rest: &str| format!("identities: [{{name: x, source: {{profile: p}}, registries: ['*']{rest}}}]");
    for (yaml, text) in [
        (profile(", repositories: ['a/*']"), "identities[0].repositories: without roleArn"),
        (profile(", maxTokenAge: 1h"), "identities[0].maxTokenAge: without roleArn"),
        (
            "identities: [{name: x, source: {profile: ''}, registries: ['*']}]".to_owned(),
            "identities[0].source.profile",
        ),
        ("identities: [{name: x, registries: ['*']}]".to_owned(), "identities[0].roleArn: missing"),
        (
            "commandLine: {cacheFile: tokens.json}".to_owned(),
            "commandLine.cacheFile: \"tokens.json\": expected an absolute",
        ),
        ("commandLine: {cache: x}".to_owned(), "cache"),
    ] {
        home.configure(&yaml);
        let ended = home.run(&["token", "--registry", HOST]);
        assert!(ended.code == Some(2) && ended.stderr.contains(text), "{yaml}: {ended:?}");
    }
    home.configure("");
    home.set("ECR_PULL_SECRETS_CONFIG", "/no/such/file");
    home.run(&["token"]).assert_fails(2, &home.aws, &["/no/such/file"]);
}

#[tokio::test]
async fn the_search_path_of_the_configuration_is_flag_variable_and_user_folder() {
    let mut home = Home::start().await;
    let role = |name: &str| {
        format!(
            "defaults: {{identity: none}}\nidentities: [{{name: a, roleArn: 'arn:aws:iam::123456789012:role/{name}', registries: ['*'], repositories: ['*']}}]"
        )
    };
    let used = |home: &Home, args: &[&str]| {
        home.run(&[&["token", "--registry", HOST], args].concat()).ok();
        home.aws
            .minted()
            .pop()
            .expect("a token")
            .role
            .expect("a role")
            .rsplit('/')
            .next()
            .expect("a name")
            .to_owned()
    };
    home.configure(&role("home"));
    assert_eq!(used(&home, &[]), "home");
    std::fs::create_dir_all(home.path("xdg/ecr-pull-secrets")).expect("a folder");
    home.write("xdg/ecr-pull-secrets/config.yaml", &role("xdg"));
    home.set("XDG_CONFIG_HOME", home.path("xdg").to_str().expect("text"));
    assert_eq!(used(&home, &[]), "xdg");
    home.set(
        "ECR_PULL_SECRETS_CONFIG",
        home.write("variable.yaml", &role("variable")).to_str().expect("text"),
    );
    assert_eq!(used(&home, &[]), "variable");
    let flag = home.write("flag.yaml", &role("flag"));
    assert_eq!(used(&home, &["--config", flag.to_str().expect("text")]), "flag");
}

#[tokio::test]
async fn a_role_with_repositories_of_namespaces_needs_one() {
    let home = Home::start().await;
    home.configure("defaults: {identity: none}\nidentities: [{name: a, roleArn: 'arn:aws:iam::123456789012:role/a', registries: ['*'], repositories: ['{namespace}/*']}]");
    home.run(&["token", "--registry", HOST]).assert_fails(2, &home.aws, &["set --namespace"]);
    home.run(&["token", "--registry", HOST, "--namespace", "team-a"]).ok();
    let policy = home.aws.minted().pop().expect("a token").policy.expect("a policy");
    assert!(policy.contains(":repository/team-a/*\""), "{policy}");
    home.run(&["token", "--registry", HOST, "--namespace", "*"]).assert_fails(
        2,
        &home.aws,
        &["\"*\" is not the name"],
    );
}

#[tokio::test]
async fn the_controller_rejects_a_profile() {
    let home = Home::start().await;
    home.configure("identities: [{name: x, source: {profile: p}, registries: ['*']}]");
    let config = home.path(".config/ecr-pull-secrets/config.yaml");
    let ended = home.run(&["sync", "--config", config.to_str().expect("text")]);
    ended.assert_fails(
        2,
        &home.aws,
        &["identities[0].source.profile: the controller does not support AWS profiles"],
    );
}

#[tokio::test]
async fn each_failure_of_aws_is_one_message_without_a_secret() {
    let home = Home::start().await;
    for fault in Fault::ALL.into_iter().filter(|fault| *fault != Fault::Hang) {
        home.aws.set(Behaviour::failing(fault));
        home.run(&["token", "--registry", HOST]).assert_fails(1, &home.aws, &["error: "]);
        let ended = home.helper("get", HOST);
        ended.assert_fails(1, &home.aws, &["error: "]);
        assert_eq!(format!("error: {}", ended.stdout), ended.stderr, "the protocol's form");
    }
}

#[tokio::test]
async fn a_closed_pipe_is_a_failure() {
    let home = Home::start().await;
    for (args, input) in [
        (&["token", "--registry", HOST][..], ""),
        (&["login-password", "--registry", HOST], ""),
        (&["credential-helper", "get"], HOST),
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = home.command(PROGRAM);
        command.args(args);
        let ended = finish_into(command, input, writer.into());
        assert_eq!(ended.code, Some(1), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains("cannot write to standard output"), "{args:?}: {ended:?}");
    }
}
