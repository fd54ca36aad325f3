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
mod distribution;
mod errors;
mod measure;
mod migrate;
mod names;
mod packed;
mod readers;
mod rollup;
mod schema;
mod series;
mod tail;
mod write;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tokio::sync::broadcast;

pub use errors::StoreError;
pub(crate) use measure::{Measured, MeasurementsQuery, Take};
use model::{ChartQuery, Line};
use readers::{QUERY_TIMEOUT, READERS_MAX, Readers};
pub(crate) use series::matches;
pub(crate) use write::{Batch, Outcome};
use writer::Writer;

/// How long a statement waits for another process that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Prepared statements that a connection remembers.
const STATEMENTS_MAX: usize = 64;

/// The open store.
#[derive(Debug)]
pub(crate) struct Store {
    readers: Arc<Readers>,
    writer: Writer,
}

impl Store {
    /// Opens the file, creating it and its directories when missing. Blocks.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory)
                .map_err(|source| StoreError::Directory { path: directory.to_owned(), source })?;
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = connect(path, flags | OpenFlags::SQLITE_OPEN_CREATE)?;
        schema::prepare(&mut connection, path)?;
        let mut readers = Vec::new();
        for _ in 0..READERS_MAX {
            let reader = connect(path, flags)?;
            reader.pragma_update(None, "query_only", true).map_err(|error| schema::opening(path, error))?;
            readers.push(reader);
        }
        Ok(Self { readers: Readers::new(readers), writer: Writer::start(connection)? })
    }

    /// Stores a batch in one transaction, unless its id is known or a kind clashes.
    pub(crate) async fn write(&self, batch: Batch) -> Result<Outcome, StoreError> {
        self.writer.write(batch).await
    }

    /// Whether a batch with this id was stored within the keep time. In line with the writes, so a
    /// first POST that is still waiting is seen.
    pub(crate) async fn is_known(&self, batch_id: String, now: i64) -> Result<bool, StoreError> {
        self.writer.run(move |connection| write::is_known(connection, &batch_id, now)).await
    }

    /// Changes what is known of metrics, sources or annotations, in one transaction and in line with
    /// the writes.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.run(change).await
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

    /// Stores what waits (or drops it, if `at_once`) and closes the file, which SQLite then leaves
    /// behind without a journal beside it. Later reads and writes fail.
    pub(crate) async fn close(&self, at_once: bool) {
        self.readers.close().await;
        self.writer.close(at_once).await;
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
mod tests {
    use super::*;
    use crate::body::Body;
    use crate::totals::Counters;
    use crate::validate::{self, Times};

    fn batch(counters: &Arc<Counters>, id: &str, now: i64) -> Batch {
        let body = Body::parse(None, br#"{"gauges":{"a":{"value":1}}}"#).unwrap();
        let ticket = counters.offer(body.measurements());
        let points = validate::points(body, Times { now, max_age_s: 1, max_ahead_s: 0 }).unwrap();
        Batch { id: Some(id.to_owned()), points, user_agent: None, now, ticket }
    }

    #[tokio::test]
    async fn a_batch_id_is_remembered_for_24_hours_and_no_longer() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("local.db")).unwrap();
        let counters = Arc::new(Counters::default());
        let first = 1_700_000_000;
        let day = 24 * 60 * 60;
        for (now, expected) in [
            (first, Outcome::Stored),
            (first + day, Outcome::Duplicate),
            (first + day + 1, Outcome::Stored),
            (first + day + 2, Outcome::Duplicate),
        ] {
            assert_eq!(store.write(batch(&counters, "id", now)).await.unwrap(), expected, "{now}");
        }
        assert!(store.is_known("id".to_owned(), first + 2 * day).await.unwrap());
        assert!(!store.is_known("id".to_owned(), first + 2 * day + 2).await.unwrap());
        assert!(!store.is_known("other".to_owned(), first).await.unwrap());
        let totals = counters.snapshot();
        assert!(totals.adds_up() && totals.points_accepted == 2, "{totals:?}");
    }

    #[tokio::test]
    async fn a_closed_store_refuses_and_counts_what_comes_late() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("local.db")).unwrap();
        let counters = Arc::new(Counters::default());
        store.close(false).await;
        assert!(matches!(store.write(batch(&counters, "id", 5)).await, Err(StoreError::Closed)));
        assert!(matches!(store.metric("a".to_owned()).await, Err(StoreError::Closed)));
        let totals = counters.snapshot();
        assert!(totals.adds_up(), "{totals:?}");
        assert_eq!(totals.points_refused.get("abandoned"), Some(&1));
    }

    #[test]
    fn the_journal_is_a_wal_and_commits_are_synced_in_full() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("local.db");
        let mut connection =
            connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE).unwrap();
        schema::prepare(&mut connection, &path).unwrap();
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
        assert_eq!((mode.as_str(), synchronous), ("wal", 2));
    }
}
