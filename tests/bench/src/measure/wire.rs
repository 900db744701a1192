//! Bytes and connections between the controller and the API server, by a relay that counts them. A phase of its own, because
//! the relay costs time.

use std::net::SocketAddr;
use std::time::Duration;

use testing::link::{Link, Traffic};
use tokio::time::sleep;

use crate::figures::{Bytes, Wire};
use crate::world::{SETTLE, World};

const IDLE: Duration = Duration::from_mins(1);

pub async fn measure(world: &World) -> Wire {
    world.delete_secrets().await;
    let address: SocketAddr =
        world.control_plane.url().trim_start_matches("https://").parse().expect("an address");
    let link = Link::start(address);
    let mut log = world.log();
    let controller = world.controller_through(link.address(), "wire");
    world.wait_for_writes(&mut log, world.namespaces).await;
    world.wait_until_quiet().await;
    let cold_sync = link.traffic();
    controller.stop().await;
    let link = Link::start(address);
    let controller = world.controller_through(link.address(), "wire");
    controller.ready().await;
    sleep(SETTLE).await;
    let restart = link.traffic();
    sleep(IDLE).await;
    let idle = link.traffic();
    controller.stop().await;
    Wire {
        cold_sync: between(None, cold_sync),
        idle_seconds: IDLE.as_secs_f64(),
        idle: between(Some(restart), idle),
        restart: between(None, restart),
    }
}

fn between(before: Option<Traffic>, after: Traffic) -> Bytes {
    let before = before.unwrap_or(Traffic { connections: 0, sent: 0, received: 0 });
    Bytes {
        sent: after.sent - before.sent,
        received: after.received - before.received,
        connections: after.connections - before.connections,
    }
}
