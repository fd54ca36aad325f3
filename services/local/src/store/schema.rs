//! The tables, and the checks before a file is trusted.

use std::path::Path;

use rusqlite::{Connection, ErrorCode};

use super::{StoreError, migrate};

/// The version of the schema, in `user_version`.
pub(super) const VERSION: i64 = 2;
/// `application_id` of our files: the bytes `ZibL`.
pub(super) const APPLICATION_ID: i64 = 0x5a69_624c;
/// Files up to this size are checked as a whole when they are opened, which takes well under a
/// second. Beyond it only damage in what is read shows, as a failing request; `--check-db` reads all.
const CHECKED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What is known of metrics and sources. Numbers are REAL: Librato keeps doubles. `name_key` is the
/// name in lower case, because names are case-insensitive and the case of the first POST is kept.
///
/// `origin` and `unit` are what a Zibrato worker says of a metric, `tags` is a JSON object for a
/// source that stands for tags. Ids of series are never used again, so that what is left of a
/// deleted one (see `garbage`) cannot come back to life.
const CATALOGUE: &str = "
CREATE TABLE metrics (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('gauge', 'counter')),
    period INTEGER,
    description TEXT,
    display_name TEXT,
    attributes TEXT NOT NULL,
    created INTEGER NOT NULL,
    origin TEXT CHECK (origin IN ('counter', 'gauge', 'timer')),
    unit TEXT
) STRICT;
CREATE TABLE sources (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL UNIQUE,
    display_name TEXT,
    tags TEXT
) STRICT;
CREATE TABLE batches (
    id TEXT PRIMARY KEY,
    stored INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX batches_by_time ON batches (stored);
";

/// What version 2 added to [`CATALOGUE`].
///
/// `tail` is keyed by time first, in slots of 10 s: a POST holds many series at one time, so its points
/// land on a few neighbouring pages, and a series is still found with one look for each slot. `blocks` has a rowid, because large values waste space in tables without one.
/// `rollups` is keyed by series first: a chart reads long runs of one series. A `count` of 0 marks a row of
/// one plain point, whose `last` says it all. `expiry` says before
/// which time rows of a resolution (1: blocks) were deleted.
pub(super) const POINTS: &str = "
CREATE TABLE metric_levels (
    metric INTEGER NOT NULL REFERENCES metrics (id) ON DELETE CASCADE,
    level TEXT NOT NULL,
    PRIMARY KEY (metric, level)
) STRICT, WITHOUT ROWID;
CREATE TABLE series (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    metric INTEGER NOT NULL REFERENCES metrics (id),
    source INTEGER NOT NULL REFERENCES sources (id),
    newest INTEGER NOT NULL,
    UNIQUE (metric, source)
) STRICT;
CREATE INDEX series_by_source ON series (source);
CREATE TABLE tail (
    slot INTEGER NOT NULL,
    series INTEGER NOT NULL,
    t INTEGER NOT NULL,
    n INTEGER NOT NULL,
    value REAL NOT NULL,
    count REAL,
    sum REAL,
    min REAL,
    max REAL,
    sum_squares REAL,
    buckets BLOB,
    PRIMARY KEY (slot, series, t, n)
) STRICT, WITHOUT ROWID;
CREATE TABLE blocks (
    id INTEGER PRIMARY KEY,
    series INTEGER NOT NULL,
    start INTEGER NOT NULL,
    part INTEGER NOT NULL,
    points INTEGER NOT NULL,
    data BLOB NOT NULL,
    UNIQUE (series, start, part)
) STRICT;
CREATE TABLE rollups (
    resolution INTEGER NOT NULL,
    series INTEGER NOT NULL,
    t INTEGER NOT NULL,
    count REAL NOT NULL,
    sum REAL NOT NULL,
    min REAL,
    max REAL,
    sum_squares REAL,
    last REAL NOT NULL,
    last_time INTEGER NOT NULL,
    buckets BLOB,
    PRIMARY KEY (resolution, series, t)
) STRICT, WITHOUT ROWID;
CREATE TABLE expiry (
    resolution INTEGER PRIMARY KEY,
    until INTEGER NOT NULL
) STRICT;
CREATE TABLE garbage (
    series INTEGER PRIMARY KEY
) STRICT;
CREATE TABLE annotation_streams (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL UNIQUE,
    display_name TEXT
) STRICT;
CREATE TABLE annotations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    stream INTEGER NOT NULL REFERENCES annotation_streams (id) ON DELETE CASCADE,
    title TEXT NOT NULL,
    source TEXT,
    description TEXT,
    links TEXT NOT NULL,
    start_time INTEGER NOT NULL,
    end_time INTEGER,
    created INTEGER NOT NULL
) STRICT;
CREATE INDEX annotations_by_time ON annotations (stream, start_time);
";

/// Checks the file, creates the tables in an empty one, brings an older one to the present version
/// and sets up the connection for writing.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |error| opening(path, error);
    let version = version(connection, path)?;
    if version.is_some() {
        check(connection, path)?;
    } else {
        // Takes effect on a file without tables only.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(failed)?;
    }
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY;",
        )
        .map_err(failed)?;
    match version {
        Some(VERSION) => Ok(()),
        Some(_) => migrate::from_1(connection).map_err(failed),
        None => {
            let create = format!(
                "BEGIN IMMEDIATE; {CATALOGUE} {POINTS}
                 PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
            );
            connection.execute_batch(&create).map_err(failed)
        }
    }
}

/// The version of one of our files; `None` if it is empty.
pub(super) fn version(connection: &Connection, path: &Path) -> Result<Option<i64>, StoreError> {
    let failed = |error| opening(path, error);
    let application = pragma(connection, "application_id").map_err(failed)?;
    let version = pragma(connection, "user_version").map_err(failed)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0)).map_err(failed)?;
    if application == 0 && version == 0 && tables == 0 {
        return Ok(None);
    }
    if application != APPLICATION_ID {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    if version > VERSION {
        return Err(StoreError::Newer { path: path.to_owned(), version });
    }
    Ok(Some(version))
}

/// The error that says best why `path` cannot be opened.
pub(super) fn opening(path: &Path, error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            StoreError::Damaged { path: path.to_owned(), detail: error.to_string() }
        }
        _ => StoreError::Open { path: path.to_owned(), source: error },
    }
}

fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    if std::fs::metadata(path).map_or(0, |file| file.len()) > CHECKED_BYTES_MAX {
        return Ok(());
    }
    let found: String = connection
        .query_row("PRAGMA quick_check(1)", (), |row| row.get(0))
        .map_err(|error| opening(path, error))?;
    if found == "ok" {
        return Ok(());
    }
    let detail = found.split_whitespace().collect::<Vec<_>>().join(" ");
    Err(StoreError::Damaged { path: path.to_owned(), detail })
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}
