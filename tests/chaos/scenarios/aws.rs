//! Credentials, clocks and tokens.

use std::time::Duration;

use tempfile::TempDir;
use testing::aws::{Behaviour, Fault, Stub};
use testing::clock::Clock;
use testing::folder;

use super::serve;
use crate::world::World;

/// Another program rotates the shared credentials file, and AWS no longer accepts the old key.
pub async fn rotated_file(world: &mut World<'_>) {
    world.observe_missing(45);
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("credentials");
    let rotate = |aws: &Stub, lifetime: u64| {
        let keys = aws.issue(Duration::from_secs(lifetime));
        let profile = format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\naws_session_token = {}\n",
            keys.access_key, keys.secret_key, keys.session_token
        );
        folder::replace(&file, profile);
    };
    world.cluster.aws.set(Behaviour::living(Duration::from_secs(20)));
    rotate(&world.cluster.aws, 600);
    let own = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SHARED_CREDENTIALS_FILE"];
    world.cluster.aws_env.retain(|(name, _)| !own.contains(&name.as_str()));
    let path = file.display().to_string();
    world.cluster.aws_env.push(("AWS_SHARED_CREDENTIALS_FILE".to_owned(), path));
    world.start("first", &[]).await;
    serve(world.cluster, &["team-a"]).await;
    world.cluster.aws.revoke_issued();
    rotate(&world.cluster.aws, 600);
    world.watch_for(24).await;
}

/// The wall clock of the machine is ten hours ahead for some seconds. AWS refuses signatures from the future.
pub async fn clock_ahead(world: &mut World<'_>) {
    world.observe_missing(45);
    let clock = Clock::new();
    world.cluster.aws_env.extend(clock.env());
    world.cluster.aws.set(living(24));
    world.start("first", &[]).await;
    serve(world.cluster, &["team-a"]).await;
    world.cluster.aws.set(Behaviour { fault: Some(Fault::AccessDenied), ..living(24) });
    let calls = world.cluster.aws.calls_for_tokens().len();
    clock.set_ahead(10 * 60 * 60);
    world
        .cluster
        .wait_until("AWS refuses", async || world.cluster.aws.calls_for_tokens().len() > calls + 1)
        .await;
    clock.set_ahead(0);
    world.cluster.aws.set(living(24));
    world.watch_for(32).await;
}

fn living(seconds: u64) -> Behaviour {
    Behaviour::living(Duration::from_secs(seconds))
}

/// AWS is away for longer than a token lives. Then another namespace opts in.
pub async fn away_for_longer_than_a_life(world: &mut World<'_>) {
    world.observe_missing(45);
    world.cluster.aws.set(living(12));
    world.start("first", &[]).await;
    serve(world.cluster, &["team-a"]).await;
    world.cluster.aws.set(Behaviour::failing(Fault::Unavailable));
    // Nobody could keep its Secret alive.
    world.cluster.opt_out("team-a").await;
    world.watch_for(13).await;
    world.cluster.opt_in("team-b").await;
    world.watch_for(4).await;
    world.cluster.aws.reset();
    world.cluster.wait_for_secret("team-b").await;
    world.watch_for(2).await;
}

/// A tenant requests 64 regions that do not exist. Then the controller restarts.
pub async fn made_up_regions(world: &mut World<'_>) {
    world.observe_missing(45);
    world.cluster.aws.set(Behaviour::failing(Fault::Unavailable));
    world.cluster.aws.set_for_region(Stub::REGION, living(12));
    world.start("first", &[]).await;
    serve(world.cluster, &["team-a"]).await;
    for namespace in 0..8 {
        let hosts: Vec<String> = (0..8)
            .map(|n| format!("123456789012.dkr.ecr.zz-made-{}.amazonaws.com", namespace * 8 + n + 1))
            .collect();
        world.cluster.request(&format!("hostile-{namespace}"), &hosts.join(",")).await;
    }
    world.stop("first").await;
    world.start("second", &[]).await;
    world.watch_for(16).await;
}
