//! `ecr-pull-secrets sync`: one pass and exit.

use kube::api::PostParams;
use serde_json::json;

use crate::world::{HOST, NAME, REGISTRIES, World, assert_untouched, auths};

#[tokio::test]
async fn one_pass_writes_what_is_missing_and_a_second_one_nothing() {
    if !testing::real_cluster() {
        return;
    }
    let world = World::start().await;
    for n in 0..30 {
        world.opt_in(&format!("team-{n}")).await;
    }
    let (code, said) = world.run("sync", &[]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("30 in order, 30 written, 0 deleted, 0 failed"), "{said}");
    let before = world.all_secrets().await;
    assert_eq!(before.len(), 30);
    let (code, said) = world.run("sync", &[]).await;
    assert_eq!((code, said.contains("30 in order, 0 written")), (Some(0), true), "{said}");
    for (namespace, secret) in world.all_secrets().await {
        assert_untouched(&before[&namespace], &secret);
    }
    assert_eq!(world.aws.calls().len(), 1);
}

#[tokio::test]
async fn it_deletes_only_with_prune() {
    if !testing::real_cluster() {
        return;
    }
    let world = World::start().await;
    world.opt_in("team-a").await;
    world.run("sync", &[]).await;
    world.annotate("team-a", &[(REGISTRIES, None)]).await;
    let (code, said) = world.run("sync", &[]).await;
    assert_eq!((code, said.contains("would delete team-a/ecr-pull")), (Some(0), true), "{said}");
    assert!(world.secret("team-a").await.is_some());
    let (code, said) = world.run("sync", &["--prune"]).await;
    assert_eq!((code, said.contains("1 deleted")), (Some(0), true), "{said}");
    assert!(world.secret("team-a").await.is_none());
}

#[tokio::test]
async fn what_failed_is_listed_and_the_exit_code_is_1() {
    if !testing::real_cluster() {
        return;
    }
    let world = World::start().await;
    world.opt_in("good").await;
    world.annotate("bad", &[(REGISTRIES, Some("nonsense"))]).await;
    world.opt_in("taken").await;
    let body = json!({"metadata": {"name": NAME}, "data": {"key": "dmFsdWU="}});
    let body = serde_json::from_value(body).expect("a secret");
    world.secrets("taken").create(&PostParams::default(), &body).await.expect("a secret of somebody else");
    let (code, said) = world.run("sync", &[]).await;
    assert_eq!(code, Some(1), "{said}");
    for line in [
        "FAILED bad: InvalidAnnotation: ecr-pull-secrets.dev/registries: \"nonsense\" is no Amazon ECR host",
        "FAILED taken: SecretNotOwned: secret \"ecr-pull\" was not made by this controller",
        "1 in order, 1 written, 0 deleted, 2 failed",
    ] {
        assert!(said.contains(line), "{line} is not in {said}");
    }
    for (namespace, reason) in
        [("bad", "InvalidAnnotation"), ("taken", "SecretNotOwned"), ("good", "SecretCreated")]
    {
        let events = world.events(namespace).await;
        let told = events.iter().any(|event| event.reason.as_deref() == Some(reason));
        assert!(told, "{namespace}: it exits before its Events are written: {events:?}");
    }
    let good = world.wait_for_secret("good").await;
    assert_eq!(auths(&good).into_keys().collect::<Vec<_>>(), [HOST]);
    let down = testing::aws::Behaviour::failing(testing::aws::Fault::AccessDenied);
    world.aws.set(down);
    world.opt_in("late").await;
    let (code, said) = world.run("sync", &[]).await;
    assert_eq!((code, said.contains("FAILED late: TokenFailed")), (Some(1), true), "{said}");
}
