//! Opting in by the configuration, and names that are no longer used.

use serde_json::json;

use crate::world::{HOST, NAME, RBAC, REGISTRIES, World, annotation, auths, uid};

fn config(namespaces: &str) -> String {
    format!("defaults: {{registries: [{HOST}]}}\nnamespaces: {namespaces}\n")
}

#[tokio::test]
async fn namespaces_are_included_by_labels_and_names_and_their_annotation_wins() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    for namespace in ["plain", "labelled", "says-none", "app-a", "app-test", "app-other"] {
        world.annotate(namespace, &[]).await;
    }
    world.label("labelled", json!({"team": "blue"})).await;
    world.label("says-none", json!({"team": "blue"})).await;
    world.label("kube-public", json!({"team": "blue"})).await;
    world.annotate("says-none", &[(REGISTRIES, Some("none"))]).await;
    let other = "222222222222.dkr.ecr.eu-central-1.amazonaws.com";
    world.annotate("app-other", &[(REGISTRIES, Some(other))]).await;
    let yaml = config("{selector: {matchLabels: {team: blue}}, include: ['app-*'], exclude: [app-test]}");
    let file = world.config(&yaml);
    world.run_controller_with(&["--config", &file]).await;
    for namespace in ["labelled", "app-a"] {
        let secret = world.wait_for_secret(namespace).await;
        assert_eq!(auths(&secret).into_keys().collect::<Vec<_>>(), [HOST], "{namespace}");
        assert!(annotation(&secret, "applied").contains(r#""byDefault":true"#));
    }
    let asked = world.wait_for_secret("app-other").await;
    assert_eq!(
        auths(&asked).into_keys().collect::<Vec<_>>(),
        [other],
        "what it asks for comes before the default"
    );
    world.annotate("comes-later", &[]).await;
    world.label("comes-later", json!({"team": "blue"})).await;
    world.wait_for_secret("comes-later").await;
    assert_eq!(
        world.all_secrets().await.into_keys().collect::<Vec<_>>(),
        ["app-a", "app-other", "comes-later", "labelled"]
    );

    world.label("labelled", json!({"team": null})).await;
    world.wait_for_no_secret("labelled").await;
    world.annotate("app-a", &[(REGISTRIES, Some("none"))]).await;
    world.wait_for_no_secret("app-a").await;
    world.annotate("app-test", &[(REGISTRIES, Some("default"))]).await;
    world.wait_for_secret("app-test").await;
    world.finish().await;
}

#[tokio::test]
async fn a_configuration_that_includes_far_fewer_takes_nothing_away_until_that_is_confirmed() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    for n in 0..12 {
        world.annotate(&format!("app-{n}"), &[]).await;
    }
    world.opt_in("asks").await;
    let all = world.config(&config("{include: ['*'], exclude: [default, ecr-pull-secrets]}"));
    world.run_controller_with(&["--config", &all]).await;
    world.wait_until("all secrets", async |world: &World| world.all_secrets().await.len() == 13).await;
    world.stop_controller().await;

    let none = world.config(&config("{include: []}"));
    world.run_controller_with(&["--config", &none]).await;
    world.annotate("asks", &[(REGISTRIES, None)]).await;
    world.wait_for_no_secret("asks").await;
    assert_eq!(
        world.all_secrets().await.len(),
        12,
        "the annotation's removal is no matter of the configuration"
    );
    assert!(world.log().contains("--confirm-removals"));
    world.stop_controller().await;

    world.run_controller_with(&["--config", &none, "--confirm-removals"]).await;
    world.wait_until("no secrets", async |world: &World| world.all_secrets().await.is_empty()).await;
    world.finish().await;
}

#[tokio::test]
async fn a_retired_name_is_cleaned_up_once_the_new_one_stands() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    let old = world.config("secretNames: [old-name]");
    let rights = RBAC.replace("[ecr-pull]", "[old-name]");
    world.cluster.apply(&rights).await;
    for namespace in ["team-a", "team-b"] {
        world.opt_in(namespace).await;
    }
    world.run_controller_with(&["--config", &old]).await;
    for namespace in ["team-a", "team-b"] {
        let there = async |world: &World| world.secrets(namespace).get_opt("old-name").await.expect("a look");
        world.wait_for("the old secret", there).await;
    }
    world.stop_controller().await;
    let foreign = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "old-name"}});
    world.annotate("theirs", &[]).await;
    let foreign = serde_json::from_value(foreign).expect("a secret");
    let theirs =
        world.secrets("theirs").create(&kube::api::PostParams::default(), &foreign).await.expect("theirs");

    // While nothing ran, one namespace opted out.
    world.annotate("team-b", &[(REGISTRIES, None)]).await;
    let new = world.config(&format!("secretNames: [{NAME}]\nretiredSecretNames: [old-name]"));
    let wanted = "resourceNames: [ecr-pull]\n    verbs: [get, list, watch, create, patch, delete]";
    let retired = "  - apiGroups: [\"\"]\n    resources: [secrets]\n    resourceNames: [old-name]\n    verbs: [get, list, watch, delete]";
    assert!(RBAC.contains(wanted));
    world.cluster.apply(&RBAC.replace(wanted, &format!("{wanted}\n{retired}"))).await;
    world.run_controller_with(&["--config", &new]).await;
    world.wait_for_secret("team-a").await;
    for namespace in ["team-a", "team-b"] {
        let gone = async |world: &World| {
            world.secrets(namespace).get_opt("old-name").await.expect("a look").is_none()
        };
        world.wait_until("the old secret is gone", gone).await;
    }
    assert!(world.secret("team-b").await.is_none());
    let still = world.secrets("theirs").get("old-name").await.expect("a secret that is not ours stays");
    assert_eq!(uid(&still), uid(&theirs));
    world.finish().await;
}
