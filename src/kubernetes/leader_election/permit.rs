//! The permit that every write requires.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::core::leader_election::Leadership;

/// The state of the election, for the rest of the process.
#[derive(Clone, Copy, Debug)]
pub(super) struct ElectionState {
    pub leadership: Leadership,
    /// How often the version of the Lease went back.
    pub rewinds: u32,
}

/// Whether, and for how long, this process may write.
#[derive(Clone, Debug)]
pub struct WritePermit {
    state: watch::Receiver<ElectionState>,
    clock: Clock,
}

impl WritePermit {
    pub(super) fn new(state: watch::Receiver<ElectionState>, clock: Clock) -> Self {
        Self { state, clock }
    }

    /// A permit without an election.
    pub fn unopposed(clock: Clock) -> Self {
        let state = ElectionState { leadership: Leadership::Unopposed, rewinds: 0 };
        Self::new(watch::channel(state).1, clock)
    }

    pub fn leadership(&self) -> Leadership {
        self.state.borrow().leadership
    }

    /// How often the version of the Lease went back, which shows that the API server has older data than before.
    pub fn rewinds(&self) -> u32 {
        self.state.borrow().rewinds
    }

    /// How long it lasts from now on; `None` if this process must not write.
    pub fn left(&self) -> Option<Duration> {
        self.leadership().left(self.clock.now())
    }

    /// Returns when leadership is acquired, renewed or given up, or the version of the Lease goes back.
    pub async fn changed(&mut self) {
        if self.state.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns when this process is not the leader.
    pub async fn lost(mut self) {
        loop {
            // A renewal during the wait is a change.
            self.state.mark_unchanged();
            let Some(left) = self.left() else { return };
            let _ = timeout(left, self.changed()).await;
        }
    }
}
