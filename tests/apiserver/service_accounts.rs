//! The annotation `service-accounts`: the Secret is added to `imagePullSecrets`, and what others put there is theirs.

use std::time::Duration;

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::world::{HOST, NAME, REGISTRIES, World};

const RBAC: &str = include_str!("../../deploy/rbac-service-accounts.yaml");
const ACCOUNTS: &str = "ecr-pull-secrets.dev/service-accounts";
const ATTACHED: &str = "ecr-pull-secrets.dev/attached";
const CONFIG: &str = "secretNames: [ecr-pull, other]\nserviceAccounts: {enabled: true}";

async fn begin() -> (World, String) {
    let world = World::start().await;
    world.cluster.apply(RBAC).await;
    let both = include_str!("../../deploy/rbac.yaml").replace("[ecr-pull]", "[ecr-pull, other]");
    world.cluster.apply(&both).await;
    let config = world.config(CONFIG);
    (world, config)
}

fn accounts(world: &World, namespace: &str) -> Api<ServiceAccount> {
    Api::namespaced(world.admin.clone(), namespace)
}

async fn create(world: &World, namespace: &str, name: &str, references: &[&str]) {
    let references: Vec<_> = references.iter().map(|name| json!({ "name": name })).collect();
    let account = json!({"metadata": {"name": name}, "imagePullSecrets": references});
    let account = serde_json::from_value(account).expect("a service account");
    accounts(world, namespace).create(&PostParams::default(), &account).await.expect("it is created");
}

/// What a service account refers to, and what is recorded as the controller's.
async fn stands(world: &World, namespace: &str, name: &str) -> (Vec<String>, Option<String>) {
    let account = accounts(world, namespace).get(name).await.expect("it is there");
    let references = account.image_pull_secrets.unwrap_or_default().into_iter().map(|r| r.name).collect();
    (references, account.metadata.annotations.and_then(|mut all| all.remove(ATTACHED)))
}

async fn wait_for(world: &World, namespace: &str, name: &str, references: &[&str], attached: Option<&str>) {
    let what = format!("{namespace}/{name} refers to {references:?}");
    let found = async |world: &World| {
        let (found, recorded) = stands(world, namespace, name).await;
        found == references && recorded.as_deref() == attached
    };
    world.wait_until(&what, found).await;
}

async fn ask(world: &World, namespace: &str, accounts: Option<&str>) {
    world.annotate(namespace, &[(REGISTRIES, Some(HOST)), (ACCOUNTS, accounts)]).await;
}

#[tokio::test]
async fn named_or_all_service_accounts_get_the_secret_now_and_as_they_appear() {
    if !testing::real_cluster() {
        return;
    }
    let (mut world, config) = begin().await;
    world.annotate("team-a", &[]).await;
    world.annotate("team-b", &[]).await;
    create(&world, "team-a", "build", &["theirs"]).await;
    create(&world, "team-a", "other", &[]).await;
    create(&world, "team-b", "had-it", &[NAME]).await;
    world.run_controller_with(&["--config", &config]).await;
    ask(&world, "team-a", Some("build, late")).await;
    ask(&world, "team-b", Some("*")).await;
    let ours = Some("ecr-pull-secrets/ecr-pull");
    wait_for(&world, "team-a", "build", &["theirs", NAME], ours).await;
    create(&world, "team-a", "late", &[]).await;
    wait_for(&world, "team-a", "late", &[NAME], ours).await;
    create(&world, "team-b", "late", &[]).await;
    wait_for(&world, "team-b", "late", &[NAME], ours).await;
    assert_eq!(stands(&world, "team-a", "other").await, (vec![], None), "nobody named it");
    assert_eq!(stands(&world, "team-b", "had-it").await, (vec![NAME.to_owned()], None), "it is theirs");

    // Another name, while the service account changes otherwise too.
    world.annotate("team-a", &[("ecr-pull-secrets.dev/secret-name", Some("other"))]).await;
    wait_for(&world, "team-a", "build", &["theirs", "other"], Some("ecr-pull-secrets/other")).await;
    world.wait_for_no_secret("team-a").await;

    // Opting out while nothing runs takes away the references that are recorded, and those only.
    world.stop_controller().await;
    world.annotate("team-a", &[(REGISTRIES, None)]).await;
    ask(&world, "team-b", None).await;
    world.run_controller_with(&["--config", &config]).await;
    wait_for(&world, "team-a", "build", &["theirs"], None).await;
    wait_for(&world, "team-a", "late", &[], None).await;
    wait_for(&world, "team-b", "late", &[], None).await;
    assert_eq!(stands(&world, "team-b", "had-it").await, (vec![NAME.to_owned()], None), "it stays theirs");
    assert!(world.secret("team-b").await.is_some(), "only the service accounts were let go");
    world.finish().await;
}

