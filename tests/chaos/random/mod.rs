//! Two replicas, tenants and faults in a random order: `make chaos`, and for 20 seconds in `make test`.
//!
//! Other tests inject these faults, which would end every run early or hide others: a watch request that is never answered,
//! replies about the Lease that take 1 s, deletions of Secrets while replies are late, clocks, restored storage, a start
//! without a region, rotated files.

mod faults;
mod story;
mod tenants;

use std::time::Duration;

use testing::aws::Behaviour;

use crate::oracles::Limits;
use crate::world::{World, plain, violations};
use faults::Fault;
use story::{Random, Story};
use tenants::Population;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

async fn run(world: &mut World<'_>, story: &mut Story, random: &mut Random) {
    let lifetime = story.seconds().mul_f32(1.5).clamp(Duration::from_secs(30), Duration::from_secs(90));
    world.cluster.aws.set(Behaviour::living(lifetime));
    world.observe(Limits::default());
    let mut population = Population::start(world, story).await;
    let mut replicas = faults::Replicas::start(world).await;
    while story.goes_on() {
        let fault = Fault::any(random);
        // In one of three cases everything is slow as well.
        if random.below(3) == 0 {
            let by = random.milliseconds(50, 400);
            story.tell(&format!("each request takes {by:?} longer during the next fault"));
            world.proxy.set_latency(by);
        }
        fault.inject(world, &mut replicas, &mut population, story, random).await;
        world.proxy.set_latency(Duration::ZERO);
        let calm = random.milliseconds(2000, 4000);
        population.act(world, story, random, true).await;
        tokio::time::sleep(calm).await;
    }
    story.tell("the last fault is over");
    world.proxy.clear();
    population.wait_until_served(world).await;
    world.cluster.wait_until("the metrics agree", async || world.belief_is_right()).await;
    story.tell("every namespace has its Secret, and the metrics agree");
    story.looks = world.looks();
    for violation in world.violations() {
        println!("{:?}: {}; all writes:", violation.oracle, violation.text);
        for write in world.writes_of(&violation.subject) {
            println!("    {write}");
        }
    }
}

#[test]
fn two_replicas_survive_random_faults() {
    let seconds = variable("CHAOS_SECONDS").unwrap_or(20);
    let seed = variable("CHAOS_SEED").unwrap_or_else(Random::seed);
    let mut story = Story::start(seed, Duration::from_secs(seconds));
    let mut random = Random::new(seed);
    let found = violations(plain(), async |world| run(world, &mut story, &mut random).await);
    let Some(found) = found else { return };
    story.summarise(&found);
    assert!(found.is_empty(), "seed {seed}: {found:#?}");
}
