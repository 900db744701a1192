//! The rate of the API server for the creations of all Secrets, and the cold sync of the controller, in turn.

use std::collections::BTreeMap;

use serde_json::json;
use testing::tenants::REGISTRIES;

use crate::figures::Round;
use crate::requests::Creation;
use crate::stats::number;
use crate::world::{Measuring, World, opted_in, team};

/// Requests of the minimal client in flight. With one, it is a job that writes one Secret after the other.
const IN_FLIGHT: [usize; 5] = [1, 8, 16, 32, 64];
/// The most requests that are sent one after the other.
const MAX_SEQUENTIAL: usize = 500;

/// The milliseconds from the start of a process to the arrival of its first write, several times, with one namespace.
pub async fn first_writes(world: &World, times: usize) -> Vec<f64> {
    let namespace = "first";
    world.admin.send_one(world.admin.create_namespace(namespace, &opted_in())).await;
    let mut all = vec![];
    for _ in 0..times {
        let mut log = world.log();
        let controller = world.controller("first", "{}");
        world.wait_for_writes(&mut log, 1).await;
        all.push(log.span().first.duration_since(controller.started).as_secs_f64() * 1_000.0);
        controller.stop().await;
        world.admin.send_one(world.admin.delete_secret(namespace)).await;
    }
    world.admin.send_one(world.admin.annotate(namespace, &json!({ REGISTRIES: null }))).await;
    all
}

/// One round. The order changes from round to round. The Secrets of the last measurement are left.
pub async fn round(world: &World, creation: &Creation, round: usize) -> Round {
    let mut server = BTreeMap::new();
    let mut levels = IN_FLIGHT;
    levels.rotate_left(round % IN_FLIGHT.len());
    // Secrets of an earlier round.
    world.delete_secrets().await;
    let controller_first = round % 2 == 1;
    let mut cold = None;
    if controller_first {
        cold = Some(cold_sync(world).await);
        world.delete_secrets().await;
    }
    for in_flight in levels {
        server.insert(in_flight, rate(world, creation, in_flight).await);
        world.delete_secrets().await;
    }
    if cold.is_none() {
        cold = Some(cold_sync(world).await);
    }
    let (cold_sync, first_write_ms, peak_kib) = cold.expect("it was measured");
    Round { server, cold_sync, first_write_ms, peak_kib }
}

/// The creations in a second by the minimal client.
async fn rate(world: &World, creation: &Creation, in_flight: usize) -> f64 {
    let count = if in_flight == 1 { world.namespaces.min(MAX_SEQUENTIAL) } else { world.namespaces };
    let requests = world.teams().take(count).map(|n| creation.for_namespace(&team(n))).collect();
    let mut log = world.log();
    world.minimal.send(requests, in_flight).await;
    world.wait_for_writes(&mut log, count).await;
    let span = log.span();
    assert_eq!(span.count, count, "each request counts once");
    number(count) / span.seconds()
}

/// From the first to the last creation by a controller that starts without any Secret.
async fn cold_sync(world: &World) -> (crate::figures::Work, f64, u64) {
    let name = "cold";
    let mut measuring = Measuring::of_new_process(world);
    let controller = world.controller(name, "{}");
    world.wait_for_writes(&mut measuring.log, world.namespaces).await;
    let (work, log) = measuring.end(world, &controller, name);
    let first_write_ms = log.span().first.duration_since(controller.started).as_secs_f64() * 1_000.0;
    assert_eq!(work.writes, world.namespaces, "each Secret is written once");
    let peak_kib = controller.memory().peak_kib;
    controller.stop().await;
    (work, first_write_ms, peak_kib)
}
