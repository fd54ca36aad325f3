//! The SQLite store: one thread writes, a few connections read.
//!
//! A POST is one transaction, and so is its batch id, so a batch is stored once and whole or not at
//! all. The journal is a WAL, so that reading never waits for writing, and commits are synced in full
//! (`synchronous=FULL`): a worker deletes a batch from its spool when it sees 200, so a 200 must
//! outlive a power cut. That costs one fsync a POST, and a worker posts once a second at most.
//!
//! Two points with equal metric, source and time are two points. Nothing is overwritten or merged on
//! the way in, so counts and sums stay exact; reading at a resolution merges them.
//!
//! **Invariant.** `blocks` and `rollups` hold exactly the packed points, `tail` exactly the others.
//! Packing moves points from the tail to a block and the three rollups in one transaction, and every
//! read merges both. So what is read does not depend on when points are packed, and a late point is
//! packed like any other: it is merged into its block and added to its rollups.

pub(crate) mod catalogue;
pub(crate) mod model;

mod block;
mod chart;
mod check;
mod distribution;
mod errors;
mod expire;
mod export;
mod garbage;
mod lock;
mod maintain;
mod measure;
mod migrate;
mod names;
mod pack;
mod packed;
mod readers;
mod rollup;
mod schema;
mod series;
mod tail;
mod write;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tokio::sync::broadcast;

pub use check::{CheckError, CheckReport, check_db};
pub use errors::StoreError;
pub use export::{StoredPoint, read_points};
use lock::Lock;
use maintain::{Dropped, Maintenance};
pub(crate) use measure::{Measured, MeasurementsQuery, Take};
use model::{ChartQuery, Line};
use readers::{QUERY_TIMEOUT, READERS_MAX, Readers};
pub(crate) use series::matches;
pub(crate) use tail::SLOT_S;
pub(crate) use write::{Batch, Outcome};
use writer::Writer;

use crate::config::Keep;

/// How long a statement waits for another process that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Pages that a reading connection and the writing one remember, in KiB. A second of 10 000 series is
/// 0.3 MB of the tail, and the packer comes back to the pages of a block until it is through.
const READER_CACHE_KIB: u32 = 4 * 1024;
const WRITER_CACHE_KIB: u32 = 16 * 1024;
/// Prepared statements that a connection remembers.
const STATEMENTS_MAX: usize = 64;

/// The open store.
#[derive(Debug)]
pub(crate) struct Store {
    readers: Arc<Readers>,
    writer: Writer,
    lock: Mutex<Option<Lock>>,
    dropped: Arc<Dropped>,
}

impl Store {
    /// Opens the file, creating it and its directories when missing. Blocks.
    pub(crate) fn open(path: &Path, keep: Keep, clock: fn() -> i64) -> Result<Self, StoreError> {
        if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory)
                .map_err(|source| StoreError::Directory { path: directory.to_owned(), source })?;
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = connect(path, flags | OpenFlags::SQLITE_OPEN_CREATE)?;
        let lock = Lock::take(path)?;
        schema::prepare(&mut connection, path)?;
        connection
            .pragma_update(None, "cache_size", -i64::from(WRITER_CACHE_KIB))
            .map_err(|error| schema::opening(path, error))?;
        let mut readers = Vec::new();
        for _ in 0..READERS_MAX {
            let reader = connect(path, flags)?;
            let set_up = format!("PRAGMA query_only = true; PRAGMA cache_size = -{READER_CACHE_KIB}");
            reader.execute_batch(&set_up).map_err(|error| schema::opening(path, error))?;
            readers.push(reader);
        }
        let maintenance =
            Maintenance::new(&mut connection, keep).map_err(|error| schema::opening(path, error))?;
        let dropped = maintenance.dropped();
        Ok(Self {
            readers: Readers::new(readers, QUERY_TIMEOUT),
            writer: Writer::start(connection, maintenance, clock)?,
            lock: Mutex::new(Some(lock)),
            dropped,
        })
    }

    /// Stores a batch in one transaction, unless its id is known or a kind clashes.
    pub(crate) async fn write(&self, batch: Batch) -> Result<Outcome, StoreError> {
        self.writer.write(batch).await
    }

    /// Whether a batch with this id was stored within the keep time. In line with the writes, so a
    /// first POST that is still waiting is seen.
    pub(crate) async fn is_known(&self, batch_id: String, now: i64) -> Result<bool, StoreError> {
        self.writer.read(move |connection| write::is_known(connection, &batch_id, now)).await
    }

    /// Changes what is known of metrics, sources or annotations, in one transaction and in line with
    /// the writes.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.change(change).await
    }

    /// Reads with SQL of the caller's, all of it on one state of the database.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.readers.read(|connection| Ok(query(connection)?)).await
    }

    /// Measurements of one metric.
    pub(crate) async fn measurements(
        &self,
        query: MeasurementsQuery,
    ) -> Result<measure::Measurements, StoreError> {
        self.readers.read(move |connection| measure::read(connection, &query)).await
    }

    /// The lines of a chart of one metric.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the points of the range are not kept as fine as the steps,
    /// [`StoreError::TooManySteps`] if it would be too large.
    pub(crate) async fn chart(&self, query: ChartQuery) -> Result<Vec<Line>, StoreError> {
        self.readers.read(move |connection| chart::read(connection, &query)).await
    }

    /// The ids of metrics that got points, a message for each stored batch. Who falls behind is told
    /// so and should take all metrics as changed.
    pub(crate) fn changes(&self) -> broadcast::Receiver<Arc<[i64]>> {
        self.writer.changes()
    }

    /// What was deleted since the start.
    pub(crate) fn dropped(&self) -> &Dropped {
        &self.dropped
    }

    /// Stores what waits (or drops it, if `at_once`) and closes the file, which SQLite then leaves
    /// behind without a journal beside it. Later reads and writes fail.
    pub(crate) async fn close(&self, at_once: bool) {
        self.readers.close().await;
        self.writer.close(at_once).await;
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let connection =
        Connection::open_with_flags(path, flags).map_err(|error| schema::opening(path, error))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(|error| schema::opening(path, error))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}

#[cfg(test)]
mod tests;
