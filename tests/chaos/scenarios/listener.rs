//! Clients of the controller's port.

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
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = free.expect("a free port").port();
    world.spawn("first", &[&format!("--listen={address}:{port}")]);
    world.also_probe("first", &format!("[::1]:{port}"));
    world.watch_for(8).await;
}
