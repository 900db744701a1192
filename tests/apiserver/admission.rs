//! What a stolen credential of the controller can do, and which layer refuses the rest: RBAC or the admission policy,
//! both as the chart renders them.

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use testing::stolen::{Stolen, TYPE, secret};

use crate::chart::{RELEASE, configuration, install};
use crate::world::{HOST, NAME, REGISTRIES, World};

const VALUES: [&str; 2] = [
    "--set-json",
    r#"config={"secretNames":["ecr-pull"],"serviceAccounts":{"enabled":true},"namespaces":{
        "selector":{"matchLabels":{"team":"blue"},"matchExpressions":[{"key":"stage","operator":"NotIn","values":["test","it's \"q\""]}]},
        "include":["app-*"],"exclude":["app-test"]},
        "defaults":{"registries":["123456789012.dkr.ecr.eu-central-1.amazonaws.com"]}}"#,
];

/// A cluster with the chart's rights and policies, the latter in force.
async fn installed() -> (World, Stolen) {
    let world = World::start().await;
    install(&world, &VALUES).await;
    let kubeconfig = world.cluster.kubeconfig_for(RELEASE, RELEASE).await;
    let client = world.cluster.client_for(&kubeconfig).await;
    let stolen = Stolen { client, admin: world.admin.clone() };
    world.annotate("probe", &[]).await;
    service_account(&world, "probe", "probe").await;
    let in_force = async |_: &World| stolen.policies_are_in_force("probe", "probe").await;
    world.wait_until("the policies are in force", in_force).await;
    (world, stolen)
}

async fn service_account(world: &World, namespace: &str, name: &str) {
    let accounts: Api<ServiceAccount> = Api::namespaced(world.admin.clone(), namespace);
    let account = serde_json::from_value(json!({"metadata": {"name": name}})).expect("a service account");
    accounts.create(&PostParams::default(), &account).await.expect("it is created");
}

#[tokio::test]
async fn a_stolen_credential_reaches_no_other_secret_and_no_other_namespace() {
    if !testing::real_cluster() {
        return;
    }
    let (world, stolen) = installed().await;
    world.annotate("tenant", &[]).await;
    world.opt_in("opted-in").await;
    for namespace in ["tenant", "opted-in"] {
        stolen.reaches_no_other_name(namespace).await;
    }
    stolen.creates_nothing_else("opted-in", "tenant").await;
    stolen.leaves_a_foreign_secret_alone("opted-in").await;
}

#[tokio::test]
async fn the_policy_knows_the_configured_opt_in_as_the_controller_does() {
    if !testing::real_cluster() {
        return;
    }
    let (world, stolen) = installed().await;
    for (namespace, labels, annotation, allowed) in [
        ("plain", json!({}), None, false),
        ("asks", json!({}), Some(HOST), true),
        ("says-none", json!({"team": "blue"}), Some(" none\n"), false),
        ("labelled", json!({"team": "blue"}), None, true),
        ("labelled-test", json!({"team": "blue", "stage": "test"}), None, false),
        ("labelled-live", json!({"team": "blue", "stage": "live"}), None, true),
        ("other-team", json!({"team": "red"}), None, false),
        ("app-one", json!({}), None, true),
        ("app-test", json!({"team": "blue"}), None, false),
        ("app-test-asks", json!({}), Some(""), true),
        ("kube-app", json!({"team": "blue"}), None, false),
    ] {
        world.annotate(namespace, &[]).await;
        world.label(namespace, labels).await;
        world.annotate(namespace, &[(REGISTRIES, annotation)]).await;
        let expected = async |_: &World| {
            let said = stolen.apply(namespace, NAME, secret(NAME, TYPE, RELEASE)).await;
            let _ = world.secrets(namespace).delete(NAME, &DeleteParams::default()).await;
            if allowed { said == "allowed" } else { said.contains("in namespaces that opted in") }
        };
        // Its view of a namespace may lag for a moment.
        world.wait_until(&format!("{namespace}: allowed is {allowed}"), expected).await;
    }
    let config = world.config(&configuration(&VALUES).await);
    let (code, said) = world.run("sync", &["--config", &config, "--force"]).await;
    assert_eq!(code, Some(1), "an empty annotation is an error: {said}");
    let served: Vec<_> = world.all_secrets().await.into_keys().collect();
    assert_eq!(served, ["app-one", "asks", "labelled", "labelled-live"], "{said}");
}

#[tokio::test]
async fn of_service_accounts_only_the_reference_to_its_own_secret_can_be_changed() {
    if !testing::real_cluster() {
        return;
    }
    let (world, stolen) = installed().await;
    world.opt_in("team-a").await;
    stolen.changes_only_references("team-a").await;
}

#[tokio::test]
async fn under_the_charts_rights_and_policies_the_whole_job_is_done() {
    if !testing::real_cluster() {
        return;
    }
    let (mut world, _) = installed().await;
    let config = world.config(&configuration(&VALUES).await);
    world.run_controller_with(&["--config", &config, "--leader-election"]).await;
    for n in 0..30 {
        world.opt_in(&format!("team-{n}")).await;
    }
    for n in 0..30 {
        world.wait_for_secret(&format!("team-{n}")).await;
    }
    let denied: Vec<_> = world.requests("patch").into_iter().filter(|entry| entry.code == 403).collect();
    println!("refused while the policy's view lagged: {} of 30", denied.len());
    // It is put right, also when its labels are gone.
    let strip = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null, "app.kubernetes.io/instance": null}}});
    for (namespace, edit) in [("team-0", json!({"data": {".dockerconfigjson": "e30="}})), ("team-1", strip)] {
        let before = world.wait_for_secret(namespace).await;
        world.edit(namespace, edit).await;
        let repaired = async |world: &World| {
            let now = world.secret(namespace).await.expect("it stays");
            now.data == before.data && now.metadata.labels == before.metadata.labels
        };
        world.wait_until(&format!("{namespace} is put right"), repaired).await;
    }
    world.annotate("team-2", &[("ecr-pull-secrets.dev/service-accounts", Some("builder"))]).await;
    service_account(&world, "team-2", "builder").await;
    let accounts: Api<ServiceAccount> = Api::namespaced(world.admin.clone(), "team-2");
    let attached = async |wanted: usize| {
        let account = accounts.get("builder").await.expect("it is there");
        account.image_pull_secrets.unwrap_or_default().len() == wanted
    };
    world.wait_until("the reference", async |_: &World| attached(1).await).await;
    world.annotate("team-2", &[(REGISTRIES, Some("none"))]).await;
    world.wait_until("no reference", async |_: &World| attached(0).await).await;
    world.annotate("team-3", &[(REGISTRIES, None)]).await;
    for namespace in ["team-2", "team-3"] {
        world.wait_for_no_secret(namespace).await;
    }
    for n in 0..30 {
        let events = world.events(&format!("team-{n}")).await;
        assert!(!events.iter().any(|event| event.reason.as_deref() == Some("WriteFailed")), "{events:?}");
    }
    world.finish().await;
}
