//! Runs a worker: one thread owns the ledger and flushes it, one task sends what was flushed.
//!
//! The order of the end: the subscription reads what is there and stops, the ledger takes it in, the
//! last flush goes to the spool, the sender has until the grace ends, then the totals are logged.

mod flusher;
mod keeper;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use zibrato_service::{Report, Shutdown, StatusEndpoint, StatusError, serve_status};

use crate::backend::Backend;
use crate::clock::WallClock;
use crate::flush::FlushClock;
use crate::ledger::{self, Ledger};
use crate::report::About;
use crate::retry::RetryPolicy;
use crate::sender::{Phase, Sender, Unknown};
use crate::spool::{Found, LedgerRow, Spool, SpoolError};
use crate::status;
use crate::subscription::{self, Subscription};
use crate::table::{self, SeriesLimits, SeriesTable};
use crate::totals::{Shared, Totals};

use flusher::{Flusher, Offenders};
use keeper::Keeper;

/// How long the sender may go on after the last flush of an ordered end.
pub const GRACE_DEFAULT: Duration = Duration::from_secs(5);
/// Messages that wait for the ledger. At the limit the subscription stops reading, and then the
/// high-water mark of its sockets applies.
pub const INCOMING_MAX: usize = 10_000;

/// The settings of one worker.
#[derive(Clone, Debug)]
pub struct Config {
    /// Brokers' endpoints, such as `tcp://127.0.0.1:5551`; all are subscribed to.
    pub endpoints: Vec<String>,
    /// Levels to subscribe to, matched exactly.
    pub levels: Vec<String>,
    /// Interval between flushes, aligned to the wall clock.
    pub flush: Duration,
    /// Directory of the spool, created if it is missing.
    pub spool_directory: PathBuf,
    /// Most bytes of batches on disk. Beyond it changes stay in the ledger.
    pub spool_bytes_max: u64,
    /// Where `/healthz`, `/metrics` and `/status` are served.
    pub status: StatusEndpoint,
    /// How many series the backend is given.
    pub series: SeriesLimits,
    /// Waits between attempts to send.
    pub retry: RetryPolicy,
    /// How long the sender may go on after the last flush. Default [`GRACE_DEFAULT`].
    pub grace: Duration,
    /// The wall clock.
    pub clock: WallClock,
}

/// A worker that was started.
#[derive(Debug)]
pub struct Running {
    status: Option<SocketAddr>,
    totals: Shared,
    supervisor: JoinHandle<Result<Totals, Error>>,
}

impl Running {
    /// The bound address of `/healthz`, `/metrics` and `/status`; `None` if they are off.
    pub fn status_addr(&self) -> Option<SocketAddr> {
        self.status
    }

    /// Whether it ended: all its threads are gone, and [`Running::join`] returns at once.
    pub fn is_finished(&self) -> bool {
        self.supervisor.is_finished()
    }

    /// The totals so far.
    pub fn totals(&self) -> Totals {
        self.totals.snapshot()
    }

