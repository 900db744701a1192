//! The leader's pod is killed, and drained, again and again.

use std::time::{Duration, Instant};

use testing::control_plane::assert_one_at_a_time;

use crate::harness::E2e;

/// How often each. The simulation does it in every order of events.
const KILLS: usize = 2;
const DRAINS: usize = 5;

impl E2e {
    pub async fn test_failover(&self) {
        let earlier = self.writes().len();
        let kills = self.rounds("kill", KILLS, async |e2e, leader| {
            e2e.node.kill9(&e2e.container(leader).await);
            Instant::now()
        });
        // The Lease of the default configuration takes 15 s to expire.
        self.report("killed with -9", kills.await, Duration::from_mins(1));
        let drains = self.rounds("drain", DRAINS, async |e2e, leader| {
            e2e.evict(leader).await;
            e2e.wait_until_released(leader).await
        });
        // Less than that, whatever the requests of the test take on a busy machine.
        let shortest = self.report("drained", drains.await, Duration::from_secs(12));
        assert!(shortest < Duration::from_secs(2), "{shortest:?}");
        let writers = assert_one_at_a_time(self.writes().split_off(earlier));
        assert!(writers >= KILLS + DRAINS, "{writers} of them were told apart");
        self.log(&format!("{writers} processes wrote, one after the other, and no creation was missed"));
    }

    /// Ends the leader while a namespace is opting in, so often; how long each time, from the moment that `end` returns,
    /// another one took to serve a namespace that opted in then.
    async fn rounds(
        &self,
        name: &str,
        rounds: usize,
        end: impl AsyncFn(&Self, &str) -> Instant,
    ) -> Vec<Duration> {
        let mut took = vec![];
        let mut leader = self.wait_for_leader(None, 2).await;
        for n in 0..rounds {
            let [before, after] = ["before", "after"].map(|when| format!("{when}-{name}-{n}"));
            self.opt_in(&before).await;
            let start = end(self, &leader).await;
            self.opt_in(&after).await;
            self.wait_for_secret(&after).await;
            took.push(start.elapsed());
            self.wait_for_secret(&before).await;
            leader = self.wait_for_leader(Some(&leader), 2).await;
        }
        took
    }

    /// Prints how long it took, which must be less than `limit` each time, and returns the shortest time.
    fn report(&self, how: &str, mut took: Vec<Duration>, limit: Duration) -> Duration {
        took.sort();
        let rounds = took.len();
        let [shortest, median, longest] = [0, rounds / 2, rounds - 1].map(|place| took[place].as_secs_f64());
        self.log(&format!(
            "{rounds} leaders {how}: another one served after {shortest:.2} s, median {median:.2} s, longest {longest:.2} s"
        ));
        assert!(took[rounds - 1] < limit, "{took:?}");
        took[0]
    }
}

/// The namespaces that opt in.
pub fn namespaces() -> impl Iterator<Item = String> {
    let names = ["before-kill", "after-kill", "before-drain", "after-drain"];
    names.into_iter().flat_map(|name| (0..KILLS.max(DRAINS)).map(move |n| format!("{name}-{n}")))
}
