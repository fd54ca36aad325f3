//! One flush: what changed since the last one becomes bodies, and bodies and ledger are committed.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::Notify;

use crate::backend::{Backend, Body, Content, Encoded, FlushTime};
use crate::batch_id::batch_id;
use crate::flush::FlushClock;
use crate::ledger::{Flush, Ledger};
use crate::merge::{keep_last_points, merge_series, units_of};
use crate::naming::Naming;
use crate::spool::{Commit, Spool, SpoolError};
use crate::subscription::{Incoming, Message};
use crate::table::{Prepared, SeriesTable};
use crate::totals::Shared;
use crate::units::{ByReason, Units};

/// The ledger and where its flushes go.
pub(super) struct Flusher {
    pub(super) ledger: Ledger,
    pub(super) table: SeriesTable,
    pub(super) offenders: Offenders,
    pub(super) naming: Naming,
    pub(super) clock: FlushClock,
    pub(super) interval: Duration,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) spool: Arc<Mutex<Spool>>,
    pub(super) committed: Arc<Notify>,
    pub(super) totals: Shared,
    /// Messages taken in.
    pub(super) received: u64,
}

/// Why a flush was not committed.
#[derive(Debug, thiserror::Error)]
enum FlushError {
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("no random bits for the ids of batches: {0}")]
    Random(#[from] getrandom::Error),
    #[error("no thread for a flush: {0}; raise the limit of threads, or run fewer programs as this user")]
    Thread(std::io::Error),
}

/// Which metrics had series beyond the limit since they were named last.
#[derive(Debug, Default)]
pub(super) struct Offenders {
    overflowed: BTreeMap<String, u64>,
    named_ms: u64,
}

/// How often the metric with most series beyond the limit is named.
const NAME_MS: u64 = 60_000;

impl Offenders {
    fn note(&mut self, overflowed: &BTreeMap<String, u64>) {
        for (metric, series) in overflowed {
            let most = self.overflowed.entry(metric.clone()).or_default();
            // One flush after the other has the same ones.
            *most = (*most).max(*series);
        }
    }

    /// The metric with most of them, at most once a minute.
    fn due(&mut self, now_ms: u64) -> Option<(String, u64)> {
        if now_ms.saturating_sub(self.named_ms) < NAME_MS || self.overflowed.is_empty() {
            return None;
        }
        self.named_ms = now_ms;
        std::mem::take(&mut self.overflowed).into_iter().max_by_key(|(_, series)| *series)
    }
}

impl Flusher {
    /// Flushes. What the spool does not take stays in the ledger and is part of the next flush.
    pub(super) fn flush(&mut self, now_ms: u64) {
        let stamp_ms = self.clock.stamp_ms(now_ms);
        self.clock.made(now_ms, stamp_ms);
        let flush = self.ledger.prepare_flush(now_ms);
        let result = self.commit(flush, stamp_ms);
        match &result {
            Ok(()) => {
                self.ledger.commit_flush();
                self.table.commit();
            }
            Err(error) => {
                self.ledger.abort_flush();
                self.table.abort();
                tracing::error!(%error, "a flush was not spooled; its changes stay in memory for the next one");
            }
        }
        let counts = self.ledger.counts();
        let mut totals = self.totals.lock();
        totals.ledger = counts;
        totals.clock_backwards = self.clock.backwards();
        totals.is_aborting = result.is_err();
        match result {
            Ok(()) => {
                totals.flushes += 1;
                totals.last_flush_ms = Some(now_ms);
            }
            Err(error) => {
                totals.flushes_aborted += 1;
                totals.spool_full += u64::from(matches!(error, FlushError::Spool(error) if error.is_full()));
            }
        }
    }

    /// Takes a message in.
    pub(super) fn receive(&mut self, incoming: &Incoming, now_ms: u64) {
        self.ledger.receive(incoming, now_ms);
        self.received +=
            u64::from(matches!(incoming.message, Message::Published(_) | Message::Replayed { .. }));
    }

    /// Shows what was received. It is cheap, but takes a lock, so once a turn is enough.
    pub(super) fn show_received(&self) {
        self.totals.lock().received = self.received;
    }

