//! One connection for one batch, and what is known at its end.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::{DELIVERED, NOT_CARBON};
use crate::backend::{Answer, Response};

/// How often it is looked whether our last bytes were acknowledged, once the other side has closed. They nearly always
/// are by then.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// Most bytes that are kept of what the other side says.
const SAID_BYTES_MAX: usize = 256;

/// Longest times of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// For the look-up of the address and the connection. Default 5 s.
    pub connect: Duration,
    /// For the writing of a batch. Carbon stops reading while its cache is full. Default 10 s.
    pub write: Duration,
    /// From the end of writing until the other side has read all and closed. Default 10 s.
    pub close: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            write: Duration::from_secs(10),
            close: Duration::from_secs(10),
        }
    }
}

/// Why an attempt ended before its time.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the receiver closed the connection before all was written")]
    Closed,
    #[error("the receiver speaks, and carbon does not")]
    Talked(Vec<u8>),
    #[error("cannot write: {0}")]
    Write(io::Error),
    #[error("not all was read by the receiver: {0}")]
    Read(io::Error),
}

/// Writes all on a connection of its own, closes our half, and waits until the other side has read all and closed its.
pub(super) async fn deliver(address: &str, payload: &[u8], waits: &Waits) -> Answer {
    let mut stream = match timeout(waits.connect, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Answer::NotSent(format!("cannot connect to {address}: {error}")),
        Err(_) => return Answer::NotSent(format!("no connection to {address} {}", within(waits.connect))),
    };
    let mut written = 0;
    let result = match timeout(waits.write, write(&mut stream, payload, &mut written)).await {
        Ok(Ok(())) => match timeout(waits.close, acknowledged(&mut stream)).await {
            Ok(result) => result,
            Err(_) => {
                return given_up(
                    &stream,
                    format!("the receiver did not read all and close {}", within(waits.close)),
                );
            }
        },
        Ok(Err(broken)) => Err(broken),
        Err(_) => return given_up(&stream, format!("not all could be written {}", within(waits.write))),
    };
    match result {
        Ok(()) => Answer::Response(Response { status: DELIVERED, ..Response::default() }),
        Err(Broken::Talked(body)) => {
            Answer::Response(Response { status: NOT_CARBON, headers: Vec::new(), body })
        }
        Err(broken) if written == 0 => Answer::NotSent(broken.to_string()),
        Err(broken) => Answer::Lost(broken.to_string()),
    }
}

/// Writes all and closes our half. Before each write and after the last one it is looked whether the other side is there
/// to read it: what is written after it closed would vanish without an error.
async fn write(stream: &mut TcpStream, payload: &[u8], written: &mut usize) -> Result<(), Broken> {
    loop {
        let ready = stream.ready(Interest::READABLE | Interest::WRITABLE).await.map_err(Broken::Write)?;
        if ready.is_readable() {
            let mut said = vec![0; SAID_BYTES_MAX];
            match stream.try_read(&mut said) {
                Ok(0) => return Err(Broken::Closed),
                Ok(length) => return Err(talked(said, length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(Broken::Write(error)),
            }
        }
        if *written == payload.len() {
            break;
        }
        if ready.is_writable() {
            match stream.try_write(&payload[*written..]) {
                Ok(length) => *written += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(Broken::Write(error)),
            }
        }
    }
    stream.shutdown().await.map_err(Broken::Write)
}

/// Waits until the other side has closed its half, and until ours was acknowledged to the last byte.
///
/// The other side's end alone says nothing: it may have closed before our bytes came to it, and answer them with a reset.
/// A socket has no peer any more once both halves are closed and acknowledged, or it was reset, which leaves an error.
async fn acknowledged(stream: &mut TcpStream) -> Result<(), Broken> {
    let mut said = vec![0; SAID_BYTES_MAX];
    match stream.read(&mut said).await {
        Ok(0) => {}
        Ok(length) => return Err(talked(said, length)),
        Err(error) => return Err(Broken::Read(error)),
    }
    loop {
        match stream.peer_addr() {
            Ok(_) => sleep(LOOK_AGAIN).await,
            Err(error) if error.kind() == io::ErrorKind::NotConnected => break,
            Err(error) => return Err(Broken::Read(error)),
        }
    }
    match stream.take_error() {
        Ok(None) => Ok(()),
        Ok(Some(error)) | Err(error) => Err(Broken::Read(error)),
    }
}

fn talked(mut said: Vec<u8>, length: usize) -> Broken {
    said.truncate(length);
    Broken::Talked(said)
}

/// Ends a connection on which nothing goes on. What the kernel still holds of it is thrown away instead of being kept for
/// minutes: it will be sent again anyway.
fn given_up(stream: &TcpStream, why: String) -> Answer {
    // Without it the kernel is merely slower to forget.
    let _ = stream.set_zero_linger();
    Answer::Lost(why)
}

fn within(wait: Duration) -> String {
    format!("within {} s", wait.as_secs_f64())
}

#[cfg(test)]
mod tests;
