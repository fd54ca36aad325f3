//! The thread that writes.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, oneshot};

use super::errors::StoreError;
use super::maintain::Maintenance;
use super::names::Names;
use super::write::{self, Batch, Outcome};

/// Jobs that wait for the writer; the next one waits at the door.
const QUEUE_MAX: usize = 64;
/// How often a writer without jobs looks whether there is something else to do.
const TICK: Duration = Duration::from_secs(1);
/// Batches whose changed metrics a receiver may be behind; then it is told that it lost some.
const CHANGES_MAX: usize = 256;

/// The handle of the writer's thread.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
    free: Arc<Semaphore>,
    changes: broadcast::Sender<Arc<[i64]>>,
    skip_queue: Arc<AtomicBool>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

enum Job {
    Write {
        batch: Batch,
        reply: oneshot::Sender<rusqlite::Result<Outcome>>,
        _place: OwnedSemaphorePermit,
    },
    /// Returns whether it may have changed tables.
    Run {
        run: Box<dyn FnOnce(&mut Connection) -> bool + Send>,
        _place: OwnedSemaphorePermit,
    },
    Close,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Job")
    }
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        maintenance: Maintenance,
        clock: fn() -> i64,
    ) -> Result<Self, StoreError> {
        let (jobs, queue) = mpsc::channel();
        let (changes, _) = broadcast::channel(CHANGES_MAX);
        let skip_queue = Arc::new(AtomicBool::new(false));
        let state = State {
            connection,
            names: Names::default(),
            maintenance,
            clock,
            changes: changes.clone(),
            skip_queue: Arc::clone(&skip_queue),
        };
        let thread = thread::Builder::new()
            .name("zibrato-local-writer".to_owned())
            .spawn(move || state.work(&queue))
            .map_err(StoreError::Thread)?;
        let free = Arc::new(Semaphore::new(QUEUE_MAX));
        Ok(Self { jobs, free, changes, skip_queue, thread: Mutex::new(Some(thread)) })
    }

    pub(super) fn changes(&self) -> broadcast::Receiver<Arc<[i64]>> {
        self.changes.subscribe()
    }

    pub(super) async fn write(&self, batch: Batch) -> Result<Outcome, StoreError> {
        let (reply, answer) = oneshot::channel();
        let _place = self.place().await?;
        self.jobs.send(Job::Write { batch, reply, _place }).map_err(|_| StoreError::Closed)?;
        Ok(answer.await.map_err(|_| StoreError::Closed)??)
    }

    /// Runs a change of the tables in one transaction.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(move |connection| transact(connection, change), true).await
    }

    /// Reads in line with the writes.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(move |connection| query(connection), false).await
    }

    async fn run<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
        is_change: bool,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let run = Box::new(move |connection: &mut Connection| {
            // A reply that nobody waits for any more is dropped; a change stands.
            let _ = reply.send(run(connection));
            is_change
        });
        let _place = self.place().await?;
        self.jobs.send(Job::Run { run, _place }).map_err(|_| StoreError::Closed)?;
        Ok(answer.await.map_err(|_| StoreError::Closed)??)
    }

    async fn place(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        Arc::clone(&self.free).acquire_owned().await.map_err(|_| StoreError::Closed)
    }

    /// Does what waits, or drops it if `at_once`, and ends the thread.
    pub(super) async fn close(&self, at_once: bool) {
        self.skip_queue.store(at_once, Ordering::Relaxed);
        self.free.close();
        // A failed send means that the thread is gone already.
        let _ = self.jobs.send(Job::Close);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let panicked = match tokio::task::spawn_blocking(move || thread.map(thread::JoinHandle::join)).await {
            Ok(ended) => ended.is_some_and(|ended| ended.is_err()),
            // A runtime that ends waits for nobody; the next start folds the journal in.
            Err(error) => error.is_panic(),
        };
        if panicked {
            tracing::error!("the store's writer panicked");
        }
    }
}

fn transact<T>(
    connection: &mut Connection,
    change: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let result = change(&transaction)?;
    transaction.commit()?;
    Ok(result)
}

/// What the thread has.
struct State {
    connection: Connection,
    names: Names,
    maintenance: Maintenance,
    clock: fn() -> i64,
    changes: broadcast::Sender<Arc<[i64]>>,
    skip_queue: Arc<AtomicBool>,
}

impl State {
    /// Takes one job, then does one step of what else there is to do, and so on.
    fn work(mut self, queue: &mpsc::Receiver<Job>) {
        let mut is_busy = true;
        loop {
            let wait = if is_busy { Duration::ZERO } else { TICK };
            let job = match queue.recv_timeout(wait) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if let Some(job) = job
                && self.run(job).is_break()
            {
                break;
            }
            is_busy = self.maintenance.step(&mut self.connection, (self.clock)());
        }
        self.maintenance.report();
    }

    fn run(&mut self, job: Job) -> ControlFlow<()> {
        match job {
            Job::Close => return ControlFlow::Break(()),
            _ if self.skip_queue.load(Ordering::Relaxed) => {}
            Job::Write { batch, reply, _place } => {
                self.maintenance.packer.note(batch.points.iter().map(|point| point.measure_time));
                let mut changed = Vec::new();
                let result = write::store(&mut self.connection, &mut self.names, batch, &mut changed);
                if !changed.is_empty() {
                    // Without a receiver there is nobody to tell.
                    let _ = self.changes.send(changed.into());
                }
                // A reply that nobody waits for any more is dropped; the write stands.
                let _ = reply.send(result);
            }
            Job::Run { run, _place } => {
                if run(&mut self.connection) {
                    self.names.forget();
                    self.maintenance.look_for_garbage();
                }
            }
        }
        ControlFlow::Continue(())
    }
}
