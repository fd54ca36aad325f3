//! Opens the file, locks its directory, and puts away what is not a sound spool.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode};

use super::{Held, LOCK_FILE, LedgerRow, SPOOL_FILE, SpoolError};
use crate::units::{Units, decode_units};

/// Version of the tables. A program reads its own and earlier ones.
pub(super) const SCHEMA_VERSION: i64 = 1;
/// Marks a SQLite file as a spool of ours: `ZbSp`.
const APPLICATION_ID: i64 = 0x5A62_5370;
/// Most KiB of the file in memory. A flush of 100 000 series changes some 20 MiB of it, in order.
const CACHE_KIB: i64 = 8_192;
/// The log is cut back to this after a checkpoint, so that one large flush does not keep the disk.
const WAL_BYTES_KEPT: i64 = 4 << 20;

const SCHEMA: &str = "
    CREATE TABLE batch (
        row INTEGER PRIMARY KEY AUTOINCREMENT,
        place INTEGER NOT NULL,
        id TEXT NOT NULL,
        flushed_ms INTEGER NOT NULL,
        content_type TEXT NOT NULL,
        body BLOB NOT NULL,
        points BLOB NOT NULL,
        digest INTEGER NOT NULL
    );
    CREATE INDEX batch_place ON batch (place, row);
    CREATE TABLE ledger (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
";

/// Creates the directory and takes its lock, which the system releases when the process dies.
pub(super) fn lock(directory: &Path) -> Result<File, SpoolError> {
    let failed = |source| SpoolError::Directory { path: directory.to_owned(), source };
    fs::create_dir_all(directory).map_err(failed)?;
    let path = directory.join(LOCK_FILE);
    let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {
            // For a person who wonders; the lock is what counts, so a failure does not matter.
            let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => Err(SpoolError::Locked { path: directory.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Takes the lock of a directory that was deleted; `None` if the present lock file is still ours.
pub(super) fn lock_again(directory: &Path, held: &File) -> Result<Option<File>, SpoolError> {
    let is_ours = |path: PathBuf| match (held.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(present)) => (held.dev(), held.ino()) == (present.dev(), present.ino()),
        _ => false,
    };
    if is_ours(directory.join(LOCK_FILE)) { Ok(None) } else { lock(directory).map(Some) }
}

/// Device and inode of the file.
pub(super) fn file_id(directory: &Path) -> Result<(u64, u64), SpoolError> {
    fs::metadata(directory.join(SPOOL_FILE))
        .map(|metadata| (metadata.dev(), metadata.ino()))
        .map_err(|source| SpoolError::Directory { path: directory.to_owned(), source })
}

/// Removes a foreign file from the spool's place, keeping it beside it.
pub(super) fn move_away(directory: &Path) -> Result<(), SpoolError> {
    let failed = |source| SpoolError::Directory { path: directory.to_owned(), source };
    let path = directory.join(SPOOL_FILE);
    if path.exists() {
        fs::rename(&path, directory.join(format!("{SPOOL_FILE}.replaced"))).map_err(failed)?;
    }
    for tail in ["-wal", "-shm"] {
        remove_if_present(&directory.join(format!("{SPOOL_FILE}{tail}"))).map_err(failed)?;
    }
    Ok(())
}

/// Opens the file; a damaged or foreign one is renamed and a new one made.
pub(super) fn open_or_quarantine(
    directory: &Path,
    now_ms: u64,
) -> Result<(Connection, Option<PathBuf>), SpoolError> {
    let path = directory.join(SPOOL_FILE);
    match open(&path) {
        Ok(connection) => Ok((connection, None)),
        // What is no file at all cannot be opened, which SQLite does not call damage.
        Err(SpoolError::Database { source }) if is_damage(&source) || path.is_dir() => {
            let quarantined = quarantine(directory, now_ms)?;
            tracing::error!(error = %source, kept = %quarantined.display(), "the spool is damaged; starting a new one");
            Ok((open(&path)?, Some(quarantined)))
        }
        Err(error) => Err(error),
    }
}

/// Opens a sound spool, or makes one where there is none.
pub(super) fn open(path: &Path) -> Result<Connection, SpoolError> {
    let connection = Connection::open(path)?;
    // Exclusive from the first access on: no shared memory, and no reader that keeps the log growing.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "cell_size_check", true)?;
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application_id, version) = (pragma("application_id")?, pragma("user_version")?);
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let is_new = tables == 0 && application_id == 0 && version == 0;
    if !is_new && application_id != APPLICATION_ID {
        return Err(damage("the file is not a spool"));
    }
    if version > SCHEMA_VERSION {
        return Err(SpoolError::Newer { path: path.to_owned(), version });
    }
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update_and_check(None, "journal_size_limit", WAL_BYTES_KEPT, |_| Ok(()))?;
    if is_new {
        connection.execute_batch(&format!(
            "BEGIN; {SCHEMA} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        ))?;
        return Ok(connection);
    }
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(damage(&verdict));
    }
    // A sound SQLite file whose tables are not ours fails here and not in the middle of a flush.
    for probe in [
        "SELECT row, place, id, flushed_ms, content_type, body, points, digest FROM batch LIMIT 0",
        "SELECT key, value FROM ledger LIMIT 0",
        "SELECT key, value FROM meta LIMIT 0",
    ] {
        connection.prepare(probe).map_err(|error| damage(&error.to_string()))?;
    }
    Ok(connection)
}

pub(super) fn read_ledger(connection: &Connection) -> Result<Vec<LedgerRow>, SpoolError> {
    let mut statement = connection.prepare("SELECT key, value FROM ledger")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn read_held(connection: &Connection) -> Result<Held, SpoolError> {
    let mut statement = connection.prepare("SELECT length(body), points FROM batch")?;
    let mut rows = statement.query([])?;
    let mut held = Held::default();
    while let Some(row) = rows.next()? {
        let (body_bytes, points): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        let units = Units::of(&decode_units(&points).unwrap_or_default());
        held.add(body_bytes as u64 + points.len() as u64, &units);
    }
    Ok(held)
}

fn quarantine(directory: &Path, now_ms: u64) -> Result<PathBuf, SpoolError> {
    let failed = |source| SpoolError::Directory { path: directory.to_owned(), source };
    let kept = directory.join(format!("{SPOOL_FILE}.damaged-{}", now_ms / 1_000));
    fs::rename(directory.join(SPOOL_FILE), &kept).map_err(failed)?;
    for tail in ["-wal", "-shm"] {
        let from = directory.join(format!("{SPOOL_FILE}{tail}"));
        if from.exists() {
            let mut to = kept.clone().into_os_string();
            to.push(tail);
            fs::rename(from, to).map_err(failed)?;
        }
    }
    Ok(kept)
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn damage(text: &str) -> SpoolError {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(code, Some(text.to_owned())).into()
}

fn remove_if_present(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
