//! The phases of a run.

mod latency;
mod life;
mod machine;
mod rates;
mod steady;
mod wire;

use std::path::Path;
use std::time::Instant;

use crate::figures::Figures;
use crate::world::World;

/// The load average above which a machine is busy.
const QUIET: f64 = 0.5;

/// How a run is done.
pub struct Options<'a> {
    pub program: &'a Path,
    pub namespaces: usize,
    pub rounds: usize,
    pub commit: &'a str,
    pub command: &'a str,
}

/// Measures everything on one control plane.
pub async fn run(options: &Options<'_>) -> Figures {
    let begin = Instant::now();
    let say = |text: &str| eprintln!("[{:6.1} s] {text}", begin.elapsed().as_secs_f64());
    let load_before = machine::load();
    if load_before > QUIET {
        say(&format!(
            "the load average is {load_before}: the figures of a busy machine cannot be compared with others"
        ));
    }
    say("starting etcd and kube-apiserver");
    let mut world = World::start(options.program).await;
    let about = machine::about(options, &world, load_before).await;
    say("a sample of the requests, and the first write in a small cluster");
    let creation = world.creation().await;
    let first_write_ms = rates::first_writes(&world, options.rounds).await;
    say("creating the namespaces");
    world.create_teams(options.namespaces).await;
    let mut rounds = vec![];
    for number in 0..options.rounds {
        let round = rates::round(&world, &creation, number).await;
        say(&format!(
            "round {}: the API server {:.0}/s, the cold sync {:.0}/s, ratio {:.3}",
            number + 1,
            round.server_rate(),
            round.cold_sync.per_second(),
            round.ratio()
        ));
        rounds.push(round);
    }
    say("a restart with all Secrets fresh, and idle");
    let steady = steady::measure(&world).await;
    say("bytes on the wire");
    let wire = wire::measure(&world).await;
    say("latency, idle and during a renewal of all namespaces");
    let latency = latency::measure(&world).await;
    let mut lives = vec![];
    for variant in life::variants() {
        say(&format!("memory: {}", variant.name));
        lives.push(life::measure(&mut world, &variant).await);
    }
    say("complete");
    Figures { about, first_write_ms, rounds, latency, lives, steady, wire }
}
