//! A few connections that read, so that a slow query holds up no other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{Semaphore, TryAcquireError};

use super::errors::StoreError;

/// Queries that run at one time; further ones wait.
pub(super) const READERS_MAX: usize = 4;
/// How long a query may wait and run; then it fails.
pub(super) const QUERY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long closing waits for queries to end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// After how many steps of SQLite's machine a query looks at the clock: some 0.1 ms.
const STEPS_PER_LOOK: i32 = 5_000;

/// The reading connections that no query holds at present.
#[derive(Debug)]
pub(super) struct Readers {
    idle: Mutex<Vec<Connection>>,
    free: Semaphore,
    is_closing: Arc<AtomicBool>,
    timeout: Duration,
}

impl Readers {
    /// `timeout` is how long a query may wait and run.
    pub(super) fn new(connections: Vec<Connection>, timeout: Duration) -> Arc<Self> {
        let free = Semaphore::new(connections.len());
        Arc::new(Self { idle: Mutex::new(connections), free, is_closing: Arc::default(), timeout })
    }

    /// Runs a query on a thread of its own, all of it on one state of the database.
    ///
    /// # Errors
    ///
    /// [`StoreError::TimedOut`] after its time, [`StoreError::Closed`] after [`Readers::close`].
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        query: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let deadline = Instant::now() + self.timeout;
        let permit = match self.free.try_acquire() {
            Ok(permit) => permit,
            Err(TryAcquireError::Closed) => return Err(StoreError::Closed),
            Err(TryAcquireError::NoPermits) => tokio::time::timeout(self.timeout, self.free.acquire())
                .await
                .map_err(|_| StoreError::TimedOut)?
                .map_err(|_| StoreError::Closed)?,
        };
        // The permit is given back by the thread: a caller that hangs up does not end the query.
        permit.forget();
        let readers = Arc::clone(self);
        let run = move || {
            let connection = readers.lock().pop();
            let mut reader = Reader { connection, readers };
            let is_closing = Arc::clone(&reader.readers.is_closing);
            let connection = reader.connection.as_mut().ok_or(StoreError::Closed)?;
            let is_over = move || is_closing.load(Ordering::Relaxed) || Instant::now() > deadline;
            connection.progress_handler(STEPS_PER_LOOK, Some(is_over))?;
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
            query(&transaction)
        };
        match tokio::task::spawn_blocking(run).await {
            Ok(Err(StoreError::TimedOut)) if self.is_closing.load(Ordering::Relaxed) => {
                Err(StoreError::Closed)
            }
            Ok(result) => result,
            Err(_) => Err(StoreError::Closed),
        }
    }

    /// Ends the queries that run and closes all connections.
    pub(super) async fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
        let all = self.free.acquire_many(READERS_MAX as u32);
        if tokio::time::timeout(CLOSE_TIMEOUT, all).await.is_err() {
            tracing::warn!("a query did not end in time; the journal stays beside the database");
        }
        self.free.close();
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in use, which goes back also if the query panics.
struct Reader {
    connection: Option<Connection>,
    readers: Arc<Readers>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.readers.lock().extend(self.connection.take());
        self.readers.free.add_permits(1);
    }
}
