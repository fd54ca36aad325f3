//! Batches on disk that the backend has not acknowledged, and the ledger they belong to.
//!
//! One SQLite file. A flush commits its bodies and the ledger's changed rows in one transaction, so
//! after a crash the ledger knows exactly what the spooled bodies already carry: no window is
//! spooled twice and none is lost. A batch leaves in the order of its flush and is deleted once it was
//! delivered.

mod directory;
mod open;

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Row, params, params_from_iter};

use crate::backend::{Batch, Body};
use crate::ledger::Rows;
use crate::units::{Units, decode_units, encode_units};

pub use directory::{NoStateDirectory, default_directory};

/// Default quota for bodies on disk, in MiB. At 300 points of 100 bytes a minute this is days.
pub const SPOOL_MIB_DEFAULT: u64 = 256;
/// Name of the database in the spool directory.
pub const SPOOL_FILE: &str = "spool.db";
/// Name of the file whose lock says that a worker uses the directory.
pub const LOCK_FILE: &str = "spool.lock";

const META_LAST_FLUSH: &str = "last_flush_ms";
/// Ledger rows that one statement writes: with fewer its start costs more than the rows, with more nothing is gained.
const ROWS_AT_ONCE: usize = 8;

/// An open spool. It holds the directory's lock until it is dropped or the process dies.
#[derive(Debug)]
pub struct Spool {
    connection: Connection,
    directory: PathBuf,
    file_id: (u64, u64),
    lock: File,
    quota_bytes: u64,
    next_place: i64,
    held: Held,
}

/// Key and value of a row of the ledger, which the spool does not look into.
pub type LedgerRow = (Vec<u8>, Vec<u8>);

/// What a spool holds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Held {
    /// Batches.
    pub batches: u64,
    /// Bytes of their bodies and of what is noted about each point.
    pub bytes: u64,
    /// What their points stand for.
    pub units: Units,
}

/// What was found when a spool was opened.
#[derive(Debug, Default)]
pub struct Found {
    /// Keys and values of the ledger's rows. The ledger checks them itself.
    pub ledger: Vec<LedgerRow>,
    /// Time of the last committed flush, in Unix milliseconds; 0 if there was none.
    pub last_flush_ms: u64,
    /// Where a damaged file was put away.
    pub quarantined: Option<PathBuf>,
}

/// A flush that is being written. Nothing of it is kept before [`Writing::commit`].
#[derive(Debug)]
pub struct Writing<'a> {
    transaction: Begun<'a>,
    held: &'a mut Held,
    next_place: &'a mut i64,
    quota_bytes: u64,
    has_rows: bool,
}

/// A transaction that, unlike [`rusqlite::Transaction`], may be written to by another thread: it has its connection for
/// itself. Dropped it is rolled back.
#[derive(Debug)]
struct Begun<'a>(&'a mut Connection);

/// What one flush commits, beside the rows that were written before.
#[derive(Clone, Copy, Debug)]
pub struct Commit<'a> {
    /// Time of the flush, in Unix milliseconds.
    pub flushed_ms: u64,
    /// The bodies with their batch ids, in the order in which they are to be sent.
    pub bodies: &'a [(String, Body)],
    /// Keys of ledger rows to delete.
    pub removed: &'a [Vec<u8>],
}

/// What to send next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Batches of one flush as they were committed, at least one.
    Batches(Vec<Batch>),
    /// A row whose content is not what was committed: it cannot be sent.
    Damaged {
        /// The row.
        row: i64,
        /// What its points stood for, as far as it can be read.
        units: Units,
    },
}

