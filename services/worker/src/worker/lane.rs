//! One backend of a worker: a thread owns its ledger and flushes it, a task sends what was flushed.
//!
//! The order of the end: the subscription closes the lane's channel, the ledger takes in what is left there, the last
//! flush goes to the spool, the sender has until the grace ends, then the totals are logged.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use zibrato_service::{Health, Shutdown, WorkerReport};

use super::flusher::{Flusher, Offenders};
use super::keeper::Keeper;
use super::{Error, GRACE_DEFAULT, INCOMING_MAX, Source};
use crate::backend::Backend;
use crate::clock::WallClock;
use crate::flush::FlushClock;
use crate::ledger::{self, Ledger};
use crate::naming::Naming;
use crate::report::About;
use crate::retry::RetryPolicy;
use crate::sender::{Phase, Sender, Tried};
use crate::spool::{Found, LedgerRow, SPOOL_MIB_DEFAULT, Spool};
use crate::status;
use crate::subscription::{Incoming, Subscription};
use crate::table::{self, SeriesLimits, SeriesTable};
use crate::totals::{Shared, Totals};

/// The settings of one backend's lane.
#[derive(Clone, Debug)]
pub struct LaneConfig {
    /// Interval between flushes, aligned to the wall clock.
    pub flush: Duration,
    /// Directory of the spool, created if it is missing.
    pub spool_directory: PathBuf,
    /// Most bytes of batches on disk. Beyond it changes stay in the ledger.
    pub spool_bytes_max: u64,
    /// How many series the backend is given.
    pub series: SeriesLimits,
    /// Under which names.
    pub naming: Naming,
    /// Waits between attempts to send.
    pub retry: RetryPolicy,
    /// How long the sender may go on after the last flush. Default [`super::GRACE_DEFAULT`].
    pub grace: Duration,
}

impl LaneConfig {
    /// The defaults but for the interval of the flush and the directory of the spool.
    #[must_use]
    pub fn new(flush: Duration, spool_directory: PathBuf) -> Self {
        Self {
            flush,
            spool_directory,
            spool_bytes_max: SPOOL_MIB_DEFAULT << 20,
            series: SeriesLimits::default(),
            naming: Naming::default(),
            retry: RetryPolicy::default(),
            grace: GRACE_DEFAULT,
        }
    }
}

/// A lane whose spool is open, before anything comes.
pub(super) struct Ready {
    name: String,
    config: LaneConfig,
    backend: Arc<dyn Backend>,
    source: Source,
    spool: Spool,
    found: Found,
    totals: Shared,
}

/// A lane that runs.
#[derive(Debug)]
pub(super) struct Lane {
    seen: Seen,
    supervisor: JoinHandle<Result<Totals, Error>>,
}

/// What others may see of a lane.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    about: Arc<About>,
    totals: Shared,
    clock: WallClock,
}

impl Seen {
    pub(super) fn name(&self) -> &str {
        self.about.name()
    }

    pub(super) fn target(&self) -> &str {
        self.about.target()
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals.snapshot()
    }

    pub(super) fn health(&self) -> Health {
        status::health(&self.totals.lock(), self.clock.now_ms())
    }

    pub(super) fn page(&self) -> String {
        status::page(&self.totals.snapshot(), self.about.name(), self.clock.now_ms())
    }

    pub(super) fn report(&self) -> WorkerReport {
        self.about.report(&self.totals.snapshot(), &self.totals.view())
    }
}

impl Ready {
    /// Opens the spool. `name` tells the lane from others in logs and metrics.
    pub(super) async fn open(
        name: String,
        config: LaneConfig,
        backend: Arc<dyn Backend>,
        source: Source,
    ) -> Result<Self, Error> {
        let (directory, bytes_max) = (config.spool_directory.clone(), config.spool_bytes_max);
        let now_ms = source.clock.now_ms();
        // Checking a large file takes a while.
        let opened = tokio::task::spawn_blocking(move || Spool::open(&directory, bytes_max, now_ms)).await;
        let (spool, found) = opened.map_err(|_| Error::Ended { part: "spool" })??;
        let totals = Shared::default();
        {
            let mut totals = totals.lock();
            (totals.held, totals.restored) = (spool.held(), spool.held().units);
            totals.oldest_ms = spool.oldest_ms()?;
            totals.quarantined = u64::from(found.quarantined.is_some());
        }
        Ok(Self { name, config, backend, source, spool, found, totals })
    }