#[tokio::test]
async fn a_writer_in_a_tight_loop_for_a_minute_loses_no_entry_and_neither_do_we() {
    if !testing::real_cluster() {
        return;
    }
    let (mut world, config) = begin().await;
    world.annotate("team-a", &[]).await;
    create(&world, "team-a", "build", &[]).await;
    world.run_controller_with(&["--config", &config]).await;
    let api = accounts(&world, "team-a");
    let end = Instant::now() + Duration::from_mins(1);
    let (mut theirs, mut writes, mut asked) = (vec![], 0_u32, false);
    while Instant::now() < end {
        // What a careful writer does: read, add or remove its own, write with the version that was read.
        let account = api.get("build").await.expect("it is there");
        let mut references = account.image_pull_secrets.unwrap_or_default();
        let mine = format!("mine-{}", writes % 3);
        let removes = references.iter().any(|reference| reference.name == mine);
        references.retain(|reference| reference.name != mine);
        let mut body: Vec<Value> = references.iter().map(|r| json!({ "name": r.name })).collect();
        if !removes {
            body.push(json!({ "name": mine }));
        }
        let version = account.metadata.resource_version;
        let patch = json!({"metadata": {"resourceVersion": version}, "imagePullSecrets": body});
        match api.patch("build", &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => {
                writes += 1;
                theirs.retain(|name| *name != mine);
                if !removes {
                    theirs.push(mine);
                }
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => panic!("{error}"),
        }
        if !asked && writes > 20 {
            asked = true;
            ask(&world, "team-a", Some("build")).await;
        }
    }
    assert!(writes > 1_000, "{writes} writes in a minute are no tight loop");
    let (mut found, recorded) = stands(&world, "team-a", "build").await;
    assert_eq!(recorded.as_deref(), Some("ecr-pull-secrets/ecr-pull"));
    assert!(found.contains(&NAME.to_owned()), "ours is there: {found:?}");
    found.retain(|name| name != NAME);
    found.sort();
    theirs.sort();
    assert_eq!(found, theirs, "theirs are as they left them");
    let ours = patches(&world);
    assert!((1..=60).contains(&ours), "{ours} tries of the controller in a minute");
    println!("{writes} foreign writes, {ours} of the controller");
    world.finish().await;
}

#[tokio::test]
async fn a_writer_that_takes_the_reference_out_is_met_ever_more_slowly() {
    if !testing::real_cluster() {
        return;
    }
    let (mut world, config) = begin().await;
    world.annotate("team-a", &[]).await;
    create(&world, "team-a", "build", &["theirs"]).await;
    ask(&world, "team-a", Some("build")).await;
    world.run_controller_with(&["--config", &config]).await;
    let api = accounts(&world, "team-a");
    let end = Instant::now() + Duration::from_secs(20);
    let patch = json!({ "imagePullSecrets": [{ "name": "theirs" }] });
    while Instant::now() < end {
        api.patch("build", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("it is patched");
        sleep(Duration::from_millis(50)).await;
    }
    let ours = patches(&world);
    assert!((3..=8).contains(&ours), "{ours} repairs in 20 s");
    wait_for(&world, "team-a", "build", &["theirs", NAME], Some("ecr-pull-secrets/ecr-pull")).await;
    api.delete("build", &DeleteParams::default()).await.expect("it is deleted");
    world.finish().await;
}

#[tokio::test]
async fn without_the_option_or_the_right_secrets_are_served_and_the_reason_is_said() {
    if !testing::real_cluster() {
        return;
    }
    let mut world = World::start().await;
    world.annotate("team-a", &[]).await;
    create(&world, "team-a", "build", &[]).await;
    world.opt_in("team-b").await;
    world.run_controller().await;
    ask(&world, "team-a", Some("build")).await;
    let event = world.wait_for_event("team-a", "InvalidAnnotation").await;
    let message = event.message.expect("a message");
    assert!(message.contains("service-accounts: service accounts are not enabled"), "{message}");
    world.wait_for_secret("team-b").await;
    world.stop_controller().await;

    // The option without the right: secrets do not wait for it.
    let config = world.config("serviceAccounts: {enabled: true}");
    world.run_controller_with(&["--config", &config]).await;
    world.wait_for_secret("team-a").await;
    assert_eq!(stands(&world, "team-a", "build").await, (vec![], None));
    assert!(world.log().contains("serviceaccounts"), "the log names the missing right");
    world.finish().await;
}

/// The controller's writes of service accounts, as the API server saw them.
fn patches(world: &World) -> usize {
    let mine = |user: &str| user == "system:serviceaccount:ecr-pull-secrets:ecr-pull-secrets";
    let all = world.cluster.audit();
    all.iter().filter(|e| mine(&e.user) && e.resource == "serviceaccounts" && e.verb == "patch").count()
}
