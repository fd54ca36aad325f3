//! What the writer does between jobs, in small steps: packing, deleting, giving space back, and
//! moving the journal into the file.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::hooks::Wal;
use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, ErrorCode};

use super::BUSY_TIMEOUT;
use super::expire::Expirer;
use super::garbage;
use super::pack::Packer;
use crate::config::Keep;

/// The journal is moved into the file when it has so many pages: 16 MiB.
const JOURNAL_PAGES_DUE: i32 = 4_096;
/// It starts anew only when no query reads from it. If there always was one until it has so many
/// pages (64 MiB), the writer waits a little for those that run, while new ones read the file.
const JOURNAL_PAGES_MAX: i32 = 4 * JOURNAL_PAGES_DUE;
/// How long it waits, and POSTs with it; a query of a chart takes less. Behind longer ones the journal grows
/// until the next attempt, which waits as long as any statement once there are 256 MiB.
const JOURNAL_WAIT: Duration = Duration::from_millis(200);
/// How much of the journal's file is kept for the next one, in bytes.
const JOURNAL_KEPT_BYTES: i64 = 64 * 1024 * 1024;
/// Free pages are given back to the file system when they are more than half of the file and more
/// than so many (16 MiB); half of them stay for what comes next.
const FREE_PAGES_MAX: i64 = 4_096;
/// How many pages one step gives back.
const STEP_PAGES_MAX: i64 = 256;
/// How long nothing is tried after a failure.
const PAUSE: Duration = Duration::from_secs(10);

/// What was deleted since the start, in points.
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    /// Points that were older than points are kept.
    pub(crate) expired: AtomicU64,
    /// Points of metrics and sources that a client deleted.
    pub(crate) deleted: AtomicU64,
}

/// All work beside the jobs.
#[derive(Debug)]
pub(super) struct Maintenance {
    pub(super) packer: Packer,
    expirer: Expirer,
    has_garbage: bool,
    /// The number of free pages to get down to, if there are too many.
    free_pages_wanted: Option<i64>,
    journal_pages: Arc<AtomicI32>,
    /// The length of the journal at which the next attempt is made to move it.
    journal_due: i32,
    paused_until: Option<Instant>,
    dropped: Arc<Dropped>,
}

impl Maintenance {
    pub(super) fn new(connection: &mut Connection, keep: Keep) -> rusqlite::Result<Self> {
        let journal_pages = Arc::new(AtomicI32::new(0));
        let pages = Arc::clone(&journal_pages);
        // This takes the place of SQLite's own checkpoints, which a POST would have to wait for.
        connection.wal_hook(Some(move |_: &mut Wal, length| {
            pages.store(length, Ordering::Relaxed);
            Ok(())
        }))?;
        connection.pragma_update(None, "journal_size_limit", JOURNAL_KEPT_BYTES)?;
        Ok(Self {
            packer: Packer::default(),
            expirer: Expirer::new(keep),
            has_garbage: true,
            free_pages_wanted: None,
            journal_pages,
            journal_due: JOURNAL_PAGES_DUE,
            paused_until: None,
            dropped: Arc::default(),
        })
    }

    /// What is deleted, counted.
    pub(super) fn dropped(&self) -> Arc<Dropped> {
        Arc::clone(&self.dropped)
    }

    /// Ends a pause.
    #[cfg(test)]
    pub(super) fn resume(&mut self) {
        self.paused_until = None;
    }

    /// Logs what was deleted, if anything was.
    pub(super) fn report(&self) {
        let points_expired = self.dropped.expired.load(Ordering::Relaxed);
        let points_deleted = self.dropped.deleted.load(Ordering::Relaxed);
        if points_expired + points_deleted > 0 {
            tracing::info!(points_expired, points_deleted, "stored points were deleted");
        }
    }

    /// Says that there may be series to delete.
    pub(super) fn look_for_garbage(&mut self) {
        self.has_garbage = true;
    }

