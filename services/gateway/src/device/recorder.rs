//! `--record`: the bytes of a device into a file, without ever holding the device up for more than a write.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter};
use std::path::PathBuf;

use crate::capture::Writer;
use crate::moment::{Clock, Moment};

/// How often what was recorded is handed to the system, so that a killed gateway has it, in milliseconds.
const FLUSH_MS: u64 = 1_000;
/// Bytes that wait for that at most.
const BUFFER_BYTES: usize = 1 << 18;

/// A file that is being written. When that fails the recording ends, and the device is served all the same.
pub(super) struct Recorder {
    path: PathBuf,
    writer: Option<Writer<BufWriter<File>>>,
    flushed: Moment,
    error: Option<String>,
}

impl Recorder {
    pub(super) fn create(path: PathBuf, clock: Clock) -> Result<Self, RecordError> {
        let failed = |source| RecordError { path: path.display().to_string(), source };
        let file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
        let now = clock.now();
        let writer = Writer::start(BufWriter::with_capacity(BUFFER_BYTES, file), now.mono_us);
        let writer = Some(writer.map_err(failed)?);
        Ok(Self { path, writer, flushed: now, error: None })
    }

    pub(super) fn push(&mut self, now: Moment, bytes: &[u8]) {
        if let Some(writer) = &mut self.writer {
            let result = writer.push(now.mono_us, bytes);
            self.note(result);
        }
    }

    pub(super) fn poll(&mut self, now: Moment) {
        if now.ms_since(self.flushed) >= FLUSH_MS {
            self.flushed = now;
            let result = self.writer.as_mut().map_or(Ok(()), Writer::flush);
            self.note(result);
        }
    }

    /// Why nothing is recorded any more.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    pub(super) fn finish(mut self, now: Moment) {
        if let Some(writer) = self.writer.take() {
            let synced = writer
                .finish(now.mono_us)
                .and_then(|output| output.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all());
            self.note(synced);
        }
    }

    fn note(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            let file = self.path.display().to_string();
            tracing::error!(file, %error, "recording ends; what is in the file up to here can be played");
            self.error = Some(format!("cannot write {file}: {error}"));
            self.writer = None;
        }
    }
}

/// Why a recording cannot begin.
#[derive(Debug, thiserror::Error)]
#[error("cannot create {path} of --record; give the name of a new file in a directory that is there")]
pub struct RecordError {
    path: String,
    source: io::Error,
}
