//! SIGTERM and SIGINT.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

use super::CommandError;

/// The value becomes true at the first SIGTERM or SIGINT. The second one ends the process at once.
pub(super) fn stop_on_signals() -> Result<watch::Receiver<bool>, CommandError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(CommandError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CommandError::Signals)?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first {
                info!("stopping after the writes in flight; a second signal aborts them");
                stop.send_replace(true);
            } else {
                warn!("aborted by a second signal");
                std::process::exit(1);
            }
        }
    });
    Ok(stopped)
}

/// Runs `work` until it is done or a signal arrives.
pub(super) async fn unless_stopped<T>(
    stop: &watch::Receiver<bool>,
    work: impl Future<Output = T>,
) -> Result<T, CommandError> {
    let mut stop = stop.clone();
    tokio::select! {
        done = work => Ok(done),
        _ = stop.wait_for(|stop| *stop) => Err(CommandError::Interrupted),
    }
}
