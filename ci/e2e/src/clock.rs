//! A wall clock that a test sets.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A wall clock that goes as fast as the system's, for the programs that it is shown to.
#[derive(Debug)]
pub struct Clock(PathBuf);

impl Clock {
    /// One that is `ahead_s` seconds ahead of the system's. It is a file in this directory.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn new(directory: &Path, ahead_s: f64) -> Self {
        let clock = Self(directory.join("clock"));
        clock.set(ahead_s);
        clock
    }

    /// From now on it is `ahead_s` seconds ahead of the system's.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn set(&self, ahead_s: f64) {
        // Whoever reads it meanwhile gets the old one or the new one.
        let new = self.0.with_extension("new");
        std::fs::write(&new, format!("{ahead_s:+.3}")).unwrap();
        std::fs::rename(new, &self.0).unwrap();
    }

    /// Makes it the clock of a program that is to be started.
    ///
    /// # Panics
    /// If libfaketime is not installed.
    pub fn show_to(&self, command: &mut Command) {
        command.env("LD_PRELOAD", libfaketime());
        command.env("FAKETIME_TIMESTAMP_FILE", &self.0).env("FAKETIME_NO_CACHE", "1");
        // Time-outs and intervals are not to change; and libfaketime's own handling of them has hung programs.
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
}

fn libfaketime() -> PathBuf {
    let architectures = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let mut paths = architectures.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    paths.find(|path| path.exists()).expect("libfaketime is missing: run ci/setup")
}
