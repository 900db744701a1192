//! The leader's pod is killed, and drained, again and again.

use std::time::{Duration, Instant};

use testing::control_plane::assert_one_at_a_time;
use testing::registry::Registry;

use crate::world::{NAME, World};

/// So often each.
const ROUNDS: usize = 20;

impl World {
    pub async fn fails_over(&self) {
        let earlier = self.writes().len();
        let kills = self.rounds("kill", async |world, leader| {
            world.node.kill9(&world.container(leader).await);
            Instant::now()
        });
        self.tell("killed with -9", kills.await, Duration::from_secs(5));
        let drains = self.rounds("drain", async |world, leader| {
            world.evict(leader).await;
            world.gives_back(leader).await
        });
        self.tell("drained", drains.await, Duration::from_secs(2));
        let writers = assert_one_at_a_time(self.writes().split_off(earlier));
        assert!(writers >= 2 * ROUNDS, "{writers} of them were told apart");
        self.say(&format!("{writers} processes wrote, one after the other, and no creation was missed"));
    }

    /// Ends the leader while a namespace is opting in, so often; how long each time, from the moment that `end` returns,
    /// another one took to serve a namespace that opted in then.
    async fn rounds(&self, name: &str, end: impl AsyncFn(&Self, &str) -> Instant) -> Vec<Duration> {
        let mut took = vec![];
        let mut leader = self.leads_anew(None, 2).await;
        for n in 0..ROUNDS {
            let [before, after] = ["before", "after"].map(|when| format!("{when}-{name}-{n}"));
            self.opt_in(&before, Registry::HOST).await;
            let start = end(self, &leader).await;
            self.opt_in(&after, Registry::HOST).await;
            self.secret(&after, NAME).await;
            took.push(start.elapsed());
            self.secret(&before, NAME).await;
            leader = self.leads_anew(Some(&leader), 2).await;
        }
        took
    }

    fn tell(&self, how: &str, mut took: Vec<Duration>, limit: Duration) {
        took.sort();
        let [shortest, median, longest] = [0, ROUNDS / 2, ROUNDS - 1].map(|place| took[place].as_secs_f64());
        self.say(&format!(
            "{ROUNDS} leaders {how}: another one served after {shortest:.2} s, median {median:.2} s, longest {longest:.2} s"
        ));
        assert!(took[ROUNDS - 1] < limit, "{took:?}");
    }
}

/// The namespaces that opt in.
pub fn namespaces() -> impl Iterator<Item = String> {
    let names = ["before-kill", "after-kill", "before-drain", "after-drain"];
    names.into_iter().flat_map(|name| (0..ROUNDS).map(move |n| format!("{name}-{n}")))
}
