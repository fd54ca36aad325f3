//! A recording in a device's place.

use std::fs::File;
use std::io::{self, BufReader};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Port, PortError};
use crate::capture::Reader;
use crate::moment::Clock;

/// What is to be played, and how fast.
#[derive(Debug)]
pub(crate) struct Plan {
    path: PathBuf,
    speed: f64,
    clock: Clock,
}

impl Plan {
    /// Looks whether the file is a recording.
    pub(super) fn check(path: &Path, speed: f64, clock: Clock) -> Result<Self, PortError> {
        let name = || path.display().to_string();
        let file = File::open(path).map_err(|source| PortError::Replay { path: name(), source })?;
        Reader::open(file).map_err(|source| PortError::Capture { path: name(), source })?;
        Ok(Self { path: path.to_owned(), speed, clock })
    }

    pub(super) fn open(&self) -> io::Result<Box<dyn Port>> {
        let reader = Reader::open(BufReader::new(File::open(&self.path)?)).map_err(io::Error::other)?;
        let now_us = self.clock.now().mono_us;
        let path = self.path.display().to_string();
        let mut replay = Replay {
            reader,
            path,
            speed: self.speed,
            clock: self.clock,
            began_us: now_us,
            offset_us: 0,
            chunk: Vec::new(),
            given: 0,
            is_over: false,
        };
        replay.advance();
        Ok(Box::new(replay))
    }
}

struct Replay {
    reader: Reader<BufReader<File>>,
    path: String,
    speed: f64,
    clock: Clock,
    began_us: u64,
    /// When the chunk came, behind the start of the recording.
    offset_us: u64,
    chunk: Vec<u8>,
    given: usize,
    is_over: bool,
}

impl Replay {
    /// Takes the next chunk. What is readable is used, whatever comes behind it.
    fn advance(&mut self) {
        (self.given, self.is_over) = (0, true);
        match self.reader.next() {
            Ok(Some(chunk)) => {
                self.offset_us = self.offset_us.saturating_add(chunk.waited_us);
                self.chunk.clear();
                self.chunk.extend_from_slice(chunk.bytes);
                self.is_over = false;
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(file = self.path, %error, "replay ends early"),
        }
    }

    fn wait(&self) -> Duration {
        if self.is_over || self.speed <= 0.0 {
            return Duration::ZERO;
        }
        let due_us = self.began_us.saturating_add((self.offset_us as f64 / self.speed) as u64);
        Duration::from_micros(due_us.saturating_sub(self.clock.now().mono_us))
    }
}

impl Port for Replay {
    fn fd(&self) -> Option<RawFd> {
        None
    }

    fn due(&self) -> Option<Duration> {
        Some(self.wait())
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if self.is_over {
            return Ok(Some(0));
        }
        if !self.wait().is_zero() {
            return Ok(None);
        }
        let left = &self.chunk[self.given..];
        let bytes = left.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&left[..bytes]);
        self.given += bytes;
        if self.given == self.chunk.len() {
            self.advance();
        }
        Ok(Some(bytes))
    }

    /// Nobody hears us.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
}
