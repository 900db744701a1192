//! The phases of a run.

mod latency;
mod life;
mod machine;
mod rates;
mod steady;
mod wire;

use std::path::Path;
use std::time::Instant;

use crate::figures::{About, Figures, Round, Speed};
use crate::requests::Creation;
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
    let Start { mut world, say, about, creation } = start(options).await;
    say.phase("the first write in a small cluster");
    let first_write_ms = rates::first_writes(&world, options.rounds).await;
    let rounds = rounds(&say, &mut world, &creation, options).await;
    say.phase("a restart with all Secrets fresh, and idle");
    let steady = steady::measure(&world).await;
    say.phase("bytes on the wire");
    let wire = wire::measure(&world).await;
    say.phase(LATENCY);
    let latency = latency::measure(&world).await;
    let mut lives = vec![];
    for variant in life::variants() {
        say.phase(&format!("memory: {}", variant.name));
        lives.push(life::measure(&mut world, &variant).await);
    }
    say.phase("complete");
    Figures { about, first_write_ms, rounds, latency, lives, steady, wire }
}

/// Measures what two runs on one machine have in common, in about half of the time.
pub async fn speed(options: &Options<'_>) -> Speed {
    let Start { mut world, say, creation, .. } = start(options).await;
    let rounds = rounds(&say, &mut world, &creation, options).await;
    say.phase(LATENCY);
    let latency = latency::measure(&world).await;
    say.phase("complete");
    Speed { rounds, latency }
}

const LATENCY: &str = "latency, idle and during a renewal of all namespaces";

/// Tells of the phases of a run on stderr.
struct Progress(Instant);

impl Progress {
    fn phase(&self, text: &str) {
        eprintln!("[{:6.1} s] {text}", self.0.elapsed().as_secs_f64());
    }
}

/// What each run begins with.
struct Start {
    world: World,
    say: Progress,
    about: About,
    creation: Creation,
}

async fn start(options: &Options<'_>) -> Start {
    let say = Progress(Instant::now());
    let load_before = machine::load();
    if load_before > QUIET {
        say.phase(&format!(
            "the load average is {load_before}: the figures of a busy machine cannot be compared with others"
        ));
    }
    say.phase("starting etcd and kube-apiserver");
    let world = World::start(options.program).await;
    let about = machine::about(options, &world, load_before).await;
    say.phase("a sample of the requests");
    let creation = world.creation().await;
    Start { world, say, about, creation }
}

/// Creates the namespaces, and measures both rates several times.
async fn rounds(say: &Progress, world: &mut World, creation: &Creation, options: &Options<'_>) -> Vec<Round> {
    say.phase("creating the namespaces");
    world.create_teams(options.namespaces).await;
    let mut rounds = vec![];
    for number in 0..options.rounds {
        let round = rates::round(world, creation, number).await;
        say.phase(&format!(
            "round {}: the API server {:.0}/s, the cold sync {:.0}/s, ratio {:.3}",
            number + 1,
            round.server_rate(),
            round.cold_sync.per_second(),
            round.ratio()
        ));
        rounds.push(round);
    }
    rounds
}