impl Spool {
    /// Opens the spool of a directory, which is created if it is missing. What is not a sound
    /// spool, be it a file or a directory, is renamed to `spool.db.damaged-<unix seconds>`, and a new one is started.
    ///
    /// # Errors
    ///
    /// [`SpoolError::Directory`] if the directory cannot be written, [`SpoolError::Locked`] if another worker
    /// uses it, [`SpoolError::Newer`] if a later version wrote it, else [`SpoolError::Database`].
    pub fn open(directory: &Path, quota_bytes: u64, now_ms: u64) -> Result<(Self, Found), SpoolError> {
        let lock = open::lock(directory)?;
        let (connection, quarantined) = open::open_or_quarantine(directory, now_ms)?;
        let ledger = open::read_ledger(&connection)?;
        let last_flush_ms: Option<i64> = connection
            .query_row("SELECT value FROM meta WHERE key = ?1", [META_LAST_FLUSH], |row| row.get(0))
            .optional()?;
        let next_place: i64 =
            connection.query_row("SELECT coalesce(max(place), 0) + 1 FROM batch", [], |row| row.get(0))?;
        let held = open::read_held(&connection)?;
        let found = Found { ledger, last_flush_ms: last_flush_ms.map_or(0, |ms| ms as u64), quarantined };
        let file_id = open::file_id(directory)?;
        let directory = directory.to_owned();
        Ok((Self { connection, directory, file_id, lock, quota_bytes, next_place, held }, found))
    }

