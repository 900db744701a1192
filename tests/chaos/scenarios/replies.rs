//! Writes that are committed, and whose reply is lost or whose commit is late.

use std::time::Duration;

use testing::aws::Behaviour;
use testing::fault_proxy::{Action, Rule};
use testing::tenants::time;

use super::serve;
use crate::world::World;

const WRITES: &str = "/secrets/ecr-pull";

/// The reply to a renewal is lost. No other client writes the Secret.
pub async fn lost_reply(world: &mut World<'_>) {
    world.observe_missing(45);
    world.cluster.aws.set(Behaviour::living(Duration::from_secs(24)));
    world.start("first", &[]).await;
    serve(world.cluster, &["team-a"]).await;
    let lost = world.proxy.add(Rule::new(Action::DropReply).method("PATCH").path(WRITES).times(1));
    world.cluster.wait_until("a reply is lost", async || lost.commits() == 1).await;
    world.watch_for(6).await;
}

/// The last write of a leader that is killed is committed when the next leader has written a newer token.
pub async fn late_commit(world: &mut World<'_>) {
    world.observe_missing(60);
    world.cluster.aws.set(Behaviour::living(Duration::from_secs(32)));
    world.start("first", &["--leader-election"]).await;
    world.cluster.wait_until_leader("first").await;
    world.start("second", &["--leader-election"]).await;
    serve(world.cluster, &["team-a"]).await;
    let before = time(&world.cluster.existing_secret("team-a").await, "expires-at");
    let late = Action::CommitLate(Duration::from_secs(7));
    let write = world.proxy.add(Rule::new(late).method("PATCH").path(WRITES).agent("first_").times(1));
    world.cluster.wait_until("a renewal is on its way", async || write.hits() == 1).await;
    world.kill("first");
    let renewed = async || time(&world.cluster.existing_secret("team-a").await, "expires-at") > before;
    world.cluster.wait_until("the next leader renews it", renewed).await;
    world.cluster.wait_until("the late write arrives", async || write.commits() == 1).await;
    world.watch_for(2).await;
}
