//! The broker with its status endpoint, as the binary and `zibrato up` run it.

use tracing::info;
use zibrato_service::{Shutdown, StatusEndpoint, StatusError};

use crate::broker::{Running, StartError, start};
use crate::config::Config;
use crate::counts::Totals;

/// Runs a broker until `shutdown` is requested: ports, status endpoint, ordered end.
///
/// The first log line gives version and addresses, the last one the totals.
///
/// # Errors
/// [`RunError`].
pub async fn run(config: Config, shutdown: Shutdown) -> Result<Totals, RunError> {
    let http = config.http;
    let running = start(config, None, shutdown.clone())?;
    serve(running, http, shutdown).await
}

/// Serves the status of a broker that was started, and waits for its end.
///
/// # Errors
/// [`RunError::Status`], and then `shutdown` is requested; [`RunError::Failed`].
pub async fn serve(running: Running, http: StatusEndpoint, shutdown: Shutdown) -> Result<Totals, RunError> {
    let status = running.status().serve(http, shutdown.clone()).await;
    if let Ok(http) = &status {
        info!(
            version = env!("CARGO_PKG_VERSION"),
            publishers = running.in_endpoint(),
            workers = running.out_endpoint(),
            http = http.map_or_else(|| "off".to_owned(), |addr| addr.to_string()),
            "broker started"
        );
    } else {
        shutdown.request();
    }
    let joined = tokio::task::spawn_blocking(move || running.join()).await;
    let totals = joined.map_err(|_| RunError::Panicked)?;
    status?;
    info!(
        sum = %totals,
        acknowledged = totals.acknowledged,
        replayed = totals.replayed,
        kept_frames = totals.kept_frames,
        "broker ended"
    );
    match totals.failed {
        None => Ok(totals),
        Some(source) => Err(RunError::Failed { source }),
    }
}

/// Why a broker did not run to a clean end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Its status endpoint did not.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// ZeroMQ failed under it.
    #[error("the broker's sockets failed; its counts are in the log")]
    Failed {
        /// What ZeroMQ says.
        source: zmq::Error,
    },
    /// Its thread panicked.
    #[error("the broker's thread panicked; its message is above")]
    Panicked,
}