    /// Begins to write a flush.
    ///
    /// # Errors
    ///
    /// [`SpoolError::Database`] if the disk does not take it.
    pub fn begin(&mut self) -> Result<Writing<'_>, SpoolError> {
        self.restore_file()?;
        let Self { connection, held, next_place, quota_bytes, .. } = self;
        let (transaction, quota_bytes) = (Begun::new(connection)?, *quota_bytes);
        Ok(Writing { transaction, held, next_place, quota_bytes, has_rows: false })
    }

    /// The batches that were committed first: at most `max` of one flush, in their order.
    ///
    /// # Errors
    ///
    /// [`SpoolError::Database`] if it cannot be read.
    pub fn oldest(&self, max: usize) -> Result<Option<Next>, SpoolError> {
        let mut heads = self
            .connection
            .prepare_cached("SELECT row, flushed_ms FROM batch ORDER BY place, row LIMIT ?1")?;
        let mut read = self.connection.prepare_cached(
            "SELECT row, id, flushed_ms, content_type, body, points, digest FROM batch WHERE row = ?1",
        )?;
        let heads = heads.query_map([max.max(1) as i64], |head| Ok((head.get(0)?, head.get(1)?)))?;
        let heads: Vec<(i64, i64)> = heads.collect::<Result<_, _>>()?;
        let mut batches = Vec::new();
        // No two flushes have the same time.
        for (row, _) in heads.iter().take_while(|(_, flushed_ms)| *flushed_ms == heads[0].1) {
            match read.query_row([row], read_batch) {
                Ok(Ok(batch)) => batches.push(batch),
                // It waits until it is the first.
                _ if !batches.is_empty() => break,
                Ok(Err(damaged)) => return Ok(Some(damaged)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok((!batches.is_empty()).then_some(Next::Batches(batches)))
    }

    /// Deletes a batch.
    ///
    /// # Errors
    ///
    /// [`SpoolError::Database`] if the disk does not take it; the batch is then still held.
    pub fn remove(&mut self, row: i64) -> Result<(), SpoolError> {
        self.replace(row, &[])
    }

    /// Puts other batches in the place of one, in one transaction.
    ///
    /// # Errors
    ///
    /// [`SpoolError::Database`] if the disk does not take it; the batch is then still held.
    pub fn replace(&mut self, row: i64, bodies: &[(String, Body)]) -> Result<(), SpoolError> {
        let transaction = self.connection.transaction()?;
        let (place, flushed_ms, bytes, points): (i64, i64, i64, Vec<u8>) = transaction.query_row(
            "SELECT place, flushed_ms, length(body) + length(points), points FROM batch WHERE row = ?1",
            [row],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )?;
        transaction.execute("DELETE FROM batch WHERE row = ?1", [row])?;
        for (id, body) in bodies {
            insert(&transaction, place, id, flushed_ms as u64, body)?;
        }
        transaction.commit()?;
        self.held.batches -= 1;
        self.held.bytes = self.held.bytes.saturating_sub(bytes as u64);
        self.held.units.subtract(&Units::of(&decode_units(&points).unwrap_or_default()));
        for (_, body) in bodies {
            self.held.add(body_bytes(body), &Units::of(&body.points));
        }
        Ok(())
    }

    /// What it holds.
    pub fn held(&self) -> Held {
        self.held
    }

    /// Time of the flush of the oldest batch, in Unix milliseconds.
    ///
    /// # Errors
    ///
    /// [`SpoolError::Database`] if it cannot be read.
    pub fn oldest_ms(&self) -> Result<Option<u64>, SpoolError> {
        let oldest = self
            .connection
            .query_row("SELECT flushed_ms FROM batch ORDER BY place, row LIMIT 1", [], |row| {
                row.get::<_, i64>(0)
            })
            .optional()?;
        Ok(oldest.map(|ms| ms as u64))
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes the file anew if somebody deleted or replaced it: the open one would take commits that
    /// no later process can find.
    fn restore_file(&mut self) -> Result<(), SpoolError> {
        if open::file_id(&self.directory).is_ok_and(|id| id == self.file_id) {
            return Ok(());
        }
        let path = self.directory.join(SPOOL_FILE);
        tracing::error!(path = %path.display(), "the spool file is gone or was replaced; writing it again");
        let lock = open::lock_again(&self.directory, &self.lock)?;
        open::move_away(&self.directory)?;
        self.connection.execute("VACUUM INTO ?1", [path.to_string_lossy()])?;
        self.connection = open::open(&path)?;
        if let Some(lock) = lock {
            self.lock = lock;
        }
        self.file_id = open::file_id(&self.directory)?;
        Ok(())
    }
}

impl Writing<'_> {
    /// Writes rows of the ledger, each in the place of an earlier one of its key.
    ///
    /// # Errors
    ///
    /// [`SpoolError::Database`] if the disk does not take them.
    pub fn rows(&mut self, rows: &Rows) -> Result<(), SpoolError> {
        self.has_rows |= !rows.is_empty();
        let write = |many: usize| {
            let places = vec!["(?, ?)"; many].join(", ");
            self.transaction.0.prepare(&format!("REPLACE INTO ledger (key, value) VALUES {places}"))
        };
        let (mut some, mut one) = (write(ROWS_AT_ONCE)?, write(1)?);
        let (groups, mut rows) = (rows.len() / ROWS_AT_ONCE, rows.iter());
        for _ in 0..groups {
            let group = rows.by_ref().take(ROWS_AT_ONCE);
            some.execute(params_from_iter(group.flat_map(|(key, value)| [key, value])))?;
        }
        for (key, value) in rows {
            one.execute([key, value])?;
        }
        Ok(())
    }

    /// Commits the flush: all of it is on disk when this returns, or nothing. One without any change is not written.
    ///
    /// # Errors
    ///
    /// [`SpoolError::Full`] beyond the quota, unless nothing is held: a flush larger than the whole quota
    /// would else never leave. [`SpoolError::Database`] if the disk does not take it.
    pub fn commit(self, commit: &Commit<'_>) -> Result<(), SpoolError> {
        let Self { transaction, held, next_place, quota_bytes, has_rows } = self;
        if commit.bodies.is_empty() && commit.removed.is_empty() && !has_rows {
            return Ok(());
        }
        let bytes: u64 = commit.bodies.iter().map(|(_, body)| body_bytes(body)).sum();
        if bytes > 0 && held.batches > 0 && held.bytes + bytes > quota_bytes {
            return Err(SpoolError::Full { bytes, held: held.bytes, quota: quota_bytes });
        }
        for (place, (id, body)) in (*next_place..).zip(commit.bodies) {
            insert(transaction.0, place, id, commit.flushed_ms, body)?;
        }
        {
            let mut delete = transaction.0.prepare("DELETE FROM ledger WHERE key = ?1")?;
            for key in commit.removed {
                delete.execute([key])?;
            }
        }
        transaction.0.execute(
            "REPLACE INTO meta (key, value) VALUES (?1, ?2)",
            params![META_LAST_FLUSH, commit.flushed_ms as i64],
        )?;
        transaction.commit()?;
        *next_place += commit.bodies.len() as i64;
        for (_, body) in commit.bodies {
            held.add(body_bytes(body), &Units::of(&body.points));
        }
        Ok(())
    }
}

impl<'a> Begun<'a> {
    fn new(connection: &'a mut Connection) -> Result<Self, rusqlite::Error> {
        connection.execute_batch("BEGIN")?;
        Ok(Self(connection))
    }

    fn commit(self) -> Result<(), rusqlite::Error> {
        self.0.execute_batch("COMMIT")
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        // Committed, or rolled back by an error already.
        if self.0.is_autocommit() {
            return;
        }
        if let Err(error) = self.0.execute_batch("ROLLBACK") {
            tracing::error!(%error, "a flush that failed could not be taken back in the spool");
        }
    }
}

impl Held {
    fn add(&mut self, bytes: u64, units: &Units) {
        self.batches += 1;
        self.bytes += bytes;
        self.units.add(units);
    }
}

/// Why a spool cannot be opened or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// The directory cannot be made or written.
    #[error("cannot use the spool directory {}; give a writable one with --spool", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// Another worker uses the directory.
    #[error("the spool directory {} is used by another worker; stop it, or give another directory with --spool", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// A later version wrote the file.
    #[error("the spool {} has version {version}, this program reads up to {}; use the later program, or another directory with --spool", path.display(), open::SCHEMA_VERSION)]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: i64,
    },
    /// The quota is used up.
    #[error(
        "a flush of {bytes} bytes exceeds the spool's quota: {held} of {quota} bytes are held; raise --spool-mib or bring the backend back"
    )]
    Full {
        /// Bytes of the flush.
        bytes: u64,
        /// Bytes held.
        held: u64,
        /// The quota, in bytes.
        quota: u64,
    },
    /// SQLite failed: the disk is full or broken, or the file is damaged.
    #[error("cannot read or write the spool: {source}")]
    Database {
        /// SQLite's error.
        #[from]
        source: rusqlite::Error,
    },
}

