//! `zibrato up`: broker, worker and store in one process.
//!
//! ```text
//! demo, publishers -> broker -> worker (board) -> HTTP -> local -> local.db
//! ```
//!
//! Each part has a shutdown of its own, so that they end in the order in which data flows: what one
//! part hands on while it ends, the next one still takes.

mod board;
mod parts;
mod report;
mod screen;

use std::fs::{self, File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, interval_at};
use zibrato_local::StoreError;
use zibrato_service::{Shutdown, StatusEndpoint, StatusError};
use zibrato_std::BuildError;
use zibrato_worker::spool::SpoolError;

use parts::{Part, Parts, Stops};
use screen::Screen;

/// The worker's interval.
const FLUSH: Duration = Duration::from_secs(1);
/// Name of the file whose lock says that a data directory is in use.
const LOCK_FILE: &str = "up.lock";

/// The settings of `zibrato up`.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The broker's, with the address of its status.
    pub(crate) broker: zibrato_broker::Config,
    /// Where the worker's status is served.
    pub(crate) worker_http: StatusEndpoint,
    /// Address of the metrics API, on loopback.
    pub(crate) listen: SocketAddr,
    /// Levels that the worker subscribes to.
    pub(crate) levels: Vec<String>,
    /// Directory of the store and of the spool.
    pub(crate) data: PathBuf,
    /// Whether the demo runs.
    pub(crate) demo: bool,
}

/// Runs until `shutdown` is requested, a part ends by itself or nobody reads any more what is printed,
/// then ends in order and prints the account of each part.
///
/// # Errors
///
/// [`Error`] if a part does not start, if one ended by itself, or if an account does not add up.
pub(crate) async fn run(config: Config, shutdown: Shutdown) -> Result<(), Error> {
    let _lock = lock(&config.data)?;
    let stops = Stops::default();
    let parts = match Parts::start(&config, &stops).await {
        Ok(parts) => parts,
        Err(error) => {
            stops.end_at_once();
            // Nothing was begun, so nothing is left behind; the lock itself ends with this call.
            let _ = fs::remove_file(config.data.join(LOCK_FILE));
            return Err(error);
        }
    };
    let mut screen = Screen::stdout();
    screen.print(&report::banner(&parts, &config.data));
    let ended = watch(&parts, &mut screen, &shutdown).await;
    screen.finish();

    let accounts = parts.end(stops, &shutdown).await?;
    let (lines, holds) = report::accounts(&accounts);
    screen.print(&lines);
    match ended {
        Some(part) => Err(Error::Ended { part }),
        None if holds => Ok(()),
        None => Err(Error::Law),
    }
}

/// Shows the status until `shutdown` is requested or nobody reads it; the part if one ended before
/// that.
async fn watch(parts: &Parts, screen: &mut Screen, shutdown: &Shutdown) -> Option<Part> {
    let period = screen.period();
    let mut ticks = interval_at(Instant::now() + period, period);
    while !screen.is_gone() {
        tokio::select! {
            () = shutdown.requested() => return None,
            _ = ticks.tick() => {}
        }
        if let Some(part) = parts.ended() {
            return Some(part);
        }
        screen.status(&report::status(&parts.snapshot()));
    }
    None
}

/// Creates the data directory and takes its lock, which the system releases when the process ends.
fn lock(data: &Path) -> Result<File, Error> {
    let failed = |source| Error::Data { path: data.to_owned(), source };
    fs::create_dir_all(data).map_err(failed)?;
    let file = File::create(data.join(LOCK_FILE)).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { path: data.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Why `zibrato up` cannot start or did not end well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The data directory, or what is to be in it, cannot be used.
    #[error("cannot use {} for the data; give a directory that can be written with --data", path.display())]
    Data { path: PathBuf, source: io::Error },
    /// Another process uses the data directory.
    #[error("the data directory {} is in use by another zibrato up; give another one with --data", path.display())]
    InUse { path: PathBuf },
    /// The store does not start or ended badly.
    #[error(transparent)]
    Local(zibrato_local::Error),
    /// The broker does not start.
    #[error(transparent)]
    Broker(#[from] zibrato_broker::StartError),
    /// The broker's status cannot be served.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// The worker does not start or ended badly.
    #[error(transparent)]
    Worker(zibrato_worker::worker::Error),
    /// The worker's HTTP client cannot be set up.
    #[error(transparent)]
    Backend(#[from] zibrato_worker::http::HttpError),
    /// The demo's client does not start.
    #[error("the demo cannot start")]
    Demo(#[from] BuildError),
    /// The system gives no more threads.
    #[error("cannot start a thread of the demo; free memory or raise the limit of processes")]
    Thread(#[source] io::Error),
    /// A part ended by itself.
    #[error("the {part} ended by itself; the log says why")]
    Ended { part: Part },
    /// An account does not add up.
    #[error("the numbers do not add up; the lines above say where")]
    Law,
}

// Store and spool would name flags that `up` does not have.

impl From<zibrato_local::Error> for Error {
    fn from(error: zibrato_local::Error) -> Self {
        match error {
            zibrato_local::Error::Store(StoreError::Open { path, source }) => {
                Self::Data { path, source: io::Error::other(source) }
            }
            error => Self::Local(error),
        }
    }
}

impl From<zibrato_worker::worker::Error> for Error {
    fn from(error: zibrato_worker::worker::Error) -> Self {
        match error {
            zibrato_worker::worker::Error::Spool(SpoolError::Directory { path, source }) => {
                Self::Data { path, source }
            }
            error => Self::Worker(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_is_created_and_belongs_to_one_process_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("a/b");
        let held = lock(&data).unwrap();
        let error = lock(&data).unwrap_err().to_string();
        assert!(error.contains("in use") && error.contains("--data"), "{error}");
        drop(held);
        lock(&data).unwrap();
        let below_a_file = data.join(LOCK_FILE).join("c");
        let error = lock(&below_a_file).unwrap_err().to_string();
        assert!(error.starts_with("cannot use ") && error.contains("--data"), "{error}");
    }
}
