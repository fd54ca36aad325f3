//! A TCP connection that we make.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use super::{Port, would_wait};

/// How long a connection to one address may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Most addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;

struct TcpPort(TcpStream);

pub(super) fn open(addr: &str) -> io::Result<Box<dyn Port>> {
    let mut failed = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for addr in addr.to_socket_addrs()?.take(ADDRESSES_MAX) {
        match TcpStream::connect_timeout(&addr, CONNECT_WITHIN) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                return Ok(Box::new(TcpPort(stream)));
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

impl Port for TcpPort {
    fn fd(&self) -> Option<RawFd> {
        Some(self.0.as_raw_fd())
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        would_wait(self.0.read(buffer).map(Some), None)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        would_wait(self.0.write(bytes), 0)
    }

    fn dies_silently(&self) -> bool {
        true
    }
}
