//! `status`: what it shows, with which rights and requests.

use std::collections::BTreeSet;

use serde_json::json;
use testing::aws::{Behaviour, Fault};
use testing::control_plane::AuditEntry;
use testing::tenants::{HOST, NAME};

use crate::harness::cluster_test;
use crate::users::User;

const RBAC_STATUS: &str = include_str!("../../deploy/rbac-status.yaml");

/// The requests of a user for objects, in the order of the audit log. Those for paths, such as the version, are empty.
fn requests(cluster: &crate::harness::TestCluster, user: &User) -> Vec<AuditEntry> {
    let mut all = cluster.control_plane.audit();
    all.retain(|entry| entry.user == user.name);
    all
}

fn shape(entry: &AuditEntry) -> (&str, &str, Option<&str>) {
    (&entry.verb, &entry.resource, entry.name.as_deref())
}

#[test]
fn each_namespace_has_a_line_and_json_has_the_same() {
    cluster_test(async |cluster| {
        cluster.control_plane.apply(RBAC_STATUS).await;
        cluster.run_controller().await;
        cluster.opt_in("good").await;
        cluster.request("bad", "nonsense").await;
        cluster.annotate("plain", &[]).await;
        cluster.wait_for_secret("good").await;
        let user = User::with_roles(cluster, "viewer", &["ecr-pull-secrets-status"]).await;

        let output = user.run(cluster, &["status", "-A"]).await;
        assert_eq!(output.code, Some(0), "{}", output.text);
        let lines: Vec<_> = output.text.lines().collect();
        assert!(lines[0].starts_with("NAMESPACE   STATE     SECRET     REGISTRIES"), "{}", output.text);
        assert!(
            lines[1].starts_with("bad         Blocked   <none>") && lines[1].contains("nonsense"),
            "{}",
            lines[1]
        );
        assert!(
            lines[2].starts_with(&format!("good        Ready     ecr-pull   {HOST}   controller")),
            "{}",
            lines[2]
        );
        assert_eq!(lines.len(), 3);
        assert!(!output.text.contains('\u{1b}'), "colors only on a terminal");

        let list = user.run(cluster, &["status", "-A", "-o", "json"]).await.json();
        assert_eq!(list["kind"], "NamespaceStatusList");
        assert_eq!(list["items"][1]["namespace"], "good");
        assert_eq!(list["items"][1]["registries"][0]["registry"], HOST);
        let yaml = user.run(cluster, &["status", "-A", "-o", "yaml"]).await.text;
        let parsed: serde_json::Value = serde_saphyr::from_str(&yaml).expect("YAML");
        assert_eq!(parsed["items"][0]["state"], "blocked");
        assert_eq!(
            user.run(cluster, &["status", "-A", "-o", "name"]).await.text,
            "namespace/bad\nnamespace/good\n"
        );

        let one = user.run(cluster, &["status", "-n", "good", "-o", "name"]).await;
        assert_eq!(one.text, "namespace/good\n");
        let none = user.run(cluster, &["status", "-n", "plain"]).await;
        assert_eq!((none.code, none.text.contains("did not opt in")), (Some(0), true), "{}", none.text);
        let missing = user.run(cluster, &["status", "-n", "missing"]).await;
        assert_eq!((missing.code, missing.text.contains("not found")), (Some(1), true), "{}", missing.text);
        cluster.label("good", json!({"team": "a"})).await;
        let selected = user.run(cluster, &["status", "-A", "-l", "team in (a,b)", "-o", "name"]).await;
        assert_eq!(selected.text, "namespace/good\n");
        let wrong = user.run(cluster, &["status", "-A", "-l", "team in a"]).await;
        assert_eq!(wrong.code, Some(1), "{}", wrong.text);
        let current = user.run(cluster, &["status"]).await;
        assert!(current.text.contains("\"ecr-pull-secrets\" did not opt in"), "{}", current.text);
    });
}

#[test]
fn without_rights_on_secrets_it_shows_what_namespaces_and_events_tell() {
    cluster_test(async |cluster| {
        cluster.run_controller().await;
        cluster.aws.set(Behaviour::failing(Fault::AccessDenied));
        cluster.opt_in("failing").await;
        cluster.request("bad", "nonsense").await;
        cluster.wait_for_event("failing", "TokenFailed").await;
        cluster.wait_for_event("bad", "InvalidAnnotation").await;
        let rules = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "no-secrets"},
            "rules": [{"apiGroups": [""], "resources": ["namespaces", "events"], "verbs": ["get", "list"]}],
        });
        cluster.control_plane.apply(&rules.to_string()).await;
        let user = User::with_roles(cluster, "guest", &["no-secrets"]).await;
        let output = user.run(cluster, &["status", "-A"]).await;
        assert_eq!(output.code, Some(0), "{}", output.text);
        let line =
            |name: &str| output.text.lines().find(|line| line.starts_with(name)).expect(name).to_owned();
        assert!(
            line("bad").contains("Unknown") && line("bad").contains("InvalidAnnotation"),
            "{}",
            line("bad")
        );
        assert!(
            line("failing").contains("Unknown") && line("failing").contains("TokenFailed: could not fetch")
        );
        assert!(output.text.contains("rbac-status.yaml"), "{}", output.text);
        let nothing = User::with_roles(cluster, "nothing", &[]).await;
        let output = nothing.run(cluster, &["status", "-A"]).await;
        assert_eq!(
            (output.code, output.text.contains("deploy/rbac-status.yaml")),
            (Some(1), true),
            "{}",
            output.text
        );
    });
}

