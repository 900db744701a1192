//! `ecr-pull-secrets controller`: for ever.

use indicatif::ProgressBar;
use tracing::info;

use super::{CommandError, Started, start, stop_on_signals, task_ended};
use crate::cli::ControllerArgs;
use crate::controller::Mode;
use crate::telemetry::http::{self, Health};
use crate::telemetry::metrics::Metrics;

pub(super) async fn run(args: ControllerArgs) -> Result<(), CommandError> {
    let mut stop = stop_on_signals()?;
    let (metrics, health) = (Metrics::default(), Health::default());
    let listener = http::bind(args.listen).await.map_err(CommandError::Usage)?;
    let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
    info!(address, "serving /livez, /readyz and /metrics");
    let mut server = tokio::spawn(http::serve(listener, health.clone(), metrics.clone()));
    let starting = start(&args.cluster, Mode::Forever, metrics, health, ProgressBar::hidden());
    let Started { controller, changes, mut watches, .. } = tokio::select! {
        started = starting => started?,
        _ = stop.wait_for(|stop| *stop) => return Ok(()),
    };
    let mut controller = tokio::spawn(controller.run(changes, stop));
    tokio::select! {
        ended = &mut controller => match ended {
            Ok(Ok(_)) => {
                info!("stopped");
                Ok(())
            }
            Ok(Err(error)) => Err(CommandError::Failed(error.to_string())),
            Err(error) => Err(task_ended("the controller's loop", &error)),
        },
        ended = watches.join_next() => Err(task_ended("a watch", &ended)),
        ended = &mut server => Err(task_ended("the HTTP server", &ended)),
    }
}
