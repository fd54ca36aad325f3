//! Standard input, which may be a pipe, a file or a terminal.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Port, would_wait};

struct StdinPort(OwnedFd);

pub(super) fn open() -> io::Result<Box<dyn Port>> {
    Ok(Box::new(StdinPort(io::stdin().as_fd().try_clone_to_owned()?)))
}

impl Port for StdinPort {
    fn fd(&self) -> Option<RawFd> {
        Some(self.0.as_raw_fd())
    }

    /// It stays as it is, blocking: the description is shared with whoever started us. So it is only read
    /// when it says that there is something.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let mut polled = [PollFd::new(&self.0, PollFlags::IN)];
        let ready = poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).map_err(io::Error::from);
        if would_wait(ready, 0)? == 0 {
            return Ok(None);
        }
        would_wait(rustix::io::read(&self.0, buffer).map(Some).map_err(io::Error::from), None)
    }

    /// Nobody hears us.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
}