    /// One step of what is most urgent; returns whether there is more to do at once.
    pub(super) fn step(&mut self, connection: &mut Connection, now: i64) -> bool {
        if self.paused_until.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        self.paused_until = None;
        match self.try_step(connection, now) {
            Ok(more) => more,
            Err(error) => {
                self.pause(&error);
                false
            }
        }
    }

    fn try_step(&mut self, connection: &mut Connection, now: i64) -> rusqlite::Result<bool> {
        if self.is_journal_long() {
            self.move_journal(connection)?;
        } else if self.packer.is_due(now) {
            // A power cut may take a step back: its points are then in the tail again, as before.
            match unsynced(connection, |connection| self.packer.step(connection)) {
                Ok(packed) => {
                    self.dropped.deleted.fetch_add(packed.points_deleted, Ordering::Relaxed);
                }
                Err(error) if is_damage(&error) => self.packer.skip(&error),
                Err(error) => return Err(error),
            }
        } else if self.has_garbage {
            match unsynced(connection, garbage::step)? {
                Some(points) => drop(self.dropped.deleted.fetch_add(points, Ordering::Relaxed)),
                None => {
                    self.has_garbage = false;
                    self.look_for_free_pages(connection)?;
                }
            }
        } else if self.expirer.is_due(now) {
            let points = unsynced(connection, |connection| self.expirer.step(connection))?;
            self.dropped.expired.fetch_add(points, Ordering::Relaxed);
            if !self.expirer.is_due(now) {
                self.look_for_free_pages(connection)?;
            }
        } else if let Some(wanted) = self.free_pages_wanted {
            let free = pragma(connection, "freelist_count")?;
            let pages = (free - wanted).min(STEP_PAGES_MAX);
            if pages > 0 {
                unsynced(connection, |connection| {
                    connection.execute_batch(&format!("PRAGMA incremental_vacuum({pages})"))
                })?;
            }
            if pages < STEP_PAGES_MAX {
                self.free_pages_wanted = None;
            }
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn look_for_free_pages(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let (free, all) = (pragma(connection, "freelist_count")?, pragma(connection, "page_count")?);
        self.free_pages_wanted = (free > FREE_PAGES_MAX && free > all / 2).then_some(free / 2);
        Ok(())
    }

    /// Whether the journal is to be moved into the file.
    fn is_journal_long(&mut self) -> bool {
        let length = self.journal_pages.load(Ordering::Relaxed);
        if length < JOURNAL_PAGES_DUE {
            // It has started anew.
            self.journal_due = JOURNAL_PAGES_DUE;
        }
        length >= self.journal_due
    }

    /// Moves the journal into the file as far as queries allow. The next write starts it anew unless
    /// one of them still reads from it; then the next attempt is a little later.
    fn move_journal(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let length = self.journal_pages.load(Ordering::Relaxed);
        self.journal_due = length.saturating_add(JOURNAL_PAGES_DUE / 4);
        let is_urgent = length >= JOURNAL_PAGES_MAX;
        let mode = if is_urgent { CheckpointMode::RESTART } else { CheckpointMode::PASSIVE };
        let is_huge = length >= 4 * JOURNAL_PAGES_MAX;
        connection.busy_timeout(if is_huge { BUSY_TIMEOUT } else { JOURNAL_WAIT })?;
        let moved = connection.wal_checkpoint_v2(None::<&str>, mode);
        connection.busy_timeout(BUSY_TIMEOUT)?;
        match moved {
            Err(error) if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) => Err(error),
            _ => Ok(()),
        }
    }

    fn pause(&mut self, error: &rusqlite::Error) {
        self.paused_until = Some(Instant::now() + PAUSE);
        tracing::error!(%error, pause_s = PAUSE.as_secs(), "the store cannot be maintained; points are kept as they are");
    }
}

/// Whether an error comes from what lies at one place of the file, so that others may still do.
fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt) | None)
}

/// Runs work whose loss in a power cut loses nothing, without waiting for the disk.
fn unsynced<T>(
    connection: &mut Connection,
    work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let result = work(connection);
    connection.pragma_update(None, "synchronous", "FULL")?;
    result
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}
