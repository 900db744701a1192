//! `explain`: what a namespace gets, without a request to AWS and without a write.

use serde_json::json;
use testing::tenants::{HOST, annotation};

use crate::harness::cluster_test;
use crate::users::User;

const RBAC_STATUS: &str = include_str!("../../deploy/rbac-status.yaml");
const ROLE: &str = "arn:aws:iam::222222222222:role/own";
const THEIRS: &str = "222222222222.dkr.ecr.eu-central-1.amazonaws.com";
const CONFIG: &str = "defaults: {identity: none}
identities:
  - name: own
    roleArn: arn:aws:iam::222222222222:role/own
    namespaces: [team-*]
    registries: [222222222222/*]
    repositories: ['{namespace}/*']
";

#[test]
fn it_shows_what_the_controller_writes_and_what_is_refused() {
    cluster_test(async |cluster| {
        cluster.control_plane.apply(RBAC_STATUS).await;
        let config = cluster.config(CONFIG);
        let user = User::with_roles(cluster, "viewer", &["ecr-pull-secrets-status"]).await;
        cluster.request("team-a", &format!("{THEIRS} {HOST}")).await;

        let args = ["explain", "-n", "team-a", "--config", &config, "-o", "json"];
        let before = user.run(cluster, &args).await;
        assert_eq!(before.code, Some(0), "{}", before.text);
        let before = before.json();
        assert_eq!(before["next"], "write secret \"ecr-pull\": it did not exist");
        let entry = &before["entries"][0];
        assert_eq!((&entry["registry"], &entry["identity"]), (&json!(THEIRS), &json!("own")), "{before}");
        assert_eq!(entry["roleArn"], ROLE);
        assert_eq!(entry["grantedBy"], "namespaces: team-* of identity \"own\"");
        let policy = entry["sessionPolicy"].to_string();
        assert!(policy.contains("repository/team-a/*") && !policy.contains("PutImage"), "{policy}");
        assert_eq!(before["entries"].as_array().map(Vec::len), Some(1));
        assert_eq!(before["refused"][0]["reason"], "NotGranted");
        assert!(before["refused"][0]["message"].as_str().is_some_and(|text| text.contains(HOST)), "{before}");
        assert!(cluster.aws.calls().is_empty(), "no request to AWS");

        cluster.run_controller_with(&["--config", &config]).await;
        let secret = cluster.wait_for_secret("team-a").await;
        let mut policies = cluster.aws.calls().into_iter().filter_map(|call| call.policy);
        let sent: serde_json::Value =
            serde_json::from_str(&policies.next_back().expect("a session")).expect("JSON");
        assert_eq!(sent, entry["sessionPolicy"]);
        let scope = entry["scope"].as_str().expect("a scope");
        assert!(annotation(&secret, "applied").contains(scope));
        let after = user.run(cluster, &args).await.json();
        assert_eq!(after["entries"], before["entries"]);
        assert!(after["next"].as_str().is_some_and(|next| next.starts_with("none until")), "{after}");

        let text = user.run(cluster, &args[..5]).await.text;
        assert!(text.contains(&format!("Role:          {ROLE}, as session")), "{text}");
        assert!(text.contains("\nRefused:\n  NotGranted: ecr-pull-secrets.dev/registries:"), "{text}");
        let wrote = cluster.control_plane.audit().into_iter().filter(|entry| entry.user == user.name);
        assert!(wrote.into_iter().all(|entry| entry.verb == "get"), "only reads");
    });
}

#[test]
fn a_file_needs_no_cluster() {
    cluster_test(async |cluster| {
        let config = cluster.config(CONFIG);
        let user = User::with_roles(cluster, "nothing", &[]).await;
        let namespace = cluster.config_named(
            "namespace.yaml",
            &format!("kind: ConfigMap\n---\nkind: Namespace\nmetadata: {{name: team-b, annotations: {{ecr-pull-secrets.dev/registries: {THEIRS}}}}}\n"),
        );
        let shown =
            user.run(cluster, &["explain", "-f", &namespace, "--config", &config, "-o", "yaml"]).await;
        assert_eq!(shown.code, Some(0), "{}", shown.text);
        assert!(
            shown.text.contains("team-b/*") && shown.text.contains("kind: NamespaceExplanation"),
            "{}",
            shown.text
        );
        let requests =
            cluster.control_plane.audit().into_iter().filter(|entry| entry.user == user.name).count();
        assert_eq!((requests, cluster.aws.calls().len()), (0, 0));
        let none = user.run(cluster, &["explain", "-f", &config]).await;
        assert_eq!(
            (none.code, none.text.contains("expected a document of kind Namespace")),
            (Some(1), true),
            "{}",
            none.text
        );
        let missing = user.run(cluster, &["explain", "-f", "/nowhere"]).await;
        assert_eq!(
            (missing.code, missing.text.contains("/nowhere: cannot read it")),
            (Some(1), true),
            "{}",
            missing.text
        );
    });
}
