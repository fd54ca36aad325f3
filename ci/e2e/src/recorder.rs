//! A receiver that only keeps what comes, for what is sent as text over TCP, UDP or a socket of the system, and
//! for bodies of HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::until::until;

/// Longest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_535;

type Messages = Arc<Mutex<Vec<Vec<u8>>>>;

/// The receiver. Its threads end with the process.
#[derive(Clone, Debug)]
pub struct Recorder {
    /// Where it receives: an address with a port, or a path.
    pub addr: String,
    messages: Messages,
}

impl Recorder {
    /// Receives over TCP on a free port. A message is all that one connection has brought so far.
    ///
    /// # Panics
    /// If there is no free port; so for all here.
    pub fn tcp() -> Self {
        Self::listening(|mut stream, messages| {
            let at = {
                let mut messages = lock(messages);
                messages.push(Vec::new());
                messages.len() - 1
            };
            let mut buffer = [0; 8_192];
            while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
                lock(messages)[at].extend_from_slice(&buffer[..bytes]);
            }
        })
    }

    /// Receives over UDP on a free port. A message is a datagram.
    pub fn udp() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap().to_string();
        Self::datagrams(addr, move |buffer| socket.recv(buffer))
    }

    /// Receives at a new datagram socket of the system. A message is a datagram.
    pub fn unix_datagram(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        Self::datagrams(path.to_str().unwrap().to_owned(), move |buffer| socket.recv(buffer))
    }

    /// Receives over HTTP on a free port and answers 200 to everything. A message is a body.
    pub fn http() -> Self {
        Self::listening(|stream, messages| {
            // What a client does wrong shows in what it gets counted for, not here.
            let _ = serve(stream, messages);
        })
    }

    /// The messages so far.
    pub fn messages(&self) -> Vec<Vec<u8>> {
        lock(&self.messages).clone()
    }

    /// The lines of all messages so far, also one without an end.
    pub fn lines(&self) -> Vec<String> {
        let text = |message: &Vec<u8>| String::from_utf8_lossy(message).into_owned();
        let messages: Vec<String> = lock(&self.messages).iter().map(text).collect();
        messages.iter().flat_map(|message| message.lines()).map(str::to_owned).collect()
    }

    /// Waits for so many messages, and returns all there are.
    pub fn received(&self, messages: usize) -> Vec<Vec<u8>> {
        until(format!("{messages} messages"), || Some(self.messages()).filter(|all| all.len() >= messages))
    }

    fn listening(serve: impl Fn(TcpStream, &Messages) + Copy + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let messages = Messages::default();
        let for_threads = Arc::clone(&messages);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let messages = Arc::clone(&for_threads);
                thread::spawn(move || serve(stream, &messages));
            }
        });
        Self { addr, messages }
    }

    fn datagrams(
        addr: String,
        receive: impl Fn(&mut [u8]) -> std::io::Result<usize> + Send + 'static,
    ) -> Self {
        let messages = Messages::default();
        let for_thread = Arc::clone(&messages);
        thread::spawn(move || {
            let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
            while let Ok(bytes) = receive(&mut buffer) {
                lock(&for_thread).push(buffer[..bytes].to_vec());
            }
        });
        Self { addr, messages }
    }
}

fn lock(messages: &Messages) -> MutexGuard<'_, Vec<Vec<u8>>> {
    messages.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves one connection until it closes.
fn serve(stream: TcpStream, messages: &Messages) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let mut length = 0;
        let mut version = String::new();
        reader.read_line(&mut version)?;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        lock(messages).push(body);
        writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        if version.trim_end().ends_with("HTTP/1.0") {
            return Ok(());
        }
    }
}
