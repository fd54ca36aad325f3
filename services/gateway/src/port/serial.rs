//! A serial port: 8N1 without flow control, for this process alone.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use serialport::TTYPort;

use super::Port;

struct SerialPort(TTYPort);

pub(super) fn open(path: &str, baud: u32) -> io::Result<Box<dyn Port>> {
    let builder = serialport::new(path, baud).timeout(Duration::ZERO);
    let port = builder.open_native().map_err(io::Error::from)?;
    Ok(Box::new(SerialPort(port)))
}

impl Port for SerialPort {
    fn fd(&self) -> Option<RawFd> {
        Some(self.0.as_raw_fd())
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        nothing_yet(self.0.read(buffer).map(Some), None)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        nothing_yet(self.0.write(bytes), 0)
    }
}

/// The crate polls with its own time limit, which is none here.
fn nothing_yet<T: Default>(result: io::Result<T>, nothing: T) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == ErrorKind::TimedOut => Ok(nothing),
        result => super::would_wait(result, nothing),
    }
}
