//! The permit that every write requires.

use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Clock;
use crate::core::leader_election::Leadership;

/// Whether, and for how long, this process may write.
#[derive(Clone, Debug)]
pub struct WritePermit {
    leadership: watch::Receiver<Leadership>,
    clock: Clock,
}

impl WritePermit {
    pub(super) fn new(leadership: watch::Receiver<Leadership>, clock: Clock) -> Self {
        Self { leadership, clock }
    }

    /// A permit without an election.
    pub fn unopposed(clock: Clock) -> Self {
        Self::new(watch::channel(Leadership::Unopposed).1, clock)
    }

    pub fn leadership(&self) -> Leadership {
        *self.leadership.borrow()
    }

    /// How long it lasts from now on; `None` if this process must not write.
    pub fn left(&self) -> Option<Duration> {
        self.leadership().left(self.clock.now())
    }

    /// Returns when leadership is acquired, renewed or given up.
    pub async fn changed(&mut self) {
        if self.leadership.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns when this process is not the leader.
    pub async fn lost(mut self) {
        loop {
            // A renewal during the wait is a change.
            self.leadership.mark_unchanged();
            let Some(left) = self.left() else { return };
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                () = self.changed() => {}
            }
        }
    }
}
