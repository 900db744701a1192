//! `ecr-pull-secrets cleanup`: nothing stays behind that an instance made, and nothing else is touched.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::world::{NAME, RBAC, World, uid};

const OWN: &str = "ecr-pull-secrets";
const ACCOUNTS: &str = include_str!("../../deploy/rbac-service-accounts.yaml");

/// The rights that cleaning up takes: its own, and to delete the Lease.
async fn allow(world: &World) {
    world.cluster.apply(&RBAC.replace("[get, create, update]", "[get, create, update, delete]")).await;
}

#[tokio::test]
async fn it_says_what_it_would_do_and_does_it_with_yes() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    allow(&world).await;
    world.cluster.apply(ACCOUNTS).await;
    let file = world.config("serviceAccounts: {enabled: true}");
    world.run_controller_with(&["--config", &file, "--leader-election"]).await;
    for namespace in ["team-a", "team-b"] {
        world.annotate(namespace, &[("ecr-pull-secrets.dev/service-accounts", Some("builder"))]).await;
        let accounts: Api<ServiceAccount> = Api::namespaced(world.admin.clone(), namespace);
        let builder = json!({"metadata": {"name": "builder"}, "imagePullSecrets": [{"name": "theirs"}]});
        let builder = serde_json::from_value(builder).expect("a service account");
        accounts.create(&PostParams::default(), &builder).await.expect("it is created");
        world.opt_in(namespace).await;
    }
    let accounts: Api<ServiceAccount> = Api::namespaced(world.admin.clone(), "team-a");
    let references = async || {
        let account = accounts.get("builder").await.expect("it is there");
        let all = account.image_pull_secrets.unwrap_or_default();
        all.into_iter().map(|reference| reference.name).collect::<Vec<_>>()
    };
    world.wait_until("the reference", async |_: &World| references().await == ["theirs", NAME]).await;
    world.wait_for_secret("team-b").await;
    world.annotate("foreign", &[]).await;
    let foreign = serde_json::from_value(json!({"metadata": {"name": NAME}})).expect("a secret");
    let foreign = world.secrets("foreign").create(&PostParams::default(), &foreign).await.expect("theirs");

    let (code, said) = world.run("cleanup", &["--config", &file]).await;
    assert_eq!(code, Some(0), "{said}");
    for line in
        ["would delete secret team-a/ecr-pull", "service account team-b/builder", "nothing was changed"]
    {
        assert!(said.contains(line), "{line:?} in {said}");
    }
    assert_eq!(world.all_secrets().await.len(), 3);
    let (code, said) = world.run("cleanup", &["--config", &file, "--yes", "--wait", "1"]).await;
    assert_eq!(code, Some(1), "the controller would make it all again: {said}");
    assert!(said.contains("a controller of this instance is running"), "{said}");
    world.stop_controller().await;

    let (code, said) = world.run("cleanup", &["--config", &file, "--yes"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("2 references and 2 secrets of instance \"ecr-pull-secrets\" removed, 0 failed"),
        "{said}"
    );
    let left = world.all_secrets().await;
    assert_eq!(left.keys().collect::<Vec<_>>(), ["foreign"]);
    assert_eq!(uid(&left["foreign"]), uid(&foreign));
    assert_eq!(references().await, ["theirs"]);
    let account = accounts.get("builder").await.expect("it is there");
    assert_eq!(account.metadata.annotations.unwrap_or_default().len(), 0, "our record is gone too");
    let leases: Api<Lease> = Api::namespaced(world.admin.clone(), OWN);
    assert!(leases.get_opt(OWN).await.expect("a look").is_none());
    let (code, said) = world.run("cleanup", &["--config", &file, "--yes"]).await;
    assert_eq!((code, said.contains("0 references and 0 secrets")), (Some(0), true), "{said}");
}

#[tokio::test]
async fn it_waits_for_a_controller_that_is_about_to_end_and_says_what_it_may_not_do() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    let mut leader = world.spawn_candidate("first");
    world.opt_in("team-a").await;
    world.wait_for_secret("team-a").await;
    leader.process.kill9();
    let (code, said) = world.run("cleanup", &["--yes"]).await;
    assert_eq!(code, Some(1), "the right to delete the Lease is missing: {said}");
    assert!(said.contains("the Lease cannot be deleted"), "{said}");
    assert!(world.all_secrets().await.is_empty());
    allow(&world).await;
    let (code, said) = world.run("cleanup", &["--yes"]).await;
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test]
async fn many_are_removed_and_another_instances_stay() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    world.opt_in("of-another").await;
    let another = world.config("instance: another");
    let (code, said) = world.run("sync", &["--config", &another, "--force"]).await;
    assert_eq!(code, Some(0), "{said}");
    for n in 0..120 {
        world.opt_in(&format!("team-{n}")).await;
    }
    world.run_controller_with(&[]).await;
    world.wait_until("all secrets", async |world: &World| world.all_secrets().await.len() == 121).await;
    world.stop_controller().await;
    allow(&world).await;
    let (code, said) = world.run("cleanup", &["--yes"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("120 secrets of instance"), "{said}");
    assert_eq!(world.all_secrets().await.into_keys().collect::<Vec<_>>(), ["of-another"]);
}