#[test]
fn without_the_events_it_prints_how_to_see_why_a_namespace_is_pending() {
    cluster_test(async |cluster| {
        cluster.control_plane.apply(RBAC_STATUS).await;
        cluster.run_controller().await;
        cluster.aws.set(Behaviour::failing(Fault::AccessDenied));
        cluster.opt_in("failing").await;
        cluster.wait_for_event("failing", "TokenFailed").await;
        // As the controller's service account, this user may not list Events.
        let user = User::with_roles(cluster, "viewer", &["ecr-pull-secrets-status"]).await;
        let all = user.run(cluster, &["status", "-A"]).await.text;
        assert!(all.contains("Pending") && all.contains("--events adds"), "{all}");
        let one = user.run(cluster, &["status", "-n", "failing"]).await.text;
        assert!(one.contains("cannot list resource") && one.contains("kubectl events -n NAME"), "{one}");
        let admin = User::admin(cluster).run(cluster, &["status", "-n", "failing"]).await.text;
        assert!(admin.contains("TokenFailed: could not fetch") && !admin.contains("Events"), "{admin}");
    });
}

#[test]
fn two_thousand_namespaces_take_one_list_of_namespaces_and_one_for_each_name() {
    cluster_test(async |cluster| {
        cluster.control_plane.apply(RBAC_STATUS).await;
        let all: Vec<_> = (0..2_000).collect();
        for chunk in all.chunks(50) {
            let created = chunk.iter().map(|n| cluster.opt_in_teams(*n..n + 1));
            futures::future::join_all(created).await;
        }
        let synced =
            User::controller(cluster).run(cluster, &["sync", "--force", "--log-level", "warn"]).await;
        assert_eq!(synced.code, Some(0), "{}", synced.text);
        let user = User::with_roles(cluster, "viewer", &["ecr-pull-secrets-status"]).await;
        let output = user.run(cluster, &["status", "-A"]).await;
        assert_eq!((output.code, output.text.lines().count()), (Some(0), 2_001), "{}", output.text);
        assert!(output.text.lines().skip(1).all(|line| line.contains("Ready")));
        let count = async || requests(cluster, &user).len() >= 2;
        cluster.wait_until("the audit log", count).await;
        let requests = requests(cluster, &user);
        let shapes: BTreeSet<_> = requests.iter().map(shape).collect();
        assert_eq!(shapes, BTreeSet::from([("list", "namespaces", None), ("list", "secrets", Some(NAME))]));
        assert_eq!(requests.len(), 2, "{requests:?}");
        println!("2,000 namespaces: {} requests", requests.len());
    });
}

#[test]
fn states_have_colors_on_a_terminal_unless_no_color_is_set() {
    cluster_test(async |cluster| {
        cluster.request("bad", "nonsense").await;
        let admin = User::admin(cluster);
        let colored = admin.run_in_terminal(cluster, &["status", "-A"], ("LANG", "C")).await;
        assert!(colored.text.contains("\u{1b}[31mBlocked\u{1b}[0m"), "{:?}", colored.text);
        let plain = admin.run_in_terminal(cluster, &["status", "-A"], ("NO_COLOR", "1")).await;
        assert!(plain.text.contains("Blocked") && !plain.text.contains('\u{1b}'), "{:?}", plain.text);
    });
}

#[test]
fn watch_prints_each_row_that_changes() {
    cluster_test(async |cluster| {
        cluster.control_plane.apply(RBAC_STATUS).await;
        cluster.run_controller().await;
        cluster.opt_in("first").await;
        cluster.wait_for_secret("first").await;
        let user = User::with_roles(cluster, "viewer", &["ecr-pull-secrets-status"]).await;
        let mut process = user.start(&["status", "-A", "--watch"]);
        let line = |log: &str, start: &[&str]| {
            let matches = |line: &&str| line.split_whitespace().take(start.len()).eq(start.iter().copied());
            log.lines().filter(matches).count()
        };
        cluster.wait_until("the first row", async || line(&process.log(), &["first", "Ready"]) >= 1).await;
        cluster.opt_in("second").await;
        cluster.wait_until("the second row", async || line(&process.log(), &["second", "Ready"]) >= 1).await;
        cluster.request("first", &format!("{HOST} nonsense")).await;
        cluster.wait_until("its problem", async || line(&process.log(), &["first", "Degraded"]) >= 1).await;
        assert_eq!(line(&process.log(), &["NAMESPACE", "STATE"]), 1, "one header");
        process.terminate();
        assert_eq!(process.wait(std::time::Duration::from_mins(1)).await, Some(0), "{}", process.log());
        testing::leaks::assert_none(&process.log(), &cluster.aws.secrets());
    });
}
