//! Runs a worker: one subscription, and for each backend a lane of its own.
//!
//! Lanes share nothing but what comes: each has its own ledger, flush, spool, retry and sender, so that a backend that is
//! dead holds up no other.

mod flusher;
mod keeper;
mod lane;
mod many;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use zibrato_service::{Report, Shutdown, StatusEndpoint, StatusError, serve_status};

use crate::backend::Backend;
use crate::clock::WallClock;
use crate::spool::SpoolError;
use crate::subscription::{self, LaneEnd, Subscription};
use crate::totals::Totals;

pub use lane::LaneConfig;
use lane::{Lane, Ready, Seen};
pub use many::{LaneSpec, ManyConfig, run_many};

/// How long the sender may go on after the last flush of an ordered end.
pub const GRACE_DEFAULT: Duration = Duration::from_secs(5);
/// Messages that wait for a ledger. At the limit the subscription stops reading, and then the
/// high-water mark of its sockets applies.
pub const INCOMING_MAX: usize = 10_000;

/// The settings of a worker with one backend.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where metrics come from.
    pub source: Source,
    /// Where `/healthz`, `/metrics` and `/status` are served.
    pub status: StatusEndpoint,
    /// How they become batches.
    pub lane: LaneConfig,
}

/// Where metrics come from.
#[derive(Clone, Debug)]
pub struct Source {
    /// Brokers' endpoints, such as `tcp://127.0.0.1:5551`; all are subscribed to.
    pub endpoints: Vec<String>,
    /// Levels to subscribe to, matched exactly.
    pub levels: Vec<String>,
    /// The wall clock.
    pub clock: WallClock,
}

/// A worker that was started.
#[derive(Debug)]
pub struct Running {
    status: Option<SocketAddr>,
    lane: Lane,
}

impl Running {
    /// The bound address of `/healthz`, `/metrics` and `/status`; `None` if they are off.
    pub fn status_addr(&self) -> Option<SocketAddr> {
        self.status
    }

    /// Whether it ended: all its threads are gone, and [`Running::join`] returns at once.
    pub fn is_finished(&self) -> bool {
        self.lane.is_finished()
    }

    /// The totals so far.
    pub fn totals(&self) -> Totals {
        self.lane.seen().totals()
    }

    /// Waits for the end, which the shutdown given to [`start`] brings about.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] if a part of the worker ended by itself. What could be saved was saved.
    pub async fn join(self) -> Result<Totals, Error> {
        self.lane.join().await
    }
}

/// Runs a worker with a ZeroMQ context of its own until the shutdown is requested.
///
/// # Errors
///
/// As [`start`] and [`Running::join`].
pub async fn run(config: Config, backend: Arc<dyn Backend>, shutdown: Shutdown) -> Result<Totals, Error> {
    start(config, backend, &zmq::Context::new(), shutdown).await?.join().await
}

/// Starts a worker and returns as soon as its spool is open, its status is served and its sockets
/// connect. Neither broker nor backend need be there.
///
/// An ordered end makes a last flush, spools it, and sends until the grace has passed; an immediate
/// one leaves out the sending, never the spool.
///
/// # Errors
///
/// [`Error`] names what cannot be opened.
pub async fn start(
    config: Config,
    backend: Arc<dyn Backend>,
    context: &zmq::Context,
    shutdown: Shutdown,
) -> Result<Running, Error> {
    let Config { source, status, lane } = config;
    let ready = Ready::open(backend.name().to_owned(), lane, backend, source.clone()).await?;
    let seen = ready.seen();
    let (for_health, for_page, for_report) = (seen.clone(), seen.clone(), seen.clone());
    let status = serve_status(
        status,
        move || for_health.health(),
        move || for_page.page(),
        move || Report::Worker(for_report.report()),
        shutdown.clone(),
    )
    .await?;
    tell_start(&source, status, &[&seen]);
    let (sender, incoming) = Ready::channel();
    let subscription = subscribe(context, &source, vec![(seen.name().to_owned(), sender)], &shutdown)?;
    Ok(Running { status, lane: ready.start(seen, incoming, subscription, shutdown)? })
}

fn tell_start(source: &Source, status: Option<SocketAddr>, lanes: &[&Seen]) {
    let targets: Vec<_> = lanes.iter().map(|seen| format!("{}={}", seen.name(), seen.target())).collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        endpoints = source.endpoints.join(","),
        levels = source.levels.join(","),
        targets = targets.join(","),
        status = status.map(|addr| addr.to_string()),
        "worker started"
    );
}

/// Starts the subscription, which the shutdown stops.
fn subscribe(
    context: &zmq::Context,
    source: &Source,
    lanes: Vec<LaneEnd>,
    shutdown: &Shutdown,
) -> Result<Arc<Subscription>, Error> {
    let subscription = Arc::new(Subscription::start(context, &source.endpoints, &source.levels, lanes)?);
    let (stopped, shutdown) = (Arc::downgrade(&subscription), shutdown.clone());
    tokio::spawn(async move {
        shutdown.requested().await;
        if let Some(subscription) = stopped.upgrade() {
            subscription.request_stop();
        }
    });
    Ok(subscription)
}

/// Why a worker cannot start or did not end in order.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The spool cannot be opened.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The status endpoint cannot be served.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// The subscription cannot start.
    #[error(transparent)]
    Subscription(#[from] subscription::Error),
    /// A thread cannot start.
    #[error("cannot start the worker's thread; free memory or raise the limit of processes")]
    Thread(#[source] std::io::Error),
    /// A part ended by itself.
    #[error("the worker's {part} ended by itself; the log says why")]
    Ended {
        /// The part.
        part: &'static str,
    },
}
