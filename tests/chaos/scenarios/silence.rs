//! Requests without a reply, watches without events, and refusals.

use testing::fault_proxy::{Action, Answer, Rule};

use super::serve;
use crate::world::World;

const WATCHES: &str = "/api/v1/namespaces?*watch=true";

/// The connections of all watches break, and one request for a new watch is never answered. All others are.
pub async fn unanswered_watch(world: &mut World<'_>) {
    world.observe_missing(75);
    world.start("first", &[]).await;
    serve(world.cluster, &["team-a"]).await;
    let hang = world.proxy.add(Rule::new(Action::Hang).method("GET").path(WATCHES).times(1));
    world.proxy.close_watches();
    world.cluster.wait_until("the request hangs", async || hang.hits() == 1).await;
    world.cluster.opt_in("team-b").await;
    watch_until_served(world, "team-b", 80).await;
}

/// Lets the readers look until a namespace is served, for at most so many seconds.
async fn watch_until_served(world: &World<'_>, namespace: &str, seconds: u64) {
    for _ in 0..seconds {
        if world.cluster.secret(namespace).await.is_some() {
            return;
        }
        world.watch_for(1).await;
    }
}

/// Open connections become silent, as behind a load balancer that forgot them. New ones work.
pub async fn silent_watch(world: &mut World<'_>) {
    world.observe_missing(75);
    world.start("first", &[]).await;
    serve(world.cluster, &["team-a"]).await;
    world.proxy.add(Rule::new(Action::FreezeOpenWatches));
    world.cluster.opt_in("team-b").await;
    watch_until_served(world, "team-b", 80).await;
}

/// An overloaded API server of a version without streamed lists refuses lists, and asks for 10 seconds of silence.
pub async fn refused_lists(world: &mut World<'_>) {
    world.observe_missing(45);
    let version = r#"{"major": "1", "minor": "33", "gitVersion": "v1.33.0", "gitCommit": "", "gitTreeState": "",
        "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}"#;
    let old = Answer { status: 200, retry_after: None, body: version.to_owned() };
    world.proxy.add(Rule::new(Action::Answer(old)).path("/version"));
    let overloaded = Action::Answer(Answer::status(429, Some(10)));
    let refused = world.proxy.add(Rule::new(overloaded).method("GET").path("?*limit="));
    world.spawn("first", &[]);
    world.cluster.wait_until("a list is refused", async || refused.hits() > 0).await;
    world.cluster.opt_in("team-a").await;
    world.watch_for(12).await;
    refused.remove();
}

/// The events of one replica's watches come from an API server that is behind, its writes go to the other one.
pub async fn stale_server(world: &mut World<'_>) {
    world.observe_missing(60);
    world.start("first", &[]).await;
    serve(world.cluster, &["team-a", "team-b", "team-c"]).await;
    world.stop("first").await;
    world.cluster.opt_out("team-c").await;
    world.cluster.control_plane.storage_link().freeze();
    // Only the other server has these.
    world.cluster.opt_out("team-b").await;
    world.cluster.delete("team-a").await;
    world.cluster.opt_in("team-d").await;
    let stale = world.proxy.add(Rule::new(Action::ToSecond).method("GET").path("watch=true"));
    world.spawn("second", &[]);
    world.cluster.wait_until("it watches the stale server", async || stale.hits() > 0).await;
    world.watch_for(5).await;
    world.cluster.control_plane.storage_link().thaw();
    world.cluster.wait_for_secret("team-d").await;
    world.cluster.wait_for_secret("team-a").await;
    world.cluster.wait_for_no_secret("team-b").await;
    world.cluster.wait_for_no_secret("team-c").await;
    world.watch_for(2).await;
}
