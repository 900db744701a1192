//! Clients of the controller's port.

use testing::ports::Port;
use testing::tenants::INSTANCE;

use super::CHART;
use crate::world::World;

/// The pods of the chart have one address, of IPv6.
pub async fn ipv6_only(world: &mut World<'_>) {
    world.observe_missing(45);
    let rendered = testing::tools::run("helm", &["template", INSTANCE, CHART], &[])
        .await
        .expect("the chart is rendered");
    let argument = rendered.lines().find_map(|line| line.trim().strip_prefix("- --listen="));
    let (address, _) = argument.and_then(|it| it.rsplit_once(':')).expect("an address to listen on");
    let claim = Port::claim();
    let port = claim.number();
    world.start("first", &[&format!("--listen={address}:{port}")]).await;
    world.also_probe("first", &format!("[::1]:{port}"));
    world.watch_for(8).await;
}
