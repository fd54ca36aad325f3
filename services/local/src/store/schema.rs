//! The tables, and the checks before a file is trusted.

use std::path::Path;

use rusqlite::{Connection, ErrorCode};

use super::StoreError;

/// The version of the schema, in `user_version`.
pub(super) const VERSION: i64 = 1;
/// `application_id` of our files: the bytes `ZibL`.
const APPLICATION_ID: i64 = 0x5a69_624c;
/// Files up to this size are checked as a whole when they are opened, which takes well under a
/// second. Beyond it only damage in what is read shows, as a failing request.
const CHECKED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Numbers are REAL: Librato keeps doubles. `name_key` is the name in lower case, because names are
/// case-insensitive and the case of the first POST is kept.
const TABLES: &str = "
CREATE TABLE metrics (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('gauge', 'counter')),
    period INTEGER,
    description TEXT,
    display_name TEXT,
    attributes TEXT NOT NULL,
    created INTEGER NOT NULL
) STRICT;
CREATE TABLE sources (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE points (
    id INTEGER PRIMARY KEY,
    metric INTEGER NOT NULL REFERENCES metrics (id),
    source INTEGER NOT NULL REFERENCES sources (id),
    measure_time INTEGER NOT NULL,
    value REAL NOT NULL,
    count REAL NOT NULL,
    sum REAL NOT NULL,
    min REAL,
    max REAL,
    sum_squares REAL,
    buckets TEXT
) STRICT;
CREATE INDEX points_by_metric_and_time ON points (metric, measure_time);
CREATE TABLE batches (
    id TEXT PRIMARY KEY,
    stored INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX batches_by_time ON batches (stored);
";

/// Checks the file, creates the tables in an empty one and sets up the connection.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |error| opening(path, error);
    let application = pragma(connection, "application_id").map_err(failed)?;
    let version = pragma(connection, "user_version").map_err(failed)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0)).map_err(failed)?;
    let is_empty = application == 0 && version == 0 && tables == 0;
    if !is_empty {
        if application != APPLICATION_ID {
            return Err(StoreError::Foreign { path: path.to_owned() });
        }
        if version > VERSION {
            return Err(StoreError::Newer { path: path.to_owned(), version });
        }
        check(connection, path)?;
    }
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
        .map_err(failed)?;
    if is_empty {
        let create = format!(
            "BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
        );
        connection.execute_batch(&create).map_err(failed)?;
    }
    Ok(())
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
