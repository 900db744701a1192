//! From an annotation to its Secret, while the controller is idle and while it renews all namespaces.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::audit::{Log, is_write};
use crate::figures::Latency;
use crate::stats::number;
use crate::world::{World, opted_in};

/// Annotations in each of the two cases.
const SAMPLES: usize = 200;
const IDLE_PAUSE: Duration = Duration::from_millis(100);
/// The default of `refresh.writesPerSecond`.
const WRITES_PER_SECOND: usize = 50;
/// The part of its life after which a token is replaced: small, so that the renewal ends long before the tokens expire.
const CONFIGURATION: &str = "refresh: {at: 0.1, jitter: 0}";
const LIVES_PER_PERIOD: u32 = 10;
const NAME: &str = "latency";

pub async fn measure(world: &World) -> Latency {
    let renewal_time = Duration::from_secs((world.namespaces / WRITES_PER_SECOND) as u64);
    // Before the renewal, the cold sync with its Events and the idle part. The renewal ends before the next one.
    let period = renewal_time + Duration::from_secs(90);
    let extras: Vec<String> = (0..2 * SAMPLES).map(|n| format!("extra-{n}")).collect();
    let creations = extras.iter().map(|name| world.admin.create_namespace(name, &json!({})));
    world.admin.send(creations.collect(), 8).await;
    let (idle, busy) = extras.split_at(SAMPLES);

    world.delete_secrets().await;
    world.token_life(period * LIVES_PER_PERIOD);
    let mut log = world.log();
    let controller = world.controller(NAME, CONFIGURATION);
    world.wait_for_writes(&mut log, world.namespaces).await;
    let begin = Instant::now();
    world.wait_until_quiet().await;
    let (idle_ms, idle_requests_ms) = annotate(world, idle, IDLE_PAUSE).await;
    assert!(begin.elapsed() < period, "the renewal began before the idle part was complete");

    let mut measuring = world.begin(&controller);
    world.wait_for_writes(&mut measuring.log, 1).await;
    let pause = renewal_time.mul_f64(0.9 / number(SAMPLES));
    let (during_renewal_ms, during_renewal_requests_ms) = annotate(world, busy, pause).await;
    let renewals = world.namespaces + idle.len() + busy.len();
    world.wait_for_writes(&mut measuring.log, renewals).await;
    let (renewal, _) = measuring.end(world, &controller, NAME);
    controller.stop().await;
    world.token_life(Duration::from_hours(12));
    remove(world, &extras).await;
    Latency { idle_ms, during_renewal_ms, idle_requests_ms, during_renewal_requests_ms, renewal }
}

/// Annotates one namespace after the other. Returns the milliseconds to each Secret, and those of each annotation alone.
async fn annotate(world: &World, namespaces: &[String], pause: Duration) -> (Vec<f64>, Vec<f64>) {
    let mut log = world.log();
    for namespace in namespaces {
        world.admin.send_one(world.admin.annotate(namespace, &opted_in())).await;
        sleep(pause).await;
    }
    let created = |log: &Log| times(log, is_write, |entry| entry.namespace.as_deref());
    let all_exist = |log: &Log| {
        let created = created(log);
        namespaces.iter().all(|namespace| created.contains_key(namespace))
    };
    world.wait_for(&mut log, "the Secrets of annotated namespaces", all_exist).await;
    let annotated =
        times(&log, |entry| entry.verb == "patch" && entry.resource == "namespaces", |e| e.name.as_deref());
    let created = created(&log);
    let times = |namespace: &String| {
        let (received, replied) = annotated[namespace];
        let (_, complete) = created[namespace];
        let since = |end: Timestamp| end.duration_since(received).as_secs_f64() * 1_000.0;
        (since(complete), since(replied))
    };
    namespaces.iter().map(times).unzip()
}

/// When the first request of each namespace arrived and was complete.
fn times(
    log: &Log,
    is_meant: impl Fn(&testing::control_plane::AuditEntry) -> bool,
    namespace: impl Fn(&testing::control_plane::AuditEntry) -> Option<&str>,
) -> HashMap<String, (Timestamp, Timestamp)> {
    let mut times = HashMap::new();
    for entry in log.entries.iter().filter(|entry| is_meant(entry)) {
        let name = namespace(entry).unwrap_or_default().to_owned();
        times.entry(name).or_insert((entry.received, entry.stage_timestamp));
    }
    times
}

/// Opts the namespaces out, and deletes their Secrets.
async fn remove(world: &World, namespaces: &[String]) {
    let none = json!({ testing::tenants::REGISTRIES: null });
    for namespace in namespaces {
        world.admin.send_one(world.admin.annotate(namespace, &none)).await;
        world.admin.send_one(world.admin.delete_secret(namespace)).await;
    }
}
