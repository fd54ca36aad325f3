//! A device's line: bytes in, bytes out, without waiting.
//!
//! Opening may take its time (a name to look up, a modem), so it happens on a thread of its own
//! ([`Opener::open`]); what it returns is read and written by the device's thread, which polls its file
//! descriptor together with the ZeroMQ sockets.

mod pty;
mod replay;
mod serial;
mod stdin;
mod tcp;

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use crate::config::PortConfig;
use crate::moment::Clock;

pub(crate) use pty::PtyMaster;

/// An open line.
pub(crate) trait Port: Send {
    /// What to poll for bytes; `None` if [`Port::due`] tells when to read.
    fn fd(&self) -> Option<RawFd>;

    /// How long no bytes are to be expected, for a port without a file descriptor.
    fn due(&self) -> Option<Duration> {
        None
    }

    /// Takes what came: `None` if nothing did, 0 bytes if nothing ever will.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>>;

    /// Hands over what fits now; how much that was.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Whether silence for long means that the connection is dead: a peer that lost its power says nothing.
    fn dies_silently(&self) -> bool {
        false
    }
}

/// What opens a port, again and again.
#[derive(Debug)]
pub(crate) enum Opener {
    Serial { path: String, baud: u32 },
    Tcp { addr: String },
    Pty(PtyMaster),
    Stdin,
    Replay(replay::Plan),
}

impl Opener {
    /// What has to work at the start, before anything is served: a pseudo-terminal, a file to replay.
    ///
    /// # Errors
    /// [`PortError`].
    pub(crate) fn prepare(config: &PortConfig, clock: Clock) -> Result<Self, PortError> {
        Ok(match config {
            PortConfig::Serial { path, baud } => Self::Serial { path: path.clone(), baud: *baud },
            PortConfig::Tcp { addr } => Self::Tcp { addr: addr.clone() },
            PortConfig::Pty => Self::Pty(PtyMaster::make().map_err(|source| PortError::Pty { source })?),
            PortConfig::Stdin => Self::Stdin,
            PortConfig::Replay { path, speed } => Self::Replay(replay::Plan::check(path, *speed, clock)?),
        })
    }

    /// Opens the port once.
    pub(crate) fn open(&self) -> io::Result<Box<dyn Port>> {
        match self {
            Self::Serial { path, baud } => serial::open(path, *baud),
            Self::Tcp { addr } => tcp::open(addr),
            Self::Pty(master) => Ok(Box::new(master.open()?)),
            Self::Stdin => stdin::open(),
            Self::Replay(plan) => plan.open(),
        }
    }
}

/// Why a device cannot be served at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// The system gives no pseudo-terminal.
    #[error("cannot make a pseudo-terminal for --pty")]
    Pty {
        /// What it says.
        source: io::Error,
    },
    /// A recording is not there.
    #[error("cannot open {path} of --replay")]
    Replay {
        /// The file.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// A file is no recording.
    #[error("{path} of --replay cannot be played")]
    Capture {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: crate::capture::CaptureError,
    },
}

/// A read or write that would wait is no error.
fn would_wait<T: Default>(result: io::Result<T>, nothing: T) -> io::Result<T> {
    match result {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(nothing)
        }
        result => result,
    }
}
