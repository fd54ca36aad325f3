//! One process at a time: a lock on a file beside the database.
//!
//! SQLite's own locks would let two processes write in turns, and each would remember ids that the
//! other changes. The lock is on a file of its own, because closing any handle of the database's
//! file would give up SQLite's locks on it.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use super::errors::StoreError;

/// Holds the database for this process until it is dropped. The file stays: removing it could take
/// the lock away under another process that has just opened it.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(db: &Path) -> Result<Self, StoreError> {
        let mut name = db.as_os_str().to_owned();
        name.push("-lock");
        let path = PathBuf::from(name);
        let failed = |source| StoreError::Lock { path: path.clone(), source };
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: db.to_owned() }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}