    /// Waits for the end, which the shutdown given to [`start`] brings about.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] if a part of the worker ended by itself. What could be saved was saved.
    pub async fn join(self) -> Result<Totals, Error> {
        self.supervisor.await.unwrap_or(Err(Error::Ended { part: "supervisor" }))
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
    let (spool, found) = open_spool(&config).await?;
    let totals = Shared::default();
    {
        let mut totals = totals.lock();
        (totals.held, totals.restored) = (spool.held(), spool.held().units);
        totals.oldest_ms = spool.oldest_ms()?;
        totals.quarantined = u64::from(found.quarantined.is_some());
    }
    let status = serve(&config, &*backend, &totals, &shutdown).await?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        backend = backend.name(),
        target = backend.target(),
        endpoints = config.endpoints.join(","),
        levels = config.levels.join(","),
        flush_s = config.flush.as_secs_f64(),
        spool = %config.spool_directory.display(),
        restored_batches = spool.held().batches,
        status = status.map(|addr| addr.to_string()),
        "worker started"
    );
    let spool = Arc::new(Mutex::new(spool));
    let committed = Arc::new(Notify::new());
    let (phase, phase_seen) = watch::channel(Phase::Running);
    let sender = Sender {
        backend: Arc::clone(&backend),
        spool: Arc::clone(&spool),
        totals: totals.clone(),
        policy: config.retry,
        clock: config.clock.clone(),
        committed: Arc::clone(&committed),
        phase: phase_seen,
        shutdown: shutdown.clone(),
        unknown: Unknown::default(),
    };
    let grace = config.grace;
    let kept = start_keeper(
        config,
        backend,
        context,
        found,
        Parts { spool, committed, totals: totals.clone(), shutdown },
    )?;
    let sending = tokio::spawn(sender.run());
    let supervisor = tokio::spawn(supervise(kept, sending, phase, grace, totals.clone()));
    Ok(Running { status, totals, supervisor })
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

/// What the keeper shares with the rest.
struct Parts {
    spool: Arc<Mutex<Spool>>,
    committed: Arc<Notify>,
    totals: Shared,
    shutdown: Shutdown,
}

async fn open_spool(config: &Config) -> Result<(Spool, Found), Error> {
    let (directory, bytes_max) = (config.spool_directory.clone(), config.spool_bytes_max);
    let now_ms = config.clock.now_ms();
    // Checking a large file takes a while.
    let opened = tokio::task::spawn_blocking(move || Spool::open(&directory, bytes_max, now_ms)).await;
    Ok(opened.map_err(|_| Error::Ended { part: "spool" })??)
}

async fn serve(
    config: &Config,
    backend: &dyn Backend,
    totals: &Shared,
    shutdown: &Shutdown,
) -> Result<Option<SocketAddr>, StatusError> {
    let (for_health, for_page, name) = (totals.clone(), totals.clone(), backend.name());
    let (health_clock, page_clock) = (config.clock.clone(), config.clock.clone());
    let health = move || status::health(&for_health.lock(), health_clock.now_ms());
    let page = move || status::page(&for_page.snapshot(), name, page_clock.now_ms());
    let (about, for_report) = (About::of(config, backend), totals.clone());
    let report = move || Report::Worker(about.report(&for_report.snapshot(), &for_report.view()));
    serve_status(config.status, health, page, report, shutdown.clone()).await
}

/// Starts the subscription and the thread that owns the ledger; it answers whether it ended in order.
fn start_keeper(
    config: Config,
    backend: Arc<dyn Backend>,
    context: &zmq::Context,
    found: Found,
    parts: Parts,
) -> Result<oneshot::Receiver<bool>, Error> {
    let now_ms = config.clock.now_ms();
    let (of_table, of_ledger) = found.ledger.into_iter().partition(|(key, _)| table::is_row(key));
    let table = restore_table(&config, &*backend, of_table);
    let mut ledger = restore(&*backend, of_ledger, now_ms);
    for level in &config.levels {
        ledger.subscribe_level(level, now_ms);
    }
    let (messages, incoming) = sync_channel(INCOMING_MAX);
    let subscription = Subscription::start(context, &config.endpoints, &config.levels, messages)?;
    let flusher = Flusher {
        ledger,
        table,
        offenders: Offenders::default(),
        clock: FlushClock::new(now_ms, found.last_flush_ms, config.flush),
        interval: config.flush,
        backend,
        spool: parts.spool,
        committed: parts.committed,
        totals: parts.totals,
        received: 0,
    };
    let keeper = Keeper { flusher, incoming, subscription, clock: config.clock, shutdown: parts.shutdown };
    let (ended, end) = oneshot::channel();
    thread::Builder::new()
        .name("ledger".to_owned())
        // The receiver is gone only if the runtime is, and then nobody asks.
        .spawn(move || _ = ended.send(keeper.run()))
        .map_err(Error::Thread)?;
    Ok(end)
}

fn restore_table(config: &Config, backend: &dyn Backend, rows: Vec<LedgerRow>) -> SeriesTable {
    let table = SeriesTable::restore(config.series, backend.shape(), rows);
    if table.rows_damaged() > 0 {
        tracing::error!(
            rows = table.rows_damaged(),
            "totals in the spool are damaged; those series start anew"
        );
    }
    table
}

fn restore(backend: &dyn Backend, rows: Vec<LedgerRow>, now_ms: u64) -> Ledger {
    let settings = ledger::Config {
        timers_raw: backend.shape().raw_timers,
        legacy_age_ms_max: u64::try_from(backend.limits().age_max.as_millis()).unwrap_or(u64::MAX),
        ..ledger::Config::default()
    };
    Ledger::restore(settings, rows, now_ms)
}

async fn supervise(
    kept: oneshot::Receiver<bool>,
    sending: JoinHandle<()>,
    phase: watch::Sender<Phase>,
    grace: Duration,
    totals: Shared,
) -> Result<Totals, Error> {
    // A thread that panicked dropped its end of the channel.
    let in_order = kept.await.unwrap_or(false);
    phase.send_replace(Phase::Finishing(Instant::now() + grace));
    let sent = sending.await;
    let totals = totals.snapshot();
    let law = if totals.law_holds() { "holds" } else { "is broken" };
    tracing::info!(
        law,
        received = totals.received,
        flushes = totals.flushes,
        flushes_aborted = totals.flushes_aborted,
        batches_delivered = totals.batches_delivered,
        batches_held = totals.held.batches,
        retries = totals.retries,
        ambiguous = totals.ambiguous,
        units = %totals,
        ledger = %totals.ledger,
        "worker stopped"
    );
    match (in_order, sent) {
        (true, Ok(())) => Ok(totals),
        (false, _) => Err(Error::Ended { part: "subscription or ledger thread" }),
        (_, Err(_)) => Err(Error::Ended { part: "sender" }),
    }
}
