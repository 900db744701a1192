//! From `helm install` to a running pod: a real API server, a real node with a network of pods and Services, Helm, and a
//! registry that demands the token.

mod gaps;
mod install;
mod replicas;
mod robbery;
mod upgrades;
mod world;

use std::future::Future;

use testing::isolation::isolated;
use testing::registry::Registry;

use world::{HOSTS, World};

/// Runs a test in namespaces of its own, with a runtime.
fn on_a_node<F: Future<Output = ()>>(test: &str, body: impl FnOnce() -> F) {
    isolated(test, &HOSTS, || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(body());
    });
}

/// With the chart's defaults, but on the node's network, of which only one pod can have the port.
#[test]
fn a_pod_runs_by_the_secret_and_not_without_it() {
    on_a_node("a_pod_runs_by_the_secret_and_not_without_it", async || {
        let namespaces = ["team-a", "team-b"].map(str::to_owned);
        let world = World::start(&namespaces).await;
        world.installs_on_the_node().await;
        world.pulls().await;
        world.rotates().await;
        world.uninstalls(&namespaces).await;
    });
}

/// With the chart's defaults, on the pods' own network, in a namespace that enforces Pod Security "restricted".
#[test]
fn two_replicas_are_upgraded_rolled_back_robbed_killed_and_drained() {
    on_a_node("two_replicas_are_upgraded_rolled_back_robbed_killed_and_drained", async || {
        let teams = ["team-a", "team-c", "tenant", "asks"].map(str::to_owned);
        let namespaces: Vec<_> = teams.into_iter().chain(replicas::namespaces()).collect();
        let world = World::start(&namespaces).await;
        world.installs_two_replicas().await;
        let reader = world.reads("team-a", Registry::HOST);
        world.upgrades().await;
        world.is_robbed().await;
        world.rolls_back().await;
        world.fails_over().await;
        let seen = reader.finish().await;
        assert_eq!(seen.secrets.len(), 1, "its UID is stable");
        let looks = seen.looks;
        world.say(&format!(
            "of {looks} looks at team-a during all that, each found a live token, in one and the same secret"
        ));
        world.uninstalls(&namespaces).await;
    });
}