impl SpoolError {
    /// Whether there is no room, by the quota or on the disk.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Database { source } => source.sqlite_error_code() == Some(ErrorCode::DiskFull),
            _ => false,
        }
    }
}

fn insert(
    transaction: &Connection,
    place: i64,
    id: &str,
    flushed_ms: u64,
    body: &Body,
) -> Result<(), rusqlite::Error> {
    let points = encode_units(&body.points);
    let digest = batch_digest(id, flushed_ms, &body.content_type, &body.bytes, &points);
    transaction
        .prepare(
            "INSERT INTO batch (place, id, flushed_ms, content_type, body, points, digest) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![place, id, flushed_ms as i64, body.content_type, body.bytes, points, digest])?;
    Ok(())
}

/// A row as it was committed, or what there is to say of one that is damaged.
fn read_batch(row: &Row<'_>) -> Result<Result<Batch, Next>, rusqlite::Error> {
    let (number, id, flushed_ms): (i64, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let (content_type, bytes): (String, Vec<u8>) = (row.get(3)?, row.get(4)?);
    let (points, expected): (Vec<u8>, i64) = (row.get(5)?, row.get(6)?);
    let flushed_ms = flushed_ms as u64;
    let is_sound = expected == batch_digest(&id, flushed_ms, &content_type, &bytes, &points);
    Ok(match decode_units(&points) {
        Some(points) if is_sound => {
            let body = Body { bytes, content_type, points };
            Ok(Batch { row: number, id, flushed_ms, attempts_unknown: 0, body })
        }
        points => Err(Next::Damaged { row: number, units: Units::of(&points.unwrap_or_default()) }),
    })
}

fn body_bytes(body: &Body) -> u64 {
    (body.bytes.len() + encode_units(&body.points).len()) as u64
}

fn batch_digest(id: &str, flushed_ms: u64, content_type: &str, bytes: &[u8], points: &[u8]) -> i64 {
    digest(&[id.as_bytes(), &flushed_ms.to_le_bytes(), content_type.as_bytes(), bytes, points])
}

/// FNV-1a, 64 bits, over the parts and their lengths. It finds flipped bits, which SQLite does not look
/// for; it is no protection against somebody who writes the file.
fn digest(parts: &[&[u8]]) -> i64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in (part.len() as u64).to_le_bytes().iter().chain(*part) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash as i64
}

#[cfg(test)]
mod tests;
