//! A pseudo-terminal, whose other end an emulator or a test opens.
//!
//! We keep that other end open as well: else its raw mode would be gone whenever the last one closes it, and
//! the first bytes of the next one would be echoed and changed. So nobody's leaving is seen here; a device
//! that is gone is silent.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, fcntl_setfl, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use super::{Port, would_wait};

/// Our end.
#[derive(Clone, Debug)]
pub(crate) struct PtyMaster {
    ends: Arc<(OwnedFd, OwnedFd)>,
    path: PathBuf,
}

impl PtyMaster {
    /// Makes a pair in raw mode.
    pub(super) fn make() -> io::Result<Self> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let name = ptsname(&ours, Vec::new())?;
        let path = PathBuf::from(name.to_string_lossy().into_owned());
        let theirs = open(&path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        let mut settings = tcgetattr(&theirs)?;
        settings.make_raw();
        tcsetattr(&theirs, OptionalActions::Now, &settings)?;
        fcntl_setfl(&ours, OFlags::NONBLOCK)?;
        Ok(Self { ends: Arc::new((ours, theirs)), path })
    }

    /// Path of the other end.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn open(&self) -> io::Result<PtyPort> {
        Ok(PtyPort(self.ends.0.as_fd().try_clone_to_owned()?))
    }
}

pub(super) struct PtyPort(OwnedFd);

impl Port for PtyPort {
    fn fd(&self) -> Option<RawFd> {
        Some(self.0.as_raw_fd())
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        would_wait(rustix::io::read(&self.0, buffer).map(Some).map_err(io::Error::from), None)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        would_wait(rustix::io::write(&self.0, bytes).map_err(io::Error::from), 0)
    }
}
