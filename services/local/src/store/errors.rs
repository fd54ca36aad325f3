//! What can go wrong in the store.

use std::path::PathBuf;

use rusqlite::ErrorCode;
use rusqlite::types::Type;

use super::schema;

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
    /// Another process has the file open.
    #[error("the database {} is in use by another process; stop that one or give another file with --db", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file that says who uses the database cannot be made or locked.
    #[error("cannot lock {}; give a file whose directory can be written with --db", path.display())]
    Lock {
        /// The lock's file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
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
    /// The file has an older schema, which only the receiver itself brings to the present one.
    #[error("the database {} has schema version {version} instead of {}; start zibrato-local on it once", path.display(), schema::VERSION)]
    Older {
        /// The file.
        path: PathBuf,
        /// The version found; 0 if it is empty.
        version: i64,
    },
    /// The writer's thread cannot be started.
    #[error("cannot start the writer's thread")]
    Thread(#[source] std::io::Error),
    /// The store was closed, or its writer is gone.
    #[error("the store is closed")]
    Closed,
    /// There is no room for what should be written. The next write may find some.
    #[error("there is no room left for the database; free some space on its disk")]
    Full(#[source] rusqlite::Error),
    /// What was asked for lies in a damaged part of the file; other parts can be used.
    #[error("a part of the database is damaged; see zibrato-local --check-db")]
    DamagedPart(#[source] rusqlite::Error),
    /// A query took longer than the store allows.
    #[error("the query took longer than {} s; ask for less at once", super::QUERY_TIMEOUT.as_secs())]
    TimedOut,
    /// The points of a range are not kept as fine as was asked for.
    #[error(
        "points before {until} are not kept at a resolution that divides {step_s} s; ask for coarser steps"
    )]
    Unavailable {
        /// The steps asked for, in seconds.
        step_s: i64,
        /// The time from which on they could be had.
        until: i64,
    },
    /// A chart would have more steps than one answer may.
    #[error(
        "a chart of more than {} steps; ask for larger steps, fewer sources or a shorter range",
        super::chart::STEPS_MAX
    )]
    TooManySteps,
    /// A statement failed.
    #[error("the database refused a statement")]
    Statement(#[source] rusqlite::Error),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match (error.sqlite_error_code(), &error) {
            (Some(ErrorCode::OperationInterrupted), _) => Self::TimedOut,
            (Some(ErrorCode::DiskFull), _) => Self::Full(error),
            (Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase), _)
            | (None, rusqlite::Error::FromSqlConversionFailure(..)) => Self::DamagedPart(error),
            _ => Self::Statement(error),
        }
    }
}

/// The error for bytes that SQLite gives without complaint and that cannot be ours.
pub(super) fn damaged(text: &'static str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, text.into())
}