    pub(super) fn seen(&self) -> Seen {
        let about = Arc::new(About::of(&self.name, &self.source, &self.config, &*self.backend));
        Seen { about, totals: self.totals.clone(), clock: self.source.clock.clone() }
    }

    /// The channel of a lane.
    pub(super) fn channel() -> (std::sync::mpsc::SyncSender<Arc<Incoming>>, Receiver<Arc<Incoming>>) {
        sync_channel(INCOMING_MAX)
    }

    /// Starts what takes in, flushes and sends. The lane ends when `incoming` is closed, in order if `shutdown` was
    /// requested before.
    pub(super) fn start(
        self,
        seen: Seen,
        incoming: Receiver<Arc<Incoming>>,
        subscription: Arc<Subscription>,
        shutdown: Shutdown,
    ) -> Result<Lane, Error> {
        let Self { name, config, backend, source, spool, found, totals } = self;
        tracing::info!(
            lane = name,
            backend = backend.name(),
            target = backend.target(),
            flush_s = config.flush.as_secs_f64(),
            spool = %config.spool_directory.display(),
            restored_batches = spool.held().batches,
            "lane started"
        );
        let spool = Arc::new(Mutex::new(spool));
        let committed = Arc::new(Notify::new());
        let (phase, phase_seen) = watch::channel(Phase::Running);
        let sender = Sender {
            backend: Arc::clone(&backend),
            spool: Arc::clone(&spool),
            totals: totals.clone(),
            policy: config.retry,
            clock: source.clock.clone(),
            committed: Arc::clone(&committed),
            phase: phase_seen,
            shutdown: shutdown.clone(),
            tried: Tried::default(),
        };
        let now_ms = source.clock.now_ms();
        let (of_table, of_ledger) = found.ledger.into_iter().partition(|(key, _)| table::is_row(key));
        let mut ledger = restore(&*backend, of_ledger, now_ms);
        for level in &source.levels {
            ledger.subscribe_level(level, now_ms);
        }
        let grace = config.grace;
        let flusher = Flusher {
            ledger,
            table: restore_table(config.series, &*backend, of_table),
            offenders: Offenders::default(),
            naming: config.naming,
            clock: FlushClock::new(now_ms, found.last_flush_ms, config.flush),
            interval: config.flush,
            backend,
            spool,
            committed,
            totals: totals.clone(),
            received: 0,
        };
        let keeper = Keeper { flusher, incoming, subscription, clock: source.clock, shutdown };
        let (ended, end) = oneshot::channel();
        thread::Builder::new()
            .name("ledger".to_owned())
            // The receiver is gone only if the runtime is, and then nobody asks.
            .spawn(move || _ = ended.send(keeper.run()))
            .map_err(Error::Thread)?;
        let sending = tokio::spawn(sender.run());
        let supervisor = tokio::spawn(supervise(name, end, sending, phase, grace, totals));
        Ok(Lane { seen, supervisor })
    }
}

impl Lane {
    pub(super) fn seen(&self) -> &Seen {
        &self.seen
    }

    pub(super) fn is_finished(&self) -> bool {
        self.supervisor.is_finished()
    }

    /// Waits for the end.
    pub(super) async fn join(self) -> Result<Totals, Error> {
        self.supervisor.await.unwrap_or(Err(Error::Ended { part: "supervisor" }))
    }
}

fn restore_table(limits: SeriesLimits, backend: &dyn Backend, rows: Vec<LedgerRow>) -> SeriesTable {
    let table = SeriesTable::restore(limits, backend.shape(), rows);
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
    lane: String,
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
        lane,
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
