//! A restart with all Secrets fresh, and an idle controller.

use std::time::Duration;

use tokio::time::sleep;

use crate::figures::Steady;
use crate::world::{Measuring, SETTLE, World};

const IDLE: Duration = Duration::from_mins(2);

pub async fn measure(world: &World) -> Steady {
    ensure_fresh(world).await;
    let name = "steady";
    let measuring = Measuring::of_new_process(world);
    let controller = world.controller(name, "{}");
    let ready_ms = controller.ready().await;
    sleep(SETTLE).await;
    let (restart, _) = measuring.end(world, &controller, name);
    let measuring = world.begin(&controller);
    sleep(IDLE).await;
    let (idle, _) = measuring.end(world, &controller, name);
    let memory = controller.memory();
    controller.stop().await;
    Steady { ready_ms, restart, idle_seconds: IDLE.as_secs_f64(), idle, memory }
}

/// Creates the Secrets that are missing.
async fn ensure_fresh(world: &World) {
    let controller = world.controller("fresh", "{}");
    controller.ready().await;
    while world.secrets().await.len() < world.namespaces {
        sleep(Duration::from_secs(1)).await;
    }
    controller.stop().await;
}
