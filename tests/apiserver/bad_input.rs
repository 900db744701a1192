//! Annotations as an adversary writes them: no panic, a bounded cost, no token for a stranger, and the others are
//! served.

use std::fmt::Write as _;

use serde_json::json;
use testing::process::Process;
use testing::tenants::{HOST, REGISTRIES, auths, hosts};

use crate::harness::cluster_test;

#[test]
fn whatever_an_annotation_contains_the_others_are_served() {
    cluster_test(async |cluster| {
        cluster.run_controller().await;
        let mut thousands = String::new();
        for n in 0..2_000u64 {
            write!(thousands, "{n:012}.dkr.ecr.eu-central-1.amazonaws.com,").expect("a string");
        }
        let large = "x".repeat(200 * 1024);
        let longest = "n".repeat(63);
        cluster.annotate("large", &[(REGISTRIES, Some(HOST)), ("example.com/large", Some(&large))]).await;
        cluster.request("large-value", &large).await;
        cluster.request("thousands", &thousands).await;
        cluster.request("non-ascii", "１２３４５６７８９０１２ \u{202e}evil \u{0}").await;
        cluster.request("look-alike", &format!("{HOST}.evil.example")).await;
        cluster.request("empty", "").await;
        cluster
            .annotate(
                "bad-name",
                &[(REGISTRIES, Some(HOST)), ("ecr-pull-secrets.dev/secret-name", Some("kube-root"))],
            )
            .await;
        cluster
            .annotate("ungranted", &[(REGISTRIES, Some(HOST)), ("ecr-pull-secrets.dev/role", Some("admin"))])
            .await;
        cluster.request(&longest, HOST).await;

        for namespace in ["large", &longest] {
            let secret = cluster.wait_for_secret(namespace).await;
            assert_eq!(hosts(&secret), [HOST], "{namespace}");
        }
        let capped = cluster.wait_for_secret("thousands").await;
        assert_eq!(auths(&capped).len(), 64);
        for (namespace, reason, said) in [
            ("large-value", "InvalidAnnotation", "(204800 bytes)"),
            ("thousands", "InvalidAnnotation", "at most 64 registries"),
            ("non-ascii", "InvalidAnnotation", "is not an Amazon ECR"),
            ("look-alike", "InvalidAnnotation", "amazonaws.com.evil.example"),
            ("empty", "InvalidAnnotation", "empty"),
            ("bad-name", "InvalidAnnotation", "\"kube-root\" is not allowed"),
            ("ungranted", "NotGranted", "\"admin\" is unknown or not granted"),
        ] {
            let message = cluster.wait_for_message(namespace, reason).await;
            assert!(message.contains(said) && message.len() < 1_100, "{namespace}: {message}");
        }
        for namespace in ["large-value", "non-ascii", "look-alike", "empty", "bad-name", "ungranted"] {
            assert!(cluster.secret(namespace).await.is_none(), "{namespace} got a token");
        }
        assert_eq!(cluster.aws.calls_for_tokens().len(), 1);
    });
}

#[test]
fn misspelled_keys_are_reported_and_change_nothing_else() {
    cluster_test(async |cluster| {
        cluster.annotate("earlier", &[("ecr-pull-secrets.dev/registry", Some(HOST))]).await;
        cluster.run_controller().await;
        let typo = ("ecr-pull-secrets.dev/secretName", Some("x"));
        cluster.annotate("opted-in", &[(REGISTRIES, Some(HOST)), typo]).await;
        cluster.annotate("typo", &[("ecr-pull-secrets.dev/regsitries", Some(HOST))]).await;
        cluster.annotate("label", &[]).await;
        cluster.label("label", json!({ (REGISTRIES): "default" })).await;
        for (namespace, said) in [
            ("earlier", "\"ecr-pull-secrets.dev/registry\": did you mean the annotation \"registries\"?"),
            ("opted-in", "\"ecr-pull-secrets.dev/secretName\": did you mean the annotation \"secret-name\"?"),
            ("typo", "\"ecr-pull-secrets.dev/regsitries\": did you mean the annotation \"registries\"?"),
            ("label", "the label \"ecr-pull-secrets.dev/registries\" has no effect"),
        ] {
            let event = cluster.wait_for_event(namespace, "InvalidAnnotation").await;
            let message = event.message.expect("a message");
            assert!(message.contains(said), "{namespace}: {message}");
            assert_eq!(message.contains("did not opt in"), namespace != "opted-in", "{message}");
            assert!(event.involved_object.uid.is_some_and(|uid| !uid.is_empty()), "{namespace}");
        }
        assert_eq!(hosts(&cluster.wait_for_secret("opted-in").await), [HOST]);
        for namespace in ["earlier", "typo", "label"] {
            assert!(cluster.secret(namespace).await.is_none(), "{namespace} got a token");
        }
        cluster.opt_in("typo").await;
        cluster.wait_for_secret("typo").await;
    });
}

#[test]
fn a_namespace_whose_annotation_is_fixed_is_served_at_once() {
    cluster_test(async |cluster| {
        cluster.run_controller().await;
        cluster.request("team-a", "nonsense").await;
        cluster.wait_for_event("team-a", "InvalidAnnotation").await;
        cluster.opt_in("team-a").await;
        cluster.wait_for_secret("team-a").await;
    });
}

