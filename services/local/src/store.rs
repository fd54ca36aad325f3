//! The SQLite store: one thread writes, one connection reads.
//!
//! A POST is one transaction, and so is its batch id, so a batch is stored once and whole or not at
//! all. The journal is a WAL, so that reading never waits for writing, and commits are synced in full
//! (`synchronous=FULL`): a worker deletes a batch from its spool when it sees 200, so a 200 must
//! outlive a power cut. That costs one fsync a POST, and a worker posts once a second at most.
//!
//! Two points with equal metric, source and time are two rows. Nothing is overwritten or merged on
//! the way in, so counts and sums stay exact; reading at a resolution merges them.

pub(crate) mod model;
mod read;
mod schema;
mod write;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tokio::sync::{mpsc, oneshot};

pub(crate) use read::{ListQuery, Measurements, MeasurementsQuery, Page, Row, Take};
pub(crate) use write::{Batch, Outcome};

/// POSTs that wait for the writer; the next one waits at the door.
const QUEUE_MAX: usize = 64;
/// How long a statement waits for another process that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The open store.
#[derive(Debug)]
pub(crate) struct Store {
    jobs: mpsc::Sender<Job>,
    reader: Arc<Mutex<Option<Connection>>>,
    skip_queue: Arc<AtomicBool>,
    writer: Mutex<Option<thread::JoinHandle<()>>>,
}

enum Job {
    Write { batch: Batch, reply: oneshot::Sender<rusqlite::Result<Outcome>> },
    IsKnown { batch_id: String, now: i64, reply: oneshot::Sender<rusqlite::Result<bool>> },
    Close,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Job")
    }
}

/// Why the store cannot be opened or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The directory of the file cannot be created.
    #[error("cannot create the directory {} for the database; create it or give another file with --db", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The file cannot be opened or written.
    #[error("cannot open the database {}; give a file that can be written with --db", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// SQLite's error.
        source: rusqlite::Error,
    },
    /// The file is damaged, or no SQLite database at all.
    #[error("the database {} is damaged or not an SQLite file ({detail}); move it away or give another file with --db", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite found.
        detail: String,
    },
    /// The file is a database of another program.
    #[error("the database {} belongs to another program; give another file with --db", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A newer version wrote the file.
    #[error("the database {} has schema version {version}, but this version reads up to {}; use a newer zibrato-local or give another file with --db", path.display(), schema::VERSION)]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version found.
        version: i64,
    },
    /// The writer's thread cannot be started.
    #[error("cannot start the writer's thread")]
    Thread(#[source] std::io::Error),
    /// The store was closed, or its writer is gone.
    #[error("the store is closed")]
    Closed,
    /// A statement failed.
    #[error("the database refused a statement")]
    Statement(#[from] rusqlite::Error),
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
        let reader = connect(path, flags)?;
        reader.pragma_update(None, "query_only", true).map_err(|error| schema::opening(path, error))?;
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        let skip_queue = Arc::new(AtomicBool::new(false));
        let skip = Arc::clone(&skip_queue);
        let writer = thread::Builder::new()
            .name("zibrato-local-writer".to_owned())
            .spawn(move || write_jobs(connection, queue, &skip))
            .map_err(StoreError::Thread)?;
        Ok(Self {
            jobs,
            reader: Arc::new(Mutex::new(Some(reader))),
            skip_queue,
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Stores a batch in one transaction, unless its id is known or a kind clashes.
    pub(crate) async fn write(&self, batch: Batch) -> Result<Outcome, StoreError> {
        self.ask(|reply| Job::Write { batch, reply }).await
    }

    /// Whether a batch with this id was stored within the keep time. In line with the writes, so a
    /// first POST that is still waiting is seen.
    pub(crate) async fn is_known(&self, batch_id: String, now: i64) -> Result<bool, StoreError> {
        self.ask(|reply| Job::IsKnown { batch_id, now, reply }).await
    }

    /// A page of the metrics' list.
    pub(crate) async fn list(&self, query: ListQuery) -> Result<Page, StoreError> {
        self.read(move |connection| read::list(connection, &query)).await
    }

    /// One metric, by its name in any case.
    pub(crate) async fn metric(&self, name: String) -> Result<Option<Row>, StoreError> {
        self.read(move |connection| read::metric(connection, &name)).await
    }

    /// Measurements of one metric.
    pub(crate) async fn measurements(&self, query: MeasurementsQuery) -> Result<Measurements, StoreError> {
        self.read(move |connection| read::measurements(connection, &query)).await
    }

    /// Stores what waits (or drops it, if `at_once`) and closes the file, which SQLite then leaves
    /// behind without a journal beside it. Later reads and writes fail.
    pub(crate) async fn close(&self, at_once: bool) {
        self.skip_queue.store(at_once, Ordering::Relaxed);
        // A failed send means that the writer is gone already.
        let _ = self.jobs.send(Job::Close).await;
        let reader = Arc::clone(&self.reader);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let closed = tokio::task::spawn_blocking(move || {
            drop(reader.lock().unwrap_or_else(PoisonError::into_inner).take());
            writer.map(thread::JoinHandle::join)
        });
        let panicked = match closed.await {
            Ok(ended) => ended.is_some_and(|ended| ended.is_err()),
            // A runtime that ends waits for nobody; the next start folds the journal in.
            Err(error) => error.is_panic(),
        };
        if panicked {
            tracing::error!("the store's writer panicked");
        }
    }

    async fn ask<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<rusqlite::Result<T>>) -> Job,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(job(reply)).await.map_err(|_| StoreError::Closed)?;
        Ok(answer.await.map_err(|_| StoreError::Closed)??)
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let reader = Arc::clone(&self.reader);
        let result = tokio::task::spawn_blocking(move || {
            let reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            reader.as_ref().map(query)
        });
        let result = result.await.ok().flatten().ok_or(StoreError::Closed)?;
        Ok(result?)
    }
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let connection =
        Connection::open_with_flags(path, flags).map_err(|error| schema::opening(path, error))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(|error| schema::opening(path, error))?;
    Ok(connection)
}

/// The writer's thread. A reply that nobody waits for any more is dropped; the write stands.
fn write_jobs(mut connection: Connection, mut queue: mpsc::Receiver<Job>, skip_queue: &AtomicBool) {
    while let Some(job) = queue.blocking_recv() {
        match job {
            Job::Close => break,
            _ if skip_queue.load(Ordering::Relaxed) => {}
            Job::Write { batch, reply } => {
                let _ = reply.send(write::store(&mut connection, batch));
            }
            Job::IsKnown { batch_id, now, reply } => {
                let _ = reply.send(write::is_known(&connection, &batch_id, now));
            }
        }
    }
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