    /// Shows what the ledger counts.
    pub(super) fn show(&self) {
        let (counts, series) = (self.ledger.counts(), self.ledger.series() as u64);
        let mut totals = self.totals.lock();
        (totals.ledger, totals.series) = (counts, series);
    }

    fn commit(&mut self, flush: Flush, stamp_ms: u64) -> Result<(), FlushError> {
        let Self { ledger, table, naming, backend, spool, .. } = self;
        let Flush { changes, removed: gone } = flush;
        let flush_time = FlushTime { unix_ms: stamp_ms, interval: self.interval };
        let (mut offered, mut left_out) = (Units::default(), ByReason::default());
        let mut spool = spool.lock().unwrap_or_else(PoisonError::into_inner);
        let mut writing = spool.begin()?;
        // A flush is half bodies and half rows, and a store waits for the first of them until both are there. What is large or
        // lives long is allocated by this thread, so that it comes from one heap.
        let (written, prepared) = beside(
            || ledger.rows().try_for_each(|rows| writing.rows(&rows)),
            || {
                let mut measurements = changes.measurements();
                offered = units_of(&measurements);
                naming.apply(&mut measurements, &mut left_out);
                let merged = merge_series(measurements, backend.shape().keeps_levels);
                table.prepare(merged, flush_time, |identity| ledger.name(identity))
            },
        )?;
        written?;
        let Prepared { mut measurements, expired, forgotten, removed, overflowed } = prepared;
        let merged_sets = keep_last_points(&mut measurements, backend.limits().points_per_series_max);
        let (written, encoded) = beside(
            || table.rows().try_for_each(|rows| writing.rows(&rows)),
            || backend.encode(&Content { measurements: &measurements, expired: &expired, flush: flush_time }),
        )?;
        written?;
        let Encoded { bodies, refused, clashes, merged_sets: overwritten } = encoded;
        let bodies = bodies
            .into_iter()
            .map(|body| Ok((batch_id()?, body)))
            .collect::<Result<Vec<(String, Body)>, getrandom::Error>>()?;
        let mut accepted = Units::default();
        bodies.iter().for_each(|(_, body)| accepted.add(&Units::of(&body.points)));
        let removed = [gone, removed].concat();
        writing.commit(&Commit { flushed_ms: stamp_ms, bodies: &bodies, removed: &removed })?;
        let oldest_ms = spool.oldest_ms().unwrap_or(None);
        // Still under the spool's lock, so that the sender cannot deliver what is not yet accepted.
        let mut totals = self.totals.lock();
        totals.offered.add(&offered);
        totals.merged_sets += merged_sets + overwritten;
        totals.refused.merge(&refused);
        totals.refused.merge(&left_out);
        totals.clashes += clashes;
        totals.accepted.add(&accepted);
        (totals.held, totals.oldest_ms) = (spool.held(), oldest_ms);
        totals.overflowed += overflowed.values().sum::<u64>();
        totals.expired += forgotten;
        drop(totals);
        drop(spool);
        self.committed.notify_one();
        for (reason, units) in refused.iter() {
            tracing::warn!(reason, %units, "points that the backend would refuse were left out");
        }
        self.offenders.note(&overflowed);
        if let Some((metric, series)) = self.offenders.due(stamp_ms) {
            tracing::warn!(
                metric,
                series,
                "series beyond the limit were folded into overflow series; this metric had most of them"
            );
            self.totals.lock().offender = Some((metric, series));
        }
        Ok(())
    }
}

/// Does both at once, the first on a thread of its own.
///
/// # Errors
///
/// [`FlushError::Thread`] if there cannot be one more.
fn beside<A: Send, B>(
    first: impl FnOnce() -> A + Send,
    second: impl FnOnce() -> B,
) -> Result<(A, B), FlushError> {
    thread::scope(|scope| {
        let first = thread::Builder::new()
            .name("flush".to_owned())
            .spawn_scoped(scope, first)
            .map_err(FlushError::Thread)?;
        let second = second();
        Ok((first.join().unwrap_or_else(|panic| resume_unwind(panic)), second))
    })
}