#[test]
fn an_annotation_forges_no_line_of_the_log() {
    cluster_test(async |cluster| {
        let forged = "x\n2026-01-01T00:00:00Z ERROR forged\r\u{1b}[31m\u{202e}gro.live";
        cluster.request("team-a", forged).await;
        cluster
            .annotate("team-b", &[(REGISTRIES, Some(HOST)), ("ecr-pull-secrets.dev/role", Some(forged))])
            .await;
        for format in ["text", "json"] {
            let (code, said) = cluster.run("sync", &["--force", "--log-format", format]).await;
            assert_eq!(code, Some(1), "{said}");
            assert!(
                said.contains("gro.live") && !said.contains('\u{202e}') && !said.contains('\u{1b}'),
                "{said}"
            );
            assert!(!said.lines().any(|line| line.starts_with("2026-01-01")), "{said}");
        }
    });
}

/// Runs the program to its end, without a cluster.
async fn run(args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ecr-pull-secrets"));
    command.args(args).envs(env.iter().copied()).env("AWS_EC2_METADATA_DISABLED", "true");
    let mut process = Process::spawn("program", &command, folder.path());
    (process.wait(std::time::Duration::from_secs(20)).await, process.log())
}

#[tokio::test]
async fn wrong_usage_and_configuration_are_exit_code_2_with_the_field() {
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let unknown = file("unknown", "secretName: ecr-pull\n");
    let range = file("range", "refresh: {at: 1.5}\n");
    let region = file("region", "defaults: {registries: ['123456789012']}\n");
    let role = "name: a, roleArn: 'arn:aws:iam::222222222222:role/a', registries: ['*']";
    let open = file("open", &format!("identities: [{{{role}, repositories: ['*']}}]\n"));
    let unbound = file("unbound", &format!("defaults: {{identity: none}}\nidentities: [{{{role}}}]\n"));
    let caught =
        file("caught", "staticRegistries: [{secret: hub, registries: ['*.dkr.ecr.*.amazonaws.com']}]\n");
    let listen = ["--listen", "127.0.0.1:0"];
    for (args, said) in [
        (vec!["controller", "--config", "/does/not/exist"], "No such file"),
        (vec!["controller", "--config", &unknown], "secretName"),
        (vec!["controller", "--config", &range], "refresh.at: 1.5: expected 0.1 to 0.8"),
        (
            vec!["controller", "--config", &open],
            "defaults.identity: missing, and identities have roles: set \"none\"",
        ),
        (
            vec!["controller", "--config", &unbound],
            "identities[0].repositories: missing: list the repositories",
        ),
        (
            vec!["controller", "--config", &caught],
            "staticRegistries[0].registries[0]: \"*.dkr.ecr.*.amazonaws.com\" matches",
        ),
        (vec!["controller", "--kubeconfig", "/does/not/exist"], "--kubeconfig"),
        (vec!["controller", "--log-level", "loud=very"], "--log-level"),
        (vec!["sync", "--no-such-flag"], "--no-such-flag"),
    ] {
        let mut all = args.clone();
        if args[0] == "controller" {
            all.extend(listen);
        }
        let (code, said_all) = run(&all, &[]).await;
        assert_eq!(code, Some(2), "{args:?}: {said_all}");
        assert!(said_all.contains(said), "{args:?}: {said_all}");
    }
    let run_with = async |env: (&str, &str)| run(&["controller", "--listen", "127.0.0.1:0"], &[env]).await;
    let (code, said) = run_with(("ECR_PULL_SECRETS_CONFIG", "/nowhere")).await;
    assert_eq!((code, said.contains("/nowhere")), (Some(2), true), "{said}");
    let (code, said) = run_with(("AWS_REGION", "nowhere")).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("AWS_REGION") && said.contains("\"nowhere\""), "{said}");
    // White space around a region is ignored: what fails is the next thing that the start needs.
    let args = ["controller", "--listen", "127.0.0.1:0", "--config", &region, "--kubeconfig", "/nowhere"];
    let (code, said) = run(&args, &[("AWS_REGION", " eu-central-1\n")]).await;
    assert_eq!((code, said.contains("AWS_REGION")), (Some(2), false), "{said}");
    assert!(said.contains("--kubeconfig"), "{said}");
    // Tokens and credentials are not sent in the open, whichever setting names the endpoint.
    for variable in
        ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_ECR", "AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL_SSO"]
    {
        let (code, said) = run_with((variable, "http://aws.example:80")).await;
        let expected = format!("{variable}: \"http://aws.example:80\": expected https://");
        assert_eq!((code, said.contains(&expected)), (Some(2), true), "{said}");
    }
}

#[tokio::test]
async fn help_names_every_flag_with_its_variable() {
    let (code, help) = run(&["controller", "--help"], &[]).await;
    assert_eq!(code, Some(0));
    for flag in ["config", "kubeconfig", "context", "listen", "log-format", "log-level"] {
        let variable = format!("ECR_PULL_SECRETS_{}", flag.to_uppercase().replace('-', "_"));
        assert!(help.contains(&format!("--{flag}")) && help.contains(&variable), "{flag}: {help}");
    }
}
